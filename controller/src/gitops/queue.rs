//! What waits for one (repository, branch): rollbacks first, and as many together as may go in one push; and how often promotions
//! may be pushed to a repository. It must not know what is written.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Who goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Priority {
    Rollback,
    Other,
}

/// How often promotions and canaries are pushed; a rollback never waits for it, and takes along what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// At most so many pushes a minute to one repository.
    pub pushes_a_minute: usize,
    /// How long one waits for others that can go in the same push.
    pub company: Duration,
}

impl Pace {
    /// For a process that pushes once.
    pub const AT_ONCE: Self = Self {
        pushes_a_minute: usize::MAX,
        company: Duration::ZERO,
    };
}

impl Default for Pace {
    /// GitHub recommends at most six pushes a minute.
    fn default() -> Self {
        Self {
            pushes_a_minute: 6,
            company: Duration::from_secs(1),
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// The pushes of the last minute.
#[derive(Debug, Default)]
pub(super) struct Pushes(Mutex<VecDeque<Instant>>);

impl Pushes {
    pub(super) fn count(&self, now: Instant) {
        let mut pushes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pushes.push_back(now);
        while pushes.front().is_some_and(|push| now.duration_since(*push) >= MINUTE) {
            pushes.pop_front();
        }
    }

    /// When the next push that is no rollback may be made.
    pub(super) fn next(&self, pace: Pace, now: Instant) -> Instant {
        let pushes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let nth = pushes.len().checked_sub(pace.pushes_a_minute.max(1));
        let free = nth.and_then(|nth| pushes.get(nth)).map_or(now, |push| *push + MINUTE);
        free.max(now + pace.company)
    }
}

/// When something last landed on a branch: those who wait behind it wait on.
#[derive(Debug, Default)]
pub(super) struct Progress(Mutex<Option<Instant>>);

impl Progress {
    pub(super) fn mark(&self, now: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// The later of this moment and the last landing.
    pub(super) fn since(&self, begun: Instant) -> Instant {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.map_or(begun, |last| last.max(begun))
    }
}

/// Since when the worker waits for the host, if it does.
#[derive(Debug, Default)]
pub(super) struct OnTheLine(Mutex<Option<Instant>>);

impl OnTheLine {
    /// Waits for an answer of the host, and lets others see since when.
    pub(super) async fn during<T>(&self, call: impl Future<Output = T>) -> T {
        struct HungUp<'a>(&'a OnTheLine);
        impl Drop for HungUp<'_> {
            fn drop(&mut self) {
                self.0.set(None);
            }
        }
        self.set(Some(Instant::now()));
        let _line = HungUp(self);
        call.await
    }

    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Comes back when one call has lasted for so long.
    pub(super) async fn longer_than(&self, limit: Duration) {
        loop {
            let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match since.map(|since| since + limit) {
                Some(until) if until <= Instant::now() => return,
                Some(until) => tokio::time::sleep_until(until).await,
                // A call that begins now is not too long before this.
                None => tokio::time::sleep(limit.max(Duration::from_millis(10))).await,
            }
        }
    }
}

struct State<J> {
    driven: bool,
    rollbacks: VecDeque<J>,
    others: VecDeque<J>,
}

/// The queue of one branch.
pub(super) struct Queue<J> {
    state: Mutex<State<J>>,
    rollback_came: Notify,
}

impl<J> fmt::Debug for Queue<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl<J> Default for Queue<J> {
    fn default() -> Self {
        let state = State {
            driven: false,
            rollbacks: VecDeque::new(),
            others: VecDeque::new(),
        };
        Self {
            state: Mutex::new(state),
            rollback_came: Notify::new(),
        }
    }
}

impl<J> Queue<J> {
    fn state(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job. True says that nobody works on the queue: the caller must see to it that somebody does.
    pub(super) fn push(&self, priority: Priority, job: J) -> bool {
        let mut state = self.state();
        match priority {
            Priority::Rollback => {
                state.rollbacks.push_back(job);
                self.rollback_came.notify_one();
            }
            Priority::Other => state.others.push_back(job),
        }
        !std::mem::replace(&mut state.driven, true)
    }

    /// Gives back a job that was taken: it is the first of its kind. Only the worker does that.
    pub(super) fn put_back(&self, priority: Priority, job: J) {
        let mut state = self.state();
        match priority {
            Priority::Rollback => state.rollbacks.push_front(job),
            Priority::Other => state.others.push_front(job),
        }
    }

    /// Gives back a rollback that was taken, behind those that wait. Only the worker does that.
    pub(super) fn put_behind(&self, job: J) {
        self.state().rollbacks.push_back(job);
    }

    /// The first job and all that may go together with it, rollbacks first; when there is none, the worker must leave.
    pub(super) fn take(&self, together: impl Fn(&J, &J) -> bool) -> Vec<J> {
        let mut state = self.state();
        let all: VecDeque<J> = std::mem::take(&mut state.rollbacks);
        let rollbacks = all.len();
        let all = all.into_iter().chain(std::mem::take(&mut state.others));
        let mut taken: Vec<J> = Vec::new();
        for (nth, job) in all.enumerate() {
            if taken.first().is_none_or(|first| together(first, &job)) {
                taken.push(job);
            } else if nth < rollbacks {
                state.rollbacks.push_back(job);
            } else {
                state.others.push_back(job);
            }
        }
        state.driven = !taken.is_empty();
        taken
    }

    /// Whether nobody works on it and nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state();
        !state.driven && state.rollbacks.is_empty() && state.others.is_empty()
    }

    /// How many wait: rollbacks, and others.
    pub(super) fn depth(&self) -> [usize; 2] {
        let state = self.state();
        [state.rollbacks.len(), state.others.len()]
    }

    /// Whether only jobs wait that may wait on.
    pub(super) fn may_wait(&self) -> bool {
        let state = self.state();
        state.rollbacks.is_empty() && !state.others.is_empty()
    }

    /// Waits until a rollback waits that is like this.
    pub(super) async fn rollback(&self, is_it: impl Fn(&J) -> bool) {
        while !self.state().rollbacks.iter().any(&is_it) {
            self.rollback_came.notified().await;
        }
    }

    /// The worker is gone before its time: whoever waits learns it as its job is dropped.
    pub(super) fn abandon(&self) {
        let mut state = self.state();
        state.driven = false;
        let jobs = (std::mem::take(&mut state.rollbacks), std::mem::take(&mut state.others));
        drop(state);
        drop(jobs);
    }
}

/// A value per pair of names, such as repository and branch, made when first asked for.
#[derive(Debug)]
pub(super) struct PerPair<T>(Mutex<HashMap<(String, String), T>>);

impl<T> Default for PerPair<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone + Default> PerPair<T> {
    pub(super) fn of(&self, one: &str, two: &str) -> T {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.entry((one.to_owned(), two.to_owned())).or_default().clone()
    }

    /// Something made of all of them.
    pub(super) fn fold<A>(&self, begin: A, add: impl Fn(A, &T) -> A) -> A {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.values().fold(begin, add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rollbacks_go_first_and_take_along_only_what_may_go_with_them() {
        let queue = Queue::default();
        assert!(queue.push(Priority::Other, ("promotion", 1)));
        assert!(!queue.push(Priority::Other, ("promotion", 2)));
        assert!(queue.may_wait());
        queue.push(Priority::Rollback, ("rollback", 2));
        queue.push(Priority::Rollback, ("rollback", 1));
        assert!(!queue.may_wait());
        let same = |a: &(&str, i32), b: &(&str, i32)| a.1 == b.1;
        assert_eq!(queue.depth(), [2, 2]);
        assert_eq!(queue.take(same), [("rollback", 2), ("promotion", 2)]);
        assert_eq!(queue.depth(), [1, 1]);
        assert_eq!(queue.take(same), [("rollback", 1), ("promotion", 1)]);
        assert_eq!(queue.take(same), []);
        assert!(queue.push(Priority::Other, ("promotion", 1)), "the worker left");
        queue.abandon();
        assert!(queue.push(Priority::Other, ("promotion", 2)), "the worker died");
        assert_eq!(queue.take(same), [("promotion", 2)]);
    }

    #[test]
    fn what_is_given_back_goes_first_and_a_rollback_that_was_cut_goes_last() {
        let queue = Queue::default();
        queue.push(Priority::Other, "promotion");
        queue.push(Priority::Rollback, "rollback");
        queue.put_back(Priority::Other, "promotion given back");
        queue.put_back(Priority::Rollback, "rollback given back");
        queue.put_behind("rollback that was cut");
        let all = queue.take(|_, _| true);
        let order = [
            "rollback given back",
            "rollback",
            "rollback that was cut",
            "promotion given back",
            "promotion",
        ];
        assert_eq!(all, order);
    }

    #[test]
    fn who_waits_counts_from_the_last_landing() {
        let (progress, begin) = (Progress::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(progress.since(at(5)), at(5));
        progress.mark(at(3));
        assert_eq!(progress.since(at(5)), at(5), "before it came");
        progress.mark(at(9));
        assert_eq!(progress.since(at(5)), at(9));
    }

    #[test]
    fn the_seventh_push_waits_until_the_first_is_a_minute_ago() {
        let (pushes, begin) = (Pushes::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        for second in 0..6 {
            assert_eq!(pushes.next(Pace::default(), at(second)), at(second + 1), "company only");
            pushes.count(at(second));
        }
        assert_eq!(pushes.next(Pace::default(), at(10)), at(60));
        assert_eq!(pushes.next(Pace::AT_ONCE, at(10)), at(10));
        pushes.count(at(62));
        assert_eq!(pushes.next(Pace::default(), at(62)), at(63));
    }
}
