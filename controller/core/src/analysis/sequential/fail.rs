//! The FAIL process: whether the canary has become worse than its null at any time in the rollout. Never restarted.
//! Must not know several metrics' names, or what follows a failure.
//!
//! ```text
//! R_k ← (R_k + π_t)·exp(min(ln e_k/φ, ln C));    M = Σ w_k R_k + (1 − Σ_{j≤t} π_j);    fail when M ≥ 1/α
//! ```
//!
//! Under the null M is a test supermartingale: it ever reaches 1/α with probability at most α (Ville). It mixes over six
//! bets and over the tick at which a regression began ([`Onset`]). Dividing by φ ≥ 1 keeps that (Jensen) and the cap
//! only lowers M. The cap means that one tick on a fresh process cannot fail: a shared outage that scrapes of the arms
//! saw at different instants is no evidence.

use serde::{Deserialize, Serialize};

use super::evalue::{Bet, Null, ln_e};
use super::{Arms, Onset, exact, logspace};

/// The bets of the mixture, one sixth each: from a fifth more bad calls than allowed to fifty times as many.
pub const BETS: [Bet; 6] = [
    Bet::constant(1.2, 0.182_321_556_793_954_6),
    Bet::constant(1.6, 0.470_003_629_245_735_6),
    Bet::constant(2.5, 0.916_290_731_874_155_1),
    Bet::constant(5.0, 1.609_437_912_434_100_3),
    Bet::constant(12.0, 2.484_906_649_788_000_4),
    Bet::constant(50.0, 3.912_023_005_428_146),
];

/// What is fixed for all ticks of one process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FailRules {
    /// Steps of the rollout, at least 1.
    pub planned_steps: u32,
    /// Overdispersion φ of the counts; values below 1 are read as 1.
    pub phi: f64,
    /// ln C, the most that one tick can add; `None` for no cap.
    pub ln_cap: Option<f64>,
}

/// M of one null on one metric, in log space.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct FailProcess {
    #[serde(flatten)]
    onset: Onset,
    /// ln R_k; `None` for R = 0.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none", with = "ln_r")]
    ln_r: Option<[f64; 6]>,
}

impl FailRules {
    /// With the cap C = 1/(2α).
    pub fn capped(alpha: f64, planned_steps: u32, phi: f64) -> Self {
        Self {
            planned_steps,
            phi,
            ln_cap: Some(-(2.0 * alpha).ln()),
        }
    }
}

impl FailProcess {
    /// One tick's counts; `step` counts from 0. Ticks without calls pass as well: they are evidence of nothing.
    pub fn tick(&mut self, arms: &Arms, null: Null, step: u32, rules: &FailRules) {
        let ln_mass = self.onset.advance(step, rules.planned_steps).ln();
        let phi = rules.phi.max(1.0);
        let mut next = self.ln_r.unwrap_or([f64::NEG_INFINITY; 6]);
        for (ln_r, bet) in next.iter_mut().zip(BETS) {
            let ln_e = ln_e(arms, null, bet) / phi;
            *ln_r = logspace::add(*ln_r, ln_mass) + rules.ln_cap.map_or(ln_e, |cap| ln_e.min(cap));
        }
        self.ln_r = Some(next);
    }

    /// ln M; 0 before the first tick.
    pub fn ln_m(&self, planned_steps: u32) -> f64 {
        let rest = self.onset.remaining(planned_steps).ln();
        self.ln_r
            .map_or(rest, |ln_r| logspace::add(logspace::mean_of_six(ln_r), rest))
    }

    /// What ln M can't exceed, told without logarithms: M is the mean of six and what is left of 1.
    pub(crate) fn ln_m_at_most(&self) -> f64 {
        let ln_r = self.ln_r.iter().flatten().copied();
        ln_r.fold(0.0, f64::max) + std::f64::consts::LN_2
    }

    /// Whether ln M has come to a level above ln 2. Most ticks are far from it, and cost no logarithm.
    pub(crate) fn reaches(&self, level: f64, planned_steps: u32) -> bool {
        self.ln_m_at_most() >= level && self.ln_m(planned_steps) >= level
    }

    /// Drops what has been gathered: R = 0. It only lowers M, and so keeps validity; the onset mixture is not restored.
    pub fn forget(&mut self) {
        self.ln_r = None;
    }

    /// Lowers each R_k to the ceiling. It only lowers M.
    pub(crate) fn lower_to(&mut self, ln_ceiling: f64) {
        for ln_r in self.ln_r.iter_mut().flatten() {
            *ln_r = ln_r.min(ln_ceiling);
        }
    }

    /// Ticks seen.
    pub fn ticks(&self) -> u64 {
        self.onset.ticks()
    }
}

/// Several processes as one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Combined {
    /// ln Σ w_i M_i.
    pub ln_m: f64,
    /// The position of the largest term: the reason that is given.
    pub leading: usize,
}

/// M = Σ w_i M_i over `(w_i, ln M_i)`, with the weights brought to a sum of 1: valid against 1/α under any dependence.
/// `None` for nothing, or for weights that are not above 0. Each term is asked for once, as it takes ten logarithms.
pub fn combine(terms: impl Iterator<Item = (f64, f64)>) -> Option<Combined> {
    let mut total = 0.0;
    let mut sum = logspace::Sum::default();
    let mut leading = (f64::NEG_INFINITY, 0);
    for (position, (weight, ln_m)) in terms.enumerate() {
        let term = weight.ln() + ln_m;
        if term > leading.0 {
            leading = (term, position);
        }
        total += weight;
        sum.add(term);
    }
    (total > 0.0 && total.is_finite()).then(|| Combined {
        ln_m: sum.ln() - total.ln(),
        leading: leading.1,
    })
}

mod ln_r {
    use serde::{Deserializer, Serializer};

    use super::exact::six;

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub(super) fn serialize<S: Serializer>(ln_r: &Option<[f64; 6]>, serializer: S) -> Result<S::Ok, S::Error> {
        match ln_r {
            Some(numbers) => six::serialize(numbers, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[f64; 6]>, D::Error> {
        six::deserialize(deserializer).map(Some)
    }
}
