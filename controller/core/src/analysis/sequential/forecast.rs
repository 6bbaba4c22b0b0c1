//! How many requests a verdict takes, said beforehand. Must not know counts: rates that are assumed, and the plan.
//!
//! The information I of one canary request is the least sum of divergences by which the assumed rates can be explained
//! within the null,
//!
//! ```text
//! I = min over p of  kl(p_c ‖ θ·p + δ) + (1−s)/s · kl(p_s ‖ p)         (absolute: kl(p_c ‖ δ))
//! ```
//!
//! with kl of two Bernoulli rates and s the canary's share of the calls (stable has (1−s)/s requests for each of the
//! canary's). No test that is valid at any time needs fewer than ln(1/level)/I requests on average (Wald's bound; see
//! Robbins and Siegmund, Annals of Statistics 2, 1974). Ours needs about 1.5 times as many: the price of not knowing
//! how bad it is and when it began.

use serde::{Deserialize, Serialize};

use super::{Null, ln_threshold};

/// What the mixtures over bets and onsets cost, as a factor on the limit.
const MIXTURE_FACTOR: f64 = 1.5;

/// The verdict that is forecast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Towards {
    /// FAIL: the canary's rate lies above the null's limit.
    Fail,
    /// PASS: it lies below.
    Pass,
}

/// Requests until a verdict, on average.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Forecast {
    /// I: nats of evidence per canary request, above 0.
    pub information: f64,
    /// Canary requests that no valid test can do without, on average.
    pub limit: f64,
    /// Canary requests that this test is expected to need.
    pub requests: f64,
}

impl Forecast {
    /// The forecast for rates `canary` and `stable` (0 to 1) at the canary's `share` of the calls (0 to 1), for a
    /// verdict at `level` (α or β). `None` if it would never come: the rates don't call for it, or there is no reference.
    pub fn new(towards: Towards, null: Null, canary: f64, stable: f64, share: f64, level: f64) -> Option<Self> {
        let information = information(towards, null, canary, stable, share);
        let limit = ln_threshold(level) / information;
        (information > 0.0 && limit.is_finite()).then_some(Self {
            information,
            limit,
            requests: MIXTURE_FACTOR * limit,
        })
    }

    /// Seconds that the requests take at `canary_rps` canary requests a second; `None` without traffic.
    pub fn seconds(&self, canary_rps: f64) -> Option<f64> {
        let seconds = self.requests / canary_rps;
        (canary_rps > 0.0 && seconds.is_finite()).then_some(seconds)
    }

    /// Whether a verdict is expected within `seconds` at `canary_rps` canary requests a second.
    pub fn decides_within(&self, seconds: f64, canary_rps: f64) -> bool {
        self.seconds(canary_rps).is_some_and(|needed| needed <= seconds)
    }

    /// Seconds still needed after `seen` canary requests; `None` without traffic.
    pub fn seconds_after(&self, seen: u64, canary_rps: f64) -> Option<f64> {
        let left = (self.requests - super::real(seen)).max(0.0);
        Self {
            requests: left,
            ..*self
        }
        .seconds(canary_rps)
    }
}

/// I as in the module's head, in nats per canary request; 0 when the rates lie within the null, when the canary or (in
/// a relative null) stable has no calls, or when a number is not a rate.
pub fn information(towards: Towards, null: Null, canary: f64, stable: f64, share: f64) -> f64 {
    let rates = 0.0..=1.0;
    if ![canary, stable, share].iter().all(|x| rates.contains(x)) || share <= 0.0 {
        return 0.0;
    }
    let limit = null.limit(stable);
    let apart = match towards {
        Towards::Fail => canary > limit,
        Towards::Pass => canary < limit,
    };
    if !apart {
        return 0.0;
    }
    let information = if null.theta() > 0.0 {
        let ratio = (1.0 - share) / share;
        let cost = |p: f64| divergence(canary, null.limit(p)) + ratio * divergence(stable, p);
        // Convex, and least between stable's own rate and the one that explains the canary's.
        let explains = ((canary - null.delta()) / null.theta()).clamp(0.0, 1.0);
        least(stable.min(explains), stable.max(explains), cost)
    } else {
        divergence(canary, limit)
    };
    if information.is_finite() { information } else { 0.0 }
}

/// kl(a ‖ b) of two Bernoulli rates in nats; ∞ if b rules out what a shows.
fn divergence(a: f64, b: f64) -> f64 {
    let part = |a: f64, b: f64| if a > 0.0 { a * (a / b).ln() } else { 0.0 };
    (part(a, b) + part(1.0 - a, 1.0 - b)).max(0.0)
}

/// The least value of a convex function, by golden section.
fn least(mut low: f64, mut high: f64, f: impl Fn(f64) -> f64) -> f64 {
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    for _ in 0..120 {
        let left = high - golden * (high - low);
        let right = low + golden * (high - low);
        if f(left) <= f(right) {
            high = right;
        } else {
            low = left;
        }
    }
    f(low + (high - low) / 2.0).min(f(low)).min(f(high))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(canary: f64, share: f64) -> f64 {
        let null = Null::relative(1.0, 0.002).unwrap();
        Forecast::new(Towards::Fail, null, canary, 0.001, share, 0.01)
            .unwrap()
            .limit
    }

    #[test]
    fn gives_the_limits_of_the_published_table() {
        let table = [
            (0.01, [936.5, 969.9, 1122.4, 1690.0]),
            (0.05, [53.0, 59.4, 85.3, 158.4]),
            (0.10, [20.7, 24.4, 37.2, 70.9]),
        ];
        for (canary, limits) in table {
            for (share, expected) in [0.05, 0.10, 0.25, 0.50].into_iter().zip(limits) {
                let found = limit(canary, share);
                assert!((found - expected).abs() < 0.06, "{canary} at {share}: {found}");
            }
        }
    }

    #[test]
    fn a_healthy_canary_never_fails_and_can_pass() {
        let fail = Null::relative(1.0, 0.002).unwrap();
        assert_eq!(Forecast::new(Towards::Fail, fail, 0.001, 0.001, 0.1, 0.01), None);
        let pass = Null::relative(1.0, 0.005).unwrap();
        let needed = Forecast::new(Towards::Pass, pass, 0.001, 0.001, 0.1, 0.05).unwrap();
        assert!((600.0..2_500.0).contains(&needed.requests), "{needed:?}");
        assert!(needed.decides_within(120.0, 100.0) && !needed.decides_within(1.0, 1.0));
    }

    #[test]
    fn nothing_is_decided_against_stable_at_all_the_traffic() {
        let null = Null::relative(1.0, 0.002).unwrap();
        let towards_fail = Forecast::new(Towards::Fail, null, 0.5, 0.001, 1.0, 0.01);
        assert!(
            towards_fail.is_none_or(|forecast| forecast.information < 1e-6),
            "{towards_fail:?}"
        );
        let objective = Null::absolute(0.01).unwrap();
        assert!(Forecast::new(Towards::Fail, objective, 0.5, 0.0, 1.0, 0.01).is_some());
    }

    #[test]
    fn an_error_free_pair_of_arms_has_a_forecast() {
        let null = Null::relative(1.0, 0.005).unwrap();
        let needed = Forecast::new(Towards::Pass, null, 0.0, 0.0, 0.05, 0.05).unwrap();
        assert!((needed.information - 0.005).abs() < 1e-4, "{needed:?}");
        assert_eq!(needed.seconds(0.0), None);
    }
}
