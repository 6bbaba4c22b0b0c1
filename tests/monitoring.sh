#!/usr/bin/env bash
# Has promtool test the alerts of deploy/monitoring, and amtool the routes; what metrics they ask for is a unit test of the controller's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
setup=tests/lab/setup
promtool=$("$setup/prometheus.sh" | sed -n 2p)
amtool=$("$setup/alertmanager.sh" | sed -n 2p)
of=deploy/monitoring

"$promtool" check rules "$of/rules.yaml"
"$promtool" test rules "$of/rules_test.yaml"
"$amtool" check-config "$of/alertmanager.yaml"

# routed LABELS RECEIVERS: where an alert goes.
routed() {
  # shellcheck disable=SC2086 # labels are words
  "$amtool" config routes test --config.file="$of/alertmanager.yaml" --verify.receivers="$2" $1 ||
    { printf 'the alert with %s does not go to %s alone\n' "$1" "$2" >&2 && exit 1; }
}
routed 'alertname=SerinRollbackBlocked severity=critical rollout=web' pagerduty,slack
routed 'alertname=SerinDeliveryBlocked severity=warning rollout=web' slack
routed 'alertname=SerinRolledBack severity=info rollout=web' slack-quiet
routed 'alertname=Another severity=critical' mail

# Each alert is tested, and stands in the table for people.
sed -n 's/^ *- alert: //p' "$of/rules.yaml" | while read -r alert; do
  grep -q "alertname: $alert\b" "$of/rules_test.yaml" || { printf '%s has no test in %s\n' "$alert" "$of/rules_test.yaml" >&2 && exit 1; }
  grep -q "\`$alert\`" docs/operating.md || { printf '%s is missing in docs/operating.md\n' "$alert" >&2 && exit 1; }
done
