//! The PASS process: whether the canary is proven to be no worse than a margin, on one step's own ticks.
//! Must not know other steps: counts are never pooled over them.
//!
//! L = Σ w_k exp(Σ ln e_k/φ) with bets below 1; pass at L ≥ 1/β. Under the null "p_c ≥ θ·p_s + δ" it ever gets there
//! with probability at most β.

use serde::{Deserialize, Serialize};

use super::evalue::{Bet, Null, ln_e};
use super::{Arms, exact, logspace};

const LN_6: f64 = 1.791_759_469_228_055;

/// The bets of the mixture, one sixth each: from almost no bad calls to a twentieth fewer than the margin.
pub const BETS: [Bet; 6] = [
    Bet::constant(0.02, -3.912_023_005_428_145),
    Bet::constant(0.15, -1.897_119_984_885_881),
    Bet::constant(0.4, -0.916_290_731_874_155),
    Bet::constant(0.65, -0.430_782_916_092_454_2),
    Bet::constant(0.85, -0.162_518_929_497_774_94),
    Bet::constant(0.95, -0.051_293_294_387_550_58),
];

/// L of one null on one metric in one step, in log space.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PassProcess {
    #[serde(with = "exact::six")]
    sums: [f64; 6],
}

impl PassProcess {
    /// One tick's counts, with the overdispersion φ (values below 1 are read as 1).
    pub fn tick(&mut self, arms: &Arms, null: Null, phi: f64) {
        for (sum, bet) in self.sums.iter_mut().zip(BETS) {
            *sum += ln_e(arms, null, bet) / phi.max(1.0);
        }
    }

    /// ln L; 0 before the first tick.
    pub fn ln_l(&self) -> f64 {
        logspace::mean_of_six(self.sums)
    }

    /// Whether ln L has come to a level. L is the mean of six, from a sixth of the largest to the largest: most ticks are outside of
    /// that, and cost no logarithm.
    pub(crate) fn reaches(&self, level: f64) -> bool {
        let largest = self.sums.into_iter().fold(f64::NEG_INFINITY, f64::max);
        largest >= level && (largest - LN_6 >= level || self.ln_l() >= level)
    }
}
