#!/usr/bin/env bash
# Puts the standard CRDs of the Gateway API, out of the Go module that the control plane imports, into the cache; prints the folder.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"
. "$here/go.sh"

gateway=sigs.k8s.io/gateway-api
version=$(module_version "$gateway")

copy() {
  need_go
  patiently "fetching the Go module $gateway $version" "check that the Go module proxy is reachable, then run this again" \
    env "${go_env[@]}" go -C "$module" mod download "$gateway"
  local source
  source=$(env "${go_env[@]}" go -C "$module" list -m -f '{{.Dir}}' "$gateway")
  cp "$source"/config/crd/standard/*.yaml "$1/"
  chmod 644 "$1"/*
  grep -qF "gateway.networking.k8s.io/bundle-version: $version" "$1"/*_httproutes.yaml || fail "checking the Gateway API's CRDs" \
    "those in $source are not of bundle $version" "look at $source/config/crd, then correct $here/gateway-crds.sh"
}

once "gateway-crds-${version#v}" copy
printf '%s\n' "$CACHE/gateway-crds-${version#v}"
