//! What an Application's status says. Pure; it must not know how it came about.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{health::Health, object::Key};

/// `status` of an Application, as far as the stand-in writes it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Status {
    pub(super) sync: Sync,
    pub(super) health: HealthStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) operation_state: Option<OperationState>,
    pub(super) resources: Vec<Resource>,
    pub(super) history: Vec<HistoryEntry>,
    pub(super) conditions: Vec<Condition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reconciled_at: Option<String>,
    pub(super) source_type: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Sync {
    /// Synced, OutOfSync or Unknown.
    pub(super) status: String,
    /// The commit that was compared; none when there is none to compare.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) revision: String,
    #[serde(skip_serializing_if = "Value::is_null")]
    pub(super) compared_to: Value,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct HealthStatus {
    pub(super) status: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct OperationState {
    /// Running, Succeeded or Failed.
    pub(super) phase: String,
    pub(super) message: String,
    pub(super) started_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) finished_at: Option<String>,
    pub(super) operation: Value,
    pub(super) sync_result: SyncResult,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct SyncResult {
    pub(super) revision: String,
    pub(super) source: Value,
    pub(super) resources: Vec<Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Resource {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) health: Option<HealthStatus>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) requires_pruning: bool,
}

/// One entry of the history.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct HistoryEntry {
    pub(super) id: i64,
    pub(super) revision: String,
    pub(super) deployed_at: String,
    pub(super) source: Value,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Condition {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) message: String,
    pub(super) last_transition_time: String,
}

impl Resource {
    pub(super) fn new(key: &Key, state: &str, health: Option<Health>) -> Self {
        let Key {
            group,
            version,
            kind,
            namespace,
            name,
        } = key.clone();
        let health = health.map(HealthStatus::new);
        Self {
            group,
            version,
            kind,
            namespace,
            name,
            status: state.to_owned(),
            health,
            requires_pruning: false,
        }
    }

    pub(super) fn key(&self) -> Key {
        let Self {
            group,
            version,
            kind,
            namespace,
            name,
            ..
        } = self.clone();
        Key {
            group,
            version,
            kind,
            namespace,
            name,
        }
    }
}

impl HealthStatus {
    pub(super) fn new(health: Health) -> Self {
        Self {
            status: health.as_str().to_owned(),
        }
    }
}

impl Status {
    /// Nothing is known, for the reason that a condition tells.
    pub(super) fn unknown(&mut self) {
        "Unknown".clone_into(&mut self.sync.status);
        self.sync.revision.clear();
        for resource in &mut self.resources {
            "Unknown".clone_into(&mut resource.status);
        }
        if self.health.status.is_empty() {
            "Unknown".clone_into(&mut self.health.status);
        }
    }

    /// This trouble or none is there from now on; the time stays while the words are the same.
    pub(super) fn set_condition(&mut self, trouble: Option<(&str, &str)>, now: &str) {
        let old = self.conditions.drain(..).next();
        let Some((kind, message)) = trouble else { return };
        let same = old.filter(|old| old.kind == kind && old.message == message);
        self.conditions.push(same.unwrap_or_else(|| Condition {
            kind: kind.to_owned(),
            message: message.to_owned(),
            last_transition_time: now.to_owned(),
        }));
    }

    /// A commit is in the cluster.
    pub(super) fn deployed(&mut self, revision: &str, source: &Value, now: &str, limit: usize) {
        let id = self.history.last().map_or(0, |last| last.id + 1);
        let (revision, deployed_at) = (revision.to_owned(), now.to_owned());
        self.history.push(HistoryEntry {
            id,
            revision,
            deployed_at,
            source: source.clone(),
        });
        let over = self.history.len().saturating_sub(limit.max(1));
        self.history.drain(..over);
    }

    /// The Application is as well as the worst of what it wants.
    pub(super) fn worst(children: impl Iterator<Item = Health>) -> HealthStatus {
        HealthStatus::new(children.max().unwrap_or(Health::Healthy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_forgets_what_is_old() {
        let mut status = Status::default();
        for n in 0..5 {
            status.deployed(&format!("commit{n}"), &Value::Null, "now", 3);
        }
        let entries: Vec<_> = status
            .history
            .iter()
            .map(|entry| (entry.id, entry.revision.as_str()))
            .collect();
        assert_eq!(entries, [(2, "commit2"), (3, "commit3"), (4, "commit4")]);
    }

    #[test]
    fn a_condition_keeps_its_time_while_it_says_the_same() {
        let mut status = Status::default();
        status.set_condition(Some(("ComparisonError", "a")), "1");
        status.set_condition(Some(("ComparisonError", "a")), "2");
        assert_eq!(status.conditions[0].last_transition_time, "1");
        status.set_condition(Some(("ComparisonError", "b")), "3");
        assert_eq!(status.conditions[0].last_transition_time, "3");
        status.set_condition(None, "4");
        assert!(status.conditions.is_empty());
    }

    #[test]
    fn an_application_is_as_well_as_its_worst_child() {
        let worst = |all: &[Health]| Status::worst(all.iter().copied()).status;
        assert_eq!(
            worst(&[Health::Healthy, Health::Degraded, Health::Progressing]),
            "Degraded"
        );
        assert_eq!(worst(&[Health::Suspended, Health::Healthy]), "Suspended");
        assert_eq!(worst(&[]), "Healthy");
    }
}
