//! The evidence behind a decision, as numbers and as a sentence. Must not know how it is shown.

use serde::{Deserialize, Serialize};

use super::fail::combine;
use super::{
    Arms, Decision, Interval, MetricState, MetricTest, Role, TestSpec, TestState, interval, ln_threshold, sentence,
};

/// What all metrics say together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The decision.
    pub decision: Decision,
    /// ln M over all metrics that have a say.
    pub ln_m: f64,
    /// FAIL is at this ln M: ln(1/α).
    pub ln_fail_threshold: f64,
    /// A comparison passes at this ln L: ln(1/β).
    pub ln_pass_threshold: f64,
    /// Whether something speaks against the canary ([`TestState::is_suspect`]).
    pub suspect: bool,
    /// Each metric: the deciding one first, the others in their order.
    pub metrics: Vec<MetricEvidence>,
}

/// What one metric says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricEvidence {
    /// Its name.
    pub metric: String,
    /// Whether it has a say.
    pub role: Role,
    /// Its part of the combined evidence, 0 to 1: what its M counts for. 1 for a dry run, as if it were alone.
    pub share: f64,
    /// Counted in this step.
    pub step: Arms,
    /// Counted since the start.
    pub whole: Arms,
    /// The canary's rate since the start, 0 to 1.
    pub canary_rate: f64,
    /// Its always-valid interval at the level α.
    pub canary_interval: Interval,
    /// Stable's rate since the start, 0 to 1.
    pub stable_rate: f64,
    /// Its always-valid interval at the level α.
    pub stable_interval: Interval,
    /// φ: how much failures come in clusters, at least 1.
    pub phi: f64,
    /// Stable's frozen rate, if it stands for stable: 0 to 1.
    pub reference: Option<f64>,
    /// Against stable.
    pub relative: Option<StrandEvidence>,
    /// Against the objective.
    pub absolute: Option<StrandEvidence>,
    /// Whether it passes this step.
    pub passes: bool,
    /// Whether its objective is set aside, as stable breaks it as well.
    pub held: bool,
    /// A sentence that a person understands.
    pub sentence: String,
}

/// What one comparison says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StrandEvidence {
    /// ln M: towards FAIL, since the start.
    pub ln_fail: f64,
    /// ln L: towards PASS, in this step.
    pub ln_pass: f64,
}

impl TestState {
    /// The evidence. Allocates: for status and people, not for the hot path.
    pub fn report(&self, spec: &TestSpec) -> Report {
        let (decision, ln_m) = (self.decision(spec), self.ln_m(spec));
        let judged = spec.metrics().iter().filter(|metric| metric.role != Role::DryRun);
        let weights: f64 = judged.map(|metric| metric.weight).sum();
        let evidence = |(position, (test, state)): (usize, (MetricTest<'_>, &MetricState))| {
            let share = match test.spec.role {
                Role::DryRun => 1.0,
                Role::Judged | Role::Supporting => test.spec.weight / weights,
            };
            // The reason for a failure speaks for all of the evidence; any other metric for its own part.
            let ln_against = match decision {
                Decision::Fail(deciding) if deciding == position => ln_m,
                _ => combine(test.fail_terms(state)).map_or(0.0, |own| own.ln_m) + share.ln(),
            };
            MetricEvidence::of(&test, state, share, ln_against)
        };
        let mut metrics: Vec<_> = spec.tests().zip(self.states()).enumerate().map(evidence).collect();
        if let Decision::Fail(deciding) | Decision::Hold(deciding) = decision
            && let Some(front) = metrics.get_mut(..=deciding)
        {
            front.rotate_right(1);
        }
        Report {
            decision,
            ln_m,
            ln_fail_threshold: ln_threshold(spec.alpha()),
            ln_pass_threshold: ln_threshold(spec.beta()),
            suspect: self.is_suspect(spec),
            metrics,
        }
    }
}

impl MetricEvidence {
    fn of(test: &MetricTest<'_>, state: &MetricState, share: f64, ln_against: f64) -> Self {
        let (canary, stable, phi) = (state.whole.canary, state.whole.stable, state.phi());
        let strand = |strand: &super::metric::Strand| StrandEvidence {
            ln_fail: strand.fail.ln_m(test.planned_steps),
            ln_pass: strand.pass.ln_l(),
        };
        Self {
            metric: test.spec.name.clone(),
            role: test.spec.role,
            share,
            step: state.step,
            whole: state.whole,
            canary_rate: canary.rate(),
            canary_interval: interval::rate(canary, phi, test.alpha),
            stable_rate: stable.rate(),
            stable_interval: interval::rate(stable, phi, test.alpha),
            phi,
            reference: state.reference(),
            relative: state.relative.as_ref().map(strand),
            absolute: state.absolute.as_ref().map(strand),
            passes: test.passes(state),
            held: state.held,
            sentence: sentence::of(test, state, ln_against),
        }
    }
}
