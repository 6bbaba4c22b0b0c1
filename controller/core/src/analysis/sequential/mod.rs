//! Sequential tests on counts: verdicts that may be looked at after every tick, with one bound on false alarms over
//! the whole rollout. Must not know where counts come from, what time it is, or what is done about a verdict.
//!
//! # Expected flow
//! A [`TestSpec`] is frozen when the rollout starts, and a [`TestState`] begins with it. [`TestState::begin_step`] for
//! each step, [`TestState::observe`] for each tick; [`TestState::decision`] and [`TestState::report`] at any time.
//!
//! # Guarantees
//! - **False rollbacks**: with a canary within its margins the probability that [`Decision::Fail`] is ever said is at
//!   most α, however often one looks, whatever the traffic, its split and stable's rate do ([`fail`]).
//! - **False passes**: per step and metric at most β ([`pass`]).
//! - **Exact continuation**: a state that went through JSON goes on to the very same bits.
//! - No panic, no NaN and no infinity for counts up to 10¹²; no allocation in `observe`.
//!
//! # Assumptions
//! Calls of one tick are independent given the arm's rate; clusters of failures are allowed for by the φ of [`burst`].
//! Margins, bursts and bounds are frozen before the first tick: chosen while the test runs they void it.
//!
//! # Units
//! Rates and margins are shares, 0 to 1. Evidence is a natural logarithm. Levels (α, β) are probabilities.

pub mod bounds;
pub mod burst;
mod clock;
pub mod evalue;
mod evidence;
pub(crate) mod exact;
pub mod fail;
pub mod forecast;
pub mod interval;
mod judge;
mod logspace;
mod metric;
pub mod pass;
mod sentence;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use bounds::FrozenBound;
pub use burst::BurstEstimate;
pub use clock::Onset;
pub use evalue::{Bet, Null};
pub use evidence::{MetricEvidence, Report, StrandEvidence};
pub use fail::FailProcess;
pub use forecast::Forecast;
pub use interval::Interval;
pub use judge::{Decision, StepInfo, TestSpec, TestState};
pub use metric::{Comparison, MetricSpec, MetricState, MetricTest, Role};
pub use pass::PassProcess;
pub use sentence::grouped;
pub(crate) use sentence::percent;

/// The α of one start: the bound on false rollbacks, a probability.
pub const DEFAULT_ALPHA: f64 = 0.01;
/// The β of one step: the bound on false passes, a probability.
pub const DEFAULT_BETA: f64 = 0.05;
/// How much worse than stable a canary may be before that can fail it, as a share of calls.
pub const DEFAULT_FAIL_DELTA: f64 = 0.002;
/// How much worse than stable a canary must be proven not to be before it passes, as a share of calls.
pub const DEFAULT_PASS_DELTA: f64 = 0.005;
/// Stable's least share of the calls for it to be the reference while the step runs.
pub const LEAST_STABLE_SHARE: f64 = 0.10;

/// Calls of one arm, and the bad ones among them.
///
/// `bad` above `total` is read as `total`: two counters scraped at different instants can be a call apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// All calls. Exact arithmetic is promised up to 10¹².
    pub total: u64,
    /// Failed, too slow, or whatever the metric counts against the arm.
    pub bad: u64,
}

/// What both arms did in one stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Arms {
    /// The revision that is judged.
    pub canary: Tally,
    /// What it is compared with.
    pub stable: Tally,
}

/// A number that makes no test: which one, and what would do.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum InvalidNumber {
    /// θ of a comparison.
    #[error("theta must be from 0.001 to 1000, not {0}")]
    Theta(f64),
    /// δ of a comparison, or the share that an objective allows.
    #[error("a margin must be from 0 to 1, not {0}")]
    Delta(f64),
    /// ρ of a bet.
    #[error("a bet must be from 0.000001 to 1000000, not {0}")]
    Bet(f64),
    /// α or β.
    #[error("a level must be above 0 and at most 0.5, not {0}")]
    Level(f64),
    /// A metric's weight.
    #[error("a metric's weight must be above 0 and finite, not {0}")]
    Weight(f64),
    /// A rollout of no steps.
    #[error("a test needs at least one step")]
    Steps,
}

impl Tally {
    /// `bad` of `total` calls.
    pub fn new(bad: u64, total: u64) -> Self {
        Self { total, bad }
    }

    /// The share of bad calls, 0 to 1; 0 without calls.
    pub fn rate(&self) -> f64 {
        if self.total == 0 {
            0.0
        } else {
            real(self.bad.min(self.total)) / real(self.total)
        }
    }

    /// Adds the other's calls; stays at the largest number there is.
    pub fn add(&mut self, other: &Self) {
        self.total = self.total.saturating_add(other.total);
        self.bad = self.bad.saturating_add(other.bad);
    }
}

impl Arms {
    /// Adds the other's calls to both arms.
    pub fn add(&mut self, other: &Self) {
        self.canary.add(&other.canary);
        self.stable.add(&other.stable);
    }
}

/// A level as the natural logarithm of the evidence that it asks for: ln(1/level).
pub fn ln_threshold(level: f64) -> f64 {
    -level.ln()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact up to 2^53, and within 2^-53 of any larger count"
)]
pub(crate) fn real(count: u64) -> f64 {
    count as f64
}
