#!/usr/bin/env bash
# Pushes the image and prints its digest: what is signed and rolled out from here on is that, not a tag.
#
#   IMAGE=registry/name VERSION=tag [REGISTRY_USR=… REGISTRY_PSW=…] deploy/ci/push.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_or_go "$@"
given IMAGE VERSION
need buildah "push images"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ -n "${REGISTRY_PSW:-}" ]; then
  given REGISTRY_USR
  # Kept for this push, and for nobody else on the agent.
  export REGISTRY_AUTH_FILE=$folder/auth.json
  # shellcheck disable=SC2153 # Jenkins's two names
  printf '%s' "$REGISTRY_PSW" | buildah login --username "$REGISTRY_USR" --password-stdin "${IMAGE%%/*}" >&2 ||
    fail "logging in to ${IMAGE%%/*}" "it refuses the user $REGISTRY_USR (see above)" "renew Jenkins's credentials 'registry'"
fi
buildah push --quiet --digestfile "$folder/digest" "$IMAGE:$VERSION" >&2 ||
  fail "pushing $IMAGE:$VERSION" "the registry did not take it (see above)" "see whether the user may push there, then run this again"
digest=$(cat "$folder/digest" 2>/dev/null || true)
[[ $digest =~ ^sha256:[0-9a-f]{64}$ ]] || fail "pushing $IMAGE:$VERSION" "buildah named no digest" "see what the registry has"
printf '%s\n' "$digest"
