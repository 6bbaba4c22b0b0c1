//! Users' own metrics: exact counts from raw samples of any counter, series by series, and values at the ends of ticks. Pure;
//! must not know a server or a verdict.
//!
//! # Guarantees
//! As with the proxies' counters: integers only, and over adjoining ticks the differences add up. A series that is new on a
//! pod which was seen before counts from zero, such as the first failure ever.
//!
//! # Caveats
//! Other exporters don't say whether a pod is new or was out of sight. So a pod that was not seen before counts from its first
//! sample on, in both counters alike, unless it is the canary's and the trial itself is as young.

use std::collections::BTreeMap;

use serin_core::analysis::sequential::Tally;

use super::answer::{Sample, Series};
use super::counters::{Baseline, Window, growth};

/// Labels that several servers put on the same series.
const REPLICA_LABELS: [&str; 4] = ["prometheus_replica", "__replica__", "receive_replica", "prometheus"];

/// One series as each server has it, by those labels.
type Servers<'a> = BTreeMap<[&'a str; REPLICA_LABELS.len()], &'a Series>;

/// A counter falls when its process begins anew: to little, and seldom.
const FALLS: usize = 3;
/// A fall from so much to more than half of it is no new beginning.
const LARGE: f64 = 100.0;

/// How a tick of one arm is counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// The tick.
    pub(super) window: Window,
    /// Whether a pod that was never seen before counts from zero.
    pub(super) new_pods_from_zero: bool,
}

/// Which of the two queries is wrong, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    /// `bad` or `total`.
    pub(super) field: &'static str,
    /// What is wrong and what would be right.
    pub(super) problem: String,
}

/// What each pod counted in the tick.
pub(super) fn count(bad: &[Series], total: &[Series], rules: &Rules) -> BTreeMap<String, Tally> {
    let (bad, total) = (once(bad, &rules.window), once(total, &rules.window));
    let mut scrapes: BTreeMap<[&str; 2], i64> = BTreeMap::new();
    for one in bad.iter().chain(&total) {
        let seen = one.samples.iter().map(|sample| sample.at);
        let looked_at = seen.filter(|at| rules.window.is_before(*at) || rules.window.is_inside(*at));
        if let Some(first) = looked_at.min() {
            let known = scrapes.entry(target(one)).or_insert(first);
            *known = first.min(*known);
        }
    }
    let mut pods: BTreeMap<String, Tally> = BTreeMap::new();
    let mut add = |series: &[&Series], to: fn(&mut Tally) -> &mut u64| {
        for one in series {
            let grown = growth(&one.samples, &rules.window, baseline(one, &scrapes, rules), &[]).0;
            let slot = to(pods.entry(pod(one).to_owned()).or_default());
            *slot = slot.saturating_add(grown);
        }
    };
    add(&bad, |tally| &mut tally.bad);
    add(&total, |tally| &mut tally.total);
    pods
}

/// What is wrong with series that should be counters.
pub(super) fn check(bad: &[Series], total: &[Series], window: &Window) -> Option<Wrong> {
    let of = |field: &'static str, series: &[Series]| {
        let problem = series.iter().find_map(|one| {
            // Only what speaks for this tick: the same samples make the same tick, whatever else is asked for with it.
            let looked_at = one.samples.iter().copied();
            let looked_at: Vec<_> = looked_at.filter(|s| window.is_before(s.at) || window.is_inside(s.at)).collect();
            let why = not_a_counter(&looked_at)?;
            Some(format!(
                "{} is no counter: {why}; write one that only rises, by whole numbers, or use `query` with `min` and `max`",
                named(one)
            ))
        });
        problem.map(|problem| Wrong { field, problem })
    };
    of("bad", bad).or_else(|| of("total", total))
}

fn baseline(one: &Series, scrapes: &BTreeMap<[&str; 2], i64>, rules: &Rules) -> Baseline {
    let window = &rules.window;
    let first = one
        .samples
        .iter()
        .map(|s| s.at)
        .find(|at| window.is_before(*at) || window.is_inside(*at));
    let pod_seen_before = match (first, scrapes.get(&target(one))) {
        (Some(first), Some(seen)) => *seen < first || window.is_before(first),
        _ => false,
    };
    if pod_seen_before {
        Baseline::Seen
    } else if rules.new_pods_from_zero {
        Baseline::Zero
    } else {
        Baseline::Unknown
    }
}

fn not_a_counter(samples: &[Sample]) -> Option<String> {
    let whole = |value: f64| value.is_finite() && value >= 0.0 && value.fract() == 0.0;
    if let Some(sample) = samples.iter().find(|sample| !whole(sample.value)) {
        return Some(format!("it had the value {}", sample.value));
    }
    let pairs = || samples.iter().zip(samples.iter().skip(1));
    let falls = || pairs().filter(|(was, is)| is.value < was.value);
    if let Some((was, is)) = falls().find(|(was, is)| was.value >= LARGE && is.value > was.value / 2.0) {
        return Some(format!("it fell from {} to {}", was.value, is.value));
    }
    let fallen = falls().count();
    (fallen >= FALLS).then(|| format!("it fell {fallen} times in a short while"))
}

/// Each series once, though several servers saw it. Servers scrape at different instants, so it is the same one from tick to tick: the
/// first that has at least three quarters of the best one's samples.
fn once<'a>(series: &'a [Series], window: &Window) -> Vec<&'a Series> {
    let mut all: BTreeMap<Vec<(&str, &str)>, Servers<'_>> = BTreeMap::new();
    for one in series {
        let key = one
            .labels
            .iter()
            .filter(|(name, _)| !REPLICA_LABELS.contains(name))
            .collect();
        let server = REPLICA_LABELS.map(|label| one.label(label));
        all.entry(key).or_default().entry(server).or_insert(one);
    }
    let seen = |one: &Series| {
        let samples = one.samples.iter();
        samples
            .filter(|s| window.is_before(s.at) || window.is_inside(s.at))
            .count()
    };
    let chosen = all.into_values().filter_map(|servers| {
        let best = servers.values().map(|one| seen(one)).max()?;
        servers.into_values().find(|one| seen(one) * 4 >= best * 3)
    });
    chosen.collect()
}

/// What is scraped together.
fn target(one: &Series) -> [&str; 2] {
    [pod(one), one.label("job")]
}

fn pod(one: &Series) -> &str {
    match one.label("pod") {
        "" => one.label("instance"),
        pod => pod,
    }
}

fn named(one: &Series) -> String {
    let name = one.label("__name__");
    match pod(one) {
        "" => name.to_owned(),
        pod => format!("{name} of {pod}"),
    }
}

/// The value of a query at a time, from the points that it has there.
pub(super) fn value_at(series: &[Series], at: i64) -> Result<Option<f64>, String> {
    let mut there = series.iter().filter_map(|one| {
        let sample = one.samples.iter().find(|sample| sample.at == at)?;
        Some((one, sample.value))
    });
    match (there.next(), there.next()) {
        (None, _) => Ok(None),
        (Some((_, value)), None) => Ok(Some(value).filter(|value| value.is_finite())),
        (Some(_), Some(_)) => Err(format!(
            "it gives {} series where one number is meant; put sum(…) or max(…) around it",
            2 + there.count()
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TICK: Window = Window {
        start: 100,
        end: 120,
        stale: 30,
        lookback: 60,
    };

    fn counted(bad: &[Series], total: &[Series], new_pods_from_zero: bool) -> (u64, u64) {
        let rules = Rules {
            window: TICK,
            new_pods_from_zero,
        };
        let pods = count(bad, total, &rules);
        (pods.values().map(|t| t.bad).sum(), pods.values().map(|t| t.total).sum())
    }

    #[test]
    fn counts_series_by_series_and_sees_each_begin_anew() {
        let a = Series::of(&[("pod", "a")], &[(95, 1_000.0), (105, 1_010.0), (115, 4.0)]);
        let b = Series::of(&[("pod", "b")], &[(95, 50.0), (115, 60.0)]);
        assert_eq!(counted(&[], &[a, b], false), (0, 10 + 4 + 10));
    }

    #[test]
    fn the_first_bad_one_of_a_known_pod_counts() {
        let total = Series::of(&[("pod", "a")], &[(95, 100.0), (105, 110.0), (115, 120.0)]);
        let bad = Series::of(&[("pod", "a"), ("code", "13")], &[(115, 3.0)]);
        assert_eq!(counted(&[bad], &[total], false), (3, 20));
    }

    #[test]
    fn a_pod_that_comes_into_sight_counts_from_its_first_sample_unless_it_is_new() {
        let total = [Series::of(&[("pod", "a")], &[(105, 40.0), (115, 50.0)])];
        let bad = [Series::of(&[("pod", "a"), ("code", "13")], &[(115, 3.0)])];
        assert_eq!(counted(&bad, &total, false), (3, 10));
        assert_eq!(counted(&bad, &total, true), (3, 50));
    }

    #[test]
    fn what_two_servers_saw_counts_once() {
        let of = |replica| {
            Series::of(
                &[("pod", "a"), ("prometheus_replica", replica)],
                &[(95, 1.0), (115, 9.0)],
            )
        };
        assert_eq!(counted(&[], &[of("0"), of("1")], false), (0, 8));
    }

    /// What adjoining ticks count of these samples, up to the second 1,000.
    fn sum_of_ticks(total: &[Series]) -> u64 {
        let tick = |n: i64| Rules {
            window: Window {
                start: n * 20,
                end: n * 20 + 20,
                ..TICK
            },
            new_pods_from_zero: false,
        };
        let ticks = (0..50).map(|n| count(&[], total, &tick(n)));
        ticks.flat_map(BTreeMap::into_values).map(|tally| tally.total).sum()
    }

    #[test]
    fn servers_that_scrape_at_different_instants_count_nothing_twice() {
        // A call a second. One server misses a scrape now and then, so that each is the one with more samples at times.
        let server = |replica, offset: i64, misses: i64| {
            let scrapes = (1..50).map(|n| (n, n * 10 + offset)).filter(|(n, _)| n % misses != 0);
            let samples: Vec<_> = scrapes
                .map(|(n, at)| (at, f64::from(i32::try_from(n * 10 + offset).unwrap())))
                .collect();
            Series::of(&[("pod", "a"), ("prometheus_replica", replica)], &samples)
        };
        let (one, other) = (server("0", 0, 9), server("1", 6, 7));
        assert_eq!(
            sum_of_ticks(&[other.clone(), one.clone()]),
            sum_of_ticks(std::slice::from_ref(&one))
        );
        assert_eq!(sum_of_ticks(std::slice::from_ref(&one)), 490 - 10);
    }

    proptest! {
        #[test]
        fn adjoining_ticks_add_up_to_all_that_was_counted(scrapes in prop::collection::vec((1i64..15, 0u32..50, 0u8..10), 1..60)) {
            let (mut at, mut value, mut all, mut samples) = (0, 0u32, 0u64, Vec::new());
            for (gap, grown, luck) in scrapes {
                at += gap;
                if luck == 0 && value > 0 {
                    // It began anew, and has counted less since than before.
                    value = grown % value;
                    all += u64::from(value);
                } else {
                    value += grown;
                    all += u64::from(grown);
                }
                if samples.is_empty() {
                    // What it counted before it was seen first is not known to be of now.
                    all = 0;
                }
                samples.push((at, f64::from(value)));
            }
            prop_assert_eq!(sum_of_ticks(&[Series::of(&[("pod", "a")], &samples)]), all);
        }
    }

    #[test]
    fn what_is_no_counter_is_said_by_its_name() {
        let of = |samples: &[(i64, f64)]| {
            let one = Series::of(&[("__name__", "queue"), ("pod", "a")], samples);
            check(&[], &[one], &TICK).map(|wrong| (wrong.field, wrong.problem))
        };
        let says = |samples: &[(i64, f64)], what: &str| {
            let (field, problem) = of(samples).unwrap();
            assert_eq!(field, "total");
            assert!(
                problem.starts_with("queue of a is no counter: ") && problem.contains(what),
                "{problem}"
            );
        };
        says(&[(95, 1.0), (105, 1.5)], "it had the value 1.5");
        says(&[(95, -1.0)], "it had the value -1");
        says(&[(95, 900.0), (105, 600.0)], "it fell from 900 to 600");
        says(
            &[(75, 5.0), (85, 4.0), (95, 6.0), (105, 3.0), (115, 2.0)],
            "it fell 3 times",
        );
        assert_eq!(
            of(&[(85, 5_000.0), (95, 3.0), (105, 9.0)]),
            None,
            "a restart is no fall"
        );
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn one_number_is_one_number() {
        let one = |labels: &[(&str, &str)], value| Series::of(labels, &[(120, value)]);
        assert_eq!(value_at(&[one(&[], 812.0)], 120), Ok(Some(812.0)));
        assert_eq!(value_at(&[one(&[], 812.0)], 140), Ok(None));
        assert_eq!(value_at(&[one(&[], f64::NAN)], 120), Ok(None));
        let three = ["a", "b", "c"].map(|pod| one(&[("pod", pod)], 1.0));
        assert!(value_at(&three, 120).unwrap_err().contains("3 series"));
    }
}
