//! Calls that go on: where they are, against where the weight would send them now. Knows counts and shares; not proxies.
//!
//! A weight decides where a call begins, and the call stays there until it ends. So after a change of weight long streams tell of the
//! weights before it, and only their end moves them.

use serde::{Deserialize, Serialize};

use crate::Weight;

/// Calls whose answer has begun and not ended, by arm, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Streams {
    /// With the canary's pods.
    pub canary: u64,
    /// With stable's pods.
    pub stable: u64,
}

impl Streams {
    /// All of them.
    pub fn all(self) -> u64 {
        self.canary.saturating_add(self.stable)
    }

    /// How many are with an arm beyond its share, so that an earlier weight must have sent them there. At the ends this is exact: at
    /// full weight all of stable's, at weight 0 all of the canary's. Between them it is a least number.
    pub fn old(self, weight: Weight) -> u64 {
        let share = |percent: u8| {
            let share = u128::from(self.all()) * u128::from(percent);
            u64::try_from(share.div_ceil(100)).unwrap_or(u64::MAX)
        };
        let percent = weight.percent();
        let canary = self.canary.saturating_sub(share(percent));
        let stable = self.stable.saturating_sub(share(100 - percent));
        canary.max(stable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn old(canary: u64, stable: u64, percent: i64) -> u64 {
        Streams { canary, stable }.old(Weight::try_from(percent).unwrap())
    }

    #[test]
    fn at_the_ends_every_stream_of_the_other_arm_is_old() {
        assert_eq!(old(3, 17, 100), 17);
        assert_eq!(old(3, 17, 0), 3);
        assert_eq!(old(20, 0, 100), 0);
        assert_eq!(old(0, 0, 50), 0);
    }

    #[test]
    fn between_them_only_what_is_beyond_the_share_is() {
        assert_eq!(old(10, 10, 50), 0);
        assert_eq!(old(0, 20, 25), 5);
        assert_eq!(old(15, 5, 25), 10);
        // Less than one stream is none.
        assert_eq!(old(0, 3, 10), 0);
    }

    #[test]
    fn nothing_overflows() {
        assert_eq!(old(u64::MAX, u64::MAX, 0), u64::MAX);
    }
}
