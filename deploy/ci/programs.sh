#!/usr/bin/env bash
# Builds what the images consist of, each as one static file, into target/image.
#
#   [PROFILE=release] deploy/ci/programs.sh
#
# PROFILE  cargo's profile: release, or dev for a quick try
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_or_go "$@"
need cargo "build the programs"
cd "$root"

profile=${PROFILE:-release}
folder=$profile
[ "$profile" != dev ] || folder=debug
mkdir -p "$out"
for name in user-service serin; do
  # Only the last step knows that they are static, so all that they depend on is as for other builds.
  cargo rustc --locked --profile "$profile" --package "$name" --bin "$name" -- -C target-feature=+crt-static -C strip=symbols
  install "${CARGO_TARGET_DIR:-target}/$folder/$name" "$out/"
done
printf '%s\n' "$profile" >"$out/profile"
