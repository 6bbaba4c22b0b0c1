#!/usr/bin/env bash
# Builds tests/lab/controlplane/kubelet-endpoint, through which the API server asks the lab's kubelet, and prints the binary's path.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"
. "$here/go.sh"

kubernetes=$(module_version k8s.io/kubernetes)
# As that of the control plane, but a program of its own: it takes seconds, and an API server of somebody else needs it too.
sources=$(cd "$module" && cat go.mod go.sum kubelet-endpoint/*.go "$here/kubelet-endpoint.sh" | sha256sum | cut -c1-12)
name=kubelet-endpoint-${kubernetes#v}-$sources

build() {
  need_go
  patiently "building the endpoint of the lab's kubelet" \
    "check that the Go module proxy is reachable, then run this again; go keeps what it has compiled" \
    env CGO_ENABLED=0 "${go_env[@]}" go build -C "$module" -v -trimpath -buildvcs=false -ldflags "-s -w" -o "$1/kubelet-endpoint" ./kubelet-endpoint
}

once "$name" build
printf '%s\n' "$CACHE/$name/kubelet-endpoint"
