//! The e-value of one tick: how much the counts of one tick speak against a null hypothesis, as a natural logarithm.
//! Must not know time, steps, or what was counted before.
//!
//! With q = θ·nc/(θ·nc + ns) and u = q(ρ − 1)
//!
//! ```text
//! ln e = fc·ln ρ − f·ln(1 + u) − nc·δ·(1 − q)(ρ − 1)/(1 + u)        f = fc + fs
//! ```
//!
//! ρ > 1 bets against "p_c ≤ θ·p_s + δ", ρ < 1 against "p_c ≥ θ·p_s + δ". With A = ρ/(1+u) and B = 1/(1+u) the
//! expectation of A^fc·B^fs is at most exp(nc·p_c(A−1) + ns·p_s(B−1)), and θ·nc(A−1) + ns(B−1) = 0: at most 1 under
//! the null for *any* p_s and any split. At δ = 0 it is the two-cell conditional test of Lindon and Malek
//! (arXiv 2011.03567) with a point bet; compare Turner, Ly and Grünwald (arXiv 2106.02693) and Lindon, Sanden and
//! Shirikian (KDD 2022, arXiv 2205.14762).
//!
//! It is computed as fc·ln A + fs·ln B − …, with A − 1 = (ρ−1)(1−q)/(1+u) and 1 − q = ns/(θ·nc + ns) formed without
//! subtraction: no digits are lost when stable has almost no calls, and at q = 1 the result is exactly 0. The absolute
//! error is a few units in the last place of the largest of the three terms.

use serde::{Deserialize, Serialize};

use super::{Arms, InvalidNumber, real};

/// The hypothesis that is bet against: the canary's rate against θ times stable's rate plus δ.
///
/// θ = 0 is the absolute one, against δ alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Null {
    theta: f64,
    delta: f64,
}

#[derive(Serialize, Deserialize)]
struct Parts {
    theta: f64,
    delta: f64,
}

/// A point bet ρ: the canary's odds of being the arm of a bad call, as a multiple of those under the null.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bet {
    rho: f64,
    /// ln ρ, as `ln_1p(ρ − 1)` gives it.
    ln_rho: f64,
}

impl Null {
    /// Against θ·p_s + δ: θ from 0.001 to 1000, δ from 0 to 1.
    pub fn relative(theta: f64, delta: f64) -> Result<Self, InvalidNumber> {
        if (0.001..=1000.0).contains(&theta) {
            Self::checked(theta, delta)
        } else {
            Err(InvalidNumber::Theta(theta))
        }
    }

    /// Against a share of bad calls, 0 to 1, whatever stable does.
    pub fn absolute(share: f64) -> Result<Self, InvalidNumber> {
        Self::checked(0.0, share)
    }

    fn checked(theta: f64, delta: f64) -> Result<Self, InvalidNumber> {
        if (0.0..=1.0).contains(&delta) {
            Ok(Self { theta, delta })
        } else {
            Err(InvalidNumber::Delta(delta))
        }
    }

    /// The factor on stable's rate; 0 when stable does not count.
    pub fn theta(&self) -> f64 {
        self.theta
    }

    /// The margin, or the share itself, 0 to 1.
    pub fn delta(&self) -> f64 {
        self.delta
    }

    /// The largest rate of the canary that is no worse than the null, given stable's rate, 0 to 1.
    pub fn limit(&self, stable: f64) -> f64 {
        (self.theta * stable + self.delta).clamp(0.0, 1.0)
    }

    /// The absolute null in which a frozen rate stands for stable's.
    #[must_use]
    pub fn frozen_at(&self, stable: f64) -> Self {
        Self {
            theta: 0.0,
            delta: self.limit(stable),
        }
    }
}

impl TryFrom<Parts> for Null {
    type Error = InvalidNumber;

    fn try_from(parts: Parts) -> Result<Self, InvalidNumber> {
        if parts.theta == 0.0 {
            Self::absolute(parts.delta)
        } else {
            Self::relative(parts.theta, parts.delta)
        }
    }
}

impl From<Null> for Parts {
    fn from(Null { theta, delta }: Null) -> Self {
        Self { theta, delta }
    }
}

impl Bet {
    /// ρ from 10⁻⁶ to 10⁶. Above 1 it gains when the canary is worse than the null, below 1 when it is better.
    pub fn new(rho: f64) -> Result<Self, InvalidNumber> {
        if (1e-6..=1e6).contains(&rho) {
            Ok(Self::constant(rho, (rho - 1.0).ln_1p()))
        } else {
            Err(InvalidNumber::Bet(rho))
        }
    }

    /// A bet that is known beforehand, with its logarithm.
    pub(crate) const fn constant(rho: f64, ln_rho: f64) -> Self {
        Self { rho, ln_rho }
    }

    /// The bet's ρ.
    pub fn rho(&self) -> f64 {
        self.rho
    }
}

/// ln e of one tick is `gain − δ·cost`: `cost` is what each unit of the margin δ takes away.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Terms {
    pub(crate) gain: f64,
    pub(crate) cost: f64,
}

/// The terms at θ; all zero when the canary had no calls.
pub(crate) fn terms(arms: &Arms, theta: f64, bet: Bet) -> Terms {
    if arms.canary.total == 0 {
        return Terms::default();
    }
    let (nc, ns) = (real(arms.canary.total), real(arms.stable.total));
    let fc = real(arms.canary.bad.min(arms.canary.total));
    let fs = real(arms.stable.bad.min(arms.stable.total));
    let edge = bet.rho - 1.0;
    let scaled = theta * nc;
    if scaled <= 0.0 {
        // Against a share, stable's calls are no matter.
        return Terms {
            gain: fc * bet.ln_rho,
            cost: nc * edge,
        };
    }
    let (q, rest) = (scaled / (scaled + ns), ns / (scaled + ns));
    let u = q * edge;
    // A − 1, the canary's payoff per bad call.
    let payoff = rest * edge / (1.0 + u);
    Terms {
        gain: times_ln_1p(fc, payoff) - times_ln_1p(fs, u),
        cost: nc * payoff,
    }
}

/// n·ln(1 + x), without the logarithm where it does not count: most ticks of most rollouts have no bad calls.
fn times_ln_1p(n: f64, x: f64) -> f64 {
    if n == 0.0 || x == 0.0 { 0.0 } else { n * x.ln_1p() }
}

/// ln e of one tick against the null. 0 when the canary had no calls, and when stable had none in a relative null.
pub fn ln_e(arms: &Arms, null: Null, bet: Bet) -> f64 {
    let Terms { gain, cost } = terms(arms, null.theta, bet);
    gain - null.delta * cost
}
