//! Metrics of the user's own in the past: what to ask for them, and how that goes into a recording. Must not know how it is
//! replayed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail};
use jiff::{SignedDuration, Timestamp};
use serin_core::analysis::sequential::{Role, Tally};
use serin_core::analysis::{Counts, CustomMetric, Reading};
use serin_core::rollout::replay::{PodRecord, PodRecords, RecordedMetric, RecordingDraft};

use crate::api::{CanaryRollout, Parsed};
use crate::prometheus::{OwnTick, Prometheus, Target, ticks_between};
use crate::reconcile::own::targets;

pub(super) use crate::reconcile::own::Revisions;

/// What is asked for.
pub(super) struct Wanted<'a> {
    pub(super) prometheus: &'a Prometheus,
    /// The arms of the stretch.
    pub(super) target: &'a Target,
    /// The spec, with the Deployments of the stretch.
    pub(super) rollout: &'a CanaryRollout,
    pub(super) parsed: &'a Parsed,
    pub(super) revisions: Revisions,
}

/// Adds the spec's own metrics to a recording. One that is reported only is left out if it can't be read.
///
/// # Errors
/// No answer, and a metric that has a say and does not give what it should: its rollout would not start, or pause.
pub(super) async fn add(wanted: &Wanted<'_>, draft: &mut RecordingDraft) -> anyhow::Result<()> {
    let metrics = &wanted.parsed.plan.objectives.custom;
    if metrics.is_empty() {
        return Ok(());
    }
    let (interval, earlier) = (draft.interval, draft.stable_earlier);
    let since = draft.from.checked_sub(wanted.parsed.baseline);
    let since = since.unwrap_or(Timestamp::UNIX_EPOCH);
    let ask = async |began: Timestamp, from: Timestamp, to: Timestamp| {
        let target = Target {
            custom: targets(wanted.rollout, wanted.parsed, metrics, &wanted.revisions),
            began,
            ..wanted.target.clone()
        };
        let ticks = ticks_between(from, to, interval, SignedDuration::ZERO);
        let asked = wanted.prometheus.own_history(&target, &ticks).await;
        asked.context("reading the past of spec.analysis.metrics")
    };
    let shifted = |at: Timestamp| at.checked_sub(earlier).unwrap_or(Timestamp::MIN);
    let mut canary = ask(draft.from, since, draft.to).await?;
    canary.retain(|end, _| *end > draft.from || earlier.is_zero());
    let stable = if earlier.is_zero() {
        canary.clone()
    } else {
        ask(shifted(draft.from), shifted(since), shifted(draft.to)).await?
    };
    let left_out = unreadable(metrics, canary.values().chain(stable.values()))?;
    let kept = |metric: &&CustomMetric| !left_out.contains(metric.name.as_str());
    draft.metrics = metrics.iter().filter(kept).map(RecordedMetric::of).collect();
    let places = Places::of(metrics, |metric| kept(&metric));
    for (end, tick) in stable {
        let end = end.checked_add(earlier).unwrap_or(Timestamp::MAX);
        places.add_stable(draft, end, &tick);
    }
    for (end, tick) in canary {
        if end > draft.from {
            places.add_canary(draft, end, &tick);
        }
    }
    Ok(())
}

/// The names of the metrics that can't be read and have no say.
fn unreadable<'m, 't>(
    metrics: &'m [CustomMetric],
    ticks: impl Iterator<Item = &'t OwnTick>,
) -> anyhow::Result<BTreeSet<&'m str>> {
    let mut left_out = BTreeSet::new();
    for wrong in ticks.flat_map(|tick| &tick.unusable) {
        let Some(metric) = metrics.get(wrong.metric) else {
            continue;
        };
        if metric.role != Role::DryRun {
            bail!("{}: {}; a rollout would not start with it", wrong.field, wrong.problem);
        }
        left_out.insert(metric.name.as_str());
    }
    Ok(left_out)
}

/// Which of the metrics that were asked for are kept, each in the list of its kind.
struct Places {
    counts: Vec<usize>,
    values: Vec<usize>,
}

impl Places {
    fn of(metrics: &[CustomMetric], kept: impl Fn(&CustomMetric) -> bool) -> Self {
        let of_kind = |is_counts: bool| {
            let alike = metrics.iter().filter(|metric| metric.counts().is_some() == is_counts);
            alike
                .enumerate()
                .filter(|(_, metric)| kept(metric))
                .map(|(place, _)| place)
                .collect()
        };
        Self {
            counts: of_kind(true),
            values: of_kind(false),
        }
    }

    fn add_canary(&self, draft: &mut RecordingDraft, end: Timestamp, tick: &OwnTick) {
        let bounds = draft.bounds_ms.len();
        let recorded = draft.ticks.entry(end).or_default();
        self.counts(&mut recorded.canary, &tick.canary, bounds);
        let values = self.values(&mut recorded.values);
        for (slot, reading) in values.zip(self.readings(tick)) {
            slot.canary = reading.canary;
        }
    }

    fn add_stable(&self, draft: &mut RecordingDraft, end: Timestamp, tick: &OwnTick) {
        let bounds = draft.bounds_ms.len();
        let in_trial = end > draft.from;
        let recorded = draft.ticks.entry(end).or_default();
        self.counts(&mut recorded.stable, &tick.stable, bounds);
        if in_trial {
            let values = self.values(&mut recorded.values);
            for (slot, reading) in values.zip(self.readings(tick)) {
                slot.stable = reading.stable;
            }
        }
    }

    fn values<'v>(&self, values: &'v mut Vec<Reading>) -> impl Iterator<Item = &'v mut Reading> {
        values.resize(self.values.len(), Reading::default());
        values.iter_mut()
    }

    fn readings<'t>(&self, tick: &'t OwnTick) -> impl Iterator<Item = Reading> + use<'_, 't> {
        let of = |place: &usize| tick.values.get(*place).copied().unwrap_or_default();
        self.values.iter().map(of)
    }

    fn counts(&self, pods: &mut PodRecords, counted: &[BTreeMap<String, Tally>], bounds: usize) {
        for (place, asked) in self.counts.iter().enumerate() {
            let by_pod = counted.get(*asked).into_iter().flatten();
            for (name, tally) in by_pod.filter(|(_, tally)| **tally != Tally::default()) {
                // Some exporters' pods are no pods of the mesh.
                let pod = pods.entry(name.clone()).or_insert_with(|| PodRecord {
                    counts: Counts {
                        slow: vec![0; bounds],
                        ..Counts::default()
                    },
                    ..PodRecord::default()
                });
                pod.own.resize(place, Tally::default());
                pod.own.push(*tally);
            }
        }
    }
}

#[cfg(test)]
#[path = "own_tests.rs"]
mod tests;
