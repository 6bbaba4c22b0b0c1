#!/usr/bin/env bash
# Runs the unit, integration and doc tests, and writes what they cover to target/coverage.xml (Cobertura).
#
#   deploy/ci/unit.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_or_go "$@"
need cargo "run the tests"
need cargo-llvm-cov "measure what the tests cover (cargo install cargo-llvm-cov)"
cd "$root"

tests/lab/setup/all.sh >/dev/null
cargo llvm-cov --locked --workspace --exclude serin-tests --cobertura --output-path target/coverage.xml
cargo test --locked --workspace --doc --quiet
