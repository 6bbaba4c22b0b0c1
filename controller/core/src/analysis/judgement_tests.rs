//! What the analysis of a trial says.

use jiff::Timestamp;

use super::*;
use crate::analysis::{ArmSample, Baseline, CustomCounts, CustomKind, CustomTick, LatencyObjective, Sight};
use crate::analysis::{Need, PodCalls};

fn analysis() -> Analysis {
    let objectives = Objectives {
        latency: vec![LatencyObjective {
            share: 0.99,
            within_ms: 500,
            role: Role::Supporting,
        }],
        ..Objectives::default()
    };
    let frozen = Baseline::default().freeze(&objectives);
    let mut analysis = Analysis::begin(objectives, 4, frozen);
    analysis.begin_step(0, 0.9);
    analysis
}

fn tick(canary: (u64, u64, u64), stable: (u64, u64, u64)) -> Tick {
    let arm = |(requests, failures, slow)| ArmSample {
        sight: Sight::Fresh,
        counts: Counts {
            requests,
            failures,
            slow: vec![slow],
        },
        pods: Vec::new(),
    };
    Tick {
        start: Timestamp::UNIX_EPOCH,
        end: Timestamp::from_second(20).unwrap(),
        canary: arm(canary),
        stable: arm(stable),
        custom: CustomTick::default(),
        sent: crate::analysis::Sent::default(),
        open: crate::analysis::Streams::default(),
    }
}

fn after(ticks: usize, canary: (u64, u64, u64), stable: (u64, u64, u64)) -> Analysis {
    let mut analysis = analysis();
    for _ in 0..ticks {
        analysis.observe(&tick(canary, stable));
    }
    analysis
}

#[test]
fn fails_when_many_calls_fail_and_says_so_in_a_sentence() {
    let verdict = after(5, (68, 6, 0), (1200, 2, 0)).verdict();
    assert_eq!(verdict.outcome, Outcome::Fail);
    let first = &verdict.evidence[0];
    assert_eq!(
        (first.metric.as_str(), first.bad, first.total),
        ("success-rate", 30, 340)
    );
    assert!(
        first
            .sentence
            .starts_with("8.8 % of 340 canary calls failed, stable 0.2 % of 6,000"),
        "{}",
        first.sentence
    );
    assert_eq!(first.towards_fail, 100, "{first:?}");
}

#[test]
fn fails_when_the_latency_objective_breaks() {
    let verdict = after(5, (50, 0, 10), (500, 0, 0)).verdict();
    assert_eq!(
        (verdict.outcome, verdict.evidence[0].metric.as_str()),
        (Outcome::Fail, "latency-500ms")
    );
}

#[test]
fn one_tick_alone_fails_nobody() {
    assert_eq!(after(1, (50, 50, 50), (500, 0, 0)).outcome(), Outcome::Inconclusive);
}

#[test]
fn passes_on_enough_good_calls_of_this_step_and_not_before() {
    let mut analysis = after(2, (100, 0, 0), (900, 0, 0));
    assert_eq!(analysis.outcome(), Outcome::Inconclusive);
    for _ in 0..10 {
        analysis.observe(&tick((100, 0, 0), (900, 0, 0)));
    }
    assert_eq!((analysis.outcome(), analysis.step_requests()), (Outcome::Pass, 1200));
    analysis.begin_step(1, 0.75);
    assert_eq!(
        analysis.outcome(),
        Outcome::Inconclusive,
        "each step is proven by its own calls"
    );
}

#[test]
fn holds_while_stable_breaks_the_objective_as_well() {
    let verdict = after(20, (50, 5, 0), (500, 50, 0)).verdict();
    assert_eq!(verdict.outcome, Outcome::Hold, "{verdict:?}");
}

#[test]
fn a_step_in_which_most_calls_failed_is_suspect_however_late_it_comes() {
    let mut analysis = after(30, (100, 0, 0), (900, 0, 0));
    analysis.begin_step(0, 0.9);
    assert!(!analysis.verdict().suspect);
    analysis.observe(&tick((100, 90, 0), (900, 0, 0)));
    let verdict = analysis.verdict();
    assert_eq!((verdict.outcome, verdict.suspect), (Outcome::Inconclusive, true));
}

#[test]
fn stable_is_judged_beside_the_canary_that_proved_the_revision() {
    let mut analysis = analysis().of_stable();
    analysis.begin_step(0, 0.75);
    for _ in 0..5 {
        analysis.observe(&tick((700, 0, 0), (100, 20, 0)));
    }
    let verdict = analysis.verdict();
    assert_eq!(
        (verdict.outcome, verdict.evidence[0].arm),
        (Outcome::Fail, Judged::Stable)
    );
    assert!(
        verdict.evidence[0]
            .sentence
            .contains("stable calls failed, canary 0.0 %"),
        "{verdict:?}"
    );
}

#[test]
fn goes_on_where_it_was_after_it_was_written_and_read() {
    let mut analysis = after(3, (40, 1, 2), (400, 1, 1));
    let mut read: Analysis = serde_json::from_str(&serde_json::to_string(&analysis).unwrap()).unwrap();
    for one in [&mut analysis, &mut read] {
        one.observe(&tick((40, 3, 0), (400, 1, 1)));
    }
    assert_eq!(analysis, read);
}

fn with_custom(role: Role) -> Analysis {
    let counts = CustomCounts {
        bad: "errors".to_owned(),
        total: "all".to_owned(),
        verb: None,
        objective: None,
        tolerance: 0.002,
        pass_tolerance: 0.01,
    };
    let value = CustomValue {
        query: "memory".to_owned(),
        min: None,
        max: Some(500.0),
        breaches: 3,
        per_arm: true,
    };
    let metric = |name: &str, kind| CustomMetric {
        name: name.to_owned(),
        role,
        kind,
    };
    let objectives = Objectives {
        custom: vec![
            metric("memory", CustomKind::Value(value)),
            metric("checkout", CustomKind::Counts(counts)),
        ],
        ..Objectives::default()
    };
    let frozen = Baseline::default().freeze(&objectives);
    let mut analysis = Analysis::begin(objectives, 4, frozen);
    analysis.begin_step(0, 0.9);
    analysis
}

/// A good tick by all that Linkerd counts.
fn custom_tick(checkout: (u64, u64), memory: f64, stable_memory: f64) -> Tick {
    let mut tick = tick((100, 0, 0), (900, 1, 0));
    tick.custom.counts = vec![Arms {
        canary: Tally::new(checkout.0, checkout.1),
        stable: Tally::new(0, 900),
    }];
    tick.custom.values = vec![Reading {
        canary: Some(memory),
        stable: Some(stable_memory),
    }];
    tick
}

fn observed(mut analysis: Analysis, ticks: usize, tick: &Tick) -> Analysis {
    for _ in 0..ticks {
        analysis.observe(tick);
    }
    analysis
}

#[test]
fn a_users_counters_fail_a_canary_that_linkerd_finds_good() {
    let tick = custom_tick((10, 100), 100.0, 100.0);
    let verdict = observed(with_custom(Role::Judged), 5, &tick).verdict();
    assert_eq!(verdict.outcome, Outcome::Fail);
    let first = &verdict.evidence[0];
    assert_eq!((first.metric.as_str(), first.bad, first.total), ("checkout", 50, 500));
    assert!(
        first
            .sentence
            .starts_with("10.0 % of 500 canary calls were bad by checkout, stable 0.0 % of 4,500"),
        "{}",
        first.sentence
    );
    let dry = observed(with_custom(Role::DryRun), 5, &tick).verdict();
    assert_ne!(dry.outcome, Outcome::Fail, "a dry run is reported only");
    assert!(
        dry.evidence
            .iter()
            .any(|e| e.metric == "checkout" && e.dry_run && e.bad == 50)
    );
}

#[test]
fn a_users_value_fails_after_its_breaches_and_comes_first() {
    let tick = custom_tick((0, 100), 812.0, 430.0);
    let before = observed(with_custom(Role::Judged), 2, &tick).verdict();
    assert_eq!((before.outcome, before.suspect), (Outcome::Inconclusive, true));
    let verdict = observed(with_custom(Role::Judged), 3, &tick).verdict();
    assert_eq!(
        (
            verdict.outcome,
            verdict.evidence[0].metric.as_str(),
            verdict.evidence[0].towards_fail
        ),
        (Outcome::Fail, "memory", 100)
    );
    let dry = observed(with_custom(Role::DryRun), 9, &tick).verdict();
    assert_eq!(
        (dry.outcome, dry.suspect),
        (Outcome::Pass, false),
        "a dry run keeps nothing from passing"
    );
}

#[test]
fn a_step_passes_only_with_the_users_metrics_as_well() {
    let good = custom_tick((0, 100), 400.0, 430.0);
    assert_eq!(observed(with_custom(Role::Judged), 12, &good).outcome(), Outcome::Pass);
    let mut silent = good.clone();
    silent.custom.values.clear();
    assert_eq!(
        observed(with_custom(Role::Judged), 12, &silent).outcome(),
        Outcome::Inconclusive,
        "a value that nobody saw proves nothing"
    );
    let both = custom_tick((0, 100), 812.0, 812.0);
    assert_eq!(observed(with_custom(Role::Judged), 12, &both).outcome(), Outcome::Hold);
}

#[test]
fn what_cannot_be_read_is_said_and_passes_nothing() {
    let mut tick = custom_tick((0, 100), 400.0, 430.0);
    tick.custom.unusable = vec![Unusable {
        metric: 0,
        field: "spec.analysis.metrics[0].query".to_owned(),
        problem: "it gives 3 series".to_owned(),
    }];
    let analysis = observed(with_custom(Role::Judged), 12, &tick);
    assert_eq!(analysis.outcome(), Outcome::Inconclusive);
    assert_eq!(
        analysis.unusable().map(|u| u.field.as_str()),
        Some("spec.analysis.metrics[0].query")
    );
    let verdict = analysis.verdict();
    let said = verdict.evidence.iter().find(|e| e.metric == "memory").unwrap();
    assert_eq!(
        said.sentence,
        "memory can't be read: spec.analysis.metrics[0].query: it gives 3 series"
    );
    assert_eq!(observed(with_custom(Role::DryRun), 12, &tick).unusable(), None);
}

#[test]
fn users_metrics_go_on_where_they_were_as_well() {
    let tick = custom_tick((3, 100), 812.25, 430.1);
    let mut analysis = observed(with_custom(Role::Judged), 2, &tick);
    let mut read: Analysis = serde_json::from_str(&serde_json::to_string(&analysis).unwrap()).unwrap();
    for one in [&mut analysis, &mut read] {
        one.observe(&tick);
    }
    assert_eq!(analysis, read);
}

#[test]
fn one_bad_pod_is_told_from_a_bad_revision() {
    let mut one_bad = tick((100, 20, 0), (900, 1, 0));
    one_bad.canary.pods = [("a", 0), ("b", 20)]
        .map(|(pod, failures)| PodCalls {
            pod: pod.to_owned(),
            requests: 50,
            failures,
        })
        .to_vec();
    let verdict = observed(analysis(), 5, &one_bad).verdict();
    let first = &verdict.evidence[0];
    assert_eq!(
        (verdict.outcome, first.metric.as_str()),
        (Outcome::Fail, "success-rate")
    );
    assert!(
        first
            .sentence
            .ends_with("; pod b alone: 100 of its 250 calls, 0 of 250 on the others"),
        "{}",
        first.sentence
    );
    assert_eq!((first.pods.len(), first.pods[0].pod.as_str()), (1, "b"));
}

#[test]
fn says_how_many_calls_a_pass_still_takes() {
    assert_eq!(analysis().prospects().need(0.9, true), Need::Unknown);
    assert_eq!(analysis().traffic(), None);
    let good = tick((100, 0, 0), (900, 0, 0));
    let after = |ticks| match observed(analysis(), ticks, &good).prospects().need(0.9, true) {
        Need::Calls(calls) => calls,
        other => panic!("{other:?}"),
    };
    let (one, five, twelve) = (after(1), after(5), after(12));
    assert!((500..1_500).contains(&one), "{one}");
    assert!(five < one && twelve == 0, "{one} {five} {twelve}");
    let started = observed(analysis(), 1, &good);
    assert!((started.traffic().unwrap() - 50.0).abs() < 1e-9, "1,000 calls in 20 s");
    let all = started.prospects().need(0.0, false);
    assert!(matches!(all, Need::Calls(calls) if calls > 100), "{all:?}");
    // Stable itself breaks the objective: no canary that is like it can pass.
    let bad = tick((100, 5, 0), (900, 45, 0));
    assert_eq!(observed(analysis(), 1, &bad).prospects().need(0.9, true), Need::Never);
}

#[test]
fn the_memory_of_the_largest_trial_fits_into_status() {
    let custom = (0..8).map(|n| {
        let query = format!("{n}").repeat(1024);
        CustomMetric {
            name: format!("{n}").repeat(63),
            role: Role::Judged,
            kind: CustomKind::Counts(CustomCounts {
                bad: query.clone(),
                total: query,
                verb: None,
                objective: Some(0.999),
                tolerance: 0.002,
                pass_tolerance: 0.005,
            }),
        }
    });
    let latency = |within_ms| LatencyObjective {
        share: 0.99,
        within_ms,
        role: Role::Supporting,
    };
    let objectives = Objectives {
        latency: [100, 500, 1000].map(latency).to_vec(),
        custom: custom.collect(),
        ..Objectives::default()
    };
    let frozen = Baseline::default().freeze(&objectives);
    let mut analysis = Analysis::begin(objectives, 50, frozen);
    analysis.begin_step(0, 0.9);
    for n in 0..200u64 {
        let mut tick = tick((1_000, n, n), (9_000, n, n));
        tick.custom.counts = vec![
            Arms {
                canary: Tally::new(n, 1_000),
                stable: Tally::new(n, 9_000),
            };
            8
        ];
        tick.canary.pods = vec![PodCalls {
            pod: format!("{n:0>60}"),
            requests: 1_000,
            failures: n,
        }];
        analysis.observe(&tick);
    }
    let size = |value: &serde_json::Value| value.to_string().len();
    let all = serde_json::to_value(&analysis).unwrap();
    assert!(
        size(&all["test"]) <= 8 << 10,
        "{} bytes of tests' state",
        size(&all["test"])
    );
    assert!(size(&all) <= 32 << 10, "{} bytes in all", size(&all));
}
