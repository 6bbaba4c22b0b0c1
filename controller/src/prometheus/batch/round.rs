//! One round: asks for its groups, and tells each target what came of it as soon as it is known. Must not know who else asks.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, FutureExt as _, try_join_all};
use futures::stream::{FuturesUnordered, StreamExt as _};
use jiff::{SignedDuration, Timestamp};

use super::Shared;
use super::book::{Ask, Key, Outcome, Size};
use super::plan::{AT_ONCE, Group, Plan, Why, length, most_held, weight};
use super::question::queries;
use super::sorting::{Sorted, Sorting};
use crate::prometheus::client::{Client, SampleError, Within};
use crate::prometheus::target::{Seen, Target};

/// An answer that is longer is given up and asked for in parts: it passes through, and is not held.
const LONGEST_ANSWER: usize = 256 << 20;
/// Others wait so long for what is pressing, if its answer takes so long.
const HEAD_START: Duration = Duration::from_millis(250);
/// A question that was answered in this part of its time is an easy one.
const QUICK: u32 = 8;

type Asked = (Group, Result<Vec<Sorted>, SampleError>, Duration);

/// The asks of a round, and what has become of them.
pub(super) struct Round<'a> {
    shared: &'a Shared,
    client: &'a Client,
    key: Key,
    asks: Vec<Ask>,
    /// The places of those who were told nothing yet. Who was told may ask again, and that is another round's.
    untold: Mutex<BTreeSet<usize>>,
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        // None are left when it came to its end.
        let untold = std::mem::take(&mut *self.untold());
        let asks = untold.into_iter().filter_map(|place| self.asks.get(place));
        self.shared.book().let_go(asks);
    }
}

impl<'a> Round<'a> {
    pub(super) fn new(shared: &'a Shared, client: &'a Client, key: Key, asks: Vec<Ask>) -> Self {
        Self {
            shared,
            client,
            key,
            untold: Mutex::new((0..asks.len()).collect()),
            asks,
        }
    }

    fn untold(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everybody something.
    pub(super) async fn run(self) {
        let ends = tokio::time::Instant::now() + self.client.timeout() * 2;
        let (mut plan, mut waiting) = self.plan();
        tracing::debug!(end = %self.key.end, targets = self.asks.len(), groups = waiting.len(), "a round of questions begins");
        let others_begin = tokio::time::Instant::now() + HEAD_START;
        let (mut together, mut pressing) = (0, 0);
        let mut under_way: FuturesUnordered<BoxFuture<'_, Asked>> = FuturesUnordered::new();
        loop {
            // Where everything failed so far, one question at a time finds out most with least.
            let room = if plan.is_in_doubt() { 1 } else { AT_ONCE };
            let is_pressed = pressing > 0 || waiting.iter().any(|group| group.is_pressing);
            let held = is_pressed && tokio::time::Instant::now() < others_begin;
            while let Some(next) = waiting.iter().rposition(|group| {
                let fits = together == 0 || together + group.takes() <= room;
                (group.is_pressing || !held) && (group.is_apart || fits)
            }) {
                let group = waiting.remove(next);
                if !group.is_apart {
                    together += group.takes();
                }
                pressing += usize::from(group.is_pressing);
                under_way.push(self.ask(group).boxed());
            }
            let until = if held && !waiting.is_empty() {
                others_begin
            } else {
                ends
            };
            let next = tokio::time::timeout_at(until, under_way.next()).await;
            let (group, answer, took) = match next {
                Ok(Some(answered)) => answered,
                Err(_) if until < ends => continue,
                Ok(None) | Err(_) => break,
            };
            if !group.is_apart {
                together -= group.takes();
            }
            pressing -= usize::from(group.is_pressing);
            match answer {
                Ok(sorted) => {
                    plan.succeeded(&group, took);
                    self.tell(&group, sorted, took).await;
                }
                Err(error) => {
                    let parts = plan.failed(&group, why(&error));
                    tracing::debug!(
                        targets = group.places.len(),
                        parts = parts.len(),
                        "a question failed: {error}"
                    );
                    if parts.is_empty() {
                        self.tell_all(&group.places, &Err(Arc::new(error)));
                    }
                    waiting.extend(parts);
                }
            }
        }
        drop(under_way);
        let late = Err(Arc::new(self.client.timed_out(self.client.timeout() * 2)));
        let left: Vec<_> = self.untold().iter().copied().collect();
        self.tell_all(&left, &late);
        let mut book = self.shared.book();
        for place in plan.at_fault() {
            if let Some(ask) = self.asks.get(*place) {
                book.set_apart(ask);
            }
        }
        book.limit = plan.limit(self.time_of_many());
    }

    fn plan(&self) -> (Plan, Vec<Group>) {
        let book = self.shared.book();
        let plan = Plan::new(book.limit);
        let mut longest: BTreeMap<u32, SignedDuration> = BTreeMap::new();
        for window in self.asks.iter().map(Ask::window) {
            let of = longest.entry(length(window)).or_default();
            *of = window.max(*of);
        }
        let window = |ask: &Ask| longest.get(&length(ask.window())).copied().unwrap_or_default();
        let weighed: Vec<_> = self.asks.iter().map(|ask| book.weighed(ask, window(ask))).collect();
        let groups = plan.groups(&weighed);
        (plan, groups)
    }

    /// So that there is time left for its parts.
    fn time_of_many(&self) -> Duration {
        self.client.timeout() / 2
    }

    async fn ask(&self, group: Group) -> Asked {
        let room = if group.is_apart {
            &self.shared.room.apart
        } else {
            &self.shared.room.together
        };
        // It is never closed.
        let _room = room.acquire_many(group.takes().into()).await.ok();
        let began = Instant::now();
        let answer = self.samples(&group).await;
        (group, answer, began.elapsed())
    }

    fn of(&self, group: &Group) -> impl Iterator<Item = &Ask> {
        group.places.iter().filter_map(|place| self.asks.get(*place))
    }

    /// That of who missed the most ticks.
    fn window(&self, group: &Group) -> SignedDuration {
        self.of(group).map(Ask::window).max().unwrap_or_default()
    }

    /// All samples that speak for the group's ticks, target by target.
    async fn samples(&self, group: &Group) -> Result<Vec<Sorted>, SampleError> {
        let targets: Vec<_> = self.of(group).map(|ask| Arc::clone(&ask.target)).collect();
        let window = self.window(group);
        let within = Within {
            time: if targets.len() > 1 {
                self.time_of_many()
            } else {
                self.client.timeout()
            },
            bytes: LONGEST_ANSWER,
        };
        let most_held = most_held(targets.len());
        let sorting = Mutex::new(Sorting::new(&targets));
        let queries = queries(&targets, window);
        let asked = queries.iter().map(|(subject, query)| {
            let sorting = &sorting;
            self.client.each(query, self.key.end, within, move |raw| {
                let mut sorting = sorting.lock().unwrap_or_else(PoisonError::into_inner);
                if sorting.take(*subject, &raw) > most_held {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
        });
        try_join_all(asked).await?;
        let sorting = sorting.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(sorting.finish())
    }

    /// Counts what came for each, and tells it at once.
    async fn tell(&self, group: &Group, sorted: Vec<Sorted>, took: Duration) {
        let (window, was_quick) = (self.window(group), took < self.client.timeout() / QUICK);
        for (place, sorted) in group.places.iter().zip(sorted) {
            let Some(ask) = self.asks.get(*place) else { continue };
            let Sorted {
                mut seen, bytes, held, ..
            } = sorted;
            // Those that missed more ticks had more asked for.
            if ask.window() < window {
                seen.cut(ask.start().checked_sub(ask.target.lookback()).unwrap_or(Timestamp::MIN));
            }
            let outcome = counted(&ask.target, &seen, ask).map_err(Arc::new);
            self.untold().remove(place);
            self.shared.book().answer(
                ask,
                &outcome,
                Some(Size {
                    bytes: weight(bytes, held),
                    window,
                    was_quick,
                }),
            );
            // Counting a thousand takes as long as an answer: others have their turn between two.
            tokio::task::yield_now().await;
        }
    }

    fn tell_all(&self, places: &[usize], outcome: &Outcome) {
        let (mut untold, mut book) = (self.untold(), self.shared.book());
        for place in places {
            untold.remove(place);
            if let Some(ask) = self.asks.get(*place) {
                book.answer(ask, outcome, None);
            }
        }
    }
}

fn why(error: &SampleError) -> Why {
    match error {
        SampleError::TimedOut { .. } | SampleError::TooLarge { .. } => Why::TooMuch,
        // Its own limits of time and of samples.
        SampleError::Refused { kind, .. } if matches!(kind.as_str(), "timeout" | "execution") => Why::TooMuch,
        error if error.is_nobody_there() => Why::NobodyThere,
        _ => Why::Other,
    }
}

/// A bug in counting one target is that target's error.
fn counted(target: &Target, seen: &Seen, ask: &Ask) -> Result<Arc<[serin_core::analysis::Tick]>, SampleError> {
    let count = || ask.ticks.iter().map(|of| target.tick(seen, *of)).collect();
    catch_unwind(AssertUnwindSafe(count)).unwrap_or(Err(SampleError::Panicked))
}
