#!/usr/bin/env bash
# Checks bans, licences and sources with cargo-deny, which is built into the cache once when it is not on PATH.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

version=0.20.2
name=cargo-deny-$version

build() {
  patiently "building cargo-deny $version (some minutes)" "check that the machine reaches its crate registry, then run this again" \
    cargo install cargo-deny --version "$version" --locked --debug --no-default-features --root "$1" --target-dir "$1/target"
  rm -rf "$1/target"
}

if found=$(command -v cargo-deny) && "$found" --version | grep -qF " $version"; then
  deny=$found
else
  once "$name" build
  deny=$CACHE/$name/bin/cargo-deny
fi
cd "$here/../../.."
# Licences are read out of the sources, those for other systems too.
patiently "fetching the sources of all dependencies" "check that the machine reaches its crate registry, then run this again" cargo fetch --locked
exec "$deny" --offline --log-level error check --hide-inclusion-graph bans licenses sources
