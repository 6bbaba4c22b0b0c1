#!/usr/bin/env bash
# Waits until the revision is promoted. The exit code is that of `serin wait` (docs/exit-codes.md): 3 for a rollback, 124 when
# the time was over first. On standard output stands Serin's line of JSON; the last thing that it said, which is the reason,
# stands in the file verdict.txt too.
#
#   ROLLOUT=namespace/name VERSION=revision WAIT=50m [KUBECONFIG=file] deploy/ci/verdict.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_or_go "$@"
given ROLLOUT VERSION WAIT
need serin "wait for the verdict"

exec 3>&1
code=0
{ serin wait "${ROLLOUT#*/}" --namespace "${ROLLOUT%%/*}" --for=promoted --revision "$VERSION" --timeout "$WAIT" 2>&1 >&3; } |
  tee verdict.log >&2 || code=$?
tail -n 1 verdict.log >verdict.txt
rm verdict.log
exit "$code"
