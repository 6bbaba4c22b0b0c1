//! One count metric: what it is compared with, and the processes of each comparison. Must not know other metrics.

use serde::{Deserialize, Serialize};

use super::fail::FailRules;
use super::{Arms, FailProcess, InvalidNumber, Null, PassProcess, Tally, exact, interval, ln_threshold};

/// The level of stable's upper bound when it stands for stable's rate; small beside α, as its errors come on top.
const REFERENCE_LEVEL: f64 = 0.001;

/// What failing and passing are measured against.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// "The canary is no worse than this": refuted, it fails.
    pub fail: Null,
    /// "The canary is at least as bad as this": refuted, it passes.
    pub pass: Null,
}

/// Whether a metric has a say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Fails and passes.
    #[default]
    Judged,
    /// Can fail and can keep a step from passing, but does not pass one by itself: latency, where fast errors look good.
    Supporting,
    /// Is reported only.
    DryRun,
}

/// One count metric as it is set up; frozen for one start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricSpec {
    /// Its name, such as `success-rate`.
    pub name: String,
    /// What bad calls did, for sentences: `failed`, `took longer than 500 ms`.
    pub verb: String,
    /// Against stable.
    pub relative: Option<Comparison>,
    /// Against an objective of its own.
    pub absolute: Option<Comparison>,
    /// Whether it has a say.
    pub role: Role,
    /// Its part in the combined evidence, as a ratio to the other metrics' weights; above 0.
    pub weight: f64,
}

/// Both processes of one comparison.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Strand {
    pub(crate) fail: FailProcess,
    pub(crate) pass: PassProcess,
}

/// The memory of one metric.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MetricState {
    /// φ, frozen at the start, at least 1.
    #[serde(with = "exact::one")]
    phi: f64,
    #[serde(rename = "rel", default, skip_serializing_if = "Option::is_none")]
    pub(crate) relative: Option<Strand>,
    #[serde(rename = "abs", default, skip_serializing_if = "Option::is_none")]
    pub(crate) absolute: Option<Strand>,
    /// Stable against the objective's null: whether it breaks it as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    guard: Option<FailProcess>,
    /// Stable's frozen rate, while it has too few calls to be compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reference: Option<Frozen>,
    /// Whether the objective was set aside at the last tick, as stable breaks it as well.
    #[serde(default)]
    pub(crate) held: bool,
    /// Counted in this step.
    pub(crate) step: Arms,
    /// Counted since the start.
    pub(crate) whole: Arms,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Frozen(#[serde(with = "exact::one")] f64);

/// A metric by itself, with all that it takes to test it.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricTest<'a> {
    /// How it is set up.
    pub spec: &'a MetricSpec,
    /// α and the number of planned steps.
    pub alpha: f64,
    /// The bound on false passes.
    pub beta: f64,
    /// Steps of the rollout, at least 1.
    pub planned_steps: u32,
}

impl Comparison {
    /// Against θ times stable's rate, with the margins for failing and passing (shares of calls).
    pub fn against_stable(theta: f64, fail_delta: f64, pass_delta: f64) -> Result<Self, InvalidNumber> {
        Ok(Self {
            fail: Null::relative(theta, fail_delta)?,
            pass: Null::relative(theta, pass_delta)?,
        })
    }

    /// Against an objective: the largest share of bad calls that it allows.
    pub fn objective(allowed: f64) -> Result<Self, InvalidNumber> {
        let null = Null::absolute(allowed)?;
        Ok(Self { fail: null, pass: null })
    }

    fn frozen_at(&self, stable: f64) -> Self {
        Self {
            fail: self.fail.frozen_at(stable),
            pass: self.pass.frozen_at(stable),
        }
    }
}

impl MetricState {
    /// The memory of a metric that has seen nothing. `phi` as estimated before the start; `baseline`: stable's calls
    /// then, which stand for stable if the first step already leaves it too few.
    pub fn start(spec: &MetricSpec, phi: f64, baseline: Tally) -> Self {
        Self {
            phi: if phi.is_finite() { phi.max(1.0) } else { 1.0 },
            relative: spec.relative.map(|_| Strand::default()),
            absolute: spec.absolute.map(|_| Strand::default()),
            guard: spec.absolute.map(|_| FailProcess::default()),
            step: Arms {
                stable: baseline,
                ..Arms::default()
            },
            ..Self::default()
        }
    }

    /// φ, at least 1.
    pub fn phi(&self) -> f64 {
        self.phi.max(1.0)
    }

    /// The rate that stands for stable's, if it is frozen.
    pub fn reference(&self) -> Option<f64> {
        self.reference.map(|frozen| frozen.0)
    }

    /// What ln M of none of its comparisons can exceed.
    pub(crate) fn ln_m_at_most(&self) -> f64 {
        let strands = self.relative.iter().chain(&self.absolute);
        strands.map(|strand| strand.fail.ln_m_at_most()).fold(0.0, f64::max)
    }

    /// Begins a step: passing starts anew. With `scarce`, stable gets too few calls in it to be compared with, and the
    /// upper bound of its rate in the last step where it had enough stands for it.
    pub(crate) fn begin_step(&mut self, scarce: bool) {
        if !scarce {
            self.reference = None;
        } else if self.reference.is_none() && self.step.stable.total > 0 {
            self.reference = Some(Frozen(
                interval::rate(self.step.stable, self.phi(), REFERENCE_LEVEL).high,
            ));
        }
        self.step = Arms::default();
        for strand in self.relative.iter_mut().chain(self.absolute.iter_mut()) {
            strand.pass = PassProcess::default();
        }
    }
}

impl MetricTest<'_> {
    /// One tick's counts in the step (from 0). Allocates nothing.
    pub fn observe(&self, state: &mut MetricState, arms: &Arms, step: u32) {
        state.step.add(arms);
        state.whole.add(arms);
        let phi = state.phi();
        let rules = FailRules::capped(self.alpha, self.planned_steps, phi);
        if let (Some(comparison), Some(strand)) = (self.spec.relative, &mut state.relative) {
            let comparison = match state.reference {
                Some(Frozen(stable)) => comparison.frozen_at(stable),
                None => comparison,
            };
            strand.tick(arms, &comparison, step, &rules);
        }
        let (Some(comparison), Some(strand)) = (self.spec.absolute, &mut state.absolute) else {
            return;
        };
        strand.tick(arms, &comparison, step, &rules);
        let Some(guard) = &mut state.guard else {
            return;
        };
        // Stable in the canary's place. Uncapped, so that it is seen no later than on the canary; limited above, so that
        // it is over soon after stable has recovered.
        let stable = Arms {
            canary: arms.stable,
            stable: Tally::default(),
        };
        let level = ln_threshold(self.beta);
        guard.tick(&stable, comparison.fail, step, &FailRules { ln_cap: None, ..rules });
        guard.lower_to(level + 2.0);
        let crosses = strand.fail.reaches(ln_threshold(self.alpha), self.planned_steps);
        let as_bad = state.whole.stable.rate() > comparison.fail.delta();
        state.held = guard.reaches(level, self.planned_steps) || (crosses && as_bad);
        if state.held {
            strand.fail.forget();
        }
    }

    /// Whether this step's calls are above what the objective allows, at the level β.
    pub(crate) fn breaks_objective(&self, state: &MetricState) -> bool {
        self.spec.absolute.is_some_and(|comparison| {
            interval::rate(state.step.canary, state.phi(), self.beta).low > comparison.fail.delta()
        })
    }

    /// Whether each comparison of the metric is passed.
    pub(crate) fn passes(&self, state: &MetricState) -> bool {
        let level = ln_threshold(self.beta);
        let mut strands = state.relative.iter().chain(&state.absolute).peekable();
        strands.peek().is_some() && strands.all(|strand| strand.pass.reaches(level))
    }

    /// The FAIL evidence of each comparison, with its weight; of both comparisons each has half of the metric's.
    pub(crate) fn fail_terms<'s>(&self, state: &'s MetricState) -> impl Iterator<Item = (f64, f64)> + Clone + use<'s> {
        let (weight, planned) = (self.spec.weight, self.planned_steps);
        let both = state.relative.is_some() && state.absolute.is_some();
        let weight = if both { weight / 2.0 } else { weight };
        let strands = state.relative.iter().chain(&state.absolute);
        strands.map(move |strand| (weight, strand.fail.ln_m(planned)))
    }
}

impl Strand {
    fn tick(&mut self, arms: &Arms, comparison: &Comparison, step: u32, rules: &FailRules) {
        self.fail.tick(arms, comparison.fail, step, rules);
        self.pass.tick(arms, comparison.pass, rules.phi);
    }
}
