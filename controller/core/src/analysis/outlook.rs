//! What is still needed for a pass, if the canary is as good as stable. Knows the analysis's counts; not the plan, and not how
//! much traffic there is to come.

use super::judgement::Analysis;
use super::sequential::forecast::Towards;
use super::sequential::{
    Comparison, Forecast, LEAST_STABLE_SHARE, MetricEvidence, Null, Report, Role, Tally, TestSpec, interval,
};

/// The level of stable's upper bound where it stands for stable.
const REFERENCE_LEVEL: f64 = 0.001;

/// Calls on the judged arm that a step's pass takes, about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// So many.
    Calls(u64),
    /// No number of calls would do: as good as stable is not good enough, or a metric is never counted.
    Never,
    /// Nothing is known of stable.
    Unknown,
}

/// What a trial has come to, from which the needs of its steps are told.
#[derive(Debug, Clone)]
pub struct Prospects {
    spec: TestSpec,
    report: Report,
    /// For each metric: φ, and stable's calls before the trial.
    frozen: Vec<(f64, Tally)>,
}

impl Prospects {
    /// Calls that a step takes in which the other arm gets `other_share` of all, 0 to 1. With `under_way` it is the present
    /// step, and what it has proven so far is taken off.
    pub fn need(&self, other_share: f64, under_way: bool) -> Need {
        let Self { spec, report, frozen } = self;
        let mut most = 0.0f64;
        let mut calls_of_stable = None;
        for (metric, (phi, before)) in spec.metrics().iter().zip(frozen) {
            let Some(evidence) = report.metrics.iter().find(|one| one.metric == metric.name) else {
                continue;
            };
            let mut stable = *before;
            stable.add(&evidence.whole.stable);
            // The first metric counts all calls; a metric of the user's own may count fewer things than there are calls.
            let calls = *calls_of_stable.get_or_insert(stable.total);
            if calls == 0 {
                return Need::Unknown;
            }
            if metric.role == Role::DryRun {
                continue;
            }
            if stable.total == 0 {
                return Need::Never;
            }
            let comparisons = [
                (metric.relative, evidence.relative.map(|strand| strand.ln_pass)),
                (metric.absolute, evidence.absolute.map(|strand| strand.ln_pass)),
            ];
            for (comparison, ln_pass) in comparisons {
                let Some(comparison) = comparison else { continue };
                let null = null(&comparison, evidence, stable, other_share, *phi);
                let share = 1.0 - other_share;
                let Some(forecast) =
                    Forecast::new(Towards::Pass, null, stable.rate(), stable.rate(), share, spec.beta())
                else {
                    return Need::Never;
                };
                let left = match ln_pass {
                    Some(ln) if under_way => (1.0 - ln / report.ln_pass_threshold).max(0.0),
                    _ => 1.0,
                };
                let each = super::sequential::real(stable.total.min(calls)) / super::sequential::real(calls);
                // Evidence is divided by φ, so that it takes as many times the calls.
                most = most.max(forecast.requests * left * phi / each);
            }
        }
        Need::Calls(whole(most))
    }
}

impl Analysis {
    /// What the trial has come to. Not for the hot path.
    pub fn prospects(&self) -> Prospects {
        let spec = self.spec();
        Prospects {
            report: self.test.report(spec),
            spec: spec.clone(),
            frozen: self.frozen.metrics(),
        }
    }

    /// Calls a second of both arms: in this step, or before the trial while the step has none.
    pub fn traffic(&self) -> Option<f64> {
        let per_second = |calls: u64, ms: u64| (calls > 0 && ms > 0).then(|| rate(calls, ms));
        per_second(self.step_calls, self.step_ms).or_else(|| {
            let (_, stable) = self.frozen.metrics().into_iter().next()?;
            per_second(stable.total, self.frozen.ms)
        })
    }
}

/// The null that a step passes against.
fn null(comparison: &Comparison, evidence: &MetricEvidence, stable: Tally, other_share: f64, phi: f64) -> Null {
    if comparison.pass.theta() > 0.0 && other_share < LEAST_STABLE_SHARE {
        let bound = || interval::rate(stable, phi, REFERENCE_LEVEL).high;
        comparison.pass.frozen_at(evidence.reference.unwrap_or_else(bound))
    } else {
        comparison.pass
    }
}

fn rate(calls: u64, ms: u64) -> f64 {
    1_000.0 * super::sequential::real(calls) / super::sequential::real(ms)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "limited to what fits, and at least 0"
)]
fn whole(calls: f64) -> u64 {
    calls.ceil().clamp(0.0, 1e15) as u64
}
