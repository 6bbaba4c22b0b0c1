//! The rules of the peers, as they are documented, for comparing them with our own. Must not know our tests, and judges nobody.
//!
//! - **Flagger** 1.44: each minute a metric outside of its range, or without a value, is a failed check; failed checks add up
//!   over the whole canary; once they reach the threshold the *next* check rolls back.
//! - **Argo Rollouts** 1.10: each minute a measurement that misses its condition, or has no value, is a failure of its metric;
//!   more than `failureLimit` failures of one metric fail the analysis.

use super::sequential::Tally;

/// What a rule looks at once a minute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measurement {
    /// The canary's calls of that minute, and the bad ones among them.
    pub calls: Tally,
    /// The share of bad calls that is still good, 0 to 1.
    pub allowed: f64,
}

impl Measurement {
    /// Whether it is out of range; no value is.
    pub fn misses(&self) -> bool {
        self.calls.total == 0 || self.calls.rate() > self.allowed
    }
}

/// A rule that is asked once a minute.
pub trait MinuteRule {
    /// One minute's measurements, always the same ones in the same order; whether it rolls back now.
    fn minute(&mut self, measurements: &[Measurement]) -> bool;
}

/// Flagger's rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flagger {
    threshold: u32,
    failed: u32,
}

impl Flagger {
    /// With this `threshold` of failed checks.
    pub fn new(threshold: u32) -> Self {
        Self { threshold, failed: 0 }
    }
}

impl MinuteRule for Flagger {
    fn minute(&mut self, measurements: &[Measurement]) -> bool {
        if self.failed >= self.threshold {
            return true;
        }
        self.failed += u32::from(measurements.iter().any(Measurement::misses));
        false
    }
}

/// Argo Rollouts' rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argo {
    limit: u32,
    failed: Vec<u32>,
}

impl Argo {
    /// With this `failureLimit` for each metric.
    pub fn new(limit: u32) -> Self {
        Self {
            limit,
            failed: Vec::new(),
        }
    }
}

impl MinuteRule for Argo {
    fn minute(&mut self, measurements: &[Measurement]) -> bool {
        self.failed.resize(measurements.len(), 0);
        for (failed, measurement) in self.failed.iter_mut().zip(measurements) {
            *failed += u32::from(measurement.misses());
        }
        self.failed.iter().any(|failed| *failed > self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bad: u64, total: u64) -> Measurement {
        Measurement {
            calls: Tally::new(bad, total),
            allowed: 0.01,
        }
    }

    #[test]
    fn flagger_rolls_back_a_minute_after_its_last_allowed_failure_and_never_forgets_one() {
        let mut rule = Flagger::new(2);
        let minutes = [of(5, 100), of(0, 100), of(5, 100), of(0, 100)];
        assert_eq!(
            minutes.map(|minute| rule.minute(&[minute])),
            [false, false, false, true]
        );
    }

    #[test]
    fn argo_counts_each_metric_by_itself() {
        let mut rule = Argo::new(1);
        let (good, bad) = (of(0, 100), of(5, 100));
        assert!(!rule.minute(&[bad, good]));
        assert!(!rule.minute(&[good, bad]));
        assert!(rule.minute(&[good, bad]));
    }

    #[test]
    fn no_calls_are_failures_to_both() {
        assert!(Argo::new(0).minute(&[of(0, 0)]));
        let mut flagger = Flagger::new(1);
        assert!(!flagger.minute(&[of(0, 0)]));
        assert!(flagger.minute(&[of(0, 100)]));
    }
}
