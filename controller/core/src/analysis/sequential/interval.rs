//! Always-valid intervals: for an arm's rate, and for the difference of the arms. For display, and for the rate of stable
//! that stands in when stable has almost no calls left. Must not know verdicts: nothing is failed or passed by these.
//!
//! The rate's is the mixture confidence sequence of Robbins (Annals of Mathematical Statistics 41, 1970) for Bernoulli
//! calls with a beta prior: all p at which ∫ Bin(f; n, s) dBeta(s; a, b) / Bin(f; n, p) < 1/α. It covers a constant
//! rate at all times at once with probability 1 − α. Counts are divided by φ (a quasi-likelihood), so that bursts widen
//! it. A rate that drifts has no single p to cover: then it shows about where the mean has been.

use serde::{Deserialize, Serialize};

use super::evalue::{Terms, terms};
use super::{Arms, Tally, fail, ln_threshold, logspace, pass, real};

/// Jeffreys' prior: it costs ½·ln n and prefers no rate.
const PRIOR: (f64, f64) = (0.5, 0.5);

/// From `low` to `high`: shares, 0 to 1, for a rate; −1 to 1 for a difference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// The confidence sequence of an arm's rate at level `alpha` (0 to 0.5), given the overdispersion φ ≥ 1.
/// `(0, 1)` without calls.
pub fn rate(tally: Tally, phi: f64, alpha: f64) -> Interval {
    let phi = phi.max(1.0);
    let (bad, total) = (real(tally.bad.min(tally.total)) / phi, real(tally.total) / phi);
    if total <= 0.0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let (center, limit) = (bad / total, ln_threshold(alpha));
    let outside = |p: f64| ln_mixture(bad, total, PRIOR, p) >= limit;
    Interval {
        low: if bad > 0.0 {
            boundary(0.0, center, outside).0
        } else {
            0.0
        },
        high: if bad < total {
            boundary(center, 1.0, |p| !outside(p)).1
        } else {
            1.0
        },
    }
}

/// ln of the mixture's likelihood ratio against the rate `p` for `bad` of `total` calls: Beta(a, b) prior, `p` strictly
/// between 0 and 1. With a = k·p, b = k·(1−p) it is the two-cell test of Lindon and Malek (arXiv 2011.03567).
///
/// Loader's deviance (2000, "Fast and accurate computation of binomial probabilities") in place of differences of
/// ln Γ: for 10¹² calls those would have lost all digits that matter.
pub fn ln_mixture(bad: f64, total: f64, (a, b): (f64, f64), p: f64) -> f64 {
    let (failed, fine) = (bad + a, total - bad + b);
    let all = failed + fine;
    let posterior = deviance(failed, all * p) + deviance(fine, all * (1.0 - p)) + ln_shape(failed, fine);
    let ln_prior = a * (a / (a + b)).ln() + b * (b / (a + b)).ln() + ln_shape(a, b);
    posterior + a * p.ln() + b * (-p).ln_1p() - ln_prior
}

/// ln B(x, y) without x·ln(x/s) + y·ln(y/s).
fn ln_shape(x: f64, y: f64) -> f64 {
    let s = x + y;
    0.5 * (std::f64::consts::TAU.ln() - (x * (y / s)).ln()) + stirling_error(x) + stirling_error(y) - stirling_error(s)
}

/// x·ln(x/m) + m − x, at least 0, for x and m above 0.
fn deviance(x: f64, m: f64) -> f64 {
    let v = (x - m) / (x + m);
    if v.abs() >= 0.1 {
        return x * (x / m).ln() + m - x;
    }
    let square = v * v;
    let (mut sum, mut power, mut odd) = ((x - m) * v, 2.0 * x * v, 1.0);
    // Each term is at most 1/100 of the one before.
    for _ in 0..12 {
        power *= square;
        odd += 2.0;
        sum += power / odd;
    }
    sum
}

/// ln Γ(x) − (x − ½)·ln x + x − ½·ln 2π, for x > 0.
fn stirling_error(x: f64) -> f64 {
    let (mut x, mut sum) = (x, 0.0);
    while x < 12.0 {
        sum += (x + 0.5) * x.recip().ln_1p() - 1.0;
        x += 1.0;
    }
    let r = x.recip();
    let q = r * r;
    sum + r * (1.0 / 12.0 - q * (1.0 / 360.0 - q * (1.0 / 1260.0 - q * (1.0 / 1680.0 - q / 1188.0))))
}

/// The last two neighbours around the point where `left` turns from true to false between `low` and `high`.
fn boundary(mut low: f64, mut high: f64, left: impl Fn(f64) -> bool) -> (f64, f64) {
    // 2^-1074 is the smallest number: bisection towards 0 ends, too.
    for _ in 0..1200 {
        let middle = low + (high - low) / 2.0;
        if middle <= low || middle >= high {
            break;
        }
        if left(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low, high)
}

/// Running sums for the confidence sequence of p_c − θ·p_s: all δ that neither the FAIL bets' nor the PASS bets' mixture
/// has refuted, without onsets and without a cap. Not part of a test's state: for reports and replays.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    theta: f64,
    phi: f64,
    worse: [Terms; 6],
    better: [Terms; 6],
}

impl Difference {
    /// With the comparison's θ and the metric's φ.
    pub fn new(theta: f64, phi: f64) -> Self {
        Self {
            theta,
            phi: phi.max(1.0),
            worse: [Terms::default(); 6],
            better: [Terms::default(); 6],
        }
    }

    /// One tick's counts.
    pub fn tick(&mut self, arms: &Arms) {
        let sides = [(&mut self.worse, fail::BETS), (&mut self.better, pass::BETS)];
        for (sums, bets) in sides {
            for (sum, bet) in sums.iter_mut().zip(bets) {
                let Terms { gain, cost } = terms(arms, self.theta, bet);
                sum.gain += gain / self.phi;
                sum.cost += cost / self.phi;
            }
        }
    }

    /// The interval, `alpha` on each side; `(−1, 1)` before anything is known.
    pub fn interval(&self, alpha: f64) -> Interval {
        let limit = ln_threshold(alpha);
        let ln_e = |sums: &[Terms; 6], delta: f64| logspace::mean_of_six(sums.map(|t| t.gain - delta * t.cost));
        Interval {
            low: boundary(-1.0, 1.0, |delta| ln_e(&self.worse, delta) > limit).0,
            high: boundary(-1.0, 1.0, |delta| ln_e(&self.better, delta) < limit).1,
        }
    }
}
