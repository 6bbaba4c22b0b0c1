//! When a rollout is looked at again if nothing changes: in time for its next tick, and not all at the same instant. It must not know
//! what a look finds.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::runtime::controller::Action;
use serin_core::rollout::{Decision, Phase};

use super::desk::Key;
use super::observe::World;
use crate::api::Parsed;

/// How often announcements that were not delivered are offered again.
const OFFERED: SignedDuration = SignedDuration::from_secs(30);
/// Nobody else is looked at for so long after a tick is due; then one after the other so long each …
const AFTER: SignedDuration = SignedDuration::from_millis(50);
const EACH: SignedDuration = SignedDuration::from_millis(2);
/// … but all within this part of the interval.
const PART: i32 = 8;

/// When to look again if nothing changes: at the core's own time, or when it is the rollout's turn after the next tick is due.
pub(super) fn wake(
    parsed: &Parsed,
    world: &World,
    (decision, untold): (&Decision, bool),
    (now, turn): (Timestamp, SignedDuration),
) -> Action {
    let samples = decision.state.phase.samples_since();
    let tick = samples.map(|_| next_tick(parsed, now).checked_add(turn).unwrap_or(Timestamp::MAX));
    // Receivers may have had no room.
    let offer = untold.then(|| now.checked_add(OFFERED).unwrap_or(Timestamp::MAX));
    let at = [decision.wake, tick, offer].into_iter().flatten().min();
    let waiting = world.waiting || decision.state.phase.run().is_some();
    match at {
        Some(at) => {
            let wait = at.duration_since(now).unsigned_abs();
            Action::requeue(wait.clamp(Duration::from_millis(50), Duration::from_secs(60)))
        }
        // A trial is looked at now and then although every change of its objects wakes it.
        None if waiting => Action::requeue(parsed.plan.interval.unsigned_abs()),
        None => Action::await_change(),
    }
}

/// The time at which the next tick's samples are all in.
fn next_tick(parsed: &Parsed, now: Timestamp) -> Timestamp {
    let length = i64::try_from(parsed.plan.interval.as_millis())
        .unwrap_or(i64::MAX)
        .max(1);
    let settle = i64::try_from(parsed.scrape_interval.as_millis()).unwrap_or(0);
    let next = ((now.as_millisecond() - settle).div_euclid(length) + 1)
        .saturating_mul(length)
        .saturating_add(settle);
    Timestamp::from_millisecond(next).unwrap_or(now)
}

/// How long after a tick is due it is this rollout's turn. Ticks of all come at the same instant: at once those that could fail with
/// theirs, and then the others, who are spread the more the more there are: so `many`.
pub(super) fn turn(key: &Key, phase: &Phase, interval: SignedDuration, many: usize) -> SignedDuration {
    if phase.run().is_none_or(|run| run.analysis.may_fail_next()) {
        return SignedDuration::ZERO;
    }
    let many = i32::try_from(many).unwrap_or(i32::MAX);
    let longest = interval.checked_div(PART).unwrap_or_default();
    let within = EACH.checked_mul(many).unwrap_or(longest);
    AFTER.saturating_add(spread(key, within)).min(longest)
}

/// A time below this one, the same for the same rollout.
pub(super) fn spread(key: &Key, within: SignedDuration) -> SignedDuration {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    let within = u64::try_from(within.as_millis()).unwrap_or(0);
    let ms = hasher.finish().checked_rem(within).unwrap_or(0);
    SignedDuration::from_millis(i64::try_from(ms).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use serin_core::analysis::{ArmSample, Counts, CustomTick, Sent, Sight, Streams, Tick};
    use serin_core::rollout::State;

    use super::*;
    use crate::reconcile::fixtures::{at, on_trial};

    const TICK: SignedDuration = SignedDuration::from_secs(20);

    #[test]
    fn who_could_fail_with_the_next_tick_is_looked_at_before_all_others() {
        let turn = |nth: i32, state: &State| super::turn(&Key::new(&nth.to_string()), &state.phase, TICK, 500);
        let turns: std::collections::BTreeSet<_> = (0..500).map(|nth| turn(nth, &on_trial(0))).collect();
        assert!(turns.len() > 100 && turns.first().is_some_and(|first| *first >= AFTER));
        assert!(
            turns
                .last()
                .is_some_and(|last| *last > EACH * 400 && *last <= AFTER + EACH * 500)
        );
        let mut bad = on_trial(0);
        if let Phase::Progressing(progressing) = &mut bad.phase {
            progressing.run.analysis.observe(&tick(20));
        }
        assert_eq!(turn(7, &bad), SignedDuration::ZERO);
        assert_eq!(turn(7, &State::default()), SignedDuration::ZERO, "it waits for no tick");
        let quick = super::turn(&Key::new("web"), &on_trial(0).phase, SignedDuration::from_secs(1), 500);
        assert!(quick <= SignedDuration::from_millis(125));
    }

    /// In which so many of a hundred of the canary's calls failed.
    fn tick(failures: u64) -> Tick {
        let arm = |failures| ArmSample {
            sight: Sight::Fresh,
            counts: Counts {
                requests: 100,
                failures,
                slow: vec![],
            },
            pods: vec![],
        };
        Tick {
            start: at(0),
            end: at(20),
            canary: arm(failures),
            stable: arm(0),
            custom: CustomTick::default(),
            sent: Sent::default(),
            open: Streams::default(),
        }
    }
}
