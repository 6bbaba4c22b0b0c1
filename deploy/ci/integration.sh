#!/usr/bin/env bash
# Calls the service in an environment as clients do, at a steady rate for a while: every call has to be answered well, and by
# the revision that was rolled out.
#
#   TARGET=host:port VERSION=revision [SECONDS_OF_CALLS=20] [RATE=10] deploy/ci/integration.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_or_go "$@"
given TARGET VERSION
need user-load "call the service"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
timeout --preserve-status "${SECONDS_OF_CALLS:-20}" user-load --authority "$TARGET" --rate "${RATE:-10}" --record "$folder/calls" >&2 ||
  fail "calling $TARGET" "user-load ended with exit code $? (see above)" "see whether the agent reaches the service there"
[ -s "$folder/calls" ] || fail "calling $TARGET" "no call was finished" "see whether the agent reaches the service there"
# One call a line, as JSON.
bad=$(grep -vE '"code":"(OK|NOT_FOUND)"' "$folder/calls" || true)$(grep -vF "\"revision\":\"$VERSION\"" "$folder/calls" || true)
[ -z "$bad" ] || fail "calling $TARGET" "not every call was answered well by $VERSION; one of them: $(head -n 1 <<<"$bad")" "read the log of the pods that answered so"
say "$(wc -l <"$folder/calls") calls were answered well by $VERSION"
