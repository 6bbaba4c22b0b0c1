//! The canary's share of the traffic, and how Linkerd wants it written. Knows nothing of routes or clusters.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The canary's share of the apex Service's calls, in percent, 0 to 100.
///
/// How it is written as two backend weights is [`Weight::backends`]: the only place that knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Weight(u8);

/// A weight outside of 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a weight is a percentage from 0 to 100, not {0}")]
pub struct NotAPercentage(pub i64);

impl Weight {
    /// All traffic on stable.
    pub const ZERO: Self = Self(0);
    /// All traffic on the canary.
    pub const FULL: Self = Self(100);

    /// The share in percent, 0 to 100.
    pub fn percent(self) -> u8 {
        self.0
    }

    /// Whether no call may go to the canary.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// So many of so many, rounded down; all of nothing is everything.
    pub fn share_of(part: i32, whole: i32) -> Self {
        let (part, whole) = (i64::from(part.max(0)), i64::from(whole.max(0)));
        let percent = part.saturating_mul(100).checked_div(whole).unwrap_or(100);
        Self(u8::try_from(percent).unwrap_or(100).min(100))
    }

    /// The two weights to write, as `(stable, canary)`. They are never both zero.
    ///
    /// Full weight is 1 to 99,999: Linkerd never sends an unready backend's share to a backend of weight 0, so a stable
    /// of 1 lets the proxies fail over by themselves when the canary's pods die. Only the canary's weight is ever 0.
    pub fn backends(self) -> (i32, i32) {
        match self.0 {
            100 => (1, 99_999),
            canary => (i32::from(100 - canary), i32::from(canary)),
        }
    }

    /// Reads the share back from two live weights, rounded up to the next percent, so that a share that is not zero
    /// is never taken for zero. Two zeros, or a negative weight, are no share at all: `None`.
    pub fn from_backends(stable: i64, canary: i64) -> Option<Self> {
        if stable < 0 || canary < 0 {
            return None;
        }
        let total = stable.checked_add(canary)?;
        if total == 0 {
            return None;
        }
        let percent = canary.checked_mul(100)?.div_ceil_positive(total);
        u8::try_from(percent).ok().filter(|p| *p <= 100).map(Self)
    }
}

/// Ceiling division of numbers that are not negative (`i64::div_ceil` is not stable).
trait DivCeilPositive {
    fn div_ceil_positive(self, by: Self) -> Self;
}

impl DivCeilPositive for i64 {
    fn div_ceil_positive(self, by: Self) -> Self {
        (self + by - 1) / by
    }
}

impl TryFrom<i64> for Weight {
    type Error = NotAPercentage;

    fn try_from(percent: i64) -> Result<Self, Self::Error> {
        u8::try_from(percent)
            .ok()
            .filter(|p| *p <= 100)
            .map(Self)
            .ok_or(NotAPercentage(percent))
    }
}

impl From<Weight> for i64 {
    fn from(weight: Weight) -> Self {
        i64::from(weight.0)
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_read_back_as_it_was_written(percent in 0i64..=100) {
            let weight = Weight::try_from(percent).unwrap();
            let (stable, canary) = weight.backends();
            prop_assert!(stable > 0, "stable's weight is never zero");
            prop_assert_eq!(Weight::from_backends(stable.into(), canary.into()), Some(weight));
        }

        #[test]
        fn reads_a_share_that_is_not_zero_as_not_zero(stable in 0i64..1_000_000, canary in 1i64..1_000_000) {
            prop_assert!(!Weight::from_backends(stable, canary).unwrap().is_zero());
        }
    }

    #[test]
    fn a_share_of_something_is_never_more_than_it_is() {
        let percent = |part, whole| Weight::share_of(part, whole).percent();
        assert_eq!((percent(1, 3), percent(2, 3), percent(3, 3)), (33, 66, 100));
        assert_eq!((percent(5, 3), percent(0, 3), percent(-1, 3)), (100, 0, 0));
        assert_eq!((percent(0, 0), percent(i32::MAX, 1)), (100, 100));
    }

    #[test]
    fn full_leaves_stable_as_the_failover() {
        assert_eq!(Weight::FULL.backends(), (1, 99_999));
    }

    #[test]
    fn two_zeros_are_no_weight() {
        assert_eq!(Weight::from_backends(0, 0), None);
    }

    #[test]
    fn refuses_what_is_no_percentage() {
        assert_eq!(Weight::try_from(101), Err(NotAPercentage(101)));
        assert_eq!(Weight::try_from(-1), Err(NotAPercentage(-1)));
    }
}
