//! Asks for a rollout's raw samples: what is the same for all rollouts together with theirs, the rest alone. Must not know verdicts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use serin_core::analysis::sequential::Tally;
use serin_core::analysis::{Baseline, Counts, PodCounts, Tick};

use super::answer::Series;
use super::arms;
use super::batch::{Ask, Batches};
use super::client::{Client, SampleError};
use super::own;
use super::target::{ArmTarget, Span, Target, millis};
use super::ticks::{aligned, ticks_due};
use crate::metrics::Metrics;

/// A query that takes longer than this is late for its tick anyway.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Ticks are asked for together as long as they span no more than this.
pub(super) const TOGETHER: SignedDuration = SignedDuration::from_mins(10);

/// Whose samples are asked for first, of those who need them at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// One whose next tick may take its traffic away.
    First,
    /// Any other.
    Later,
}

/// Samples rollouts from one Prometheus. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Prometheus {
    pub(super) client: Client,
    batches: Batches,
}

impl Prometheus {
    /// The server at this address. A TLS provider must have been installed before.
    pub fn new(url: &str) -> Result<Self, SampleError> {
        Self::with_timeout(url, TIMEOUT)
    }

    /// The same, and every query ends within `timeout`.
    pub fn with_timeout(url: &str, timeout: Duration) -> Result<Self, SampleError> {
        Ok(Self {
            client: Client::new(url, timeout)?,
            batches: Batches::default(),
        })
    }

    /// Counts its queries there.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Metrics) -> Self {
        self.client.count_in(metrics);
        self
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// The server's address, without a password that may stand in it.
    pub fn url(&self) -> String {
        self.client.url()
    }

    /// The ticks of a target that lie wholly after `since` and can be computed at `now`, in order, as [`super::ticks_due`] tells them.
    /// Samples are asked for many targets at once: of those that were looked at lately, all whose next tick is the same one.
    ///
    /// # Guarantees
    /// The same raw samples make the same ticks, whenever they are asked for and whatever else is asked for with them.
    ///
    /// # Errors
    /// Any answer that is not whole: there are no ticks then, and the caller is blind.
    pub async fn ticks_since(
        &self,
        target: &Target,
        (since, now): Span,
        (interval, turn): (SignedDuration, Turn),
    ) -> Result<Vec<Tick>, SampleError> {
        let due = ticks_due(since, now, interval, target.scrape_interval);
        let next = aligned(since, interval);
        self.batches.expect(target.shared(), interval, next, turn);
        self.ticks(target, &due).await
    }

    /// These ticks, in order, with few queries. Stops at the first error.
    pub(super) async fn ticks(&self, target: &Target, ticks: &[Span]) -> Result<Vec<Tick>, SampleError> {
        let mut out = Vec::with_capacity(ticks.len());
        let mut rest = ticks;
        let (shared, unshared) = (Arc::new(target.shared()), target.unshared());
        while let Some((first, _)) = rest.first() {
            let (now, later) = together(rest, *first);
            let Some((one, last)) = now.first().zip(now.last().map(|(_, end)| *end)) else {
                break;
            };
            let asked = self.batches.ask(&self.client, Ask::new(&shared, now));
            let (seen, own) = futures::future::try_join(asked, self.own(&unshared, *one, last)).await?;
            for (tick, of) in seen.iter().zip(now) {
                let alone = own::tick(&own, &unshared, *of);
                out.push(Tick {
                    custom: own::merge(&target.custom, tick.custom.clone(), alone),
                    ..tick.clone()
                });
            }
            rest = later;
        }
        Ok(out)
    }

    /// What stable's pods did in these ticks, each pod by itself; for a target whose bounds are all of the histogram's. Ticks in
    /// which nothing was seen are left out.
    ///
    /// # Errors
    /// Any answer that is not whole: a baseline that was seen in parts would freeze the wrong bounds.
    pub async fn baseline(&self, target: &Target, ticks: &[Span]) -> Result<Baseline, SampleError> {
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        let mut out = Vec::with_capacity(ticks.len());
        let mut rest = ticks;
        while let Some((first, _)) = rest.first() {
            let (now, later) = together(rest, *first);
            let Some((_, last)) = now.last() else { break };
            let series = self.arm(target, &target.stable, *first, *last).await?;
            let own = match now.first() {
                Some(one) => self.own(target, *one, *last).await?,
                None => Vec::new(),
            };
            for tick in now {
                let counted = arms::count_pods(&series, &target.what(*tick));
                let mut pods = vec![PodCounts::default(); places.len()];
                let mut place = |name: &str| {
                    let next = places.len();
                    *places.entry(name.to_owned()).or_insert(next)
                };
                for (name, pod) in counted.by_name {
                    let place = place(name);
                    if place >= pods.len() {
                        pods.resize(place + 1, PodCounts::default());
                    }
                    if let Some(slot) = pods.get_mut(place) {
                        let Counts {
                            requests,
                            failures,
                            slow,
                        } = pod.counts;
                        *slot = PodCounts {
                            requests,
                            failures,
                            slow,
                            codes: pod.codes,
                            custom: Vec::new(),
                        };
                    }
                }
                for (metric, by_pod) in own::stable_pods(&own, target, *tick).into_iter().enumerate() {
                    for (name, tally) in by_pod {
                        let place = place(&name);
                        if place >= pods.len() {
                            pods.resize(place + 1, PodCounts::default());
                        }
                        if let Some(pod) = pods.get_mut(place) {
                            pod.custom.resize(metric, Tally::default());
                            pod.custom.push(tally);
                        }
                    }
                }
                if pods.iter().any(|pod| pod.requests > 0) {
                    out.push(pods);
                }
            }
            rest = later;
        }
        Ok(Baseline {
            bounds_ms: target.thresholds_ms.clone(),
            codes: target.codes_apart.clone(),
            tick_ms: ticks.first().map_or(0, |(start, end)| {
                u64::try_from(millis(end.duration_since(*start))).unwrap_or(0)
            }),
            ticks: out,
        })
    }

    /// One arm's series, with all samples that speak for `(start, end]`.
    pub(super) async fn arm(
        &self,
        target: &Target,
        arm: &ArmTarget,
        start: Timestamp,
        end: Timestamp,
    ) -> Result<Vec<Series>, SampleError> {
        let window = end.duration_since(start).saturating_add(target.lookback());
        let queries = target.queries(arm, window);
        let answers = try_join_all(queries.iter().map(|query| self.client.raw(query, end))).await?;
        Ok(answers.into_iter().flatten().collect())
    }
}

/// As many of the ticks as one answer may hold, and the others.
pub(super) fn together(ticks: &[Span], first: Timestamp) -> (&[Span], &[Span]) {
    let fitting = ticks
        .iter()
        .take_while(|(_, end)| end.duration_since(first) <= TOGETHER)
        .count()
        .max(1);
    ticks.split_at(fitting)
}

#[cfg(test)]
#[path = "sampler_tests.rs"]
mod tests;
