//! How well an object is, in Argo CD's words. For `CanaryRollout` it says what argocd/argocd-cm.yaml says in Lua. Pure.

use serde_json::Value;

/// From best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Health {
    Healthy,
    Suspended,
    Progressing,
    Missing,
    Degraded,
}

impl Health {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "Healthy",
            Self::Suspended => "Suspended",
            Self::Progressing => "Progressing",
            Self::Missing => "Missing",
            Self::Degraded => "Degraded",
        }
    }

    /// Of a live object; none for kinds that have no health.
    pub(super) fn of(live: Option<&Value>) -> Option<Self> {
        let Some(live) = live else { return Some(Self::Missing) };
        let text = |pointer: &str| live.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        match (text("/apiVersion").split('/').next().unwrap_or_default(), text("/kind")) {
            ("apps", "Deployment") => Some(deployment(live)),
            ("v1", "Service") => Some(service(live)),
            ("serin.dev", "CanaryRollout") => Some(rollout(live)),
            _ => None,
        }
    }
}

fn unseen(live: &Value) -> bool {
    let number = |pointer: &str| live.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
    number("/status/observedGeneration") != number("/metadata/generation")
}

fn conditions(live: &Value) -> impl Iterator<Item = (&str, &str, &str)> {
    live.pointer("/status/conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|condition| {
            let text = |key: &str| condition.get(key).and_then(Value::as_str).unwrap_or_default();
            (text("type"), text("status"), text("reason"))
        })
}

fn deployment(live: &Value) -> Health {
    let number = |pointer: &str, default: i64| live.pointer(pointer).and_then(Value::as_i64).unwrap_or(default);
    let wanted = number("/spec/replicas", 1);
    let too_slow =
        |(kind, _, reason): (&str, &str, &str)| kind == "Progressing" && reason == "ProgressDeadlineExceeded";
    if live.pointer("/spec/paused") == Some(&Value::Bool(true)) {
        Health::Suspended
    } else if unseen(live) {
        Health::Progressing
    } else if conditions(live).any(too_slow) {
        Health::Degraded
    } else if number("/status/updatedReplicas", 0) < wanted
        || number("/status/replicas", 0) > number("/status/updatedReplicas", 0)
        || number("/status/availableReplicas", 0) < number("/status/updatedReplicas", 0)
    {
        Health::Progressing
    } else {
        Health::Healthy
    }
}

fn service(live: &Value) -> Health {
    let has_address = || {
        let addresses = live.pointer("/status/loadBalancer/ingress").and_then(Value::as_array);
        addresses.is_some_and(|addresses| !addresses.is_empty())
    };
    match live.pointer("/spec/type").and_then(Value::as_str) {
        Some("LoadBalancer") if !has_address() => Health::Progressing,
        _ => Health::Healthy,
    }
}

fn rollout(live: &Value) -> Health {
    let needs_a_person = |(kind, status, _): (&str, &str, &str)| {
        matches!(
            (kind, status),
            ("RollbackBlocked" | "Blind", "True") | ("SpecValid", "False")
        )
    };
    if unseen(live) {
        return Health::Progressing;
    }
    if conditions(live).any(needs_a_person) {
        return Health::Degraded;
    }
    match live.pointer("/status/phase").and_then(Value::as_str) {
        Some("Paused") => Health::Suspended,
        Some("Starting" | "Progressing" | "Promoting" | "RollingBack") | None => Health::Progressing,
        Some(_) => Health::Healthy,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_deployment_is_healthy_when_all_its_pods_are_new_and_available() {
        let of = |status: Value| {
            let live = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": status});
            Health::of(Some(&live))
        };
        let status = |updated: i64, available: i64| json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": updated, "availableReplicas": available});
        assert_eq!(of(status(2, 2)), Some(Health::Healthy));
        assert_eq!(of(status(1, 2)), Some(Health::Progressing));
        assert_eq!(of(status(2, 1)), Some(Health::Progressing));
        assert_eq!(of(json!({"observedGeneration": 1})), Some(Health::Progressing));
        let late = json!({"observedGeneration": 2, "conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]});
        assert_eq!(of(late), Some(Health::Degraded));
    }

    #[test]
    fn a_rollout_that_was_rolled_back_is_healthy_and_a_blocked_one_degraded() {
        let of = |phase: &str, conditions: Value| {
            let live = json!({"apiVersion": "serin.dev/v1alpha1", "kind": "CanaryRollout", "metadata": {"generation": 1},
                "status": {"observedGeneration": 1, "phase": phase, "conditions": conditions}});
            Health::of(Some(&live))
        };
        assert_eq!(of("RolledBack", json!([])), Some(Health::Healthy));
        assert_eq!(of("Progressing", json!([])), Some(Health::Progressing));
        assert_eq!(of("Paused", json!([])), Some(Health::Suspended));
        assert_eq!(
            of("RollingBack", json!([{"type": "RollbackBlocked", "status": "True"}])),
            Some(Health::Degraded)
        );
    }

    #[test]
    fn what_is_not_there_is_missing_and_a_service_waits_for_its_load_balancer() {
        assert_eq!(Health::of(None), Some(Health::Missing));
        let service = |spec: Value| Health::of(Some(&json!({"apiVersion": "v1", "kind": "Service", "spec": spec})));
        assert_eq!(service(json!({"type": "ClusterIP"})), Some(Health::Healthy));
        assert_eq!(service(json!({"type": "LoadBalancer"})), Some(Health::Progressing));
        assert_eq!(
            Health::of(Some(&json!({"apiVersion": "v1", "kind": "ConfigMap"}))),
            None
        );
    }
}
