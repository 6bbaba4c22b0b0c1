#!/usr/bin/env bash
# Builds tests/lab/controlplane (kube-apiserver, kube-controller-manager and etcd in one file) and prints the binary's path.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"
. "$here/go.sh"

kubernetes=$(module_version k8s.io/kubernetes)
# The sources belong to the key: a changed main.go or dependency is another binary.
sources=$(cd "$module" && cat go.mod go.sum main.go "$here/controlplane.sh" | sha256sum | cut -c1-12)
name=controlplane-${kubernetes#v}-$sources

build() {
  need_go
  local number=${kubernetes#v} major minor package flags="-s -w"
  IFS=. read -r major minor _ <<<"$number"
  # The server's version and the programs' user agents; without these both say v0.0.0.
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    flags+=" -X $package.gitVersion=$kubernetes -X $package.gitMajor=$major -X $package.gitMinor=$minor -X $package.gitTreeState=clean"
  done
  say "the next step takes about 4 minutes on 2 cores when Go's caches are empty"
  patiently "building the control plane $kubernetes" \
    "free 6 GB of disk and 3 GB of memory, check that the Go module proxy is reachable, then run this again; go keeps what it has compiled" \
    env CGO_ENABLED=0 "${go_env[@]}" go build -C "$module" -v -trimpath -buildvcs=false -ldflags "$flags" -o "$1/controlplane" .
  local found
  found=$("$1/controlplane" versions | tr '\n' ' ') || true
  case $found in
    *"kubernetes $kubernetes "*) ;;
    *) fail "checking the new control plane" "'controlplane versions' printed '$found', not kubernetes $kubernetes" "read the -X flags in $here/controlplane.sh against the new version of k8s.io/component-base/version" ;;
  esac
}

once "$name" build
printf '%s\n' "$CACHE/$name/controlplane"
