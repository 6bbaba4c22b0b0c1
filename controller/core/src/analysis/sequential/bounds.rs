//! Which latency bounds the canary is compared at: up to three of the histogram's, chosen on stable's calls before the
//! rollout and then frozen. Must not know the canary, or what a histogram is called.
//!
//! They are the smallest bounds that stable's calls exceed in at most 25 %, 5 % and 1 %: one for the middle, one for the
//! tail, one for the far tail. Each is a metric of its own with a third of the weight (or a half, or all of it), which
//! makes the group's evidence the mean of theirs; to pass, each has to pass.

use serde::{Deserialize, Serialize};

use super::{Comparison, InvalidNumber, Null, real};

/// Against stable, a bound may be exceeded θ = 1.25 times as often …
pub const THETA: f64 = 1.25;
/// … and 0.1 points more.
pub const DELTA: f64 = 0.001;
/// The largest shares of stable's calls above the chosen bounds.
pub const SHARES: [f64; 3] = [0.25, 0.05, 0.01];

/// One bound that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FrozenBound {
    /// The bound in milliseconds, one of the histogram's.
    pub bound_ms: u64,
}

/// Chooses from stable's calls: `within` has, for each finite bound in milliseconds, how many of the `total` calls took
/// at most that long. Sorted by bound and without repetitions; empty when stable had no calls, or only slower ones.
pub fn choose(total: u64, within: &[(u64, u64)]) -> Vec<FrozenBound> {
    let mut chosen: Vec<FrozenBound> = Vec::with_capacity(SHARES.len());
    if total == 0 {
        return chosen;
    }
    for share in SHARES {
        let allowed = share * real(total);
        let smallest = within
            .iter()
            .filter(|(_, within)| real(total.saturating_sub(*within)) <= allowed)
            .map(|(bound, _)| *bound)
            .min();
        if let Some(bound_ms) = smallest
            && chosen.last().is_none_or(|last| last.bound_ms != bound_ms)
        {
            chosen.push(FrozenBound { bound_ms });
        }
    }
    chosen
}

/// The comparison at a frozen bound: θ and δ as above, for failing and for passing.
pub fn comparison() -> Result<Comparison, InvalidNumber> {
    let null = Null::relative(THETA, DELTA)?;
    Ok(Comparison { fail: null, pass: null })
}

/// The weight of each of `count` bounds in a group that weighs `weight` in all.
pub fn weight_of_each(weight: f64, count: usize) -> f64 {
    weight / real(u64::try_from(count.max(1)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(total: u64, within: &[(u64, u64)]) -> Vec<u64> {
        choose(total, within).iter().map(|bound| bound.bound_ms).collect()
    }

    #[test]
    fn takes_the_smallest_bounds_within_each_share() {
        let within = [(1, 100), (10, 750), (50, 940), (100, 950), (500, 989), (1_000, 999)];
        assert_eq!(chosen(1_000, &within), [10, 100, 1_000]);
    }

    #[test]
    fn takes_a_bound_once() {
        assert_eq!(chosen(100, &[(1, 10), (10, 100), (100, 100)]), [10]);
    }

    #[test]
    fn takes_none_that_too_many_calls_exceed() {
        assert_eq!(chosen(100, &[(1, 10), (10, 80)]), [10]);
        assert_eq!(chosen(100, &[(1, 10)]), [0u64; 0]);
        assert_eq!(chosen(0, &[(1, 0)]), [0u64; 0]);
    }
}
