use serin_core::analysis::{CustomCounts, CustomKind, CustomValue, Unusable};

use super::*;

fn counts(name: &str, role: Role) -> CustomMetric {
    CustomMetric {
        name: name.to_owned(),
        role,
        kind: CustomKind::Counts(CustomCounts {
            bad: format!("{name}-bad"),
            total: format!("{name}-all"),
            verb: None,
            objective: None,
            tolerance: 0.0,
            pass_tolerance: 0.0,
        }),
    }
}

fn value(name: &str) -> CustomMetric {
    CustomMetric {
        kind: CustomKind::Value(CustomValue {
            query: name.to_owned(),
            min: Some(1.0),
            max: None,
            breaches: 1,
            per_arm: true,
        }),
        ..counts(name, Role::Judged)
    }
}

fn metrics() -> Vec<CustomMetric> {
    vec![
        counts("a", Role::DryRun),
        value("memory"),
        counts("b", Role::Judged),
        value("queue"),
    ]
}

fn tick(unusable: &[usize]) -> OwnTick {
    let pods = |b| vec![BTreeMap::new(), [("p".to_owned(), Tally::new(b, 10))].into()];
    let reading = |value| Reading {
        canary: Some(value),
        stable: Some(-value),
    };
    OwnTick {
        canary: pods(1),
        stable: pods(2),
        values: vec![reading(7.0), reading(9.0)],
        unusable: unusable
            .iter()
            .map(|metric| Unusable {
                metric: *metric,
                field: format!("spec.analysis.metrics[{metric}].total"),
                problem: "it is no counter".to_owned(),
            })
            .collect(),
    }
}

#[test]
fn each_metric_comes_to_its_place_and_what_was_left_out_has_none() {
    let metrics = metrics();
    let (good, bad) = (tick(&[]), tick(&[0]));
    let left_out = unreadable(&metrics, [&good, &bad].into_iter()).unwrap();
    assert_eq!(left_out, BTreeSet::from(["a"]));
    let places = Places::of(&metrics, |metric| !left_out.contains(metric.name.as_str()));
    let mut draft = RecordingDraft {
        interval: SignedDuration::from_secs(20),
        from: Timestamp::UNIX_EPOCH,
        to: Timestamp::UNIX_EPOCH,
        stable_earlier: SignedDuration::ZERO,
        bounds_ms: vec![500],
        metrics: vec![],
        ticks: BTreeMap::new(),
    };
    let end = Timestamp::from_second(20).unwrap();
    places.add_stable(&mut draft, end, &good);
    places.add_canary(&mut draft, end, &good);
    places.add_stable(&mut draft, Timestamp::UNIX_EPOCH, &good);
    let tick = &draft.ticks[&end];
    assert_eq!(tick.canary["p"].own, [Tally::new(1, 10)]);
    assert_eq!(tick.stable["p"].own, [Tally::new(2, 10)]);
    assert_eq!((tick.values[0].canary, tick.values[1].stable), (Some(7.0), Some(-9.0)));
    let before = &draft.ticks[&Timestamp::UNIX_EPOCH];
    assert!(before.values.is_empty() && before.canary.is_empty(), "{before:?}");
    assert_eq!(before.stable["p"].counts.slow, [0]);
}

#[test]
fn one_that_is_judged_and_wrong_is_an_error_that_names_its_field() {
    let error = unreadable(&metrics(), [&tick(&[2])].into_iter()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "spec.analysis.metrics[2].total: it is no counter; a rollout would not start with it"
    );
}
