//! What statuses would say that is not worth a write yet: ticks that were counted and changed nothing. It must not know what is
//! written, or how.
//!
//! Status is written at each transition, and while ticks only count once a minute. A process that dies loses what it had not
//! written; its successor asks Prometheus for those ticks again, as status says up to where it has counted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serin_core::rollout::State;

use super::asked;
use super::desk::Key;
use super::pace::spread;
use crate::api::{CanaryRollout, CanaryRolloutStatus, Condition, Memory, Word};

/// The longest time for which counts are kept back …
const MINUTE: SignedDuration = SignedDuration::from_secs(60);
/// … or so many ticks, where these take less: who looks on at a quick rollout wants to see it move.
const TICKS: i32 = 5;

/// By rollout.
#[derive(Debug, Default)]
pub(super) struct Unwritten(Mutex<HashMap<Key, Entry>>);

#[derive(Debug)]
struct Entry {
    /// The memory in the status that stands.
    stands: Option<Memory>,
    /// What the rollout would be: the very one that the page shows.
    after: Option<Arc<CanaryRollout>>,
    /// Since when it stands, as far as this process knows.
    since: Timestamp,
}

impl Unwritten {
    /// The rollout with the status to go on from: the one that stands, or what this process would have made of it.
    pub(super) fn over(&self, key: &Key, stands: &Arc<CanaryRollout>) -> Arc<CanaryRollout> {
        let memory = stands.status.as_ref().and_then(|status| status.machine.as_ref());
        let entries = self.lock();
        let entry = entries.get(key).filter(|entry| entry.stands.as_ref() == memory);
        let after = entry.and_then(|entry| entry.after.as_ref());
        after.unwrap_or(stands).clone()
    }

    /// Keeps `after` back and says so, if it may wait.
    pub(super) fn keep(
        &self,
        key: &Key,
        stands: Option<&CanaryRolloutStatus>,
        after: &Arc<CanaryRollout>,
        interval: SignedDuration,
        now: Timestamp,
    ) -> bool {
        let memory = stands.and_then(|status| status.machine.as_ref());
        let longest = interval.checked_mul(TICKS).unwrap_or(MINUTE).min(MINUTE);
        let mut entries = self.lock();
        let entry = entries.entry(key.clone()).or_insert_with(|| Entry {
            stands: memory.cloned(),
            after: None,
            // Nobody knows when it was written: after a start all would be due together.
            since: now.checked_sub(spread(key, longest)).unwrap_or(now),
        });
        if entry.stands.as_ref() != memory {
            // Another process has written it, or a write of ours whose answer was lost.
            *entry = Entry {
                stands: memory.cloned(),
                after: None,
                since: now,
            };
        }
        // A clock that was set back makes it due.
        let kept = (SignedDuration::ZERO..longest).contains(&now.duration_since(entry.since));
        if kept {
            entry.after = Some(after.clone());
        }
        // What is due is known until it is written: a write that fails must not have Prometheus asked again.
        kept
    }

    /// Keeps what is due back once more, where there is no room to write it: a rollout must not wait for that, as its next tick may show
    /// that its canary fails. `false` where nothing is known of the rollout.
    pub(super) fn put_off(&self, key: &Key, after: &Arc<CanaryRollout>) -> bool {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(key) else {
            return false;
        };
        entry.after = Some(after.clone());
        true
    }

    /// This status stands now.
    pub(super) fn written(&self, key: &Key, status: &CanaryRolloutStatus, now: Timestamp) {
        let entry = Entry {
            stands: status.machine.clone(),
            after: None,
            since: now,
        };
        self.lock().insert(key.clone(), entry);
    }

    /// How many rollouts are known here: those on trial.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Forgets a rollout that is gone, or at rest.
    pub(super) fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a tick was counted, and nothing has changed but its counts and the words about them.
pub(super) fn only_counts(
    (memory, before): (&State, &CanaryRolloutStatus),
    (state, after): (&State, &CanaryRolloutStatus),
) -> bool {
    let runs = memory.phase.run().zip(state.phase.run());
    let ticked = runs.is_some_and(|(before, after)| before.as_of < after.as_of);
    let told = |condition: &Condition| {
        let Condition {
            type_, status, reason, ..
        } = condition;
        [type_, status, reason].map(Word::clone)
    };
    let same_conditions = before.conditions.iter().map(told).eq(after.conditions.iter().map(told));
    let hooks = if asked::only_words(&before.hooks, &after.hooks) {
        after.hooks.clone()
    } else {
        before.hooks.clone()
    };
    let same_but_for_counts = CanaryRolloutStatus {
        hooks,
        message: after.message.clone(),
        next: after.next,
        evidence: after.evidence.clone(),
        samples: after.samples.clone(),
        streams: after.streams,
        latency: after.latency.clone(),
        forecast: after.forecast.clone(),
        conditions: after.conditions.clone(),
        machine: after.machine.clone(),
        ..before.clone()
    };
    ticked && same_conditions && memory.counts_up_to(state) && same_but_for_counts == *after
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use serin_core::rollout::Phase;

    use super::*;
    use crate::reconcile::fixtures::{at, on_trial as state};

    const TICK: SignedDuration = SignedDuration::from_secs(20);

    fn key() -> Key {
        Key::new("web").within("prod")
    }

    fn status(state: &State) -> CanaryRolloutStatus {
        let run = state.phase.run().unwrap();
        CanaryRolloutStatus {
            phase: Some(state.phase.name().to_string()),
            message: Some(format!("counted up to {}", run.as_of)),
            machine: Some(Memory::of(state).unwrap()),
            ..CanaryRolloutStatus::default()
        }
    }

    fn rollout(status: CanaryRolloutStatus) -> Arc<CanaryRollout> {
        let spec = json!({
            "service": {"name": "web", "port": 80}, "stable": {"deployment": "web"}, "canary": {"deployment": "web-canary"},
            "git": {"repository": "https://git.example.com/x.git", "path": "prod"},
        });
        let mut rollout = CanaryRollout::new("web", serde_json::from_value(spec).unwrap());
        rollout.status = Some(status);
        Arc::new(rollout)
    }

    /// The status to go on from over this one.
    fn over(unwritten: &Unwritten, stands: &CanaryRolloutStatus) -> CanaryRolloutStatus {
        let over = unwritten.over(&key(), &rollout(stands.clone()));
        over.status.clone().unwrap()
    }

    #[test]
    fn counts_are_kept_back_for_a_minute() {
        let unwritten = Unwritten::default();
        let stands = status(&state(0));
        unwritten.written(&key(), &stands, at(0));
        for seconds in [20, 40] {
            let after = status(&state(seconds));
            assert!(unwritten.keep(&key(), Some(&stands), &rollout(after.clone()), TICK, at(seconds)));
            assert_eq!(over(&unwritten, &stands), after);
        }
        let due = status(&state(60));
        assert!(!unwritten.keep(&key(), Some(&stands), &rollout(due.clone()), TICK, at(60)));
        assert_eq!(
            over(&unwritten, &stands),
            status(&state(40)),
            "as long as it is not written"
        );
        unwritten.written(&key(), &due, at(60));
        assert!(unwritten.keep(&key(), Some(&due), &rollout(status(&state(80))), TICK, at(80)));
    }

    #[test]
    fn what_is_due_is_kept_back_once_more_where_there_is_no_room() {
        let unwritten = Unwritten::default();
        let (stands, due) = (status(&state(0)), status(&state(60)));
        assert!(
            !unwritten.put_off(&key(), &rollout(due.clone())),
            "nothing is known of it"
        );
        unwritten.written(&key(), &stands, at(0));
        assert!(!unwritten.keep(&key(), Some(&stands), &rollout(due.clone()), TICK, at(60)));
        assert!(unwritten.put_off(&key(), &rollout(due.clone())));
        assert_eq!(over(&unwritten, &stands), due);
        let next = rollout(status(&state(80)));
        assert!(!unwritten.keep(&key(), Some(&stands), &next, TICK, at(80)), "it is due");
    }

    #[test]
    fn after_a_start_not_all_are_due_together() {
        let due: std::collections::BTreeSet<i64> = (0..100)
            .map(|nth| {
                let (unwritten, stands) = (Unwritten::default(), status(&state(0)));
                let key = Key::new(&format!("web-{nth}")).within("prod");
                let due = |seconds: &i64| {
                    let seconds = 20 * seconds;
                    !unwritten.keep(
                        &key,
                        Some(&stands),
                        &rollout(status(&state(seconds))),
                        TICK,
                        at(seconds),
                    )
                };
                20 * (1..100).find(due).unwrap()
            })
            .collect();
        assert_eq!(due.into_iter().collect::<Vec<_>>(), [40, 60, 80]);
    }

    #[test]
    fn what_another_process_has_written_stands() {
        let unwritten = Unwritten::default();
        let stands = status(&state(0));
        assert!(unwritten.keep(&key(), Some(&stands), &rollout(status(&state(20))), TICK, at(20)));
        let theirs = status(&state(10));
        assert_eq!(over(&unwritten, &theirs), theirs);
    }

    #[test]
    fn a_clock_that_was_set_back_keeps_nothing_back() {
        let unwritten = Unwritten::default();
        let stands = status(&state(0));
        unwritten.written(&key(), &stands, at(0));
        assert!(!unwritten.keep(&key(), Some(&stands), &rollout(status(&state(20))), TICK, at(-5)));
    }

    #[test]
    fn only_a_tick_that_changes_nothing_else_can_wait() {
        let (memory, before) = (state(0), status(&state(0)));
        let (next, after) = (state(20), status(&state(20)));
        assert!(only_counts((&memory, &before), (&next, &after)));
        assert!(!only_counts((&memory, &before), (&memory, &after)), "no tick");
        let mut moved = next.clone();
        if let Phase::Progressing(progressing) = &mut moved.phase {
            progressing.step = 1;
        }
        assert!(!only_counts((&memory, &before), (&moved, &after)), "another step");
        let mut said = after;
        said.verdict = Some("pass".to_owned());
        assert!(!only_counts((&memory, &before), (&next, &said)), "another verdict");
    }
}
