#!/usr/bin/env bash
# Builds an image from target/image, where build.sh put the programs, without a daemon and without root. The same commit gives
# the same digest: all times are the commit's. The image stays in Buildah's storage, and goes to target/image/NAME.tar for the
# scanners; its digest is not known before the push, as the registry's form is compressed.
#
#   IMAGE=registry/name VERSION=tag [BASE=image] deploy/ci/image.sh user-service|serin
#
# BASE  what the controller's image stands on: one with git, ssh, a shell and certificate authorities (see base.sh)
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
takes=1
help_or_go "$@"
name=${1:-user-service}
given IMAGE VERSION
need buildah "build images"
cd "$root"

options=()
case $name in
  user-service) file=service/Dockerfile ;;
  serin)
    file=controller/Dockerfile
    given BASE
    options+=(--build-arg "BASE=$BASE")
    ;;
  *) fail "reading the command line" "there is no image $name" "say user-service or serin" ;;
esac
[ -x "$out/$name" ] || fail "building the image of $name" "$out/$name is absent" "run deploy/ci/build.sh first"

commit=$(git rev-parse HEAD 2>/dev/null || printf unknown)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git show -s --format=%ct HEAD)}
export SOURCE_DATE_EPOCH
# Only the program goes into the build, with a mode that no umask has a say in.
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
install -m 755 "$out/$name" "$context/$name"
# OCI's format has no health check, and warns of it; Docker's has a random host name, and so never the same digest.
buildah build --format oci --timestamp "$SOURCE_DATE_EPOCH" --file "$file" --build-context "program=$context" \
  --identity-label=false --build-arg "VERSION=$VERSION" --build-arg "REVISION=$commit" "${options[@]}" --tag "$IMAGE:$VERSION" "$context"
rm -f "$out/$name.tar"
buildah push --quiet "$IMAGE:$VERSION" "oci-archive:$out/$name.tar:$IMAGE:$VERSION"
