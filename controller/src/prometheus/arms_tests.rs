//! The counting against simulated proxies whose every call is known.

use proptest::prelude::*;

use super::*;

const SCRAPE: i64 = 10_000;
const TICK: i64 = 20_000;

fn window(start: i64, end: i64) -> Window {
    Window {
        start,
        end,
        stale: 3 * SCRAPE,
        lookback: 60_000,
    }
}

fn what(start: i64, end: i64) -> What<'static> {
    What {
        window: window(start, end),
        began: 0,
        extra_failure_codes: &[12],
        codes_apart: &[8],
        bounds_ms: &[100, 500],
    }
}

fn alive(pod: &str, scrapes: &[i64]) -> Series {
    let samples: Vec<_> = scrapes.iter().map(|at| (*at, 1.0)).collect();
    Series::of(&[("__name__", "proxy_build_info"), ("pod", pod)], &samples)
}

fn born(pod: &str, at_seconds: f64, scrapes: &[i64]) -> Series {
    let samples: Vec<_> = scrapes.iter().map(|at| (*at, at_seconds)).collect();
    Series::of(&[("__name__", "process_start_time_seconds"), ("pod", pod)], &samples)
}

fn calls(pod: &str, classification: &str, grpc_status: &str, samples: &[(i64, f64)]) -> Series {
    Series::of(
        &[
            ("__name__", "response_total"),
            ("pod", pod),
            ("classification", classification),
            ("grpc_status", grpc_status),
        ],
        samples,
    )
}

fn bucket(pod: &str, le: &str, samples: &[(i64, f64)]) -> Series {
    Series::of(
        &[("__name__", "response_latency_ms_bucket"), ("pod", pod), ("le", le)],
        samples,
    )
}

/// Answers that ended, of those that had begun.
fn ended(pod: &str, samples: &[(i64, f64)]) -> Series {
    let labels = [
        ("__name__", "response_total"),
        ("pod", pod),
        ("classification", "success"),
        ("grpc_status", "0"),
        ("status_code", "200"),
    ];
    Series::of(&labels, samples)
}

#[test]
fn open_streams_are_the_answers_that_began_and_did_not_end() {
    let all = [
        alive("a", &[105_000, 115_000]),
        bucket("a", "100", &[(105_000, 40.0), (115_000, 50.0)]),
        bucket("a", "+Inf", &[(105_000, 47.0), (115_000, 57.0)]),
        ended("a", &[(105_000, 40.0), (115_000, 50.0)]),
        // Broke before its answer began.
        calls("a", "failure", "", &[(105_000, 3.0), (115_000, 3.0)]),
        bucket("b", "+Inf", &[(116_000, 5.0)]),
        // Out of sight: what it has nobody knows.
        bucket("c", "+Inf", &[(60_000, 9.0)]),
    ];
    assert_eq!(count(&all, &what(100_000, 120_000)).open, 7 + 5);
}

fn counts(series: &[Series]) -> Counts {
    count(series, &what(100_000, 120_000)).sample.counts
}

#[test]
fn the_first_failure_of_a_known_pod_counts() {
    let got = counts(&[
        alive("a", &[95_000, 105_000, 115_000]),
        calls(
            "a",
            "success",
            "0",
            &[(95_000, 100.0), (105_000, 150.0), (115_000, 200.0)],
        ),
        calls("a", "failure", "14", &[(115_000, 7.0)]),
    ]);
    assert_eq!(
        got,
        Counts {
            requests: 107,
            failures: 7,
            slow: vec![0, 0]
        }
    );
}

#[test]
fn added_codes_are_failures() {
    let got = counts(&[
        alive("a", &[95_000, 115_000]),
        calls("a", "success", "12", &[(115_000, 3.0)]),
        calls("a", "success", "5", &[(115_000, 4.0)]),
    ]);
    assert_eq!((got.requests, got.failures), (7, 3));
}

#[test]
fn codes_that_are_asked_for_are_counted_by_themselves_unless_they_are_failures() {
    let series = [
        alive("a", &[95_000, 115_000]),
        calls("a", "success", "8", &[(115_000, 3.0)]),
        calls("a", "failure", "8", &[(115_000, 2.0)]),
    ];
    let counted = count_pods(&series, &what(100_000, 120_000));
    let pod = &counted.by_name["a"];
    assert_eq!((pod.counts.failures, pod.codes.as_slice()), (2, [3].as_slice()));
}

#[test]
fn a_pod_that_began_in_the_tick_counts_from_zero() {
    let got = counts(&[
        alive("new", &[112_000]),
        born("new", 104.0, &[112_000]),
        calls("new", "success", "0", &[(112_000, 9.0)]),
    ]);
    assert_eq!(got.requests, 9);
}

#[test]
fn an_old_pod_that_comes_into_sight_has_no_past() {
    let old = |began| {
        let got = [
            alive("old", &[105_000, 115_000]),
            born("old", began, &[105_000, 115_000]),
            calls("old", "success", "0", &[(105_000, 1_000_000.0), (115_000, 1_000_002.0)]),
        ];
        counts(&got).requests
    };
    assert_eq!(old(1.0), 2, "such as after an outage of Prometheus");
    assert_eq!(old(102.0), 1_000_002);
}

#[test]
fn a_pod_that_was_seen_before_an_outage_is_not_counted_twice() {
    let got = counts(&[
        alive("a", &[50_000, 115_000]),
        born("a", 45.0, &[50_000, 115_000]),
        calls("a", "success", "0", &[(50_000, 10.0), (115_000, 500.0)]),
    ]);
    assert_eq!(got.requests, 0, "when in the outage they came is not known");
}

#[test]
fn a_proxy_that_tells_no_birth_is_new_if_the_rollout_is() {
    let series = [alive("a", &[112_000]), calls("a", "success", "0", &[(112_000, 9.0)])];
    let mut young = what(100_000, 120_000);
    young.began = 90_000;
    assert_eq!(count(&series, &young).sample.counts.requests, 9);
    assert_eq!(counts(&series).requests, 0);
}

#[test]
fn slow_calls_are_those_above_the_bound_in_either_spelling() {
    let got = counts(&[
        alive("a", &[95_000, 115_000]),
        calls("a", "success", "0", &[(115_000, 100.0)]),
        bucket("a", "100", &[(115_000, 60.0)]),
        bucket("a", "500.0", &[(115_000, 90.0)]),
        bucket("a", "+Inf", &[(115_000, 100.0)]),
    ]);
    assert_eq!(got.slow, [40, 10]);
}

#[test]
fn no_more_calls_are_slow_than_were_answered() {
    let got = counts(&[
        alive("a", &[95_000, 115_000]),
        calls("a", "success", "0", &[(115_000, 2.0)]),
        bucket("a", "100.0", &[(115_000, 0.0)]),
        bucket("a", "500.0", &[(115_000, 0.0)]),
        bucket("a", "+Inf", &[(115_000, 3.0)]),
    ]);
    assert_eq!(got.slow, [2, 2]);
}

#[test]
fn a_bound_that_the_histogram_lacks_is_said_and_not_guessed() {
    let got = count(
        &[
            alive("a", &[95_000, 115_000]),
            calls("a", "success", "0", &[(115_000, 2.0)]),
            bucket("a", "100", &[(115_000, 1.0)]),
            bucket("a", "+Inf", &[(115_000, 2.0)]),
        ],
        &what(100_000, 120_000),
    );
    assert_eq!(got.missing_bounds, BTreeSet::from([500]));
}

#[test]
fn garbage_is_left_out_and_said() {
    let got = count(
        &[
            alive("a", &[95_000, 115_000]),
            calls("a", "failure", "2", &[(105_000, f64::NAN), (115_000, 4.0)]),
        ],
        &what(100_000, 120_000),
    );
    assert_eq!((got.sample.counts.failures, got.garbage), (4, 1));
}

#[test]
fn sight_is_a_fresh_scrape_and_needs_no_calls() {
    let sight = |series: &[Series]| count(series, &what(100_000, 120_000)).sample.sight;
    assert_eq!(sight(&[alive("a", &[91_000])]), Sight::Fresh);
    assert_eq!(sight(&[alive("a", &[90_000])]), Sight::Blind);
    assert_eq!(
        sight(&[alive("a", &[121_000])]),
        Sight::Blind,
        "what comes after the tick is not of it"
    );
    assert_eq!(sight(&[alive("a", &[50_000]), alive("b", &[119_000])]), Sight::Fresh);
    assert_eq!(sight(&[]), Sight::Blind);
}

#[test]
fn an_application_with_the_same_metric_is_no_proxy() {
    let app = Series::of(
        &[
            ("__name__", "process_start_time_seconds"),
            ("pod", "a"),
            ("job", "apps"),
        ],
        &[(101_000, 1.0), (105_000, 1.0), (110_000, 1.0), (119_000, 1.0)],
    );
    assert_eq!(count(&[app], &what(100_000, 120_000)).sample.sight, Sight::Blind);
}

/// One proxy process: when it began, and when it ended calls.
#[derive(Debug, Clone)]
struct Process {
    began: i64,
    good: Vec<i64>,
    bad: Vec<i64>,
}

#[derive(Debug, Clone)]
struct SimPod {
    processes: Vec<Process>,
    scrapes: Vec<i64>,
}

impl SimPod {
    fn at(&self, time: i64) -> Option<&Process> {
        self.processes.iter().rev().find(|p| p.began <= time)
    }

    /// What Prometheus has of it; a counter that is still zero is not exported, as Linkerd's are.
    fn series(&self, name: &str, view: &str) -> Vec<Series> {
        let value = |pick: fn(&Process) -> &Vec<i64>| {
            let of = |time: &i64| {
                let ended = pick(self.at(*time)?).iter().filter(|at| *at <= time).count();
                (ended > 0).then(|| (*time, f64::from(u32::try_from(ended).unwrap())))
            };
            self.scrapes.iter().filter_map(of).collect::<Vec<_>>()
        };
        let born = |time: i64| Some(f64::from(i32::try_from(self.at(time)?.began).unwrap()) / 1e3);
        let births: Vec<_> = self
            .scrapes
            .iter()
            .filter_map(|time| Some((*time, born(*time)?)))
            .collect();
        let seen: Vec<i64> = births.iter().map(|(t, _)| *t).collect();
        let mut out = vec![
            alive(name, &seen),
            Series::of(&[("__name__", "process_start_time_seconds"), ("pod", name)], &births),
            calls(name, "success", "0", &value(|p| &p.good)),
            calls(name, "failure", "14", &value(|p| &p.bad)),
        ];
        for one in &mut out {
            one.labels = one.labels.with("prometheus_replica", view);
        }
        out.retain(|one| !one.samples.is_empty());
        out
    }

    /// Calls that a scrape of their own process has seen after they ended.
    fn observable(&self) -> (u64, u64) {
        let mut sum = (0, 0);
        for (i, process) in self.processes.iter().enumerate() {
            let until = self.processes.get(i + 1).map_or(i64::MAX, |next| next.began);
            if let Some(last) = self.scrapes.iter().rev().find(|t| **t >= process.began && **t < until) {
                let ended = |calls: &[i64]| calls.iter().filter(|at| *at <= last).count() as u64;
                sum.0 += ended(&process.good) + ended(&process.bad);
                sum.1 += ended(&process.bad);
            }
        }
        sum
    }
}

fn pod(gaps: bool) -> impl Strategy<Value = SimPod> {
    let process = |life: std::ops::Range<i64>| {
        (
            Just(life.start),
            prop::collection::vec(life.clone(), 0..60),
            prop::collection::vec(life, 0..20),
        )
            .prop_map(|(began, good, bad)| Process { began, good, bad })
    };
    (
        0i64..200_000,
        15_000i64..150_000,
        0i64..150_000,
        0i64..SCRAPE,
        prop::collection::vec(any::<u8>(), 60),
    )
        .prop_flat_map(move |(began, first_life, second_life, offset, luck)| {
            let restart = began + first_life;
            let gone = restart + second_life;
            let scraped = move |(i, t): (usize, i64)| {
                let missed = gaps && luck[i % luck.len()] < 100;
                (t >= began && t <= gone && !missed).then_some(t)
            };
            let scrapes: Vec<_> = (0..60)
                .map(|i| offset + i * SCRAPE)
                .enumerate()
                .filter_map(scraped)
                .collect();
            let lives = [process(began..restart), process(restart..gone + 1)];
            lives.prop_map(move |processes| SimPod {
                processes: processes.into(),
                scrapes: scrapes.clone(),
            })
        })
}

/// The same pod, with scrapes that come up to 9 s late, and some of them twice.
fn late_and_repeated(mut pod: SimPod, luck: &[u16]) -> SimPod {
    let scrapes = pod.scrapes.iter().zip(luck).flat_map(|(at, luck)| {
        let late = at + i64::from(luck % 9_000);
        let again = (luck % 3 == 0).then_some(late + 1);
        [Some(late), again].into_iter().flatten()
    });
    pod.scrapes = scrapes.collect();
    pod
}

fn sum_of_ticks(series: &[Series]) -> (u64, u64) {
    let mut sum = (0, 0);
    for i in 0..32 {
        let counted = count(series, &what(i * TICK, (i + 1) * TICK)).sample.counts;
        assert!(counted.failures <= counted.requests);
        sum.0 += counted.requests;
        sum.1 += counted.failures;
    }
    sum
}

proptest! {
    #[test]
    fn every_call_is_counted_in_exactly_one_tick(pods in prop::collection::vec(pod(false), 1..4)) {
        let series: Vec<_> = pods.iter().enumerate().flat_map(|(i, p)| p.series(&format!("pod-{i}"), "a")).collect();
        let expected = pods.iter().map(SimPod::observable).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        prop_assert_eq!(sum_of_ticks(&series), expected);
    }

    #[test]
    fn late_and_repeated_scrapes_count_every_call_once(
        pods in prop::collection::vec((pod(false), prop::collection::vec(any::<u16>(), 60)), 1..4)
    ) {
        let pods: Vec<_> = pods.into_iter().map(|(pod, luck)| late_and_repeated(pod, &luck)).collect();
        let series: Vec<_> = pods.iter().enumerate().flat_map(|(i, p)| p.series(&format!("pod-{i}"), "a")).collect();
        let expected = pods.iter().map(SimPod::observable).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        prop_assert_eq!(sum_of_ticks(&series), expected);
    }

    #[test]
    fn gaps_lose_calls_but_never_invent_any(pods in prop::collection::vec(pod(true), 1..4)) {
        let series: Vec<_> = pods.iter().enumerate().flat_map(|(i, p)| p.series(&format!("pod-{i}"), "a")).collect();
        let most = pods.iter().map(SimPod::observable).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let got = sum_of_ticks(&series);
        prop_assert!(got.0 <= most.0 && got.1 <= most.1, "{got:?} of {most:?}");
    }

    #[test]
    fn several_prometheus_replicas_count_as_one(one in pod(false), shift in 0i64..3) {
        let mut both = one.series("pod", "b");
        let alone = sum_of_ticks(&both);
        let mut other = one.clone();
        other.scrapes.iter_mut().for_each(|t| *t += shift);
        both.extend(other.series("pod", "c"));
        both.reverse();
        prop_assert_eq!(sum_of_ticks(&both), alone);
    }

    #[test]
    fn samples_outside_of_the_window_change_nothing(one in pod(true), tick in 4i64..20) {
        let (start, end) = (tick * TICK, (tick + 1) * TICK);
        let whole = one.series("pod", "a");
        let mut cut = whole.clone();
        for series in &mut cut {
            series.samples.retain(|s| s.at > start - 60_000 && s.at <= end);
        }
        prop_assert_eq!(count(&whole, &what(start, end)).sample, count(&cut, &what(start, end)).sample);
    }
}
