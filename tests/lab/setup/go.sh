#!/usr/bin/env bash
# How the setup scripts use Go for the module tests/lab/controlplane. Sourced after lib.sh.
set -euo pipefail

module=$(cd "$(dirname "${BASH_SOURCE[0]}")/../controlplane" && pwd)
# No other toolchain is downloaded, no workspace and no personal flags play in.
go_env=(GOTOOLCHAIN=local GOWORK=off GOFLAGS=-mod=readonly)

# module_version PATH: the version that go.mod requires, without starting Go.
module_version() {
  local found
  found=$(sed -n "s|^\t$1 \(v[^ ]*\)\$|\1|p" "$module/go.mod" | head -n 1)
  [ -n "$found" ] || fail "reading $module/go.mod" "it does not require $1" "add it: go get $1@VERSION"
  printf '%s\n' "$found"
}

need_go() {
  local wanted found
  wanted=$(sed -n 's/^go \([0-9]*\.[0-9]*\).*/\1/p' "$module/go.mod")
  command -v go >/dev/null || fail "looking for Go" "there is no 'go' on PATH" \
    "install Go ≥ $wanted (Debian's golang-go if it is new enough) and put it on PATH"
  found=$(env "${go_env[@]}" go env GOVERSION)
  at_least "$wanted" "${found#go}" || fail "looking for Go" "$(command -v go) is ${found#go}" "install Go ≥ $wanted and put it first on PATH"
}
