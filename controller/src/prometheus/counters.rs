//! Exact differences of raw counters. Pure integers: must not know what is counted.
//!
//! # Guarantees
//! - Over adjoining ticks the differences add up to the counter's whole growth: nothing is counted twice, and nothing is
//!   lost as long as the pod is seen.
//! - A value that went down is a counter that began anew: the new value is what it has counted since.
//! - What can't be known is not counted: it is never guessed from a rate.

use super::answer::Sample;

/// Counters above this are no longer exact in Prometheus's floats.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A tick in milliseconds since the epoch, and how far back samples speak for its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// Exclusive.
    pub(super) start: i64,
    /// Inclusive.
    pub(super) end: i64,
    /// A pod whose last scrape is older than this is not seen.
    pub(super) stale: i64,
    /// Samples older than this before `start` are not looked at.
    pub(super) lookback: i64,
}

impl Window {
    /// Whether a time lies before the tick and is looked at.
    pub(super) fn is_before(&self, at: i64) -> bool {
        at > self.start.saturating_sub(self.lookback) && at <= self.start
    }

    /// Whether a time lies in the tick.
    pub(super) fn is_inside(&self, at: i64) -> bool {
        at > self.start && at <= self.end
    }
}

/// What is known of a pod's counters at the start of a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Baseline {
    /// The pod was seen then: a series has the value of its last sample, or zero if it did not exist yet.
    Seen,
    /// The process began after anybody could have seen it: its counters began at zero.
    Zero,
    /// The pod was out of sight: counting begins with the first sample inside of the tick.
    Unknown,
}

/// How much a counter grew in the tick; `resets` are the times at which its process was first seen to have begun anew.
/// Samples that are no counts are left out, and their number is returned beside.
pub(super) fn growth(samples: &[Sample], window: &Window, baseline: Baseline, resets: &[i64]) -> (u64, usize) {
    let mut garbage = 0;
    let mut counts = |within: fn(&Window, i64) -> bool| {
        let mut out = Vec::new();
        for sample in samples.iter().filter(|s| within(window, s.at)) {
            match count(sample.value) {
                Some(value) => out.push((sample.at, value)),
                None => garbage += 1,
            }
        }
        out
    };
    let before = counts(Window::is_before).last().copied();
    let inside = counts(Window::is_inside);
    let mut last = match baseline {
        Baseline::Seen => before.or(Some((window.start, 0))),
        Baseline::Zero => Some((window.start, 0)),
        Baseline::Unknown => None,
    };
    let mut grown = 0u64;
    for (at, value) in inside {
        if let Some((since, was)) = last {
            let began_anew = value < was || resets.iter().any(|reset| *reset > since && *reset <= at);
            grown = grown.saturating_add(if began_anew { value } else { value - was });
        }
        last = Some((at, value));
    }
    (grown, garbage)
}

/// A counter's value: a whole number that a float holds exactly.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be whole and in range"
)]
pub(super) fn count(value: f64) -> Option<u64> {
    (value.is_finite() && (0.0..EXACT).contains(&value) && value.fract() == 0.0).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Window = Window {
        start: 100,
        end: 120,
        stale: 30,
        lookback: 60,
    };

    fn samples(of: &[(i64, f64)]) -> Vec<Sample> {
        of.iter().map(|(at, value)| Sample { at: *at, value: *value }).collect()
    }

    fn grown(of: &[(i64, f64)], baseline: Baseline) -> u64 {
        growth(&samples(of), &TICK, baseline, &[]).0
    }

    #[test]
    fn counts_from_the_last_sample_before_to_the_last_one_inside() {
        let of = [(80, 5.0), (95, 10.0), (105, 12.0), (115, 20.0), (125, 99.0)];
        assert_eq!(grown(&of, Baseline::Seen), 10);
    }

    #[test]
    fn the_start_is_exclusive_and_the_end_inclusive() {
        assert_eq!(grown(&[(100, 10.0), (120, 13.0)], Baseline::Seen), 3);
    }

    #[test]
    fn a_new_series_of_a_seen_pod_counts_from_zero() {
        assert_eq!(
            grown(&[(110, 3.0)], Baseline::Seen),
            3,
            "such as the first failure ever"
        );
    }

    #[test]
    fn a_pod_out_of_sight_counts_from_its_first_sample() {
        assert_eq!(
            grown(&[(50, 1.0), (105, 1_000.0), (115, 1_003.0)], Baseline::Unknown),
            3
        );
    }

    #[test]
    fn a_value_that_went_down_began_anew() {
        assert_eq!(
            grown(&[(95, 100.0), (105, 104.0), (110, 3.0), (115, 5.0)], Baseline::Seen),
            4 + 3 + 2
        );
    }

    #[test]
    fn a_restart_is_told_by_the_process_even_when_the_value_rose() {
        let of = samples(&[(95, 3.0), (105, 50.0)]);
        assert_eq!(growth(&of, &TICK, Baseline::Seen, &[105]).0, 50);
        assert_eq!(
            growth(&of, &TICK, Baseline::Seen, &[95]).0,
            47,
            "a restart before the last sample is past"
        );
    }

    #[test]
    fn a_pod_that_went_away_counts_up_to_its_last_sample() {
        assert_eq!(grown(&[(95, 10.0), (102, 12.0)], Baseline::Seen), 2);
        assert_eq!(grown(&[(95, 10.0)], Baseline::Seen), 0);
    }

    #[test]
    fn what_is_no_count_is_left_out_and_said() {
        let of = samples(&[
            (95, 10.0),
            (101, f64::NAN),
            (103, -1.0),
            (105, 1.5),
            (107, f64::INFINITY),
            (110, 14.0),
        ]);
        assert_eq!(growth(&of, &TICK, Baseline::Seen, &[]), (4, 4));
    }
}
