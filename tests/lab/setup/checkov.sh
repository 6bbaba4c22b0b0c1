#!/usr/bin/env bash
# Checks the rendered charts of all environments with checkov, which is installed into the cache once; what is not asked of them
# stands in deploy/checkov.yaml with its reason.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

version=3.3.30
name=checkov-$version

install_it() {
  python3 -m pip --version >/dev/null 2>&1 || apt_install "to install checkov" python3 python3-pip
  patiently "installing checkov $version (290 MB)" "check that the Python package index is reachable, then run this again" \
    python3 -m pip install --disable-pip-version-check --no-input --quiet --target "$1/lib" --constraint "$here/checkov.txt" "checkov==$version"
}

once "$name" install_it
helm=$("$here/helm-kubectl.sh" | sed -n 1p) # head would not wait for the second line, and that would fail
cd "$here/../../.."
rendered=$(mktemp -d)
trap 'rm -rf "$rendered"; at_exit' EXIT
mkdir "$rendered/service" "$rendered/controller"
for environment in dev staging prod; do
  "$helm" template user-service deploy/charts/user-service --namespace "user-service-$environment" \
    --values "deploy/environments/$environment/values.yaml" >"$rendered/service/$environment.yaml"
done
"$helm" template serin deploy/charts/serin --namespace serin-system --set clusterId=x --set networkPolicy.enabled=true \
  >"$rendered/controller/serin.yaml" 2>/dev/null

# check FOLDER MORE…: its guidelines would come from a host that is not asked.
check() {
  PYTHONPATH=$CACHE/$name/lib LOG_LEVEL=ERROR python3 -m checkov.main --config-file deploy/checkov.yaml --directory "$@" \
    --skip-download --compact --quiet
}
check "$rendered/service"
# Serin asks the API server, with its account's token; the service's pods have none.
check "$rendered/controller" --skip-check CKV_K8S_11,CKV_K8S_15,CKV_K8S_43,CKV_K8S_38
printf 'checkov finds nothing in the charts\n'
