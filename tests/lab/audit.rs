//! The API server's audit log: the witness for what was written, by whom and when. It must not ask the controller anything.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::Value;

/// The log. It grows to a hundred megabytes and stories look at it again and again, so each line is read once.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    known: Mutex<Known>,
}

/// What was read of it.
#[derive(Debug, Default)]
struct Known {
    /// Up to this byte, the end of a line.
    to: u64,
    weights: Vec<WeightWrite>,
    asked: Vec<Asked>,
}

impl AuditLog {
    /// The log in this file.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            known: Mutex::default(),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All weights that were written to routes of this namespace, in the order of time.
    pub fn weights(&self, namespace: &str) -> anyhow::Result<Vec<WeightWrite>> {
        let known = self.read_on()?;
        let of_namespace = known.weights.iter().filter(|write| write.namespace == namespace);
        let mut writes: Vec<_> = of_namespace.cloned().collect();
        writes.sort_by_key(|write| write.at);
        // A write that changes nothing of the weights is no change of them.
        writes.dedup_by(|next, last| (&next.name, next.stable, next.canary) == (&last.name, last.stable, last.canary));
        Ok(writes)
    }

    /// All that accounts with this name, or with a name that begins so, asked for, in the order in which it came.
    pub fn asked_by(&self, account: &str) -> anyhow::Result<Vec<Asked>> {
        let known = self.read_on()?;
        let of_account = known.asked.iter().filter(|asked| asked.user.starts_with(account));
        let mut asked: Vec<_> = of_account.cloned().collect();
        asked.sort_by_key(|asked| asked.came);
        Ok(asked)
    }

    /// Reads what came since the last time. A line that is still being written is left for the next.
    fn read_on(&self) -> anyhow::Result<MutexGuard<'_, Known>> {
        // What a reader that panicked had read stands, as a line is known before it is counted.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(known.to))?;
            let mut bytes = vec![];
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().with_context(|| format!("reading the audit log {}", self.path.display()))?;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if !line.ends_with(b"\n") {
                break;
            }
            if let Ok(event) = serde_json::from_slice::<Value>(line) {
                known.weights.extend(weight_write(&event));
                known.asked.extend(asked(&event));
            }
            known.to += line.len() as u64;
        }
        Ok(known)
    }
}

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

/// A request to the API server, answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// When it had come.
    pub came: Timestamp,
    /// When the API server had answered.
    pub at: Timestamp,
    /// Who asked.
    pub user: String,
    /// The program that asked, by its own word.
    pub agent: String,
    /// As roles name it.
    pub verb: String,
    /// The API's group; empty is the core's.
    pub group: String,
    /// With the subresource behind a slash.
    pub resource: String,
    /// Empty for the cluster's own.
    pub namespace: String,
    /// Empty for lists.
    pub name: String,
    /// The answer's HTTP status.
    pub code: i64,
}

impl Asked {
    /// Whether it changes something, and was done.
    pub fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch") && (200..300).contains(&self.code)
    }
}

fn asked(event: &Value) -> Option<Asked> {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let resource = text("/objectRef/resource")?;
    Some(Asked {
        came: text("/requestReceivedTimestamp")?.parse().ok()?,
        at: text("/stageTimestamp")?.parse().ok()?,
        user: text("/user/username")?,
        agent: text("/userAgent").unwrap_or_default(),
        verb: text("/verb")?,
        group: text("/objectRef/apiGroup").unwrap_or_default(),
        resource: match text("/objectRef/subresource") {
            Some(below) => format!("{resource}/{below}"),
            None => resource,
        },
        namespace: text("/objectRef/namespace").unwrap_or_default(),
        name: text("/objectRef/name").unwrap_or_default(),
        code: event.pointer("/responseStatus/code")?.as_i64()?,
    })
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
        // The rule that splits is the one with two backends that does not look at headers, as a testers' rule does.
        None => {
            let rules = route.pointer("/spec/rules")?.as_array()?;
            let of_testers = |rule: &&Value| rule.pointer("/matches/0/headers/0").is_some();
            let others = rules.iter().filter(|rule| !of_testers(rule));
            let of_rule = others.filter_map(|rule| rule.get("backendRefs")?.as_array());
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
                {
                    "matches": [{"headers": [{"name": "x-canary", "value": "1"}]}],
                    "backendRefs": [{"name": "web-stable", "weight": 1}, {"name": "web-canary", "weight": 99_999}],
                },
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

    #[test]
    fn each_line_is_read_once_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let line = |weight| event("patch", 200, (100 - weight, weight)).to_string() + "\n";
        let log = AuditLog::new(path.clone());
        let weights = || {
            log.weights("prod")
                .unwrap()
                .iter()
                .map(WeightWrite::percent)
                .collect::<Vec<_>>()
        };
        let (begun, rest) = (line(10), line(25));
        let (half, other_half) = rest.split_at(40);
        std::fs::write(&path, begun.clone() + half).unwrap();
        assert_eq!(weights(), [10]);
        std::fs::write(&path, begun + half + other_half).unwrap();
        assert_eq!(weights(), [10, 25]);
        assert_eq!(weights(), [10, 25]);
        assert!(log.weights("dev").unwrap().is_empty());
    }

    #[test]
    fn tells_what_was_asked_as_roles_name_it() {
        let mut scale = event("patch", 200, (1, 1));
        scale["requestReceivedTimestamp"] = json!("2026-11-24T05:00:00.400000Z");
        scale["objectRef"] =
            json!({"apiGroup": "apps", "resource": "deployments", "subresource": "scale", "name": "web"});
        let scale = asked(&scale).unwrap();
        assert_eq!(
            (scale.group.as_str(), scale.resource.as_str()),
            ("apps", "deployments/scale")
        );
        assert!(scale.is_write() && scale.namespace.is_empty() && scale.came < scale.at);
    }
}
