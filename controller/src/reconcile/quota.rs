//! How many Kubernetes Events a rollout may have for one reason: what flaps would otherwise flood the API server, which adds nothing up.
//! It must not know what an event says.
//!
//! # Caveats
//! It is this process's: another one that takes over begins anew.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::desk::Key;

/// So many at once: more than the steps of any plan, though not than the hooks of the longest one, which the log has all the same.
/// Kubernetes' own recorder lets one object have as many …
const AT_ONCE: u32 = 25;
/// … and gives one back after each of these.
const ANOTHER: Duration = Duration::from_mins(5);

/// By rollout.
#[derive(Debug, Default)]
pub(super) struct Quota(Mutex<HashMap<Key, Vec<Spent>>>);

/// What was told for one reason.
#[derive(Debug)]
struct Spent {
    reason: String,
    count: u32,
    /// Since when nothing was given back.
    since: Instant,
}

impl Spent {
    /// The count as of now.
    fn count(&self, now: Instant) -> u32 {
        self.count.saturating_sub(self.given_back(now))
    }

    fn given_back(&self, now: Instant) -> u32 {
        let passed = now.duration_since(self.since).as_secs() / ANOTHER.as_secs();
        u32::try_from(passed).unwrap_or(u32::MAX)
    }

    fn settle(&mut self, now: Instant) {
        let back = self.given_back(now);
        self.count = self.count.saturating_sub(back);
        self.since += ANOTHER.saturating_mul(back);
    }
}

impl Quota {
    /// How many more there may be now.
    pub(super) fn left(&self, key: &Key, reason: &str, now: Instant) -> u32 {
        let all = self.lock();
        let spent = all.get(key).and_then(|all| all.iter().find(|one| one.reason == reason));
        AT_ONCE.saturating_sub(spent.map_or(0, |spent| spent.count(now)))
    }

    /// One was told.
    pub(super) fn spend(&self, key: &Key, reason: &str, now: Instant) {
        let mut all = self.lock();
        let of_rollout = all.entry(key.clone()).or_default();
        for spent in of_rollout.iter_mut() {
            spent.settle(now);
        }
        of_rollout.retain(|spent| spent.count > 0);
        match of_rollout.iter_mut().find(|spent| spent.reason == reason) {
            Some(spent) => spent.count += 1,
            None => of_rollout.push(Spent {
                reason: reason.to_owned(),
                count: 1,
                since: now,
            }),
        }
    }

    /// Forgets a rollout that is gone.
    pub(super) fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Vec<Spent>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new(name).within("prod")
    }

    /// How many are told of a rollout that has something to tell once a second, for so long.
    fn told(quota: &Quota, began: Instant, span: Duration) -> u32 {
        let mut count = 0;
        for second in 0..span.as_secs() {
            let now = began + Duration::from_secs(second);
            if quota.left(&key("web"), "PodsLost", now) > 0 {
                quota.spend(&key("web"), "PodsLost", now);
                count += 1;
            }
        }
        count
    }

    #[test]
    fn what_flaps_for_a_day_is_told_some_times_at_once_and_then_every_five_minutes() {
        let (quota, began, day) = (Quota::default(), Instant::now(), Duration::from_hours(24));
        assert_eq!(told(&quota, began, ANOTHER), AT_ONCE);
        assert_eq!(told(&quota, began + ANOTHER, day), 24 * 12);
        assert_eq!(quota.left(&key("web"), "PodsLost", began + ANOTHER + day), 1);
        let calm = began + ANOTHER + day + ANOTHER * AT_ONCE;
        assert_eq!(
            quota.left(&key("web"), "PodsLost", calm),
            AT_ONCE,
            "all of it comes back"
        );
    }

    #[test]
    fn it_silences_no_other_reason_and_no_other_rollout() {
        let (quota, now) = (Quota::default(), Instant::now());
        told(&quota, now, Duration::from_mins(1));
        let now = now + Duration::from_mins(1);
        assert_eq!(quota.left(&key("web"), "PodsLost", now), 0);
        assert_eq!(quota.left(&key("web"), "RollingBack", now), AT_ONCE);
        assert_eq!(quota.left(&key("shop"), "PodsLost", now), AT_ONCE);
        quota.forget(&key("web"));
        assert_eq!(
            quota.left(&key("web"), "PodsLost", now),
            AT_ONCE,
            "another one of this name"
        );
    }

    #[test]
    fn what_was_told_long_ago_takes_no_room() {
        let (quota, now) = (Quota::default(), Instant::now());
        for reason in ["Starting", "StepEntered", "Promoting"] {
            quota.spend(&key("web"), reason, now);
        }
        quota.spend(&key("web"), "Promoted", now + ANOTHER);
        assert_eq!(quota.lock().get(&key("web")).map(Vec::len), Some(1));
    }
}
