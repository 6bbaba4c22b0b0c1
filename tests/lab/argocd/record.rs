//! What an Application said of itself, version by version, and whether it was out of sync when it should not have been. It must not know
//! what was done meanwhile.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::ensure;
use futures::StreamExt as _;
use kube::{
    Api,
    api::DynamicObject,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use serde_json::Value;
use tokio::task::JoinHandle;

/// A record that is being made. It ends when it is dropped.
#[derive(Debug)]
pub struct Record {
    shared: Arc<Mutex<Shared>>,
    task: JoinHandle<()>,
}

/// One version of the Application, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    /// `Synced`, `OutOfSync` or `Unknown`.
    sync: String,
    /// The commit that the cluster was compared with.
    commit: String,
    /// When the newest sync that was to heal began.
    healing: Option<String>,
    /// The disturbance that went on: what differs meanwhile is its doing.
    disturbance: Option<usize>,
}

#[derive(Debug, Default)]
struct Shared {
    versions: Vec<Version>,
    disturbances: usize,
    is_disturbed: bool,
}

impl Record {
    /// Begins with the present version.
    pub fn begin(applications: Api<DynamicObject>, name: &str) -> Self {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let written = shared.clone();
        let task = tokio::spawn(async move {
            let mut events = watcher::watcher(applications, config).default_backoff().boxed();
            while let Some(event) = events.next().await {
                if let Ok(Event::Apply(object) | Event::InitApply(object)) = event {
                    lock(&written).add(&object.data);
                }
            }
        });
        Self { shared, task }
    }

    /// From now on somebody is at what the Application applies.
    pub fn disturb(&self) {
        let mut shared = lock(&self.shared);
        shared.is_disturbed = true;
        shared.disturbances += 1;
    }

    /// Ends [`Self::disturb`]: all is in order again.
    pub fn calm(&self) {
        lock(&self.shared).is_disturbed = false;
    }

    /// Says of how many versions this holds: the Application was never out of sync with a commit that had been applied, and no sync
    /// healed anything, but while somebody was at it; and each time somebody was, it said so.
    ///
    /// # Errors
    /// When it does not hold.
    pub fn judge(&self) -> anyhow::Result<usize> {
        let shared = lock(&self.shared);
        judge(&shared.versions, shared.disturbances)?;
        Ok(shared.versions.len())
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn add(&mut self, application: &Value) {
        let text = |pointer: &str| {
            let text = application.pointer(pointer).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        let attempts = application.pointer("/status/operationState/operation/sync/autoHealAttemptsCount");
        let heals = attempts.and_then(Value::as_i64).is_some_and(|attempts| attempts > 0);
        let version = Version {
            sync: text("/status/sync/status"),
            commit: text("/status/sync/revision"),
            healing: heals.then(|| text("/status/operationState/startedAt")),
            disturbance: self.is_disturbed.then_some(self.disturbances),
        };
        if self.versions.last() != Some(&version) {
            self.versions.push(version);
        }
    }
}

/// A commit has been applied once the Application was in sync with it. Before that, from its push to the end of its sync, there is
/// something to apply. A sync heals where it follows one of the same commit.
fn judge(versions: &[Version], disturbances: usize) -> anyhow::Result<()> {
    // What was healed before the record began is nobody's business.
    let mut healed: BTreeSet<_> = versions.first().iter().filter_map(|v| v.healing.as_ref()).collect();
    let (mut applied, mut noticed) = (BTreeSet::new(), BTreeSet::new());
    for (nth, version) in versions.iter().enumerate() {
        let found = |what: &str| {
            let around = versions.get(nth.saturating_sub(3)..versions.len().min(nth + 4));
            format!("{what}; this and what was around it: {version:?}, {around:#?}")
        };
        let is_calm = version.disturbance.is_none();
        if let Some(began) = &version.healing {
            let is_new = healed.insert(began);
            ensure!(
                !(is_calm && is_new),
                found("a sync healed although nobody was at anything")
            );
        }
        if version.sync == "OutOfSync" {
            ensure!(
                !(is_calm && applied.contains(&version.commit)),
                found("it was out of sync with a commit that had been applied")
            );
            // Somebody else may have pushed in the meantime: then it is with a newer commit that it is found out of sync.
            noticed.extend(version.disturbance);
        }
        ensure!(
            applied.is_empty() || version.sync != "Unknown",
            found("nobody knew whether it was in sync")
        );
        if version.sync == "Synced" {
            applied.insert(&version.commit);
        }
    }
    ensure!(
        noticed.len() == disturbances,
        "of {disturbances} disturbances it noticed {noticed:?}: {versions:#?}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A state, the commit, and the number of syncs that have healed so far.
    fn add(shared: &mut Shared, sync: &str, commit: &str, healed: usize) {
        shared.add(&json!({ "status": {
            "sync": { "status": sync, "revision": commit },
            "operationState": {
                "startedAt": format!("heals {healed}"),
                "operation": { "sync": { "autoHealAttemptsCount": healed } },
            },
        } }));
    }

    fn judged(shared: &Shared) -> Result<(), String> {
        judge(&shared.versions, shared.disturbances).map_err(|error| error.to_string())
    }

    /// At rest at `a`.
    fn at_rest() -> Shared {
        let mut shared = Shared::default();
        for sync in ["", "OutOfSync", "Synced"] {
            add(&mut shared, sync, "a", 0);
        }
        shared
    }

    #[test]
    fn a_commit_that_is_not_applied_yet_is_out_of_sync() {
        let mut shared = at_rest();
        for (sync, commit) in [("OutOfSync", "b"), ("OutOfSync", "c"), ("Synced", "c"), ("Synced", "d")] {
            add(&mut shared, sync, commit, 0);
        }
        assert_eq!(judged(&shared), Ok(()));
        assert_eq!(shared.versions.len(), 7);
    }

    #[test]
    fn one_that_was_applied_is_not() {
        let mut shared = at_rest();
        add(&mut shared, "OutOfSync", "a", 0);
        assert!(judged(&shared).unwrap_err().contains("had been applied"));
    }

    #[test]
    fn what_is_healed_was_disturbed() {
        let mut shared = at_rest();
        add(&mut shared, "Synced", "a", 1);
        assert!(judged(&shared).unwrap_err().contains("nobody was at anything"));

        let mut shared = at_rest();
        (shared.disturbances, shared.is_disturbed) = (1, true);
        add(&mut shared, "OutOfSync", "a", 0);
        add(&mut shared, "Synced", "a", 1);
        shared.is_disturbed = false;
        add(&mut shared, "Synced", "b", 1);
        assert_eq!(judged(&shared), Ok(()), "an old sync is not a new one");
    }

    #[test]
    fn a_disturbance_that_nobody_notices_makes_the_record_worthless() {
        let mut shared = at_rest();
        (shared.disturbances, shared.is_disturbed) = (1, true);
        add(&mut shared, "Synced", "a", 0);
        assert!(judged(&shared).unwrap_err().contains("1 disturbances"));
    }

    #[test]
    fn a_disturbance_may_be_noticed_with_the_next_commit() {
        let mut shared = at_rest();
        (shared.disturbances, shared.is_disturbed) = (1, true);
        add(&mut shared, "OutOfSync", "b", 0);
        add(&mut shared, "Synced", "b", 0);
        assert_eq!(judged(&shared), Ok(()));
    }

    #[test]
    fn what_was_healed_before_is_not_asked_for() {
        let mut shared = Shared::default();
        add(&mut shared, "Synced", "a", 2);
        assert_eq!(judged(&shared), Ok(()));
    }

    #[test]
    fn not_to_know_is_no_answer() {
        let mut shared = at_rest();
        add(&mut shared, "Unknown", "a", 0);
        assert!(judged(&shared).unwrap_err().contains("nobody knew"));
    }
}
