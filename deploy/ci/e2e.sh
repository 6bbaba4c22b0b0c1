#!/usr/bin/env bash
# Runs the end-to-end stories in the lab: a whole control plane on this machine.
#
#   deploy/ci/e2e.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_or_go "$@"
need cargo "run the stories"
cd "$root"

tests/lab/setup/all.sh >/dev/null
cargo build --locked --workspace --bins
cargo test --locked --package serin-tests --test e2e
