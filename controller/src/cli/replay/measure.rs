//! What of a recording is drawn as bad calls: as the metric sees them that the picture is about. Pure.

use serin_core::analysis::sequential::Tally;
use serin_core::rollout::replay::{PodRecords, RecordingDraft};

/// Which calls are bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    /// Those that failed.
    Failed,
    /// Those that were slower than the bound in this place.
    Slow(usize),
    /// Those that the pair of counters in this place counted.
    Own(usize),
}

impl Measure {
    /// The measure of the metric that decided, with the name to show; of a single value, which has no calls, and where nothing
    /// decided, those that failed.
    pub(super) fn of<'m>(metric: Option<&'m str>, recording: &RecordingDraft) -> (&'m str, Self) {
        let failed = ("success-rate", Self::Failed);
        let Some(metric) = metric else { return failed };
        let mut own = recording.metrics.iter().filter(|one| one.is_counts());
        if let Some(place) = own.position(|one| one.name == metric) {
            return (metric, Self::Own(place));
        }
        let bound = metric.strip_prefix("latency-").and_then(|rest| rest.split_once("ms"));
        let bound = bound.and_then(|(bound, _)| bound.parse::<u64>().ok());
        let place = bound.and_then(|bound| recording.bounds_ms.iter().position(|b| *b == bound));
        place.map_or(failed, |place| (metric, Self::Slow(place)))
    }

    /// The calls of an arm in a tick, and the bad ones.
    pub(super) fn tally(self, pods: &PodRecords, failure_codes: &[u8]) -> Tally {
        let mut all = Tally::default();
        for pod in pods.values() {
            let requests = pod.counts.requests;
            let with_code = || failure_codes.iter().filter_map(|code| pod.codes.get(code)).sum::<u64>();
            all.add(&match self {
                Self::Failed => Tally::new(pod.counts.failures + with_code(), requests),
                Self::Slow(place) => Tally::new(pod.counts.slow.get(place).copied().unwrap_or(0), requests),
                Self::Own(place) => pod.own.get(place).copied().unwrap_or_default(),
            });
        }
        all
    }
}
