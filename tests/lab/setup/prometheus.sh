#!/usr/bin/env bash
# Finds Prometheus, or unpacks Debian's package into the cache without installing it; prints the paths of prometheus and promtool.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

wanted=2.40
name=prometheus-at-least-$wanted

# version_of FILE: the version number, or nothing when it does not run.
version_of() { { "$1" --version 2>&1 || true; } | sed -n '1s/.*version \([0-9][0-9.]*\).*/\1/p'; }

unpack() {
  local again="install Prometheus ≥ $wanted (with promtool) so that it is on PATH, then run this again"
  unpack_debian "$1" "$again" prometheus
  local found
  found=$(version_of "$1/usr/bin/prometheus")
  { [ -n "$found" ] && at_least "$wanted" "$found" && [ -n "$(version_of "$1/usr/bin/promtool")" ]; } ||
    fail "trying Debian's Prometheus" "its version is '$found' (nothing when it does not start), and ≥ $wanted is needed" "$again"
  say "unpacked Prometheus $found"
}

if [ ! -d "$CACHE/$name" ] && on_path=$(command -v prometheus) && command -v promtool >/dev/null; then
  found=$(version_of "$on_path")
  if [ -n "$found" ] && at_least "$wanted" "$found"; then
    printf '%s\n%s\n' "$on_path" "$(command -v promtool)"
    exit
  fi
fi
once "$name" unpack
printf '%s\n' "$CACHE/$name/usr/bin/prometheus" "$CACHE/$name/usr/bin/promtool"
