//! A sync that is to be done: Argo CD's own, or one that somebody asked for, which `argocd app sync` writes into the Application as
//! `operation`. Pure; it must not know how a sync is done.

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    spec::Automated,
    status::{OperationState, SyncResult},
};

/// What Argo CD says of one that has to wait for a sync window.
const BLOCKED: &str = "Sync operation blocked by sync window";

/// An Application's `operation`, as far as the stand-in obeys it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Operation {
    #[serde(default)]
    initiated_by: Initiator,
    sync: Sync,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Initiator {
    #[serde(default)]
    username: String,
    #[serde(default)]
    automated: bool,
}

/// To the newest commit of the target revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Sync {
    #[serde(default)]
    prune: bool,
    /// Only Argo CD's own syncs shrink from pruning everything.
    #[serde(skip)]
    keeps_something: bool,
}

impl Operation {
    /// Reads what somebody asked for.
    pub(super) fn read(value: &Value) -> anyhow::Result<Self> {
        serde_json::from_value(value.clone())
            .context("reading the Application's operation; the lab's stand-in for Argo CD knows no more than it obeys")
    }

    /// The one that Argo CD begins by itself.
    pub(super) fn of(automated: &Automated) -> Self {
        Self {
            initiated_by: Initiator {
                automated: true,
                ..Initiator::default()
            },
            sync: Sync {
                prune: automated.prune,
                keeps_something: !automated.allow_empty,
            },
        }
    }

    /// Whether people asked for it.
    pub(super) fn is_manual(&self) -> bool {
        !self.initiated_by.automated
    }

    pub(super) fn prunes(&self) -> bool {
        self.sync.prune
    }

    /// Whether it must not leave nothing behind.
    pub(super) fn keeps_something(&self) -> bool {
        self.sync.keeps_something
    }

    /// Its state when it begins.
    pub(super) fn begins(&self, revision: &str, source: &Value, now: String) -> OperationState {
        let initiator = if self.is_manual() {
            json!({ "username": self.initiated_by.username })
        } else {
            json!({ "automated": true })
        };
        OperationState {
            phase: "Running".to_owned(),
            message: "waiting for the cluster".to_owned(),
            started_at: now,
            finished_at: None,
            operation: json!({
                "initiatedBy": initiator,
                "sync": { "revision": revision, "prune": self.sync.prune },
            }),
            sync_result: SyncResult {
                revision: revision.to_owned(),
                source: source.clone(),
                resources: Vec::new(),
            },
        }
    }
}

/// The state of one that would begin, and has to wait for a window; it began when it first had to.
pub(super) fn waiting(begins: OperationState, before: Option<&OperationState>) -> OperationState {
    let since = before.filter(|before| before.message == BLOCKED && before.phase == "Running");
    OperationState {
        started_at: since.map_or_else(|| begins.started_at.clone(), |since| since.started_at.clone()),
        message: BLOCKED.to_owned(),
        ..begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_and_argo_cd_itself_are_told_apart() {
        let asked =
            Operation::read(&json!({ "initiatedBy": { "username": "ann" }, "sync": { "prune": true } })).unwrap();
        assert!(asked.is_manual() && asked.prunes() && !asked.keeps_something());
        let own = Operation::of(&Automated::default());
        assert!(!own.is_manual() && !own.prunes() && own.keeps_something());
        let state = asked.begins("abc", &json!({}), "now".to_owned());
        assert_eq!(state.operation["initiatedBy"], json!({ "username": "ann" }));
    }

    #[test]
    fn one_that_waits_keeps_its_beginning() {
        let asked = Operation::read(&json!({ "sync": {} })).unwrap();
        let begins = |now: &str| asked.begins("abc", &json!({}), now.to_owned());
        let first = waiting(begins("1"), Some(&begins("0")));
        assert_eq!((first.started_at.as_str(), first.message.as_str()), ("1", BLOCKED));
        assert_eq!(waiting(begins("2"), Some(&first)).started_at, "1");
    }

    #[test]
    fn what_is_not_obeyed_is_refused_by_name() {
        for (operation, says) in [
            (json!({}), "sync"),
            (json!({ "sync": { "revision": "abc" } }), "revision"),
            (json!({ "sync": { "resources": [] } }), "resources"),
            (json!({ "sync": {}, "retry": {} }), "retry"),
        ] {
            let error = Operation::read(&operation).unwrap_err();
            assert!(format!("{error:#}").contains(says), "{error:#}");
        }
    }
}
