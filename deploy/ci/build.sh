#!/usr/bin/env bash
# Builds everything: Protocol Buffers, the tests, and what the images consist of.
#
#   deploy/ci/build.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_or_go "$@"
need cargo "build the programs"
cd "$root"

cargo build --locked --package user-proto
cargo test --locked --workspace --no-run
"$here/programs.sh"
