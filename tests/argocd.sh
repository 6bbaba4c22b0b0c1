#!/usr/bin/env bash
# The end-to-end story of Serin beside Argo CD over the real one: with ARGOCD_BIN=/path/to/argocd its application-controller, repo-server
# and applicationset-controller run as processes, with a Redis that is Debian's. Without it, over the lab's stand-in. Arguments go to the
# stories, and name others than this one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[ "$#" -gt 0 ] || set -- argo_cd_brings
stories=(cargo test --workspace --test e2e --locked -- "$@")
if [ -z "${ARGOCD_BIN:-}" ]; then
  echo "ARGOCD_BIN is not set, so no real Argo CD runs: the stories run over the lab's stand-in for it."
  exec "${stories[@]}"
fi
if [ ! -f "$ARGOCD_BIN" ] || [ ! -x "$ARGOCD_BIN" ]; then
  echo "ARGOCD_BIN=$ARGOCD_BIN is no program; set it to the path of an argocd, or to nothing to run over the stand-in." >&2
  exit 1
fi
ARGOCD_BIN=$(readlink -f "$ARGOCD_BIN")
export ARGOCD_BIN
tests/lab/setup/redis.sh >/dev/null
echo "The stories run over $ARGOCD_BIN, $("$ARGOCD_BIN" version --client --short)."
exec "${stories[@]}"
