//! A stretch of the past as it was counted: both arms, pod by pod, tick by tick. Must not know a plan, nor where counts came from.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::analysis::sequential::{Arms, Tally};
use crate::analysis::{ArmSample, Baseline, Counts, CustomKind, CustomMetric, PodCalls, PodCounts, Reading, Sight};

/// A longer stretch is given up: at ticks of 20 s these are 46 days.
const MOST_TICKS: i64 = 200_000;

/// What one pod did in one tick.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodRecord {
    /// What it answered; [`Counts::slow`] has the recording's bounds, in their order.
    pub counts: Counts,
    /// Calls by gRPC code that are not among the failures; codes without any may be left out.
    pub codes: BTreeMap<u8, u64>,
    /// Whether it had a fresh scrape at the end of the tick.
    pub seen: bool,
    /// For each of the recording's pairs of counters: what it counted. Those without any may be left out at the end.
    pub own: Vec<Tally>,
}

/// The pods of one arm by name.
pub type PodRecords = BTreeMap<String, PodRecord>;

/// Both arms in one tick.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RecordedTick {
    /// The canary's pods.
    pub canary: PodRecords,
    /// Stable's pods.
    pub stable: PodRecords,
    /// For each of the recording's single values: what it was at the end of the tick; empty where none had an answer.
    pub values: Vec<Reading>,
}

/// A metric of the user's own that was recorded. Another query is another metric, whatever its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedMetric {
    /// Its name.
    pub name: String,
    /// What was asked, with its variables.
    pub asked: Asked,
}

/// What was asked for a metric of the user's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Two counters.
    Counts {
        /// The query for the bad ones.
        bad: String,
        /// The query for all.
        total: String,
    },
    /// One number.
    Value {
        /// The query.
        query: String,
    },
}

impl RecordedMetric {
    /// What has to be recorded for a metric.
    pub fn of(metric: &CustomMetric) -> Self {
        let asked = match &metric.kind {
            CustomKind::Counts(counts) => Asked::Counts {
                bad: counts.bad.clone(),
                total: counts.total.clone(),
            },
            CustomKind::Value(value) => Asked::Value {
                query: value.query.clone(),
            },
        };
        Self {
            name: metric.name.clone(),
            asked,
        }
    }

    /// Whether it is a pair of counters.
    pub fn is_counts(&self) -> bool {
        matches!(self.asked, Asked::Counts { .. })
    }
}

/// A stretch before it was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordingDraft {
    /// The length of a tick.
    pub interval: SignedDuration,
    /// When the trial is taken to begin: ticks that end before it are what stable did before.
    pub from: Timestamp,
    /// Up to here.
    pub to: Timestamp,
    /// How much earlier stable's counts were taken than the canary's; zero when both were there at once.
    pub stable_earlier: SignedDuration,
    /// The bounds of all [`Counts::slow`] in milliseconds, rising.
    pub bounds_ms: Vec<u64>,
    /// Metrics of the user's own, each name once.
    pub metrics: Vec<RecordedMetric>,
    /// By their ends, which are multiples of the interval since the epoch. Ticks in which nothing was seen may be left out.
    pub ticks: BTreeMap<Timestamp, RecordedTick>,
}

/// A stretch that can be replayed. Only [`Recording::parse`] makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording(RecordingDraft);

/// Why a stretch can't be replayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordingError {
    /// Ticks of no length.
    #[error("ticks must be longer than nothing, not {0:#}")]
    Interval(SignedDuration),
    /// It ends before it has begun.
    #[error("the stretch must end after it begins: it is from {from} to {to}")]
    Backwards {
        /// Its begin.
        from: Timestamp,
        /// Its end.
        to: Timestamp,
    },
    /// There is no whole tick in it.
    #[error("from {from} to {to} there is no whole tick of {interval:#}")]
    TooShort {
        /// Its begin.
        from: Timestamp,
        /// Its end.
        to: Timestamp,
        /// The length of a tick.
        interval: SignedDuration,
    },
    /// More ticks than can be meant.
    #[error("from {from} to {to} there are more than {MOST_TICKS} ticks; choose a shorter stretch")]
    TooLong {
        /// Its begin.
        from: Timestamp,
        /// Its end.
        to: Timestamp,
    },
    /// A tick between two ticks.
    #[error("{0} is no end of a tick: ticks end at multiples of their length since the epoch")]
    Unaligned(Timestamp),
    /// Bounds in no order.
    #[error("the latency bounds must rise")]
    Bounds,
    /// A metric's name that another one has.
    #[error("there are two metrics {0}")]
    Twice(String),
    /// Counts or values of metrics that there are not.
    #[error("the tick {0} has counts or values of more metrics than there are")]
    Metrics(Timestamp),
    /// Counts of other bounds.
    #[error("the pod {pod} has {found} counts of slow calls in the tick {tick}, and there are {wanted} bounds")]
    Slow {
        /// The pod.
        pod: String,
        /// The end of the tick.
        tick: Timestamp,
        /// Counts that it has.
        found: usize,
        /// Bounds that there are.
        wanted: usize,
    },
    /// More bad calls than calls.
    #[error("the pod {pod} has more failed or slow calls than calls in the tick {tick}")]
    MoreThanAll {
        /// The pod.
        pod: String,
        /// The end of the tick.
        tick: Timestamp,
    },
}

impl Recording {
    /// Checks a stretch whole.
    ///
    /// # Errors
    /// The first thing that makes no sense.
    pub fn parse(draft: RecordingDraft) -> Result<Self, RecordingError> {
        let RecordingDraft {
            interval,
            from,
            to,
            stable_earlier: _,
            ref bounds_ms,
            ref metrics,
            ref ticks,
        } = draft;
        if interval < SignedDuration::from_millis(1) || interval.subsec_nanos() % 1_000_000 != 0 {
            return Err(RecordingError::Interval(interval));
        }
        if from >= to {
            return Err(RecordingError::Backwards { from, to });
        }
        if bounds_ms.windows(2).any(|pair| matches!(pair, [a, b] if a >= b)) {
            return Err(RecordingError::Bounds);
        }
        for (place, metric) in metrics.iter().enumerate() {
            if metrics.iter().take(place).any(|other| other.name == metric.name) {
                return Err(RecordingError::Twice(metric.name.clone()));
            }
        }
        let counts = metrics.iter().filter(|metric| metric.is_counts()).count();
        let values = metrics.len() - counts;
        for (tick, recorded) in ticks {
            let pods = || recorded.canary.values().chain(recorded.stable.values());
            if pods().any(|pod| pod.own.len() > counts) || recorded.values.len() > values {
                return Err(RecordingError::Metrics(*tick));
            }
            if tick.as_nanosecond().rem_euclid(interval.as_nanos()) != 0 {
                return Err(RecordingError::Unaligned(*tick));
            }
            for (pod, record) in recorded.canary.iter().chain(&recorded.stable) {
                let Counts {
                    requests,
                    failures,
                    ref slow,
                } = record.counts;
                if slow.len() != bounds_ms.len() {
                    return Err(RecordingError::Slow {
                        pod: pod.clone(),
                        tick: *tick,
                        found: slow.len(),
                        wanted: bounds_ms.len(),
                    });
                }
                let failed = record
                    .codes
                    .values()
                    .fold(failures, |all, calls| all.saturating_add(*calls));
                if slow.iter().chain([&failed]).any(|bad| *bad > requests) {
                    return Err(RecordingError::MoreThanAll {
                        pod: pod.clone(),
                        tick: *tick,
                    });
                }
            }
        }
        let recording = Self(draft);
        let (first, last) = recording.span();
        if last - first >= MOST_TICKS {
            return Err(RecordingError::TooLong { from, to });
        }
        if last <= first {
            return Err(RecordingError::TooShort { from, to, interval });
        }
        Ok(recording)
    }

    /// What it was made of.
    pub fn draft(&self) -> &RecordingDraft {
        &self.0
    }

    /// The whole ticks of the trial's time by their ends, in order; those in which nothing was seen too.
    pub(super) fn ends(&self) -> impl Iterator<Item = Timestamp> + '_ {
        let (first, last) = self.span();
        let length = self.length();
        (first + 1..=last).filter_map(move |tick| Timestamp::from_millisecond(tick.saturating_mul(length)).ok())
    }

    /// The first tick's start that is not before the begin, and the last end that is not after the end, in ticks since the epoch.
    fn span(&self) -> (i64, i64) {
        let length = i128::from(self.length()) * 1_000_000;
        let up = -(-self.0.from.as_nanosecond()).div_euclid(length);
        let down = self.0.to.as_nanosecond().div_euclid(length);
        // No time that there is has more milliseconds than fit.
        (
            i64::try_from(up).unwrap_or(i64::MAX),
            i64::try_from(down).unwrap_or(i64::MIN),
        )
    }

    /// The length of a tick in milliseconds, at least 1.
    pub(super) fn length(&self) -> i64 {
        i64::try_from(self.0.interval.as_millis()).unwrap_or(i64::MAX).max(1)
    }

    /// The start of the tick that ends then.
    pub(super) fn start(&self, end: Timestamp) -> Timestamp {
        end.checked_sub(self.0.interval).unwrap_or(Timestamp::MIN)
    }

    pub(super) fn tick(&self, end: Timestamp) -> Option<&RecordedTick> {
        self.0.ticks.get(&end)
    }

    /// The places of these bounds among the recording's.
    pub(super) fn places(&self, bounds_ms: impl IntoIterator<Item = u64>) -> Vec<usize> {
        let mine = &self.0.bounds_ms;
        let place = |bound: u64| mine.iter().position(|b| *b == bound).unwrap_or(usize::MAX);
        bounds_ms.into_iter().map(place).collect()
    }

    /// Whether a metric of the user's own was recorded, with the same queries.
    pub fn has(&self, metric: &CustomMetric) -> bool {
        self.0.metrics.contains(&RecordedMetric::of(metric))
    }

    /// The places of these metrics among the recording's pairs of counters, and among its values; in the order of the metrics,
    /// each in the list of its kind.
    pub(super) fn own_places(&self, metrics: &[CustomMetric]) -> OwnPlaces {
        let place = |metric: &CustomMetric| {
            let wanted = RecordedMetric::of(metric);
            let alike = self
                .0
                .metrics
                .iter()
                .filter(|one| one.is_counts() == wanted.is_counts());
            alike.into_iter().position(|one| *one == wanted).unwrap_or(usize::MAX)
        };
        let (counts, values): (Vec<_>, Vec<_>) = metrics.iter().partition(|metric| metric.counts().is_some());
        OwnPlaces {
            counts: counts.into_iter().map(place).collect(),
            values: values.into_iter().map(place).collect(),
        }
    }

    /// For each pair of counters: what both arms counted in a tick.
    pub(super) fn own(&self, end: Timestamp) -> Vec<Arms> {
        let counts = self.0.metrics.iter().filter(|metric| metric.is_counts()).count();
        let tick = self.tick(end);
        let sum = |pods: Option<&PodRecords>, place: usize| {
            let mut all = Tally::default();
            for one in pods
                .into_iter()
                .flat_map(BTreeMap::values)
                .filter_map(|pod| pod.own.get(place))
            {
                all.add(one);
            }
            all
        };
        let of = |place| Arms {
            canary: sum(tick.map(|tick| &tick.canary), place),
            stable: sum(tick.map(|tick| &tick.stable), place),
        };
        (0..counts).map(of).collect()
    }

    /// What stable did in the last `span` before the trial, as far as it could be known `settle` after each tick. `own` are the
    /// places of the metrics among the pairs of counters.
    pub(super) fn baseline(
        &self,
        span: SignedDuration,
        settle: SignedDuration,
        codes: &[u8],
        own: &[usize],
    ) -> Baseline {
        let since = self.0.from.checked_sub(span).unwrap_or(Timestamp::MIN);
        let known = self.0.from.checked_sub(settle).unwrap_or(Timestamp::MIN);
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        let mut ticks = Vec::new();
        for (end, tick) in self.0.ticks.range(..=known) {
            if self.start(*end) < since {
                continue;
            }
            let mut pods = vec![PodCounts::default(); places.len()];
            for (name, pod) in &tick.stable {
                let next = places.len();
                let place = *places.entry(name).or_insert(next);
                if place == pods.len() {
                    pods.push(PodCounts::default());
                }
                if let Some(slot) = pods.get_mut(place) {
                    *slot = PodCounts {
                        requests: pod.counts.requests,
                        failures: pod.counts.failures,
                        slow: pod.counts.slow.clone(),
                        codes: codes.iter().map(|code| with_code(pod, *code)).collect(),
                        custom: own
                            .iter()
                            .map(|place| pod.own.get(*place).copied().unwrap_or_default())
                            .collect(),
                    };
                }
            }
            if pods.iter().any(|pod| pod.requests > 0) {
                ticks.push(pods);
            }
        }
        Baseline {
            bounds_ms: self.0.bounds_ms.clone(),
            codes: codes.to_vec(),
            tick_ms: self.length().unsigned_abs(),
            ticks,
        }
    }
}

/// Where a recording has the metrics of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct OwnPlaces {
    pub(super) counts: Vec<usize>,
    pub(super) values: Vec<usize>,
}

fn with_code(pod: &PodRecord, code: u8) -> u64 {
    pod.codes.get(&code).copied().unwrap_or(0)
}

/// The sum over an arm's pods; calls with these gRPC codes are failures too.
pub(super) fn arm(pods: Option<&PodRecords>, bounds: usize, failure_codes: &[u8]) -> ArmSample {
    let mut counts = Counts {
        slow: vec![0; bounds],
        ..Counts::default()
    };
    let mut seen = false;
    let mut by_pod = Vec::new();
    for (name, pod) in pods.into_iter().flatten() {
        let mut failures = pod.counts.failures;
        counts.add(&pod.counts);
        for code in failure_codes {
            failures = failures.saturating_add(with_code(pod, *code));
            counts.failures = counts.failures.saturating_add(with_code(pod, *code));
        }
        if pod.counts.requests > 0 {
            by_pod.push(PodCalls {
                pod: name.clone(),
                requests: pod.counts.requests,
                failures,
            });
        }
        seen |= pod.seen;
    }
    ArmSample {
        sight: if seen { Sight::Fresh } else { Sight::Blind },
        counts,
        pods: by_pod,
    }
}

/// Counts with only the slow calls at these places.
pub(super) fn at_bounds(counts: &Counts, places: &[usize]) -> Counts {
    let slow = places.iter().map(|place| counts.slow.get(*place).copied().unwrap_or(0));
    Counts {
        slow: slow.collect(),
        ..*counts
    }
}
