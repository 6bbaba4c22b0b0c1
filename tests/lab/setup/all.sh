#!/usr/bin/env bash
# Installs or builds everything that the lab needs into the cache, writes where it is to tools.json there, and prints that file's path.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command -v flock >/dev/null || apt_install "flock lets two runs share the cache" util-linux

# With KUBEBUILDER_ASSETS set, what it has is used; the rest is built.
assets=${KUBEBUILDER_ASSETS:-}
if [ -n "$assets" ] && ! { [ -x "$assets/kube-apiserver" ] && [ -x "$assets/etcd" ]; }; then
  say "KUBEBUILDER_ASSETS=$assets has no kube-apiserver with etcd, so the lab builds its own"
  assets=
fi
[ -z "$assets" ] || assets=$(cd "$assets" && pwd)
controlplane=
if [ -z "$assets" ] || [ ! -x "$assets/kube-controller-manager" ]; then
  controlplane=$("$here/controlplane.sh")
fi
endpoint=$("$here/kubelet-endpoint.sh")
crds=$("$here/gateway-crds.sh")
prometheus=$("$here/prometheus.sh")
tools=$("$here/helm-kubectl.sh")
system=$("$here/system.sh")
"$here/postgres.sh" >/dev/null # for the tests of user-service, which ask for it themselves
"$here/lua.sh" >/dev/null # for the tests of argocd/, which ask for it themselves
"$here/openssh.sh" >/dev/null # for the tests of the controller, which ask for it themselves
# For the tests of the pipeline, of images and of the page, which ask for them themselves.
for script in groovy linters images browser; do "$here/$script.sh" >/dev/null; done

# json WORD: as a JSON string.
json() {
  local word=${1//\\/\\\\}
  printf '"%s"' "${word//\"/\\\"}"
}
# line N TEXT
line() { sed -n "$1p" <<<"$2"; }
# role NAME: what starts that process, as the beginning of an argument list.
role() {
  if [ -n "$assets" ] && [ -x "$assets/$1" ]; then
    printf '[%s]' "$(json "$assets/$1")"
  else
    printf '[%s, %s]' "$(json "$controlplane")" "$(json "$1")"
  fi
}

new=$(mktemp "$CACHE/.tools.json.XXXXXX")
cat >"$new" <<JSON
{
  "controlplane": $([ -n "$controlplane" ] && json "$controlplane" || printf null),
  "kube_apiserver": $(role kube-apiserver),
  "kube_controller_manager": $(role kube-controller-manager),
  "etcd": $(role etcd),
  "kubelet_endpoint": $(json "$endpoint"),
  "gateway_crds": $(json "$crds"),
  "prometheus": $(json "$(line 1 "$prometheus")"),
  "promtool": $(json "$(line 2 "$prometheus")"),
  "helm": $(json "$(line 1 "$tools")"),
  "kubectl": $(json "$(line 2 "$tools")"),
  "git": $(json "$(line 1 "$system")"),
  "git_http_backend": $(json "$(line 2 "$system")"),
  "setpriv": $(json "$(line 3 "$system")")
}
JSON
chmod 644 "$new"
mv "$new" "$CACHE/tools.json"
printf '%s\n' "$CACHE/tools.json"
