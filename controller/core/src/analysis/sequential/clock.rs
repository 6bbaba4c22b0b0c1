//! When a regression may have begun: the onset mixture π, tick by tick. Must not know any counts.
//!
//! ½ at tick 1; 0.2/(S−1) at the first tick of each later step (a rollout of one step has this 0.2 at tick 1 too); and
//! at each tick t ≥ 1 the mass 0.3·[1/(1+ln t) − 1/(1+ln(t+1))], which never runs out. What is left is a closed form,
//! so that no rounding adds up. After the idea of e-detectors (Shin, Ramdas and Rinaldo, arXiv 2203.03532).

use serde::{Deserialize, Serialize};

use super::real;

const AT_START: f64 = 0.5;
const AT_STEPS: f64 = 0.2;
const AT_ANY_TICK: f64 = 0.3;
/// No tick has more: the first one of a single step has ½, 0.2 and 0.3·(1 − 1/(1+ln 2)).
pub(super) const LARGEST_MASS: f64 = 0.83;

/// How far the onset mixture has been spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Onset {
    /// Ticks seen.
    #[serde(rename = "t")]
    ticks: u64,
    /// The furthest step that had a tick; the first is 1.
    #[serde(rename = "s")]
    begun: u32,
}

impl Onset {
    /// Ticks seen.
    pub fn ticks(&self) -> u64 {
        self.ticks
    }

    /// Goes to the next tick and returns its mass π_t, above 0 and at most [`LARGEST_MASS`].
    ///
    /// `step` counts from 0 among `planned` steps. A step that is entered again gets nothing; steps that were skipped give
    /// their mass to the first tick after them. Both are settled before the tick's counts are seen, and so keep validity.
    pub fn advance(&mut self, step: u32, planned: u32) -> f64 {
        let before = self.spent_on_steps(planned);
        let first = if self.ticks == 0 { AT_START } else { 0.0 };
        self.ticks = self.ticks.saturating_add(1);
        self.begun = self.begun.max(step.saturating_add(1).min(planned)).max(1);
        let t = real(self.ticks);
        // 1/(1+ln t) − 1/(1+ln(t+1)), without the subtraction that would cancel for large t.
        let any = t.recip().ln_1p() / ((1.0 + t.ln()) * (1.0 + (t + 1.0).ln()));
        first + (self.spent_on_steps(planned) - before) + AT_ANY_TICK * any
    }

    /// The mass of ticks to come: 1 − Σπ, exact at any tick.
    pub fn remaining(&self, planned: u32) -> f64 {
        if self.ticks == 0 {
            return 1.0;
        }
        AT_STEPS - self.spent_on_steps(planned) + AT_ANY_TICK / (1.0 + (real(self.ticks) + 1.0).ln())
    }

    fn spent_on_steps(&self, planned: u32) -> f64 {
        if planned <= 1 {
            return if self.begun > 0 { AT_STEPS } else { 0.0 };
        }
        let later = self.begun.saturating_sub(1).min(planned - 1);
        AT_STEPS * f64::from(later) / f64::from(planned - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spends_seven_tenths_at_once_when_there_is_one_step() {
        let mut onset = Onset::default();
        let mass = onset.advance(0, 1);
        let any = 0.3 * (1.0 - 1.0 / (1.0 + 2f64.ln()));
        assert!((mass - (0.7 + any)).abs() < 1e-15, "{mass}");
    }

    #[test]
    fn what_is_left_and_what_was_spent_are_one() {
        for planned in 1..6 {
            let mut onset = Onset::default();
            let mut spent = 0.0;
            for t in 0..5_000u32 {
                spent += onset.advance(t / 900, planned);
                assert!((spent + onset.remaining(planned) - 1.0).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn never_runs_out() {
        let mut onset = Onset {
            ticks: 1_000_000_000,
            begun: 4,
        };
        assert!(onset.advance(3, 4) > 0.0);
        let mut last = Onset {
            ticks: u64::MAX,
            begun: 4,
        };
        assert!(last.advance(3, 4) > 0.0);
    }

    #[test]
    fn gives_nothing_to_a_step_that_is_entered_again() {
        let mut onset = Onset::default();
        onset.advance(0, 2);
        onset.advance(1, 2);
        let before = onset.remaining(2);
        onset.advance(0, 2);
        let again = onset.advance(1, 2);
        assert!(again < 0.02 && onset.remaining(2) < before);
    }
}
