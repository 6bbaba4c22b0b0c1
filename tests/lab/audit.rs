//! The API server's audit log: the witness for what was written, by whom and when. It must not ask the controller anything.

use std::path::Path;

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::Value;

/// A write of a route's weights that the API server accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightWrite {
    /// When the API server had answered.
    pub at: Timestamp,
    /// Who wrote.
    pub user: String,
    /// The route's namespace.
    pub namespace: String,
    /// The route's name.
    pub name: String,
    /// Stable's weight, as it was written.
    pub stable: i64,
    /// The canary's weight, as it was written.
    pub canary: i64,
}

impl WeightWrite {
    /// The canary's share in percent, rounded.
    pub fn percent(&self) -> i64 {
        let total = self.stable + self.canary;
        if total == 0 {
            0
        } else {
            (self.canary * 100 + total / 2) / total
        }
    }
}

/// All weights that were written to routes of this namespace, in the order of time.
pub fn weights(log: &Path, namespace: &str) -> anyhow::Result<Vec<WeightWrite>> {
    let text = std::fs::read_to_string(log).with_context(|| format!("reading the audit log {}", log.display()))?;
    let mut writes: Vec<_> = text
        .lines()
        .filter(|line| line.contains(namespace))
        .filter(|line| line.contains("routes\"") || line.contains("trafficsplits\""))
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|event| weight_write(&event))
        .filter(|write| write.namespace == namespace)
        .collect();
    writes.sort_by_key(|write| write.at);
    // A write that changes nothing of the weights is no change of them.
    writes.dedup_by(|next, last| (next.stable, next.canary) == (last.stable, last.canary));
    Ok(writes)
}

fn weight_write(event: &Value) -> Option<WeightWrite> {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
    if !matches!(
        text("/objectRef/resource")?,
        "grpcroutes" | "httproutes" | "trafficsplits"
    ) || event.pointer("/objectRef/subresource").is_some()
    {
        return None;
    }
    if !matches!(text("/verb")?, "create" | "update" | "patch")
        || event.pointer("/responseStatus/code")?.as_i64()? >= 300
    {
        return None;
    }
    let route = event.pointer("/responseObject")?;
    let backends = match route.pointer("/spec/backends") {
        // A TrafficSplit has one list.
        Some(backends) => backends.as_array()?,
        // The rule that splits is the one with two backends; a testers' rule has one.
        None => {
            let rules = route.pointer("/spec/rules")?.as_array()?;
            let of_rule = rules.iter().filter_map(|rule| rule.get("backendRefs")?.as_array());
            of_rule.into_iter().find(|b| b.len() == 2)?
        }
    };
    let weight = |i: usize| backends.get(i)?.get("weight").map_or(Some(1), Value::as_i64);
    Some(WeightWrite {
        at: text("/stageTimestamp")?.parse().ok()?,
        user: text("/user/username")?.to_owned(),
        namespace: text("/objectRef/namespace")?.to_owned(),
        name: text("/objectRef/name")?.to_owned(),
        stable: weight(0)?,
        canary: weight(1)?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(verb: &str, code: i64, weights: (i64, i64)) -> Value {
        json!({
            "verb": verb, "stageTimestamp": "2026-11-24T05:00:00.500000Z", "responseStatus": {"code": code},
            "user": {"username": "system:serviceaccount:serin:serin"},
            "objectRef": {"resource": "grpcroutes", "namespace": "prod", "name": "web"},
            "responseObject": {"spec": {"rules": [
                {"backendRefs": [{"name": "web-canary"}]},
                {"backendRefs": [{"name": "web-stable", "weight": weights.0}, {"name": "web-canary", "weight": weights.1}]},
            ]}},
        })
    }

    #[test]
    fn tells_who_set_which_weight_and_when() {
        let write = weight_write(&event("patch", 200, (1, 99_999))).unwrap();
        assert_eq!(
            (write.user.as_str(), write.percent()),
            ("system:serviceaccount:serin:serin", 100)
        );
        assert_eq!(weight_write(&event("patch", 409, (1, 1))), None);
        assert_eq!(weight_write(&event("get", 200, (1, 1))), None);
    }
}
