//! How long calls take, asked beside the reconciles for all rollouts on trial at once, for people to read. It must not know what is
//! shown of it, and nothing waits for it: without an answer nothing is shown.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::desk::Key;
use crate::api::{LatencyStatus, PercentilesStatus};
use crate::prometheus::{Prometheus, Speed, SpeedOf};
use crate::runtime::clock;

/// How often it is looked whether something is to be asked.
const LOOK: Duration = Duration::from_secs(5);
/// How often one rollout's speeds are asked for …
const OFTEN: Duration = Duration::from_secs(20);
/// … and how often if there are more than this many.
const SELDOM: (usize, Duration) = (50, Duration::from_secs(60));
/// Arms in one query: those of a thousand rollouts.
const TOGETHER: usize = 2_000;

/// By rollout.
#[derive(Debug, Clone, Default)]
pub(super) struct Speeds(Arc<Mutex<HashMap<Key, Entry>>>);

#[derive(Debug)]
struct Entry {
    arms: Arms,
    asked: Option<Instant>,
    answer: Option<LatencyStatus>,
}

/// The arms of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arms {
    pub(super) canary: SpeedOf,
    pub(super) stable: SpeedOf,
}

impl Speeds {
    /// Has it asked from now on how fast these arms are.
    pub(super) fn want(&self, key: &Key, arms: Arms) {
        let mut entries = self.lock();
        match entries.get_mut(key) {
            Some(entry) if entry.arms == arms => {}
            _ => {
                let entry = Entry {
                    arms,
                    asked: None,
                    answer: None,
                };
                entries.insert(key.clone(), entry);
            }
        }
    }

    /// Nobody is on trial there any more.
    pub(super) fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    /// The last answer.
    pub(super) fn of(&self, key: &Key) -> Option<LatencyStatus> {
        self.lock().get(key)?.answer.clone()
    }

    /// Asks until the future is dropped.
    pub(super) async fn ask(self, prometheus: Prometheus) {
        loop {
            tokio::time::sleep(LOOK).await;
            let due = self.due(Instant::now());
            for some in due.chunks(TOGETHER / 2) {
                let arms: Vec<SpeedOf> = some
                    .iter()
                    .flat_map(|(_, arms)| [&arms.canary, &arms.stable])
                    .cloned()
                    .collect();
                match prometheus.speeds(&arms).await {
                    Ok(speeds) => self.settle(some, &speeds, clock::now()),
                    Err(error) => tracing::debug!("how fast calls are is not known: {error}"),
                }
            }
        }
    }

    /// What is to be asked now, and counts as asked.
    fn due(&self, now: Instant) -> Vec<(Key, Arms)> {
        let mut entries = self.lock();
        let (many, seldom) = SELDOM;
        let pause = if entries.len() > many { seldom } else { OFTEN };
        let waits = |entry: &Entry, pause| entry.asked.is_none_or(|asked| now.duration_since(asked) >= pause);
        // One question takes along all that would be due a little later: else each would be asked for alone at its own time.
        let is_time = entries
            .values()
            .any(|entry| entry.asked.is_some() && waits(entry, pause));
        let is_due = |entry: &Entry| waits(entry, if is_time { pause / 2 } else { pause });
        let due = entries.iter_mut().filter(|(_, entry)| is_due(entry));
        due.map(|(key, entry)| {
            entry.asked = Some(now);
            (key.clone(), entry.arms.clone())
        })
        .collect()
    }

    fn settle(&self, asked: &[(Key, Arms)], speeds: &HashMap<SpeedOf, Speed>, now: Timestamp) {
        let mut entries = self.lock();
        for (key, arms) in asked {
            // Another revision may be on trial by now.
            let Some(entry) = entries.get_mut(key).filter(|entry| entry.arms == *arms) else {
                continue;
            };
            let (canary, stable) = (speeds.get(&arms.canary), speeds.get(&arms.stable));
            entry.answer = (canary.is_some() || stable.is_some()).then(|| LatencyStatus {
                as_of: now,
                canary: canary.map(percentiles),
                stable: stable.map(percentiles),
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn percentiles(speed: &Speed) -> PercentilesStatus {
    PercentilesStatus {
        p50_ms: speed.p50,
        p95_ms: speed.p95,
        p99_ms: speed.p99,
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::reflector::ObjectRef;

    use super::*;

    fn arms(hash: &str) -> Arms {
        let arm = |deployment: &str, hash: Option<&str>| SpeedOf {
            namespace: "prod".to_owned(),
            deployment: deployment.to_owned(),
            pod_template_hash: hash.map(str::to_owned),
            port: 80,
        };
        Arms {
            canary: arm("web-canary", Some(hash)),
            stable: arm("web", None),
        }
    }

    const FAST: Speed = Speed { p50: 1, p95: 2, p99: 3 };

    #[test]
    fn a_revision_is_asked_for_at_once_then_now_and_then_and_never_answered_for_another() {
        let (speeds, key, began) = (Speeds::default(), ObjectRef::new("web").within("prod"), Instant::now());
        speeds.want(&key, arms("a"));
        let asked = speeds.due(began);
        assert_eq!(asked.len(), 1);
        speeds.want(&key, arms("a"));
        assert!(speeds.due(began + LOOK).is_empty());
        speeds.settle(
            &asked,
            &HashMap::from([(arms("a").canary, FAST)]),
            Timestamp::UNIX_EPOCH,
        );
        let known = speeds.of(&key).unwrap();
        assert_eq!((known.canary.unwrap().p99_ms, known.stable), (3, None));
        assert_eq!(speeds.due(began + OFTEN).len(), 1);

        speeds.want(&key, arms("b"));
        speeds.settle(
            &asked,
            &HashMap::from([(arms("a").canary, FAST)]),
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(speeds.of(&key), None, "that was the revision before");
        speeds.forget(&key);
        assert!(speeds.due(began + SELDOM.1).is_empty());
    }

    #[test]
    fn those_who_came_one_after_the_other_are_asked_for_together_from_then_on() {
        let (speeds, began) = (Speeds::default(), Instant::now());
        let want = |name: &str| speeds.want(&ObjectRef::new(name).within("prod"), arms("a"));
        for (nth, name) in ["one", "other", "third"].into_iter().enumerate() {
            want(name);
            let now = began + LOOK * u32::try_from(nth).unwrap();
            assert_eq!(speeds.due(now).len(), 1, "it is asked for at once");
        }
        assert_eq!(speeds.due(began + OFTEN).len(), 3);
        assert!(speeds.due(began + OFTEN + LOOK).is_empty());
        assert_eq!(speeds.due(began + 2 * OFTEN).len(), 3);
    }

    #[test]
    fn many_are_asked_for_less_often() {
        let (speeds, began) = (Speeds::default(), Instant::now());
        for nth in 0..=SELDOM.0 {
            speeds.want(&ObjectRef::new(&nth.to_string()).within("prod"), arms("a"));
        }
        assert_eq!(speeds.due(began).len(), SELDOM.0 + 1);
        assert!(speeds.due(began + OFTEN).is_empty());
        assert_eq!(speeds.due(began + SELDOM.1).len(), SELDOM.0 + 1);
    }
}
