#!/usr/bin/env bash
# Prints the version of what is built here, as the tag of its image: the newest tag of Git (or the workspace's version in
# Cargo.toml before the first), and the commit, such as 1.4.0-3f2a91c04b7d.
#
#   deploy/ci/version.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_or_go "$@"
need git "name the commit"
cd "$root"

commit=$(git rev-parse --short=12 HEAD) || fail "reading the commit" "this is no clone of the repository" "check it out with its history"
tag=$(git describe --tags --abbrev=0 --match '[0-9]*' --match 'v[0-9]*' 2>/dev/null) ||
  tag=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
[ -n "$tag" ] || fail "reading the version" "there is neither a tag nor a version in Cargo.toml" "set workspace.package.version"
printf '%s-%s\n' "${tag#v}" "$commit"
