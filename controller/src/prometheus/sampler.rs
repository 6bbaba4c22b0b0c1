//! Asks for one rollout's raw samples and counts them, tick by tick. Must not know verdicts.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use serin_core::analysis::sequential::Tally;
use serin_core::analysis::{ArmSample, Baseline, Counts, CustomTick, PodCounts, Streams, Tick};

use super::answer::Series;
use super::arms::{self, What};
use super::client::{Client, SampleError};
use super::counters::Window;
use super::own::{self, Own};
use super::sent;
use crate::linkerd::promql;
use crate::metrics::Metrics;

/// A query that takes longer than this is late for its tick anyway.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A pod is out of sight after this many scrapes.
const STALE_SCRAPES: i32 = 3;

/// Samples this old still tell a pod that was out of sight from a new one.
const LOOKBACK: SignedDuration = SignedDuration::from_secs(60);

/// Ticks are asked for together as long as they span no more than this.
const TOGETHER: SignedDuration = SignedDuration::from_mins(10);

/// A stretch of time, its start exclusive.
pub(super) type Span = (Timestamp, Timestamp);

/// What to sample. All of it is fixed while a revision is judged: changing it would void the tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The namespace of both arms.
    pub namespace: String,
    /// The port that the *container* listens on (the apex Service's `targetPort`, resolved).
    pub port: u16,
    /// The judged revision's pods.
    pub canary: ArmTarget,
    /// Stable's pods.
    pub stable: ArmTarget,
    /// The bounds of the latency objectives, in their order, in milliseconds; each one of Linkerd's.
    pub thresholds_ms: Vec<u64>,
    /// Numbers of gRPC codes that are failures besides Linkerd's own.
    pub extra_failure_codes: Vec<u8>,
    /// Numbers of gRPC codes that a baseline counts by themselves.
    pub codes_apart: Vec<u8>,
    /// The Services through which clients reach the arms: the apex and the arms' own. Where there are none, nobody asks where
    /// calls were sent.
    pub services: Vec<String>,
    /// How often Prometheus scrapes the proxies.
    pub scrape_interval: SignedDuration,
    /// When the rollout began.
    pub began: Timestamp,
    /// The user's own metrics, in the order of the spec.
    pub custom: Vec<CustomTarget>,
}

/// A metric of the user's own, with its variables filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomTarget {
    /// Its path in the resource, such as `spec.analysis.metrics[0]`.
    pub field: String,
    /// Whether it has a say.
    pub judged: bool,
    /// What to ask.
    pub query: CustomQuery,
}

/// What to ask for a metric of the user's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CustomQuery {
    /// Counters of each arm.
    Counts {
        /// The canary's.
        canary: PairQuery,
        /// Stable's.
        stable: PairQuery,
    },
    /// One number of each arm, or of the whole service.
    Value {
        /// The canary's, or the service's.
        canary: String,
        /// Stable's, if each arm has its own.
        stable: Option<String>,
    },
    /// Nothing can be asked.
    Unusable {
        /// The field of the metric that is the reason, such as `bad`.
        field: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
}

impl CustomQuery {
    /// Whether the metric is a single value. Of a query that could not even be asked, the field that is wrong tells it.
    pub(super) fn is_value(&self) -> bool {
        match self {
            Self::Counts { .. } => false,
            Self::Value { .. } => true,
            Self::Unusable { field, .. } => *field == "query",
        }
    }
}

/// The selectors of two counters; each one's series are added up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairQuery {
    /// Of the bad ones.
    pub bad: Vec<String>,
    /// Of all.
    pub total: Vec<String>,
}

/// One arm's pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArmTarget {
    /// Their Deployment.
    pub deployment: String,
    /// Only those of this ReplicaSet; `None`: all.
    pub pod_template_hash: Option<String>,
}

impl Target {
    pub(super) fn stale(&self) -> SignedDuration {
        self.scrape_interval.saturating_mul(STALE_SCRAPES)
    }

    pub(super) fn lookback(&self) -> SignedDuration {
        self.stale().saturating_mul(2).max(LOOKBACK)
    }

    fn queries(&self, arm: &ArmTarget, window: SignedDuration) -> [String; 3] {
        let hashes: Vec<&str> = arm.pod_template_hash.as_deref().into_iter().collect();
        let pods = promql::Arm {
            namespace: &self.namespace,
            deployment: &arm.deployment,
            pod_template_hashes: hashes.as_slice(),
        };
        [
            promql::sight(pods),
            promql::inbound_responses(pods, self.port),
            promql::inbound_latency(pods, self.port, &self.thresholds_ms),
        ]
        .map(|selector| promql::over(&selector, window))
    }

    pub(super) fn window(&self, (start, end): Span) -> Window {
        Window {
            start: start.as_millisecond(),
            end: end.as_millisecond(),
            stale: millis(self.stale()),
            lookback: millis(self.lookback()),
        }
    }

    pub(super) fn what(&self, of: Span) -> What<'_> {
        What {
            window: self.window(of),
            began: self.began.as_millisecond(),
            extra_failure_codes: &self.extra_failure_codes,
            codes_apart: &self.codes_apart,
            bounds_ms: &self.thresholds_ms,
        }
    }

    /// What the arm did in a tick, and how many of its calls went on at the end of it.
    fn count(&self, series: &[Series], tick: (Timestamp, Timestamp)) -> Result<(ArmSample, u64), SampleError> {
        let (what, end) = (self.what(tick), tick.1);
        let counted = arms::count(series, &what);
        if counted.garbage > 0 {
            tracing::warn!(
                namespace = self.namespace, port = self.port, %end, samples = counted.garbage,
                "samples of Linkerd's counters are no counts and were left out"
            );
        }
        match counted.missing_bounds.first() {
            Some(bound_ms) => Err(SampleError::NoSuchBucket { bound_ms: *bound_ms }),
            None => Ok((counted.sample, counted.open)),
        }
    }
}

/// Samples rollouts from one Prometheus. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Prometheus {
    pub(super) client: Client,
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

    /// The tick `(start, end]`.
    ///
    /// # Guarantees
    /// The same raw samples make the same tick, whenever it is asked for and whatever other ticks are asked for with it.
    ///
    /// # Errors
    /// Any answer that is not whole: there is no tick then, and the caller is blind.
    pub async fn tick(&self, target: &Target, start: Timestamp, end: Timestamp) -> Result<Tick, SampleError> {
        let seen = self.series(target, start, end).await?;
        let own = self.own(target, (start, end), end).await?;
        target.tick(&seen, &own, (start, end))
    }

    /// Several ticks in order, as [`super::ticks_due`] gives them, with few queries. Stops at the first error.
    pub async fn ticks(&self, target: &Target, ticks: &[Span]) -> Result<Vec<Tick>, SampleError> {
        let mut out = Vec::with_capacity(ticks.len());
        let mut rest = ticks;
        while let Some((first, _)) = rest.first() {
            let (now, later) = together(rest, *first);
            let Some((_, last)) = now.last() else { break };
            let seen = self.series(target, *first, *last).await?;
            let own = match now.first() {
                Some(one) => self.own(target, *one, *last).await?,
                None => Vec::new(),
            };
            for tick in now {
                out.push(target.tick(&seen, &own, *tick)?);
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

    /// Both arms' series and the clients', with all samples that speak for `(start, end]`.
    async fn series(&self, target: &Target, start: Timestamp, end: Timestamp) -> Result<Seen, SampleError> {
        let arm = |arm| self.arm(target, arm, start, end);
        let clients = self.clients(target, start, end);
        let (canary, stable, clients) =
            futures::future::try_join3(arm(&target.canary), arm(&target.stable), clients).await?;
        Ok(Seen {
            canary,
            stable,
            clients,
        })
    }

    /// What clients sent to the arms. Samples before the first tick are looked at as far back as that tick is long.
    async fn clients(&self, target: &Target, start: Timestamp, end: Timestamp) -> Result<Vec<Series>, SampleError> {
        if target.services.is_empty() {
            return Ok(Vec::new());
        }
        let services: Vec<&str> = target.services.iter().map(String::as_str).collect();
        let selector = promql::outbound_requests(&target.namespace, &services, target.port);
        let window = end.duration_since(start).saturating_add(target.lookback());
        self.client.raw(&promql::over(&selector, window), end).await
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

/// The series that ticks are counted from.
struct Seen {
    canary: Vec<Series>,
    stable: Vec<Series>,
    clients: Vec<Series>,
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

impl Target {
    fn tick(&self, seen: &Seen, own: &[Own], of: Span) -> Result<Tick, SampleError> {
        let mut window = self.what(of).window;
        // An older sample could be of another weight.
        window.lookback = window.lookback.min(window.end - window.start);
        let custom: CustomTick = own::tick(own, self, of);
        let (canary, open_canary) = self.count(&seen.canary, of)?;
        let (stable, open_stable) = self.count(&seen.stable, of)?;
        Ok(Tick {
            start: of.0,
            end: of.1,
            canary,
            stable,
            custom,
            sent: sent::count(&seen.clients, &window, &self.canary, &self.stable),
            open: Streams {
                canary: open_canary,
                stable: open_stable,
            },
        })
    }
}

fn millis(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "sampler_tests.rs"]
mod tests;
