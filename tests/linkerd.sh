#!/usr/bin/env bash
# The end-to-end stories over real proxies: with LINKERD_PROXY=/path/to/linkerd2-proxy each meshed pod has one, in a network namespace
# of its own, below a network that ends with this script. Without it, over the lab's stand-in. Arguments go to the stories.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tests/outside.sh

stories=(cargo test --workspace --test e2e --locked -- "$@")
if ! is_given LINKERD_PROXY "proxy" "a linkerd2-proxy"; then
  exec "${stories[@]}"
fi
tests/lab/setup/network.sh
# There are no registries in that network: all is built before.
cargo test --workspace --test e2e --locked --no-run
echo "The stories run over $LINKERD_PROXY."
exec tests/lab/setup/apart.sh "${stories[@]}"
