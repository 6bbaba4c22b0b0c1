//! Asks for users' own metrics, and puts what comes into ticks. What is the query's own fault makes the metric unusable in the
//! tick; what is the server's fault is an error, as with any other query. Must not know verdicts.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use serin_core::analysis::sequential::{Arms, Tally};
use serin_core::analysis::{CustomTick, Reading, Unusable};

use super::answer::Series;
use super::client::SampleError;
use super::counters::Window;
use super::custom::{self, Rules};
use super::sampler::Prometheus;
use super::target::{CustomQuery, CustomTarget, PairQuery, Span, Target};
use crate::linkerd::promql::over;

/// How far back a query is looked at before a start.
const LOOK: SignedDuration = SignedDuration::from_mins(10);

/// What was answered for one metric.
pub(super) enum Own {
    Counts { canary: Pair, stable: Pair },
    Value { canary: Vec<Series>, stable: Vec<Series> },
    Unusable(&'static str, String),
}

/// The series of two counters.
#[derive(Default)]
pub(super) struct Pair {
    pub(super) bad: Vec<Series>,
    pub(super) total: Vec<Series>,
}

/// What came of one query.
enum Asked<T> {
    Is(T),
    Refused(&'static str, String),
}

impl Prometheus {
    /// All that speaks for the ticks from the first one to `last`.
    pub(super) async fn own(&self, target: &Target, first: Span, last: Timestamp) -> Result<Vec<Own>, SampleError> {
        let interval = first.1.duration_since(first.0);
        let window = last.duration_since(first.0);
        let counted = window.saturating_add(target.lookback());
        let asked = target
            .custom
            .iter()
            .map(|one| self.own_one(&one.query, counted, window, interval, last));
        try_join_all(asked).await
    }

    async fn own_one(
        &self,
        query: &CustomQuery,
        counted: SignedDuration,
        window: SignedDuration,
        interval: SignedDuration,
        at: Timestamp,
    ) -> Result<Own, SampleError> {
        Ok(match query {
            CustomQuery::Counts { canary, stable } => {
                let both = futures::future::try_join(self.pair(canary, counted, at), self.pair(stable, counted, at));
                match both.await? {
                    (Asked::Is(canary), Asked::Is(stable)) => Own::Counts { canary, stable },
                    (Asked::Refused(field, problem), _) | (_, Asked::Refused(field, problem)) => {
                        Own::Unusable(field, problem)
                    }
                }
            }
            CustomQuery::Value { canary, stable } => {
                let canary = self.values(canary, window, interval, at).await?;
                let stable = match stable {
                    Some(query) => self.values(query, window, interval, at).await?,
                    None => Asked::Is(Vec::new()),
                };
                match (canary, stable) {
                    (Asked::Is(canary), Asked::Is(stable)) => Own::Value { canary, stable },
                    (Asked::Refused(field, problem), _) | (_, Asked::Refused(field, problem)) => {
                        Own::Unusable(field, problem)
                    }
                }
            }
            CustomQuery::Unusable { field, problem } => Own::Unusable(field, problem.clone()),
        })
    }

    /// Looks at what the queries give for stable, before a start.
    ///
    /// # Errors
    /// [`SampleError::Unusable`] for the first metric that has a say and does not give what it should.
    pub async fn check(&self, target: &Target, interval: SignedDuration, now: Timestamp) -> Result<(), SampleError> {
        let start = now.checked_sub(LOOK).unwrap_or(Timestamp::UNIX_EPOCH);
        for one in target.custom.iter().filter(|one| one.judged) {
            let wrong = match &one.query {
                CustomQuery::Counts { stable, .. } => match self.pair(stable, LOOK, now).await? {
                    Asked::Is(pair) => pair.wrong(target, (start, now)),
                    Asked::Refused(field, problem) => Some((field, problem)),
                },
                CustomQuery::Value { canary, stable } => {
                    let query = stable.as_ref().unwrap_or(canary);
                    match self.values(query, interval, interval, now).await? {
                        Asked::Is(series) => several(&series),
                        Asked::Refused(field, problem) => Some((field, problem)),
                    }
                }
                CustomQuery::Unusable { field, problem } => Some((*field, problem.clone())),
            };
            if let Some((field, problem)) = wrong {
                return Err(SampleError::Unusable {
                    field: format!("{}.{field}", one.field),
                    problem,
                });
            }
        }
        Ok(())
    }

    async fn pair(&self, query: &PairQuery, window: SignedDuration, at: Timestamp) -> Result<Asked<Pair>, SampleError> {
        let mut both = Vec::with_capacity(2);
        for (field, selectors) in [("bad", &query.bad), ("total", &query.total)] {
            let queries: Vec<_> = selectors.iter().map(|selector| over(selector, window)).collect();
            let answers = try_join_all(queries.iter().map(|query| self.client.raw(query, at))).await;
            match blame(field, answers)? {
                Asked::Is(series) => both.push(series.into_iter().flatten().collect()),
                Asked::Refused(field, problem) => return Ok(Asked::Refused(field, problem)),
            }
        }
        let (total, bad) = (both.pop().unwrap_or_default(), both.pop().unwrap_or_default());
        Ok(Asked::Is(Pair { bad, total }))
    }

    /// What a query gives at each multiple of the interval: a subquery is aligned to the epoch, as ticks are.
    async fn values(
        &self,
        query: &str,
        window: SignedDuration,
        interval: SignedDuration,
        at: Timestamp,
    ) -> Result<Asked<Vec<Series>>, SampleError> {
        let (window, interval) = (window.as_millis().max(1), interval.as_millis().max(1));
        let asked = self
            .client
            .raw(&format!("({query})[{window}ms:{interval}ms]"), at)
            .await;
        blame("query", asked)
    }
}

/// What the server says is the query's own fault is no blindness.
fn blame<T>(field: &'static str, answer: Result<T, SampleError>) -> Result<Asked<T>, SampleError> {
    match answer {
        Ok(answer) => Ok(Asked::Is(answer)),
        Err(SampleError::Refused { kind, message, .. }) if matches!(kind.as_str(), "bad_data" | "execution") => {
            Ok(Asked::Refused(field, format!("Prometheus refuses it: {message}")))
        }
        Err(error) => Err(error),
    }
}

/// Whether any time has more than one value.
fn several(series: &[Series]) -> Option<(&'static str, String)> {
    let mut times: Vec<i64> = series.iter().flat_map(|one| one.samples.iter().map(|s| s.at)).collect();
    times.sort_unstable();
    times.dedup();
    times
        .into_iter()
        .find_map(|at| custom::value_at(series, at).err())
        .map(|problem| ("query", problem))
}

impl Pair {
    fn wrong(&self, target: &Target, of: Span) -> Option<(&'static str, String)> {
        let window = target.window(of);
        if let Some(wrong) = custom::check(&self.bad, &self.total, &window) {
            return Some((wrong.field, wrong.problem));
        }
        let all = self
            .count(window, false)
            .into_values()
            .fold(Tally::default(), |mut all, one| {
                all.add(&one);
                all
            });
        (all.bad > all.total).then(|| {
            let problem = format!(
                "it counted {} on stable while `total` counted {}: the bad ones have to be among all",
                all.bad, all.total
            );
            ("bad", problem)
        })
    }

    fn count(&self, window: Window, new_pods_from_zero: bool) -> BTreeMap<String, Tally> {
        let rules = Rules {
            window,
            new_pods_from_zero,
        };
        custom::count(&self.bad, &self.total, &rules)
    }
}

/// What users' metrics were in one tick, pod by pod.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OwnTick {
    /// For each pair of counters, in the order of the metrics: the canary's pods.
    pub canary: Vec<BTreeMap<String, Tally>>,
    /// The same of stable's.
    pub stable: Vec<BTreeMap<String, Tally>>,
    /// For each value, in the order of the metrics.
    pub values: Vec<Reading>,
    /// What could not be read, and is of no fault of the server's: nothing of it is above.
    pub unusable: Vec<Unusable>,
}

/// What the metrics were in one tick.
pub(super) fn tick(own: &[Own], target: &Target, of: Span) -> CustomTick {
    let OwnTick {
        canary,
        stable,
        values,
        unusable,
    } = pods(own, target, of);
    let all = |pods: BTreeMap<String, Tally>| {
        pods.into_values().fold(Tally::default(), |mut all, one| {
            all.add(&one);
            all
        })
    };
    let arms = |(canary, stable)| Arms {
        canary: all(canary),
        stable: all(stable),
    };
    CustomTick {
        counts: canary.into_iter().zip(stable).map(arms).collect(),
        values,
        unusable,
    }
}

/// What all metrics were in a tick, from what those that are asked for with other rollouts' and the rest were, each in their order.
pub(super) fn merge(all: &[CustomTarget], shared: CustomTick, rest: CustomTick) -> CustomTick {
    struct From<C, V> {
        place: usize,
        counts: C,
        values: V,
        unusable: Vec<Unusable>,
    }
    let from = |tick: CustomTick| From {
        place: 0,
        counts: tick.counts.into_iter(),
        values: tick.values.into_iter(),
        unusable: tick.unusable,
    };
    let (mut shared, mut rest, mut out) = (from(shared), from(rest), CustomTick::default());
    for (metric, one) in all.iter().enumerate() {
        let from = if one.backends.is_some() { &mut shared } else { &mut rest };
        if one.query.is_value() {
            out.values.extend(from.values.next());
        } else {
            out.counts.extend(from.counts.next());
        }
        let its = from.unusable.iter().filter(|wrong| wrong.metric == from.place);
        out.unusable
            .extend(its.cloned().map(|wrong| Unusable { metric, ..wrong }));
        from.place += 1;
    }
    out
}

/// What the metrics were in one tick, pod by pod.
pub(super) fn pods(own: &[Own], target: &Target, of: Span) -> OwnTick {
    let (mut out, window) = (OwnTick::default(), target.window(of));
    // The canary's pods are as young as the trial.
    let young = target.began.as_millisecond() > window.start.saturating_sub(window.lookback);
    for (place, (one, asked)) in own.iter().zip(&target.custom).enumerate() {
        let wrong = match one {
            Own::Counts { canary, stable } => {
                let wrong = [canary, stable]
                    .into_iter()
                    .find_map(|pair| custom::check(&pair.bad, &pair.total, &window))
                    .map(|wrong| (wrong.field, wrong.problem));
                let is_right = wrong.is_none();
                let counted = |pair: &Pair, young| {
                    if is_right {
                        pair.count(window, young)
                    } else {
                        BTreeMap::new()
                    }
                };
                out.canary.push(counted(canary, young));
                out.stable.push(counted(stable, false));
                wrong
            }
            Own::Value { canary, stable } => {
                let of = |series: &[Series]| custom::value_at(series, window.end);
                let (reading, wrong) = match (of(canary), of(stable)) {
                    (Ok(canary), Ok(stable)) => (Reading { canary, stable }, None),
                    (Err(problem), _) | (_, Err(problem)) => (Reading::default(), Some(("query", problem))),
                };
                out.values.push(reading);
                wrong
            }
            Own::Unusable(field, problem) => {
                if asked.query.is_value() {
                    out.values.push(Reading::default());
                } else {
                    out.canary.push(BTreeMap::new());
                    out.stable.push(BTreeMap::new());
                }
                Some((*field, problem.clone()))
            }
        };
        if let Some((field, problem)) = wrong {
            out.unusable.push(Unusable {
                metric: place,
                field: format!("{}.{field}", asked.field),
                problem,
            });
        }
    }
    out
}

/// For each pair of counters: what stable's pods counted in a tick.
pub(super) fn stable_pods(own: &[Own], target: &Target, of: Span) -> Vec<BTreeMap<String, Tally>> {
    let counts = own
        .iter()
        .zip(&target.custom)
        .filter_map(|(one, asked)| match (one, &asked.query) {
            (Own::Counts { stable, .. }, _) => Some(stable.count(target.window(of), false)),
            (Own::Unusable(..), query) if !query.is_value() => Some(BTreeMap::new()),
            _ => None,
        });
    counts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linkerd::outbound::Counter;
    use crate::prometheus::Backends;

    #[test]
    fn what_was_asked_for_with_others_and_alone_comes_together_in_the_metrics_order() {
        let metric = |is_value: bool, is_shared: bool| CustomTarget {
            field: String::new(),
            judged: true,
            query: CustomQuery::Unusable {
                field: if is_value { "query" } else { "bad" },
                problem: String::new(),
            },
            backends: is_shared.then(|| Backends {
                counter: Counter::GrpcRoute,
                service: String::new(),
                canary: String::new(),
                stable: String::new(),
            }),
        };
        let all = [
            metric(false, false),
            metric(true, false),
            metric(false, true),
            metric(true, false),
        ];
        let counts = |bad| Arms {
            canary: Tally::new(bad, 10),
            stable: Tally::new(0, 10),
        };
        let value = |canary| Reading {
            canary: Some(canary),
            stable: None,
        };
        let wrong = |metric, problem: &str| Unusable {
            metric,
            field: String::new(),
            problem: problem.to_owned(),
        };
        let shared = CustomTick {
            counts: vec![counts(1)],
            values: vec![],
            unusable: vec![wrong(0, "shared")],
        };
        let rest = CustomTick {
            counts: vec![counts(2)],
            values: vec![value(3.0), value(4.0)],
            unusable: vec![wrong(2, "alone")],
        };
        let merged = CustomTick {
            counts: vec![counts(2), counts(1)],
            values: vec![value(3.0), value(4.0)],
            unusable: vec![wrong(2, "shared"), wrong(3, "alone")],
        };
        assert_eq!(merge(&all, shared, rest), merged);
    }
}
