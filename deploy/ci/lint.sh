#!/usr/bin/env bash
# Checks formatting and runs Clippy, which has to find nothing.
#
#   deploy/ci/lint.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_or_go "$@"
need cargo "run rustfmt and Clippy"
cd "$root"

cargo fmt --all -- --check
cargo clippy --workspace --all-targets --locked -- -D warnings
