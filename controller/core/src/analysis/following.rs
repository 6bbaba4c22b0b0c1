//! Whether traffic follows the weight: the canary's share of the calls that clients sent, against the share that was written.
//! Knows counts and shares; not proxies, and not why calls may go elsewhere.
//!
//! A proxy draws the backend of every call by itself, so of n calls the canary's are binomial with the weight as their
//! probability. At each look the exact tail of all calls of the step so far is compared with a level of its own.
//!
//! # Guarantees
//! **Always valid, by the union bound.** Traffic that follows is called not following with a probability of at most
//! [`ALPHA`] in one trial, however often and whenever one looks: α is shared among the plan's steps and the two sides
//! (Bonferroni), and within a step the j-th look has 1/(j(j+1)) of it, which sums to 1. The looks need not be independent.
//!
//! **Only what matters.** The null hypothesis is a share within [`MARGIN`] of the weight: with millions of calls every
//! difference can be proven, and one of a few percent of the weight is no reason to stop.
//!
//! # Assumptions
//! Calls are counted when they are sent, so that long streams count where they began; ticks that saw another weight are left
//! out by whoever feeds this.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::sequential::real;
use crate::Weight;

/// The probability of a false alarm in one trial, over all its steps and looks.
pub const ALPHA: f64 = 0.001;
/// A share may be off by this part of the weight before anything is tested.
pub const MARGIN: f64 = 0.2;
/// After an alarm the calls are counted anew, and it ends when so many were to be expected on the canary, and came.
const CLEARING: f64 = 30.0;

/// Which deviations mean anything: a route may send calls past its weights on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Sides {
    /// Every call goes by the weights.
    #[default]
    Both,
    /// Some calls go to the canary in any case (testers): only too few of them are wrong.
    TooFew,
    /// Some calls go to stable in any case: only too many are wrong.
    TooMany,
    /// Some of each: nothing can be said.
    Neither,
}

/// Calls that clients sent in one tick, by where their proxies sent them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sent {
    /// To the canary's pods.
    pub canary: u64,
    /// To stable's pods.
    pub stable: u64,
}

/// Where the calls of an alarm went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deviation {
    /// What was written on the route.
    pub weight: Weight,
    /// The calls that led to the alarm.
    pub sent: Sent,
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.sent.canary.saturating_add(self.sent.stable);
        let share = 100.0 * real(self.sent.canary) / real(all.max(1));
        let Self { weight, sent } = self;
        write!(
            f,
            "the weight is {weight}, and {} of {all} calls ({share:.1} %) went to the canary",
            sent.canary
        )
    }
}

/// What is remembered of a trial.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Following {
    /// Calls of this step, or since the last alarm in it.
    sent: Sent,
    /// Looks in this step; alarms do not begin them anew, or α would not hold.
    looks: u32,
    /// The alarm that stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alarm: Option<Deviation>,
}

impl Following {
    /// Begins a step: what its weight does has to be seen anew.
    pub fn begin_step(&mut self) {
        *self = Self::default();
    }

    /// The deviation that was proven and has not ended; the step must not pass on such traffic.
    pub fn deviation(&self) -> Option<Deviation> {
        self.alarm
    }

    /// Adds a tick's calls. `steps` is the number of the plan's steps.
    pub fn observe(&mut self, sent: Sent, weight: Weight, sides: Sides, steps: usize) {
        let Sent { canary, stable } = sent;
        if weight.is_zero() || (canary == 0 && stable == 0) {
            return;
        }
        self.sent.canary = self.sent.canary.saturating_add(canary);
        self.sent.stable = self.sent.stable.saturating_add(stable);
        self.looks = self.looks.saturating_add(1);
        let all = self.sent.canary.saturating_add(self.sent.stable);
        let share = f64::from(weight.percent()) / 100.0;
        let look = f64::from(self.looks);
        let level = (ALPHA / 2.0 / real(u64::try_from(steps.max(1)).unwrap_or(u64::MAX)) / (look * (look + 1.0))).ln();
        let (few, many) = match sides {
            Sides::Both => (true, true),
            Sides::TooFew => (true, false),
            Sides::TooMany => (false, true),
            Sides::Neither => (false, false),
        };
        let least = share * (1.0 - MARGIN);
        let most = share * (1.0 + MARGIN);
        let too_few = few && ln_at_most(self.sent.canary, all, least) < level;
        let too_many = many && most < 1.0 && ln_at_least(self.sent.canary, all, most) < level;
        if too_few || too_many {
            self.alarm = Some(Deviation {
                weight,
                sent: self.sent,
            });
            self.sent = Sent::default();
        } else if self.alarm.is_some() && real(all) * share >= CLEARING && is_near(self.sent.canary, all, share) {
            self.alarm = None;
        }
    }
}

/// Whether the counted share is within the margin: more than not being proven otherwise.
fn is_near(canary: u64, all: u64, share: f64) -> bool {
    let counted = real(canary) / real(all.max(1));
    (counted - share).abs() <= share * MARGIN
}

/// ln P(X ≤ k) for X binomial of n and p: 0 unless k lies below the mean, where the tail means something.
fn ln_at_most(k: u64, n: u64, p: f64) -> f64 {
    if p <= 0.0 || real(k) >= real(n) * p {
        return 0.0;
    }
    // Terms fall faster than geometrically towards 0, so the sum ends soon.
    sum_from(k, n, p, false)
}

/// ln P(X ≥ k), likewise.
fn ln_at_least(k: u64, n: u64, p: f64) -> f64 {
    if p >= 1.0 || real(k) <= real(n) * p {
        return 0.0;
    }
    sum_from(k, n, p, true)
}

/// ln of the sum of the binomial's terms from k on, away from the mean.
fn sum_from(k: u64, n: u64, p: f64, up: bool) -> f64 {
    let (odds, mut at) = (p / (1.0 - p), k);
    let (mut term, mut sum) = (1.0f64, 1.0f64);
    while (if up { at < n } else { at > 0 }) && term > sum * f64::EPSILON {
        let (i, total) = (real(at), real(n));
        if up {
            term *= (total - i) / (i + 1.0) * odds;
            at += 1;
        } else {
            term *= i / (total - i + 1.0) / odds;
            at -= 1;
        }
        sum += term;
    }
    (ln_term(k, n, p) + sum.ln()).min(0.0)
}

/// ln of C(n, k) pᵏ(1−p)ⁿ⁻ᵏ.
fn ln_term(k: u64, n: u64, p: f64) -> f64 {
    let rest = n - k.min(n);
    ln_factorial(n) - ln_factorial(k) - ln_factorial(rest) + real(k) * p.ln() + real(rest) * (-p).ln_1p()
}

/// ln n!, to about 1e-13 of its value: the sum itself for small n, Stirling's series above.
fn ln_factorial(n: u64) -> f64 {
    if n < 32 {
        return (2..=n).map(|i| real(i).ln()).sum();
    }
    let x = real(n) + 1.0;
    let square = x * x;
    let series = (1.0 / 12.0 - (1.0 / 360.0 - 1.0 / (1260.0 * square)) / square) / x;
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

    use super::*;

    fn percent(weight: i64) -> Weight {
        Weight::try_from(weight).unwrap()
    }

    /// Feeds ticks of `calls` of which this share goes to the canary; says after how many it was called not following.
    fn alarm_after(weight: i64, share: f64, calls: u64, ticks: usize, sides: Sides, seed: u64) -> Option<usize> {
        let (mut rng, mut following) = (SmallRng::seed_from_u64(seed), Following::default());
        (0..ticks).find(|_| {
            let canary = (0..calls).filter(|_| rng.random_bool(share)).count() as u64;
            let sent = Sent {
                canary,
                stable: calls - canary,
            };
            following.observe(sent, percent(weight), sides, 4);
            following.deviation().is_some()
        })
    }

    #[test]
    fn weights_that_do_nothing_are_found_in_the_first_ticks() {
        // 10 s at 100 calls a second.
        assert_eq!(alarm_after(5, 0.0, 1_000, 10, Sides::Both, 1), Some(0));
        assert_eq!(alarm_after(1, 0.0, 1_000, 10, Sides::Both, 1), Some(1));
        assert_eq!(alarm_after(100, 0.5, 1_000, 10, Sides::Both, 1), Some(0));
    }

    #[test]
    fn a_canary_that_gets_everything_is_found_too() {
        assert_eq!(alarm_after(5, 1.0, 20, 10, Sides::Both, 1), Some(0));
        assert_eq!(alarm_after(5, 0.25, 200, 10, Sides::Both, 1), Some(0));
    }

    #[test]
    fn half_of_the_share_is_found() {
        assert!(alarm_after(25, 0.125, 200, 10, Sides::Both, 1).is_some());
    }

    #[test]
    fn what_a_route_sends_past_its_weights_on_purpose_is_no_alarm() {
        assert_eq!(alarm_after(5, 0.5, 1_000, 50, Sides::TooFew, 1), None);
        assert_eq!(alarm_after(50, 0.05, 1_000, 50, Sides::TooMany, 1), None);
        assert_eq!(alarm_after(50, 0.0, 1_000, 50, Sides::Neither, 1), None);
        assert!(alarm_after(5, 0.0, 1_000, 50, Sides::TooFew, 1).is_some());
    }

    #[test]
    fn traffic_that_follows_is_left_alone_at_every_weight() {
        // At most 0.1 % of the trials; none of these 400.
        for seed in 0..100 {
            for weight in [1, 5, 50, 99] {
                let share = f64::from(i32::try_from(weight).unwrap()) / 100.0;
                assert_eq!(
                    alarm_after(weight, share, 50, 100, Sides::Both, seed),
                    None,
                    "{weight} %, seed {seed}"
                );
            }
        }
    }

    #[test]
    fn an_alarm_ends_when_calls_come_again() {
        let mut following = Following::default();
        following.observe(
            Sent {
                canary: 0,
                stable: 1_000,
            },
            percent(10),
            Sides::Both,
            4,
        );
        let deviation = following.deviation().unwrap();
        assert_eq!((deviation.weight, deviation.sent.stable), (percent(10), 1_000));
        following.observe(
            Sent {
                canary: 20,
                stable: 180,
            },
            percent(10),
            Sides::Both,
            4,
        );
        assert!(following.deviation().is_some(), "200 calls are not enough");
        following.observe(
            Sent {
                canary: 12,
                stable: 108,
            },
            percent(10),
            Sides::Both,
            4,
        );
        assert_eq!(following.deviation(), None);
    }

    #[test]
    fn no_calls_say_nothing() {
        let mut following = Following::default();
        for _ in 0..1_000 {
            following.observe(Sent::default(), percent(50), Sides::Both, 1);
        }
        assert_eq!(following, Following::default());
    }

    #[test]
    fn the_tails_are_exact() {
        // P(X ≤ 0), P(X ≤ 1) of 10 at 0.3, and P(X ≥ 9) of 10 at 0.5.
        for (ln, exact) in [
            (ln_at_most(0, 10, 0.3), 0.028_247_524_9),
            (ln_at_most(1, 10, 0.3), 0.149_308_345_9),
            (ln_at_least(9, 10, 0.5), 11.0 / 1_024.0),
            (ln_at_most(0, 1_000, 0.01), 0.99f64.powi(1_000)),
        ] {
            assert!((ln.exp() / exact - 1.0).abs() < 1e-9, "{} is not {exact}", ln.exp());
        }
        // Both formulas meet where one takes over from the other.
        let sum: f64 = (2..=32u32).map(|i| f64::from(i).ln()).sum();
        assert!((ln_factorial(32) - sum).abs() < 1e-12 * sum);
    }

    proptest! {
        #[test]
        fn a_tail_grows_with_its_bound_and_is_a_probability(n in 1u64..5_000, k in 0u64..5_000, p in 0.001f64..0.999) {
            let k = k.min(n - 1);
            let (low, high) = (ln_at_most(k, n, p), ln_at_most(k + 1, n, p));
            prop_assert!(low <= high + 1e-9 && high <= 0.0);
            let (more, less) = (ln_at_least(k, n, p), ln_at_least(k + 1, n, p));
            prop_assert!(less <= more + 1e-9 && more <= 0.0);
        }

        #[test]
        fn nothing_overflows_whatever_is_counted(canary in any::<u64>(), stable in any::<u64>(), weight in 0i64..=100) {
            let mut following = Following::default();
            // As many calls as any step has.
            let small = |n: u64| n >> 36;
            for _ in 0..3 {
                following.observe(Sent { canary: small(canary), stable: small(stable) }, percent(weight), Sides::Both, 4);
            }
        }
    }
}
