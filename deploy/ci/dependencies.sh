#!/usr/bin/env bash
# Checks dependencies: bans, licences, sources and advisories by cargo-deny, then advisories and yanked crates by cargo-audit.
# Both fetch the advisories.
#
#   deploy/ci/dependencies.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_or_go "$@"
need cargo-deny "check dependencies (cargo install cargo-deny)"
need cargo-audit "check advisories (cargo install cargo-audit)"
cd "$root"

cargo deny --locked check advisories bans licenses sources
cargo audit --deny yanked
