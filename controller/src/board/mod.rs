//! What this replica knows of all rollouts, now and lately: for the page and for the metrics, neither of which asks the API server
//! once a reader or a scrape. It must not know who reads it, and decides nothing.
//!
//! A watch fills it on every replica: its own, or that of the reconciles where there are any, which also tell it the counts that are
//! not written to status yet. Each rollout is held once for both.
//!
//! # Caveats
//! What happened [`Lately`] is what this process has seen; a restart begins anew.

mod around;
mod marks;
mod percentiles;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;
use kube::ResourceExt as _;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::api::{CanaryRollout, CanaryRolloutStatus, LatencyStatus};

pub use around::{Around, Deployed, Scaler, Told};
use marks::Marks;
pub use marks::{Leaning, Mark};
pub use percentiles::Percentiles;

/// News that a slow reader may be behind; one who is further behind reads all anew.
const NEWS: usize = 256;
/// Written by `kubectl apply`, whole.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A rollout's namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The namespace.
    pub namespace: String,
    /// The name in it.
    pub name: String,
}

impl Key {
    /// Of this rollout.
    pub fn of(rollout: &CanaryRollout) -> Self {
        Self {
            namespace: rollout.namespace().unwrap_or_default(),
            name: rollout.name_any(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// All rollouts. Cheap to clone; clones are one board.
#[derive(Debug, Clone)]
pub struct Board(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    entries: RwLock<BTreeMap<Key, Entry>>,
    news: broadcast::Sender<Key>,
    filled: AtomicBool,
    /// Cancelled when another watch fills it.
    own_watch: CancellationToken,
}

#[derive(Debug)]
struct Entry {
    rollout: Arc<CanaryRollout>,
    marks: Marks,
    percentiles: Percentiles,
    around: Around,
}

impl Entry {
    fn of(rollout: Arc<CanaryRollout>, now: Timestamp) -> Self {
        let mut entry = Self {
            rollout,
            marks: Marks::default(),
            percentiles: Percentiles::default(),
            around: Around::default(),
        };
        entry.remember(now);
        entry
    }

    fn remember(&mut self, now: Timestamp) {
        let Some(status) = &self.rollout.status else { return };
        self.marks.add(status, now);
        self.percentiles.add(status);
    }
}

/// What happened to one rollout lately, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Lately {
    /// What it looked like at its last changes.
    pub marks: Vec<Mark>,
    /// How fast the arms of its last trial were.
    pub latencies: Vec<LatencyStatus>,
}

impl Default for Board {
    fn default() -> Self {
        Self(Arc::new(Inner {
            entries: RwLock::default(),
            news: broadcast::channel(NEWS).0,
            filled: AtomicBool::new(false),
            own_watch: CancellationToken::new(),
        }))
    }
}

impl Board {
    /// A rollout as it is now.
    pub fn put(&self, rollout: impl Into<Arc<CanaryRollout>>, now: Timestamp) {
        let rollout = rollout.into();
        let key = Key::of(&rollout);
        let mut entries = self.write();
        match entries.get_mut(&key) {
            Some(entry) => {
                entry.rollout = if is_behind(rollout.status.as_ref(), entry.rollout.status.as_ref()) {
                    Arc::new(rollout.with_status(entry.rollout.status.clone()))
                } else {
                    rollout
                };
                entry.remember(now);
            }
            None => {
                entries.insert(key.clone(), Entry::of(rollout, now));
            }
        }
        drop(entries);
        self.tell_readers(key);
    }

    /// A rollout as it would be, if its status were worth a write already.
    pub fn tell(&self, key: &Key, rollout: &Arc<CanaryRollout>, now: Timestamp) {
        let mut entries = self.write();
        let Some(entry) = entries.get_mut(key) else { return };
        if rollout.status == entry.rollout.status {
            return;
        }
        entry.rollout = rollout.clone();
        entry.remember(now);
        drop(entries);
        self.tell_readers(key.clone());
    }

    /// What stands around a rollout now.
    pub fn surround(&self, key: &Key, stable: Deployed, canary: Deployed, autoscaler: Option<Scaler>) {
        let now = (Some(stable), Some(canary), autoscaler);
        self.change(key, |around| {
            let known = (&around.stable, &around.canary, &around.autoscaler);
            if known == (&now.0, &now.1, &now.2) {
                return false;
            }
            (around.stable, around.canary, around.autoscaler) = now;
            true
        });
    }

    /// What was told of a rollout.
    pub fn note(&self, key: &Key, told: Told) {
        self.change(key, |around| {
            around.note(told);
            true
        });
    }

    fn change(&self, key: &Key, change: impl FnOnce(&mut Around) -> bool) {
        let changed = self.write().get_mut(key).is_some_and(|entry| change(&mut entry.around));
        if changed {
            self.tell_readers(key.clone());
        }
    }

    /// A rollout that is gone.
    pub fn remove(&self, key: &Key) {
        if self.write().remove(key).is_some() {
            self.tell_readers(key.clone());
        }
    }

    /// From now on another watch of this process fills it.
    pub fn take_over(&self) {
        self.0.own_watch.cancel();
    }

    /// These are all that there are.
    pub fn keep_only(&self, keys: &BTreeSet<Key>) {
        let gone: Vec<Key> = {
            let entries = self.read();
            let gone = entries.keys().filter(|key| !keys.contains(key));
            gone.cloned().collect()
        };
        for key in &gone {
            self.remove(key);
        }
        self.fill();
    }

    /// All that there are were put up.
    pub fn fill(&self) {
        self.0.filled.store(true, Ordering::Relaxed);
    }

    /// Whether all rollouts were read once.
    pub fn is_filled(&self) -> bool {
        self.0.filled.load(Ordering::Relaxed)
    }

    /// All rollouts, by namespace and name.
    pub fn all(&self) -> Vec<Arc<CanaryRollout>> {
        self.read().values().map(|entry| entry.rollout.clone()).collect()
    }

    /// One, with what happened lately.
    pub fn one(&self, key: &Key) -> Option<(Arc<CanaryRollout>, Lately)> {
        let entries = self.read();
        let entry = entries.get(key)?;
        let lately = Lately {
            marks: entry.marks.all(),
            latencies: entry.percentiles.all(),
        };
        Some((entry.rollout.clone(), lately))
    }

    /// What stands around one, as far as this replica knows.
    pub fn around(&self, key: &Key) -> Around {
        self.read()
            .get(key)
            .map(|entry| entry.around.clone())
            .unwrap_or_default()
    }

    /// The rollouts that change from now on.
    pub fn news(&self) -> broadcast::Receiver<Key> {
        self.0.news.subscribe()
    }

    fn tell_readers(&self, key: Key) {
        // An error says that nobody reads.
        drop(self.0.news.send(key));
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Key, Entry>> {
        self.0.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<Key, Entry>> {
        self.0.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What no reader needs is not kept: of thousands of rollouts it would be most of their size.
fn trim(rollout: &mut CanaryRollout) {
    rollout.metadata.managed_fields = None;
    if let Some(annotations) = &mut rollout.metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
    if let Some(status) = &mut rollout.status {
        status.machine = None;
    }
}

/// Whether what the watch says was counted up to an earlier tick than what is known, and says nothing else that is new.
fn is_behind(seen: Option<&CanaryRolloutStatus>, known: Option<&CanaryRolloutStatus>) -> bool {
    let (Some(seen), Some(known)) = (seen, known) else {
        return false;
    };
    let last = |status: &CanaryRolloutStatus| status.samples.as_ref()?.ticks.last().map(|tick| tick.end);
    let same = (&seen.phase, &seen.step, &seen.last_command) == (&known.phase, &known.step, &known.last_command);
    same && last(seen) < last(known)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rollout(status: &Value) -> CanaryRollout {
        serde_json::from_value(json!({
            "apiVersion": "serin.dev/v1alpha1", "kind": "CanaryRollout",
            "metadata": {"name": "web", "namespace": "prod", "managedFields": [{"manager": "serin"}]},
            "spec": {
                "service": {"name": "web", "port": 80}, "stable": {"deployment": "web"}, "canary": {"deployment": "web-canary"},
                "git": {"repository": "https://git.example.com/config.git", "branch": "main", "path": "prod",
                        "secretRef": {"name": "config-repo"}},
            },
            "status": status,
        }))
        .unwrap()
    }

    fn ticked(second: i64) -> Value {
        let end = Timestamp::from_second(second).unwrap();
        let arm = json!({"requests": second, "failures": 0});
        json!({
            "phase": "Progressing", "step": "1/3", "machine": {"large": true},
            "samples": {"boundsMs": [], "ticks": [{"end": end, "weight": 5, "canary": arm, "stable": arm}]},
        })
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn last_tick(board: &Board, key: &Key) -> Timestamp {
        let (rollout, _) = board.one(key).unwrap();
        let samples = rollout.status.clone().unwrap().samples.unwrap();
        samples.ticks.last().unwrap().end
    }

    #[test]
    fn keeps_what_a_reader_needs_and_tells_who_changed() {
        let board = Board::default();
        let mut news = board.news();
        let mut trimmed = rollout(&ticked(20));
        trim(&mut trimmed);
        board.put(trimmed, at(20));
        let key = news.try_recv().unwrap();
        assert_eq!(key.to_string(), "prod/web");
        let (kept, _) = board.one(&key).unwrap();
        assert_eq!(kept.status.as_ref().unwrap().machine, None);
        assert_eq!(kept.metadata.managed_fields, None);
        board.remove(&key);
        assert_eq!(news.try_recv().unwrap(), key);
        assert!(board.all().is_empty());
    }

    #[test]
    fn a_rollout_without_a_status_leaves_nothing_to_be_drawn() {
        let board = Board::default();
        let mut new = rollout(&ticked(20));
        new.status = None;
        let key = Key::of(&new);
        board.put(new, at(20));
        let (_, lately) = board.one(&key).unwrap();
        assert!(lately.marks.is_empty() && lately.latencies.is_empty());
        board.put(rollout(&ticked(40)), at(40));
        assert_eq!(board.one(&key).unwrap().1.marks.len(), 1);
    }

    #[test]
    fn counts_that_are_not_written_yet_stay_until_the_watch_has_caught_up() {
        let board = Board::default();
        board.put(rollout(&ticked(20)), at(20));
        let key = Key::of(&rollout(&ticked(20)));
        board.tell(&key, &Arc::new(rollout(&ticked(40))), at(40));
        assert_eq!(last_tick(&board, &key), at(40));
        // Somebody wrote a label: the watch shows the status that stands.
        board.put(rollout(&ticked(20)), at(41));
        assert_eq!(last_tick(&board, &key), at(40));
        let mut paused = ticked(20);
        paused["phase"] = "Paused".into();
        board.put(rollout(&paused), at(42));
        assert_eq!(
            last_tick(&board, &key),
            at(20),
            "another phase is news whatever it counted"
        );
    }

    #[test]
    fn what_stands_around_a_rollout_is_news_when_it_changes() {
        let board = Board::default();
        board.put(rollout(&ticked(20)), at(20));
        let key = Key::of(&rollout(&ticked(20)));
        let mut news = board.news();
        let deployed = |ready| Deployed {
            image: "web:1".to_owned(),
            ready,
            wanted: 2,
        };
        for _ in 0..2 {
            board.surround(&key, deployed(2), deployed(1), None);
        }
        assert_eq!(news.try_recv().unwrap(), key);
        assert!(news.try_recv().is_err(), "the same again is no news");
        let told = Told {
            at: Some(at(21)),
            warns: true,
            reason: "HookFailed".to_owned(),
            message: "no".to_owned(),
        };
        board.note(&key, told.clone());
        assert_eq!(news.try_recv().unwrap(), key);
        board.put(rollout(&ticked(40)), at(40));
        let around = board.around(&key);
        assert_eq!((around.canary, around.told.back()), (Some(deployed(1)), Some(&told)));
    }

    #[test]
    fn a_rollout_that_the_next_list_lacks_is_gone() {
        let board = Board::default();
        board.put(rollout(&ticked(20)), at(20));
        assert!(!board.is_filled());
        board.keep_only(&BTreeSet::new());
        assert!(board.is_filled() && board.all().is_empty());
    }
}
