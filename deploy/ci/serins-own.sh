#!/usr/bin/env bash
# Are the new commits Serin's own? Exit code 0 if each of them has Serin's trailers and changes environments only, so that
# there is nothing to build; 1 if not; 2 if it can't be told, which means that one builds.
#
#   [SINCE=commit] deploy/ci/serins-own.sh
#
# SINCE  the last commit that was built; the parent of the newest one unless it is given and known
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_or_go "$@"
need git "read the commits"
cd "${DIR:-$root}"

since=${SINCE:-}
if [ -z "$since" ] || ! git merge-base --is-ancestor "$since" HEAD 2>/dev/null; then
  since=$(git rev-parse --verify --quiet 'HEAD^') || exit 2
fi
commits=$(git rev-list "$since..HEAD") || exit 2
[ -n "$commits" ] || exit 1 # built again by hand
for commit in $commits; do
  # A person may write a trailer too; only together with what Serin changes it makes a commit of its.
  git show -s --format='%(trailers:key=Serin-Action,valueonly)' "$commit" | grep -Eq '^(canary|promote|rollback)$' || exit 1
  # Not through a pipe: grep ends at the first name, Git may fail at the next, and a foreign file would be none.
  changed=$(git diff-tree -r --root -m --no-commit-id --name-only "$commit") || exit 2
  ! grep -Eqv '^(deploy/environments/|$)' <<<"$changed" || exit 1
done
say "all of $(wc -w <<<"$commits") new commits are Serin's own"
