//! From the raw series of one arm's proxies to what the arm did in a tick. Pure: must not know a server or a clock.
//!
//! # Assumptions
//! - All samples of one scrape have one time, and Linkerd's scrape labels say which pod a series is of.
//! - A pod may be seen by several Prometheus servers, or under several jobs: each is a *view* of it. Views are never mixed
//!   (their scrapes are apart, and the larger of two values is not the truer one): for each pod one view is taken, always the
//!   same one as long as it sees about as much as the best.

use std::collections::{BTreeMap, BTreeSet};

use serin_core::analysis::{ArmSample, Counts, PodCalls, Sight};

use super::answer::Series;
use super::counters::{self, Baseline, Window, growth};
use crate::linkerd::failure::is_failure;
use crate::linkerd::metrics;

/// Labels that tell views of a pod apart. Not `instance`: it is the pod's own address.
const VIEW_LABELS: [&str; 6] = [
    "job",
    "prometheus",
    "prometheus_replica",
    "replica",
    "__replica__",
    "receive_replica",
];

/// The labels that counting reads; a series needs no others.
pub(super) const LABELS: [&str; 13] = [
    metrics::NAME,
    metrics::POD,
    "instance",
    metrics::CLASSIFICATION,
    metrics::GRPC_STATUS,
    metrics::STATUS_CODE,
    metrics::LE,
    VIEW_LABELS[0],
    VIEW_LABELS[1],
    VIEW_LABELS[2],
    VIEW_LABELS[3],
    VIEW_LABELS[4],
    VIEW_LABELS[5],
];

/// A process start that moved by less is the same process: some kernels' clocks drift.
const SAME_PROCESS_SECONDS: f64 = 1.0;

/// What to count.
#[derive(Debug, Clone, Copy)]
pub(super) struct What<'a> {
    /// The tick.
    pub(super) window: Window,
    /// When the rollout began, in milliseconds since the epoch.
    pub(super) began: i64,
    /// gRPC codes that are failures besides Linkerd's own.
    pub(super) extra_failure_codes: &'a [u8],
    /// gRPC codes that are counted by themselves where they are no failures.
    pub(super) codes_apart: &'a [u8],
    /// Bounds of latency objectives, in their order.
    pub(super) bounds_ms: &'a [u64],
}

/// What an arm's series say of a tick.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ArmCount {
    /// The sums over its pods.
    pub(super) sample: ArmSample,
    /// Calls whose answer had begun and not ended at the tick's end.
    pub(super) open: u64,
    /// Samples that were no counts and are left out.
    pub(super) garbage: usize,
    /// Bounds that the proxies' histograms do not have although calls were answered.
    pub(super) missing_bounds: BTreeSet<u64>,
}

/// Counts an arm. The order of the series does not matter.
pub(super) fn count(series: &[Series], what: &What<'_>) -> ArmCount {
    let mut counts = none(what);
    let pods = count_pods(series, what);
    for pod in pods.by_name.values() {
        counts.add(&pod.counts);
    }
    let sees = pods.by_name.values().any(|pod| pod.seen_at_end);
    let by_pod = pods.by_name.iter().filter(|(_, pod)| pod.counts.requests > 0);
    let by_pod = by_pod
        .map(|(name, pod)| PodCalls {
            pod: (*name).to_owned(),
            requests: pod.counts.requests,
            failures: pod.counts.failures,
        })
        .collect();
    let sight = if sees { Sight::Fresh } else { Sight::Blind };
    ArmCount {
        sample: ArmSample {
            sight,
            counts,
            pods: by_pod,
        },
        open: pods.by_name.values().map(|pod| pod.open).sum(),
        garbage: pods.tally.garbage,
        missing_bounds: pods.tally.missing_bounds,
    }
}

/// What the series say of each pod.
pub(super) struct Counted<'a> {
    pub(super) by_name: BTreeMap<&'a str, Pod>,
    pub(super) tally: Tally,
}

/// What one pod did in the tick.
pub(super) struct Pod {
    pub(super) counts: Counts,
    /// For each of [`What::codes_apart`]: calls with that code that are no failures.
    pub(super) codes: Vec<u64>,
    /// Calls whose answer had begun and not ended at the tick's end.
    pub(super) open: u64,
    pub(super) seen_at_end: bool,
}

/// Counts each pod of an arm by itself.
pub(super) fn count_pods<'a>(series: &'a [Series], what: &What<'_>) -> Counted<'a> {
    let mut tally = Tally {
        garbage: 0,
        missing_bounds: BTreeSet::new(),
    };
    let mut by_name = BTreeMap::new();
    for (name, views) in by_pod(series, &what.window) {
        let mut pod = Pod {
            counts: none(what),
            codes: vec![0; what.codes_apart.len()],
            open: 0,
            seen_at_end: false,
        };
        for instance in chosen(&views).into_iter().flat_map(View::values) {
            pod.seen_at_end |= instance.seen_since(what.window.end - what.window.stale, what.window.end);
            pod.open += instance.open(&what.window);
            instance.add_to(&mut pod, &mut tally, what);
        }
        // Latency is counted at the first frame and a call at its last: at a tick's edge one may lead the other.
        for slow in &mut pod.counts.slow {
            *slow = (*slow).min(pod.counts.requests);
        }
        by_name.insert(name, pod);
    }
    Counted { by_name, tally }
}

fn none(what: &What<'_>) -> Counts {
    Counts {
        slow: vec![0; what.bounds_ms.len()],
        ..Counts::default()
    }
}

pub(super) struct Tally {
    garbage: usize,
    pub(super) missing_bounds: BTreeSet<u64>,
}

type Pods<'a> = BTreeMap<&'a str, BTreeMap<[&'a str; VIEW_LABELS.len()], View<'a>>>;
type View<'a> = BTreeMap<&'a str, Instance<'a>>;

/// One proxy in one view.
#[derive(Default)]
struct Instance<'a> {
    scrapes: BTreeSet<i64>,
    /// When the process began, in seconds, by the time of the scrape that said so.
    births: BTreeMap<i64, f64>,
    responses: Vec<&'a Series>,
    buckets: Vec<(f64, &'a Series)>,
    /// Whether anything of it can only come from a proxy: applications export a process start as well.
    proxy: bool,
}

fn by_pod<'a>(series: &'a [Series], window: &Window) -> Pods<'a> {
    let mut pods = Pods::new();
    for one in series {
        let view = VIEW_LABELS.map(|label| one.label(label));
        let views = pods.entry(one.label(metrics::POD)).or_default();
        let instance = views.entry(view).or_default().entry(one.label("instance")).or_default();
        let in_window = |at: i64| window.is_before(at) || window.is_inside(at);
        instance
            .scrapes
            .extend(one.samples.iter().map(|s| s.at).filter(|at| in_window(*at)));
        match one.label(metrics::NAME) {
            metrics::PROCESS_START => {
                let births = one.samples.iter().filter(|s| in_window(s.at) && s.value.is_finite());
                instance.births.extend(births.map(|s| (s.at, s.value)));
                continue;
            }
            metrics::RESPONSES => instance.responses.push(one),
            metrics::LATENCY_BUCKETS => {
                if let Ok(le) = one.label(metrics::LE).parse() {
                    instance.buckets.push((le, one));
                }
            }
            _ => {}
        }
        instance.proxy = true;
    }
    for views in pods.values_mut() {
        for view in views.values_mut() {
            view.retain(|_, instance| instance.proxy);
        }
    }
    pods
}

/// The first view that has at least three quarters of the best one's scrapes: stable from tick to tick, and never one that
/// has lost sight while another sees.
fn chosen<'v, 'a, K: Ord>(views: &'v BTreeMap<K, View<'a>>) -> Option<&'v View<'a>> {
    let scrapes = |view: &View<'_>| view.values().map(|i| i.scrapes.len()).sum::<usize>();
    let best = views.values().map(scrapes).max()?;
    views.values().find(|view| scrapes(view) * 4 >= best * 3)
}

impl Instance<'_> {
    fn seen_since(&self, after: i64, until: i64) -> bool {
        after < until && self.scrapes.range(after + 1..=until).next().is_some()
    }

    fn baseline(&self, window: &Window, began: i64) -> Baseline {
        if self.seen_since(window.start.saturating_sub(window.stale), window.start) {
            return Baseline::Seen;
        }
        let horizon = window.start.saturating_sub(window.lookback);
        let last_seen = self.scrapes.range(..=window.start).next_back().copied();
        let born = self
            .births
            .range(window.start + 1..)
            .next()
            .map(|(_, seconds)| seconds * 1_000.0);
        let from_zero = match (born, last_seen) {
            (Some(born), last_seen) => after(born, last_seen.unwrap_or(horizon)),
            // A proxy that does not say when it began: new if the rollout itself is.
            (None, None) => began > horizon,
            (None, Some(_)) => false,
        };
        if from_zero { Baseline::Zero } else { Baseline::Unknown }
    }

    /// Answers that had begun at the last scrape, less those of them that had ended: latency is counted at the first frame, a call at
    /// its last. None when the pod is out of sight.
    fn open(&self, window: &Window) -> u64 {
        let seen = self.scrapes.range(..=window.end).next_back();
        let Some(at) = seen.copied().filter(|at| *at > window.end - window.stale) else {
            return 0;
        };
        let then = |series: &&Series| {
            let sample = series.samples.iter().find(|sample| sample.at == at);
            sample.and_then(|sample| counters::count(sample.value)).unwrap_or(0)
        };
        let begun = self.buckets.iter().filter(|(le, _)| le.is_infinite());
        let begun: u64 = begun.map(|(_, series)| then(series)).sum();
        // What broke before an answer began was never counted as begun.
        let ended = self
            .responses
            .iter()
            .filter(|one| !one.label(metrics::STATUS_CODE).is_empty());
        begun.saturating_sub(ended.map(then).sum())
    }

    /// The scrapes that first saw a new process.
    fn resets(&self) -> Vec<i64> {
        let pairs = self.births.iter().zip(self.births.iter().skip(1));
        pairs
            .filter(|((_, was), (_, is))| *is - *was > SAME_PROCESS_SECONDS)
            .map(|(_, (at, _))| *at)
            .collect()
    }

    fn add_to(&self, pod: &mut Pod, tally: &mut Tally, what: &What<'_>) {
        let Pod { counts, codes, .. } = pod;
        let baseline = self.baseline(&what.window, what.began);
        let resets = self.resets();
        let mut grown = |series: &Series| {
            let (grown, garbage) = growth(&series.samples, &what.window, baseline, &resets);
            tally.garbage += garbage;
            grown
        };
        for series in &self.responses {
            let calls = grown(series);
            counts.requests += calls;
            let (classification, status) = (
                series.label(metrics::CLASSIFICATION),
                series.label(metrics::GRPC_STATUS),
            );
            if is_failure(classification, status, what.extra_failure_codes) {
                counts.failures += calls;
            } else if let Ok(status) = status.parse::<u8>() {
                let apart = codes.iter_mut().zip(what.codes_apart);
                for (with, _) in apart.filter(|(_, code)| **code == status) {
                    *with += calls;
                }
            }
        }
        if self.buckets.is_empty() {
            return;
        }
        // Buckets are cumulative: what is slower than a bound is all that is not within it.
        let mut within = |bound: &dyn Fn(f64) -> bool| {
            let of: Vec<_> = self.buckets.iter().filter(|(le, _)| bound(*le)).collect();
            (!of.is_empty()).then(|| of.iter().map(|(_, series)| grown(series)).sum::<u64>())
        };
        let all = within(&f64::is_infinite).unwrap_or(0);
        for (slow, bound) in counts.slow.iter_mut().zip(what.bounds_ms) {
            match within(&|le| is(le, *bound)) {
                Some(fast) => *slow += all.saturating_sub(fast),
                None if all > 0 => {
                    tally.missing_bounds.insert(*bound);
                }
                None => {}
            }
        }
    }
}

/// Whether a bucket's bound is this one. Prometheus writes it as `500` or `500.0`.
fn is(le: f64, bound_ms: u64) -> bool {
    u32::try_from(bound_ms).is_ok_and(|bound| (le - f64::from(bound)).abs() < f64::EPSILON)
}

/// Whether a time in fractional milliseconds is after another.
#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds since the epoch are far below 2^53"
)]
fn after(ms: f64, other: i64) -> bool {
    ms > other as f64
}

#[cfg(test)]
#[path = "arms_tests.rs"]
mod tests;
