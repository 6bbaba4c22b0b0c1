#!/usr/bin/env bash
# The end-to-end story of Serin beside Argo CD over the real one: with ARGOCD_BIN=/path/to/argocd its repo-server, controllers and
# server run as processes, with a Redis that is Debian's. Without it, over the lab's stand-in. Arguments go to the
# stories, and name others than this one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tests/outside.sh

[ "$#" -gt 0 ] || set -- argo_cd_brings
stories=(cargo test --workspace --test e2e --locked -- "$@")
if ! is_given ARGOCD_BIN "Argo CD" "an argocd"; then
  exec "${stories[@]}"
fi
tests/lab/setup/redis.sh >/dev/null
echo "The stories run over $ARGOCD_BIN, $("$ARGOCD_BIN" version --client --short)."
exec "${stories[@]}"
