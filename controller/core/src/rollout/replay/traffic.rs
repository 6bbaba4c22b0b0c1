//! Which of the recorded calls each arm would have answered at a weight. Must not know verdicts.
//!
//! Recorded calls stay as they were. Where the plan is to divide them instead, the canary gets its weight's share of all calls,
//! and stable the rest, picked from what each arm answered without putting any back: calls are never made up. Picks come from
//! a generator that is seeded by the tick, so that a replay is the same each time.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::recording::{self, Recording};
use crate::Weight;
use crate::analysis::sequential::{Arms, Tally};
use crate::analysis::{ArmSample, Counts};

/// Above so many picks the number of bad ones among them is drawn from the normal distribution that it is then.
const MOST_PICKS: u64 = 1 << 18;

/// How calls were divided between the arms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Division {
    /// As they were, whatever the plan's weights are: for the past of a rollout.
    Recorded,
    /// By the plan's weights.
    Plan {
        /// Another one picks other calls.
        seed: u64,
    },
}

/// One tick as it is replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Divided {
    pub(super) canary: ArmSample,
    pub(super) stable: ArmSample,
    /// What the canary would have answered; more than it has calls for when it had too few.
    pub(super) served: Counts,
    /// Whether it had too few.
    pub(super) short: bool,
    /// For each of the recording's pairs of counters.
    pub(super) own: Vec<Arms>,
}

/// A weight from a time on.
pub(super) type Weights = Vec<(Timestamp, Weight)>;

/// Divides tick after tick.
#[derive(Debug)]
pub(super) struct Divider<'a> {
    recording: &'a Recording,
    division: Division,
    /// What was left over of the canary's share, in parts of a call.
    carry: u128,
    /// The same of each pair of counters.
    own_carry: Vec<u128>,
}

impl<'a> Divider<'a> {
    pub(super) fn new(recording: &'a Recording, division: Division) -> Self {
        Self {
            recording,
            division,
            carry: 0,
            own_carry: Vec::new(),
        }
    }

    /// The tick that ends then, at these weights; calls with these gRPC codes are failures too.
    pub(super) fn tick(&mut self, end: Timestamp, weights: &Weights, failure_codes: &[u8]) -> Divided {
        let bounds = self.recording.draft().bounds_ms.len();
        let tick = self.recording.tick(end);
        let canary = recording::arm(tick.map(|tick| &tick.canary), bounds, failure_codes);
        let stable = recording::arm(tick.map(|tick| &tick.stable), bounds, failure_codes);
        let Division::Plan { seed } = self.division else {
            return Divided {
                served: canary.counts.clone(),
                canary,
                stable,
                short: false,
                own: self.recording.own(end),
            };
        };
        let (has, beside) = (canary.counts.requests, stable.counts.requests);
        let all = together(self.recording, has, beside);
        let wanted = share(self.recording, &mut self.carry, all, end, weights);
        let mut picks = Picks::new(seed, end);
        let canary = ArmSample {
            counts: picks.some(&canary.counts, wanted),
            // Calls are picked from the whole arm.
            pods: Vec::new(),
            ..canary
        };
        let stable = ArmSample {
            counts: picks.some(&stable.counts, all - wanted),
            pods: Vec::new(),
            ..stable
        };
        let mut own = self.recording.own(end);
        self.own_carry.resize(own.len(), 0);
        for (arms, carry) in own.iter_mut().zip(&mut self.own_carry) {
            let all = together(self.recording, arms.canary.total, arms.stable.total);
            let wanted = share(self.recording, carry, all, end, weights);
            arms.canary = picks.tally(arms.canary, wanted);
            arms.stable = picks.tally(arms.stable, all - wanted);
        }
        let short = canary.counts.requests < wanted;
        Divided {
            served: scaled(&canary.counts, wanted),
            short,
            canary,
            stable,
            own,
        }
    }
}

/// What there is to divide; stable's calls of another time were no calls of this one.
fn together(recording: &Recording, canary: u64, stable: u64) -> u64 {
    if recording.draft().stable_earlier.is_zero() {
        canary.saturating_add(stable)
    } else {
        canary
    }
}

/// The canary's part of so many calls, by how long each weight stood in the tick; what is left over goes to the next tick.
fn share(recording: &Recording, carry: &mut u128, all: u64, end: Timestamp, weights: &Weights) -> u64 {
    let end = end.as_millisecond();
    let start = end.saturating_sub(recording.length());
    let mut part: u128 = 0;
    for (place, (since, weight)) in weights.iter().enumerate() {
        let until = weights
            .get(place + 1)
            .map_or(i64::MAX, |(next, _)| next.as_millisecond());
        let stood = until.min(end).saturating_sub(since.as_millisecond().max(start)).max(0);
        part += u128::from(stood.unsigned_abs()) * u128::from(weight.percent());
    }
    let whole = u128::from(recording.length().unsigned_abs()) * 100;
    let calls = u128::from(all) * part + *carry;
    *carry = calls % whole;
    u64::try_from(calls / whole).unwrap_or(u64::MAX).min(all)
}

/// What so many calls would have been like; bad ones are rounded up. Without any call to go by they are good.
fn scaled(of: &Counts, calls: u64) -> Counts {
    let bad = |bad: u64| {
        let all = u128::from(of.requests.max(1));
        let bad = (u128::from(bad) * u128::from(calls)).div_ceil(all);
        u64::try_from(bad).unwrap_or(u64::MAX).min(calls)
    };
    Counts {
        requests: calls,
        failures: bad(of.failures),
        slow: of.slow.iter().map(|slow| bad(*slow)).collect(),
    }
}

/// Picks calls without putting them back, by SplitMix64.
struct Picks(u64);

impl Picks {
    fn new(seed: u64, end: Timestamp) -> Self {
        let mut picks = Self(seed ^ end.as_millisecond().unsigned_abs().rotate_left(32));
        picks.next();
        picks
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `limit`, which is not 0.
    fn below(&mut self, limit: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(limit);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// `calls` of these, or all if they are no more. Failures and slowness are picked each by itself: which failed calls were
    /// slow was never counted.
    fn some(&mut self, of: &Counts, calls: u64) -> Counts {
        if calls >= of.requests {
            return of.clone();
        }
        let failures = self.among(of.requests, of.failures, calls);
        // Calls slower than a bound are among those slower than the one below.
        let (mut from, mut picked) = (of.requests, calls);
        let slow = of.slow.iter().map(|slow| {
            let slow = (*slow).min(from);
            picked = self.among(from, slow, picked);
            from = slow;
            picked
        });
        let slow = slow.collect();
        Counts {
            requests: calls,
            failures,
            slow,
        }
    }

    /// `calls` of a pair of counters' calls, or all if they are no more.
    fn tally(&mut self, of: Tally, calls: u64) -> Tally {
        if calls >= of.total {
            return of;
        }
        Tally::new(self.among(of.total, of.bad, calls), calls)
    }

    /// How many of the `bad` among `all` are among `picked` ones.
    fn among(&mut self, all: u64, bad: u64, picked: u64) -> u64 {
        let (bad, picked) = (bad.min(all), picked.min(all));
        // Bad and picked may change places, and so may bad and good: the fewest picks are the cheapest.
        if bad > all / 2 {
            return picked - self.among(all, all - bad, picked);
        }
        if picked > all / 2 {
            return bad - self.among(all, bad, all - picked);
        }
        let (few, many) = (bad.min(picked), bad.max(picked));
        if few > MOST_PICKS {
            return self.normal(all, bad, picked);
        }
        let (mut hits, mut left) = (0, all);
        for _ in 0..few {
            hits += u64::from(self.below(left) < many - hits);
            left -= 1;
        }
        hits
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "limited to what is possible"
    )]
    fn normal(&mut self, all: u64, bad: u64, picked: u64) -> u64 {
        let (n, k, m) = (all as f64, bad as f64, picked as f64);
        let mean = m * (k / n);
        let deviation = (mean * (1.0 - k / n) * ((n - m) / (n - 1.0))).sqrt();
        let sum: f64 = (0..12).map(|_| (self.next() >> 11) as f64 / (1u64 << 53) as f64).sum();
        ((mean + deviation * (sum - 6.0)).round().max(0.0) as u64).min(bad.min(picked))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn picks(seed: u64) -> Picks {
        Picks::new(seed, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn picks_have_the_share_of_bad_calls_that_all_calls_have() {
        let total: u64 = (0..400).map(|seed| picks(seed).among(1_000, 50, 100)).sum();
        // 400 × 100 × 5 % = 2,000, with a deviation of 41.
        assert!((1_850..2_150).contains(&total), "{total}");
    }

    #[test]
    fn many_picks_have_it_too() {
        let picked = picks(1).among(1_000_000_000_000, 10_000_000_000, 100_000_000_000);
        assert!(picked.abs_diff(1_000_000_000) < 200_000, "{picked}");
    }

    proptest! {
        #[test]
        fn no_more_bad_calls_are_picked_than_there_are_and_no_fewer_than_must_be(
            all in 0u64..=1_000_000_000_000, bad in 0u64..=1_000_000_000_000, picked in 0u64..=1_000_000_000_000, seed: u64
        ) {
            let (bad, picked) = (bad % (all + 1), picked % (all + 1));
            let hits = picks(seed).among(all, bad, picked);
            prop_assert!(hits <= bad.min(picked));
            prop_assert!(hits + (all - picked) >= bad, "{hits} of {bad} in {picked} of {all}");
        }

        #[test]
        fn a_slower_bound_never_has_more(
            counts in (0u64..5_000, prop::collection::vec(0u64..5_000, 4)), calls in 0u64..6_000, seed: u64
        ) {
            let (requests, mut slow) = counts;
            for bound in &mut slow {
                *bound = (*bound).min(requests);
            }
            slow.sort_unstable_by(|a, b| b.cmp(a));
            let failures = slow.get(1).copied().unwrap_or(0);
            let of = Counts { requests, failures, slow };
            let some = picks(seed).some(&of, calls);
            prop_assert_eq!(some.requests, calls.min(requests));
            prop_assert!(some.failures <= some.requests);
            prop_assert!(some.slow.iter().all(|slow| *slow <= some.requests));
            prop_assert!(some.slow.windows(2).all(|pair| pair[0] >= pair[1]));
        }
    }
}
