//! What is sampled of one rollout, and what its series say of a tick. Pure; must not know a server, nor who else is sampled.

use jiff::{SignedDuration, Timestamp};
use serin_core::analysis::{ArmSample, Streams, Tick};

use super::answer::Series;
use super::arms::{self, What};
use super::client::SampleError;
use super::counters::Window;
use super::own::{self, Own};
use super::sent;
use crate::linkerd::outbound;
use crate::linkerd::promql;

/// A pod is out of sight after this many scrapes.
const STALE_SCRAPES: i32 = 3;

/// Samples this old still tell a pod that was out of sight from a new one.
const LOOKBACK: SignedDuration = SignedDuration::from_secs(60);

/// A stretch of time, its start exclusive.
pub(super) type Span = (Timestamp, Timestamp);

/// What to sample. All of it is fixed while a revision is judged: changing it would void the tests.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CustomTarget {
    /// Its path in the resource, such as `spec.analysis.metrics[0]`.
    pub field: String,
    /// Whether it has a say.
    pub judged: bool,
    /// What to ask.
    pub query: CustomQuery,
    /// The same, if it can be asked for many rollouts at once.
    pub backends: Option<Backends>,
}

/// What clients' proxies counted of the answers of both arms' Services.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Backends {
    /// The counter.
    pub counter: outbound::Counter,
    /// The apex Service.
    pub service: String,
    /// The canary's Service.
    pub canary: String,
    /// Stable's Service.
    pub stable: String,
}

/// What to ask for a metric of the user's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PairQuery {
    /// Of the bad ones.
    pub bad: Vec<String>,
    /// Of all.
    pub total: Vec<String>,
}

/// One arm's pods.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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

    /// What is asked of one arm alone.
    pub(super) fn queries(&self, arm: &ArmTarget, window: SignedDuration) -> [String; 3] {
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

    /// The part of it that is asked for together with those of other rollouts.
    pub(super) fn shared(&self) -> Self {
        self.with_custom(|one| one.backends.is_some())
    }

    /// The other part: users' own metrics, which nobody else asks for.
    pub(super) fn unshared(&self) -> Self {
        self.with_custom(|one| one.backends.is_none())
    }

    fn with_custom(&self, wanted: impl Fn(&CustomTarget) -> bool) -> Self {
        let custom = self.custom.iter().filter(|one| wanted(one)).cloned().collect();
        Self { custom, ..self.clone() }
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

/// The series that ticks are counted from.
#[derive(Default)]
pub(super) struct Seen {
    /// The canary's proxies'.
    pub(super) canary: Vec<Series>,
    /// Stable's proxies'.
    pub(super) stable: Vec<Series>,
    /// The clients' proxies'.
    pub(super) clients: Vec<Series>,
    /// What came for [`Target::custom`], in its order.
    pub(super) own: Vec<Own>,
}

impl Seen {
    /// Leaves out what lies at that time or before it, as if it had not been asked for.
    pub(super) fn cut(&mut self, at: Timestamp) {
        let at = at.as_millisecond();
        let own = self.own.iter_mut().flat_map(|own| match own {
            Own::Counts { canary, stable } => {
                vec![&mut canary.bad, &mut canary.total, &mut stable.bad, &mut stable.total]
            }
            // A value's window is its own.
            Own::Value { .. } | Own::Unusable(..) => Vec::new(),
        });
        for all in own.chain([&mut self.canary, &mut self.stable, &mut self.clients]) {
            all.retain_mut(|series| {
                let older = series.samples.partition_point(|sample| sample.at <= at);
                series.samples.drain(..older);
                !series.samples.is_empty()
            });
        }
    }
}

impl Target {
    /// What the series say of a tick.
    pub(super) fn tick(&self, seen: &Seen, of: Span) -> Result<Tick, SampleError> {
        let mut window = self.what(of).window;
        // An older sample could be of another weight.
        window.lookback = window.lookback.min(window.end - window.start);
        let custom = own::tick(&seen.own, self, of);
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

/// So many milliseconds.
pub(super) fn millis(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
