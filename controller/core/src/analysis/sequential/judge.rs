//! All metrics of a rollout, and what they say together. Must not know the time, a minimum hold, or what is done about
//! a decision.

use serde::{Deserialize, Serialize};

use super::clock::LARGEST_MASS;
use super::fail::combine;
use super::{Arms, InvalidNumber, LEAST_STABLE_SHARE, MetricSpec, MetricState, MetricTest, Role, Tally, ln_threshold};

/// What is tested, frozen for one start. Only [`TestSpec::new`] makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct TestSpec {
    alpha: f64,
    beta: f64,
    planned_steps: u32,
    metrics: Vec<MetricSpec>,
}

/// The step that begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepInfo {
    /// Its position in the plan, from 0.
    pub index: u32,
    /// Stable's share of the calls while it lasts, 0 to 1.
    pub stable_share: f64,
}

/// The memory of the test: all that status has to keep of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TestState {
    step: u32,
    /// The metric that failed, by its position: a failure is final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failed: Option<usize>,
    metrics: Vec<MetricState>,
}

/// What the counts say so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// Every judged metric is proven to be within its margins, on this step's counts.
    Pass,
    /// The canary is worse than it may be; the metric at this position is the reason.
    Fail(usize),
    /// Stable breaks the objective of the metric at this position as well: nobody is to blame, and nothing goes on.
    Hold(usize),
    /// Nothing is proven.
    Inconclusive,
}

impl TestSpec {
    /// `alpha` and `beta` above 0 and up to 0.5; `planned_steps` at least 1; weights above 0.
    pub fn new(alpha: f64, beta: f64, planned_steps: u32, metrics: Vec<MetricSpec>) -> Result<Self, InvalidNumber> {
        for level in [alpha, beta] {
            if !(level > 0.0 && level <= 0.5) {
                return Err(InvalidNumber::Level(level));
            }
        }
        if planned_steps == 0 {
            return Err(InvalidNumber::Steps);
        }
        let bad = metrics.iter().find(|m| !(m.weight > 0.0 && m.weight.is_finite()));
        if let Some(metric) = bad {
            return Err(InvalidNumber::Weight(metric.weight));
        }
        Ok(Self {
            alpha,
            beta,
            planned_steps,
            metrics,
        })
    }

    /// The bound on false rollbacks of one start.
    pub fn alpha(&self) -> f64 {
        self.alpha
    }

    /// The bound on false passes of one step.
    pub fn beta(&self) -> f64 {
        self.beta
    }

    /// The metrics, in the order in which ticks bring their counts.
    pub fn metrics(&self) -> &[MetricSpec] {
        &self.metrics
    }

    pub(crate) fn tests(&self) -> impl Iterator<Item = MetricTest<'_>> + Clone {
        self.metrics.iter().map(|spec| MetricTest {
            spec,
            alpha: self.alpha,
            beta: self.beta,
            planned_steps: self.planned_steps,
        })
    }
}

impl TestState {
    /// The memory of a test that has seen nothing. For each metric in order: φ, and stable's calls before the start;
    /// what is missing is 1, and none.
    pub fn start(spec: &TestSpec, frozen: &[(f64, Tally)]) -> Self {
        let frozen = frozen.iter().copied().chain(std::iter::repeat((1.0, Tally::default())));
        let metrics = spec.metrics.iter().zip(frozen);
        Self {
            metrics: metrics
                .map(|(metric, (phi, baseline))| MetricState::start(metric, phi, baseline))
                .collect(),
            ..Self::default()
        }
    }

    /// Begins a step, also one that is entered again: what passes it has to be proven anew.
    pub fn begin_step(&mut self, step: StepInfo) {
        self.step = step.index;
        for metric in &mut self.metrics {
            metric.begin_step(step.stable_share < LEAST_STABLE_SHARE);
        }
    }

    /// One tick's counts of each metric, in order; a metric without counts is not advanced. Allocates nothing.
    ///
    /// Ticks that straddle a change of weight, and the warm-up, are not to be given at all.
    pub fn observe(&mut self, spec: &TestSpec, counts: impl IntoIterator<Item = Arms>) -> Decision {
        for ((test, state), arms) in spec.tests().zip(&mut self.metrics).zip(counts) {
            test.observe(state, &arms, self.step);
        }
        if self.failed.is_none() {
            self.failed = self.crossing(spec);
        }
        self.decision(spec)
    }

    /// What the counts say. A failure stays one; a pass is one only while the evidence is there.
    pub fn decision(&self, spec: &TestSpec) -> Decision {
        if let Some(metric) = self.failed {
            return Decision::Fail(metric);
        }
        if let Some((metric, _)) = self.judged(spec).find(|(_, (_, state))| state.held) {
            return Decision::Hold(metric);
        }
        let mut judged = self.judged(spec);
        let proves = judged.clone().any(|(_, (test, _))| test.spec.role == Role::Judged);
        if proves && judged.all(|(_, (test, state))| test.passes(state)) {
            Decision::Pass
        } else {
            Decision::Inconclusive
        }
    }

    /// ln M over all metrics that have a say; 0 if there is none. FAIL is at ln(1/α).
    pub fn ln_m(&self, spec: &TestSpec) -> f64 {
        combine(self.terms(spec).map(|(_, term)| term)).map_or(0.0, |combined| combined.ln_m)
    }

    /// Whether something speaks against the canary: M has come half of the way to FAIL (in the logarithm; 10 at α = 1 %),
    /// which a good canary sees with probability √α at most; or this step's own calls break an objective (β at most): late
    /// in a start one tick can add so little to M that it would not show. An unproven step should not advance then.
    pub fn is_suspect(&self, spec: &TestSpec) -> bool {
        self.failed.is_some()
            || self.ln_m(spec) >= ln_threshold(spec.alpha) / 2.0
            || self.judged(spec).any(|(_, (test, state))| test.breaks_objective(state))
    }

    /// Whether the next tick could bring FAIL; if not, whatever is in it, its verdict can wait a little.
    ///
    /// A tick multiplies what is gathered, and the mass π of regressions that begin with it, by C = 1/(2α) at most, and what is left
    /// of M's first 1 by nothing: so M + π + 2α must be 2 for 1/α to be reached.
    pub fn may_fail_next(&self, spec: &TestSpec) -> bool {
        self.failed.is_some() || self.ln_m(spec).exp() >= 2.0 - LARGEST_MASS - 2.0 * spec.alpha
    }

    pub(crate) fn states(&self) -> &[MetricState] {
        &self.metrics
    }

    fn crossing(&self, spec: &TestSpec) -> Option<usize> {
        // The mean of all is no more than the largest.
        let level = ln_threshold(spec.alpha);
        if !self.judged(spec).any(|(_, (_, state))| state.ln_m_at_most() >= level) {
            return None;
        }
        let combined = combine(self.terms(spec).map(|(_, term)| term))?;
        if combined.ln_m < level {
            return None;
        }
        self.terms(spec).nth(combined.leading).map(|(metric, _)| metric)
    }

    fn judged<'a>(
        &'a self,
        spec: &'a TestSpec,
    ) -> impl Iterator<Item = (usize, (MetricTest<'a>, &'a MetricState))> + Clone {
        let all = spec.tests().zip(&self.metrics).enumerate();
        all.filter(|(_, (test, _))| test.spec.role != Role::DryRun)
    }

    /// Per comparison: the metric's position, and its weight and ln M.
    fn terms<'a>(&'a self, spec: &'a TestSpec) -> impl Iterator<Item = (usize, (f64, f64))> + Clone {
        self.judged(spec)
            .flat_map(|(metric, (test, state))| test.fail_terms(state).map(move |term| (metric, term)))
    }
}
