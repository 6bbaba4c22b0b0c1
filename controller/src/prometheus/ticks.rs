//! Which ticks there are. Pure: aligned to the epoch, so that every controller cuts the same ones.

use jiff::{SignedDuration, Timestamp};

/// No more than this many at once, the oldest first: the rest comes with the next call.
const MOST: usize = 1_000;

/// The ticks that lie wholly after `as_of` and can be computed at `now`, as `(start, end)`, in order.
///
/// `end` is a multiple of `interval` since the epoch. A tick is due `settle` after its end (one scrape, so that late
/// samples are in). A tick that straddles `as_of` is never returned: `as_of` is the end of the last tick, or when the
/// weight changed. An interval that is not positive has no ticks.
pub fn ticks_due(
    as_of: Timestamp,
    now: Timestamp,
    interval: SignedDuration,
    settle: SignedDuration,
) -> Vec<(Timestamp, Timestamp)> {
    let mut ticks = ticks_between(as_of, now, interval, settle);
    ticks.truncate(MOST);
    ticks
}

/// The same, however many they are: for a stretch of the past that is looked at once.
pub fn ticks_between(
    as_of: Timestamp,
    now: Timestamp,
    interval: SignedDuration,
    settle: SignedDuration,
) -> Vec<(Timestamp, Timestamp)> {
    let step = interval.as_nanos();
    if step <= 0 {
        return Vec::new();
    }
    let first = aligned(as_of, interval);
    let last_end = now.as_nanosecond().saturating_sub(settle.as_nanos().max(0));
    std::iter::successors(Some(first.as_nanosecond()), |start| start.checked_add(step))
        .map(|start| (start, start.saturating_add(step)))
        .take_while(|(_, end)| *end <= last_end)
        .map_while(|(start, end)| {
            Some((
                Timestamp::from_nanosecond(start).ok()?,
                Timestamp::from_nanosecond(end).ok()?,
            ))
        })
        .collect()
}

/// When the first tick begins that lies wholly after `as_of`.
pub(super) fn aligned(as_of: Timestamp, interval: SignedDuration) -> Timestamp {
    let step = interval.as_nanos().max(1);
    let rest = as_of.as_nanosecond().rem_euclid(step);
    let start = as_of.as_nanosecond() + if rest == 0 { 0 } else { step - rest };
    Timestamp::from_nanosecond(start).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    fn secs(s: i64) -> SignedDuration {
        SignedDuration::from_secs(s)
    }

    fn due(as_of: i64, now: i64, interval: i64, settle: i64) -> Vec<(i64, i64)> {
        ticks_due(at(as_of), at(now), secs(interval), secs(settle))
            .into_iter()
            .map(|(start, end)| (start.as_millisecond(), end.as_millisecond()))
            .collect()
    }

    #[test]
    fn a_tick_is_due_one_scrape_after_its_end() {
        assert_eq!(due(40_000, 69_999, 20, 10), []);
        assert_eq!(due(40_000, 70_000, 20, 10), [(40_000, 60_000)]);
    }

    #[test]
    fn a_tick_that_straddles_the_beginning_is_dropped() {
        assert_eq!(due(40_001, 100_000, 20, 10), [(60_000, 80_000)]);
    }

    #[test]
    fn nothing_is_due_of_the_future_or_of_no_interval() {
        assert_eq!(due(100_000, 50_000, 20, 10), []);
        assert_eq!(due(0, 50_000, 0, 10), []);
        assert_eq!(due(0, 50_000, -5, 10), []);
    }

    #[test]
    fn a_long_absence_is_caught_up_in_order() {
        let ticks = due(0, 1_000_000_000, 1, 0);
        assert_eq!(ticks.len(), MOST);
        assert_eq!(ticks.first(), Some(&(0, 1_000)));
    }

    proptest! {
        #[test]
        fn however_often_it_is_asked_the_ticks_are_the_same(
            as_of in 0i64..100_000, pauses in prop::collection::vec(0i64..90_000, 1..12), interval in 1i64..40, settle in 0i64..15
        ) {
            let end = as_of + pauses.iter().sum::<i64>();
            let at_once = due(as_of, end, interval, settle);
            let (mut now, mut seen, mut one_by_one) = (as_of, as_of, Vec::new());
            for pause in pauses {
                now += pause;
                one_by_one.extend(due(seen, now, interval, settle));
                seen = one_by_one.last().map_or(as_of, |(_, end)| *end);
            }
            prop_assert_eq!(at_once, one_by_one);
        }
    }
}
