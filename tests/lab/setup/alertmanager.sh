#!/usr/bin/env bash
# Finds Alertmanager, or unpacks Debian's package into the cache without installing it; prints the paths of alertmanager and amtool.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

wanted=0.25
name=alertmanager-at-least-$wanted

# version_of FILE: the version number, or nothing when it does not run.
version_of() { { "$1" --version 2>&1 || true; } | sed -n '1s/.*version \([0-9][0-9.]*\).*/\1/p'; }

unpack() {
  local again="install Alertmanager ≥ $wanted (with amtool) so that it is on PATH, then run this again"
  unpack_debian "$1" "$again" prometheus-alertmanager
  local found
  found=$(version_of "$1/usr/bin/prometheus-alertmanager")
  { [ -n "$found" ] && at_least "$wanted" "$found" && [ -n "$(version_of "$1/usr/bin/amtool")" ]; } ||
    fail "trying Debian's Alertmanager" "its version is '$found' (nothing when it does not start), and ≥ $wanted is needed" "$again"
  say "unpacked Alertmanager $found"
}

if [ ! -d "$CACHE/$name" ] && on_path=$(command -v alertmanager || command -v prometheus-alertmanager) && command -v amtool >/dev/null; then
  found=$(version_of "$on_path")
  if [ -n "$found" ] && at_least "$wanted" "$found"; then
    printf '%s\n%s\n' "$on_path" "$(command -v amtool)"
    exit
  fi
fi
once "$name" unpack
printf '%s\n' "$CACHE/$name/usr/bin/prometheus-alertmanager" "$CACHE/$name/usr/bin/amtool"
