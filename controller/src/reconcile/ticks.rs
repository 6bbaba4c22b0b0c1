//! The last ticks as status keeps them, so that what a verdict rests on can be drawn, also after a restart. Pure; nothing is
//! decided by them.

use serin_core::analysis::{ArmSample, Counts};
use serin_core::rollout::{Observation, Phase, Plan, Run, looked_at};

use crate::api::{SampleStatus, SamplesStatus, TickStatus};

/// Ticks that status remembers.
const KEPT: usize = 60;

/// The last ticks after a decision that led from one phase to another.
pub(super) fn after(
    kept: Option<&SamplesStatus>,
    plan: &Plan,
    (before, after): (&Phase, &Phase),
    observation: &Observation,
) -> Option<SamplesStatus> {
    let began = |run: &Run| (run.revision.clone(), run.began);
    let Some(run) = after.run() else {
        // What led to the end stays to be read.
        return kept.filter(|_| !matches!(after, Phase::Idle(_))).cloned();
    };
    let goes_on = before.run().map(began) == Some(began(run));
    let mut samples = SamplesStatus {
        bounds_ms: run.analysis.bounds_ms().into_iter().map(number).collect(),
        ticks: kept
            .filter(|_| goes_on)
            .map_or_else(Vec::new, |kept| kept.ticks.clone()),
    };
    for (tick, judged) in looked_at(plan, before, after, &observation.ticks) {
        samples.ticks.push(TickStatus {
            end: tick.end,
            weight: observation.weight.canary().percent().into(),
            left_out: !judged,
            canary: sample(&tick.canary),
            stable: sample(&tick.stable),
        });
    }
    let too_many = samples.ticks.len().saturating_sub(KEPT);
    samples.ticks.drain(..too_many);
    (!samples.ticks.is_empty()).then_some(samples)
}

fn sample(arm: &ArmSample) -> SampleStatus {
    let Counts {
        requests,
        failures,
        slow,
    } = &arm.counts;
    SampleStatus {
        requests: number(*requests),
        failures: number(*failures),
        slow: slow.iter().copied().map(number).collect(),
    }
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "ticks_tests.rs"]
mod tests;
