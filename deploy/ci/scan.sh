#!/usr/bin/env bash
# The gate before the push: the image must have no known vulnerability that is high or critical and has been mended upstream.
#
#   [SEVERITY=HIGH,CRITICAL] deploy/ci/scan.sh user-service|serin
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
takes=1
help_or_go "$@"
name=${1:-user-service}
need trivy "scan images"
cd "$root"

[ -f "$out/$name.tar" ] || fail "scanning the image of $name" "$out/$name.tar is absent" "run deploy/ci/image.sh $name first"
trivy image --input "$out/$name.tar" --severity "${SEVERITY:-HIGH,CRITICAL}" --ignore-unfixed --exit-code 1 --no-progress ||
  fail "scanning the image of $name" "trivy ended with exit code $?; what it found stands above" \
    "bring the dependency to the version that mends it; an exception goes into .trivyignore with its reason"
