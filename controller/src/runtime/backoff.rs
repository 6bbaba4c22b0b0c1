//! How soon something is tried again. Pure: chance is given.

use std::time::Duration;

/// Waits that double.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// Never longer.
    pub longest: Duration,
}

impl Backoff {
    /// How long to wait after so many failures, 0 and 1 alike.
    pub fn after(self, failures: u32) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(16));
        doubled.min(self.longest)
    }

    /// The same with `jitter`, between 0 and 1: from a half of it to all. Those that failed together are not to come back together.
    pub fn jittered(self, failures: u32, jitter: f64) -> Duration {
        self.after(failures).mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_chance_takes_half_of_them_at_most() {
        let seconds = Duration::from_secs;
        let backoff = Backoff {
            first: seconds(2),
            longest: seconds(30),
        };
        let waits = [0, 1, 2, 3, 4, 5, u32::MAX].map(|failures| backoff.after(failures).as_secs());
        assert_eq!(waits, [2, 2, 4, 8, 16, 30, 30]);
        assert_eq!(backoff.jittered(3, 0.0), seconds(4));
        assert_eq!(backoff.jittered(3, 1.0), seconds(8));
        assert_eq!(backoff.jittered(3, 7.0), seconds(8));
    }
}
