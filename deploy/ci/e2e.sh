#!/usr/bin/env bash
# Runs the end-to-end stories in the lab: a whole control plane on this machine.
#
#   deploy/ci/e2e.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_or_go "$@"
need cargo "run the stories"
cd "$root"

tests/lab/setup/all.sh >/dev/null
# The whole workspace, as for the other tests: with one package alone, dependencies get other features and are built again.
cargo build --locked --workspace --bins --tests
cargo test --locked --workspace --test e2e
