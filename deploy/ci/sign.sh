#!/usr/bin/env bash
# Signs the image by its digest, and attests its bill of materials.
#
#   IMAGE=registry/name DIGEST=sha256:… COSIGN_KEY=file COSIGN_PASSWORD=… [REGISTRY_USR=… REGISTRY_PSW=…] deploy/ci/sign.sh [NAME]
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
takes=1
help_or_go "$@"
name=${1:-user-service}
given IMAGE DIGEST COSIGN_KEY COSIGN_PASSWORD
need cosign "sign images"
cd "$root"

[[ $DIGEST =~ ^sha256:[0-9a-f]{64}$ ]] || fail "signing $IMAGE" "'$DIGEST' is no digest" "sign what push.sh printed; a tag may move"
[ -f "$out/$name.spdx.json" ] || fail "attesting what $IMAGE consists of" "$out/$name.spdx.json is absent" "run deploy/ci/sbom.sh $name first"
DOCKER_CONFIG=$(mktemp -d)
export DOCKER_CONFIG
trap 'rm -rf "$DOCKER_CONFIG"' EXIT
if [ -n "${REGISTRY_PSW:-}" ]; then
  given REGISTRY_USR
  # shellcheck disable=SC2153 # Jenkins's two names
  printf '%s' "$REGISTRY_PSW" | cosign login --username "$REGISTRY_USR" --password-stdin "${IMAGE%%/*}" >&2
fi
cosign sign --yes --key "$COSIGN_KEY" "$IMAGE@$DIGEST"
for bill in "$out/$name.spdx.json" "$out/$name.crates.spdx.json"; do
  cosign attest --yes --key "$COSIGN_KEY" --type spdxjson --predicate "$bill" "$IMAGE@$DIGEST"
done
