#!/usr/bin/env bash
# The end-to-end stories over real proxies: with LINKERD_PROXY=/path/to/linkerd2-proxy each meshed pod has one, in a network namespace
# of its own, below a network that ends with this script. Without it, over the lab's stand-in. Arguments go to the stories.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stories=(cargo test --workspace --test e2e --locked -- "$@")
if [ -z "${LINKERD_PROXY:-}" ]; then
  echo "LINKERD_PROXY is not set, so no real proxy runs: the stories run over the lab's stand-in for it."
  exec "${stories[@]}"
fi
if [ ! -f "$LINKERD_PROXY" ] || [ ! -x "$LINKERD_PROXY" ]; then
  echo "LINKERD_PROXY=$LINKERD_PROXY is no program; set it to the path of a linkerd2-proxy, or to nothing to run over the stand-in." >&2
  exit 1
fi
LINKERD_PROXY=$(readlink -f "$LINKERD_PROXY")
export LINKERD_PROXY
tests/lab/setup/network.sh
# There are no registries in that network: all is built before.
cargo test --workspace --test e2e --locked --no-run
echo "The stories run over $LINKERD_PROXY."
exec tests/lab/setup/apart.sh "${stories[@]}"
