//! Incidents of the past that were made for it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::analysis::sequential::{Role, Tally};
use crate::analysis::{Counts, CustomCounts, CustomKind, CustomMetric, CustomValue, FailureCodes, Outcome, Reading};
use crate::rollout::StepDraft;
use crate::rollout::plan::tests::{draft, plan};

const TICK: i64 = 10;
const FROM: i64 = 10_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn secs(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

fn pod(requests: u64, failures: u64, slow: u64) -> PodRecords {
    let counts = Counts {
        requests,
        failures,
        slow: vec![slow],
    };
    let record = PodRecord {
        counts,
        seen: true,
        ..PodRecord::default()
    };
    [("a".to_owned(), record)].into()
}

/// Without a slow one.
fn calls(failures: u64, requests: u64) -> Counts {
    Counts {
        requests,
        failures,
        slow: vec![0],
    }
}

/// Two minutes of stable, and then both arms as this function of the tick's number says.
fn past(ticks: i64, of: impl Fn(i64) -> (PodRecords, PodRecords)) -> RecordingDraft {
    let before = (-12..0).map(|tick| (tick, (PodRecords::new(), pod(900, 1, 1))));
    let after = (0..ticks).map(|tick| (tick, of(tick)));
    let ticks = before.chain(after).map(|(tick, (canary, stable))| {
        let end = at(FROM + (tick + 1) * TICK);
        let tick = RecordedTick {
            canary,
            stable,
            ..RecordedTick::default()
        };
        (end, tick)
    });
    RecordingDraft {
        interval: secs(TICK),
        from: at(FROM),
        to: at(FROM + 10_000),
        stable_earlier: SignedDuration::ZERO,
        bounds_ms: vec![500],
        metrics: vec![],
        ticks: ticks.collect(),
    }
}

fn recording(ticks: i64, of: impl Fn(i64) -> (PodRecords, PodRecords)) -> Recording {
    let draft = past(ticks, of);
    let to = at(FROM + ticks * TICK);
    Recording::parse(RecordingDraft { to, ..draft }).unwrap()
}

/// Holds of five minutes, and no comparison of latency, which takes many calls to pass.
fn patient(weights: &[i64]) -> Plan {
    let mut draft = draft(weights);
    draft.objectives.latency_against_stable = None;
    for step in &mut draft.steps {
        step.hold = secs(300);
    }
    Plan::parse(draft).unwrap()
}

fn rules(plan: &Plan) -> Rules<'_> {
    Rules {
        plan,
        baseline: secs(3_600),
        settle: secs(2),
        division: Division::Recorded,
    }
}

fn by_plan(plan: &Plan) -> Rules<'_> {
    Rules {
        division: Division::Plan { seed: 1 },
        ..rules(plan)
    }
}

#[test]
fn a_canary_that_fails_5_percent_is_rolled_back_at_its_first_weight_one_scrape_after_the_tick_that_proves_it() {
    let plan = plan(&[5, 50, 100]);
    let recording = recording(60, |_| (pod(100, 5, 0), pod(900, 1, 0)));
    let replay = replay(&recording, &rules(&plan)).unwrap();

    // The same ticks through the analysis by itself.
    let mut analysis = plan.analysis(&recording.baseline(secs(3_600), secs(2), &[], &[]));
    analysis.begin_step(0, 0.95);
    let mut tick = 0;
    loop {
        let (canary, stable) = (pod(100, 5, 0), pod(900, 1, 0));
        let wanted = analysis.bounds_ms().len();
        let arm = |pods: &PodRecords| {
            let mut sample = recording::arm(Some(pods), 1, &[]);
            sample.counts.slow.resize(wanted, 0);
            sample
        };
        let tick_of = Tick {
            start: at(FROM + tick * TICK),
            end: at(FROM + (tick + 1) * TICK),
            canary: arm(&canary),
            stable: arm(&stable),
            custom: CustomTick::default(),
            sent: Sent::default(),
            open: Streams::default(),
        };
        tick += 1;
        if analysis.observe(&tick_of) == Outcome::Fail {
            break;
        }
    }
    assert!((2..8).contains(&tick), "{tick} ticks");
    let End::RolledBack {
        at: when,
        weight,
        metric,
        reason,
    } = &replay.end
    else {
        panic!("{:?}", replay.end);
    };
    assert_eq!(
        (*when, *weight, metric.as_deref()),
        (at(FROM + tick * TICK + 2), 5, Some("success-rate"))
    );
    assert!(reason.starts_with("5.0 % of "), "{reason}");
    // The tick that was under way is counted whole.
    let ticks = u64::try_from(tick).unwrap() + 1;
    assert_eq!(replay.served, calls(5 * ticks, 100 * ticks));
    assert_eq!(replay.steps.len(), 1);
    assert_eq!(replay.steps[0].verdict, Outcome::Fail);
}

#[test]
fn a_good_canary_passes_each_step_on_its_own_calls_and_is_promoted() {
    let plan = patient(&[5, 50, 100]);
    let recording = recording(200, |_| (pod(500, 0, 0), pod(500, 0, 0)));
    let replay = replay(&recording, &rules(&plan)).unwrap();
    assert!(matches!(replay.end, End::Promoted { .. }), "{:?}", replay.end);
    let told: Vec<_> = replay.steps.iter().map(|step| (step.weight, step.verdict)).collect();
    assert_eq!(
        told,
        [(5, Outcome::Pass), (50, Outcome::Pass), (100, Outcome::Pass)],
        "{:?}",
        replay.steps
    );
    for pair in replay.steps.windows(2) {
        assert_eq!(pair[0].until, Some(pair[1].from));
        assert!(pair[0].sentence.contains("needed to pass"), "{:?}", pair[0]);
    }
    let judged: u64 = replay.steps.iter().map(|step| step.canary.total).sum();
    let ticks = replay.ticks.iter().filter(|tick| tick.judged);
    assert_eq!(judged, ticks.map(|tick| tick.canary.total).sum::<u64>());
    assert!(
        judged < replay.served.requests,
        "ticks in which a weight changed are not judged"
    );
}

#[test]
fn recorded_calls_begin_where_the_canary_answered_first() {
    let plan = plan(&[5, 100]);
    let silent = || {
        [(
            "a".to_owned(),
            PodRecord {
                counts: Counts {
                    slow: vec![0],
                    ..Counts::default()
                },
                seen: true,
                ..PodRecord::default()
            },
        )]
        .into()
    };
    let recording = recording(60, |tick| {
        let canary = match tick {
            ..7 => silent(),
            7 => pod(50, 10, 0),
            _ => pod(100, 20, 0),
        };
        (canary, pod(900, 0, 0))
    });
    let replay = replay(&recording, &rules(&plan)).unwrap();
    // Half of a tick's calls: half of the tick, and half a scrape until a call is counted.
    assert_eq!(replay.began, at(FROM + 7 * TICK + TICK / 2 - 1));
    assert!(!replay.ticks[0].judged, "the weight changed in that tick");
    assert!(replay.ticks[1].judged);
}

#[test]
fn by_the_plan_the_canary_gets_its_weights_share_of_all_calls() {
    let plan = plan(&[5, 100]);
    // One workload with an incident, beside the same one a day before.
    let draft = past(60, |_| (pod(1_000, 50, 0), pod(1_000, 1, 0)));
    let recording = Recording::parse(RecordingDraft {
        stable_earlier: secs(86_400),
        to: at(FROM + 600),
        ..draft
    })
    .unwrap();
    let replay = replay(&recording, &by_plan(&plan)).unwrap();
    assert!(
        matches!(replay.end, End::RolledBack { weight: 5, .. }),
        "{:?}",
        replay.end
    );
    assert!(
        replay.ticks[..2]
            .iter()
            .all(|tick| tick.canary.total == 50 && tick.stable.total == 950)
    );
    assert!(
        replay.served.failures * 10 < replay.served.requests,
        "{:?}",
        replay.served
    );
    assert_eq!(replay.short_ticks, 0);
}

#[test]
fn a_canary_with_too_few_calls_for_its_share_is_judged_on_what_is_there() {
    let plan = plan(&[50, 100]);
    let recording = recording(60, |_| (pod(100, 5, 0), pod(900, 1, 0)));
    let replay = replay(&recording, &by_plan(&plan)).unwrap();
    assert!(replay.short_ticks > 0);
    assert!(replay.ticks[1].canary.total == 100, "{:?}", replay.ticks[1]);
    // 5 % of 500 calls a tick.
    assert_eq!(replay.served.failures * 20, replay.served.requests);
}

#[test]
fn sight_that_is_lost_takes_the_traffic_away_and_its_return_begins_the_first_step_again() {
    let plan = patient(&[5, 50, 100]);
    let recording = recording(80, |tick| match tick {
        4..=20 => (PodRecords::new(), pod(900, 1, 0)),
        _ => (pod(60, 0, 0), pod(900, 1, 0)),
    });
    let replay = replay(&recording, &rules(&plan)).unwrap();
    let weights: Vec<_> = replay.ticks.iter().map(|tick| tick.weight).collect();
    assert!(weights[12..20].iter().all(|weight| *weight == 0), "{weights:?}");
    assert_eq!(
        replay.steps.iter().take(2).map(|step| step.step).collect::<Vec<_>>(),
        [0, 0],
        "{:?}",
        replay.steps
    );
    assert!(replay.steps[0].paused);
}

#[test]
fn codes_that_stable_never_answers_with_are_failures_of_the_canary() {
    let mut plan = patient(&[5, 100]);
    plan.objectives.failure_codes = FailureCodes::UnlessStableShows(vec![8, 12]);
    let with = |code: u8, pods: PodRecords| -> PodRecords {
        let coded = pods.into_iter().map(|(name, mut pod)| {
            pod.codes.insert(code, 10);
            (name, pod)
        });
        coded.collect()
    };
    let end = |code: u8, known: bool| {
        let mut draft = past(60, |_| (with(code, pod(100, 0, 0)), pod(900, 1, 0)));
        for tick in draft.ticks.values_mut().filter(|_| known) {
            tick.stable = with(code, std::mem::take(&mut tick.stable));
        }
        let to = at(FROM + 600);
        replay(
            &Recording::parse(RecordingDraft { to, ..draft }).unwrap(),
            &rules(&plan),
        )
        .unwrap()
    };
    let unimplemented = end(12, false);
    assert!(
        matches!(unimplemented.end, End::RolledBack { .. }),
        "{:?}",
        unimplemented.end
    );
    assert_eq!(unimplemented.failure_codes, [8, 12]);
    assert_eq!(unimplemented.served.failures * 10, unimplemented.served.requests);
    let usual = end(12, true);
    assert!(!matches!(usual.end, End::RolledBack { .. }), "{:?}", usual.end);
    assert_eq!(usual.failure_codes, [8]);
    assert!(
        !matches!(end(5, false).end, End::RolledBack { .. }),
        "NOT_FOUND is an answer"
    );
}

#[test]
fn approvals_are_given_at_once() {
    let step = |weight| StepDraft {
        weight,
        hold: secs(20),
        at_most: None,
        approval: true,
        on_inconclusive: None,
    };
    let plan = Plan::parse(crate::rollout::PlanDraft {
        steps: vec![step(5), step(50), step(100)],
        ..draft(&[100])
    })
    .unwrap();
    let recording = recording(200, |_| (pod(500, 0, 0), pod(500, 0, 0)));
    let replay = replay(&recording, &rules(&plan)).unwrap();
    assert!(matches!(replay.end, End::Promoted { .. }), "{:?}", replay.end);
    assert!(replay.steps.iter().all(|step| !step.paused), "{:?}", replay.steps);
}

#[test]
fn a_stretch_that_is_over_before_the_trial_leaves_it_open() {
    let plan = plan(&[5, 100]);
    let recording = recording(3, |_| (pod(20, 0, 0), pod(900, 0, 0)));
    let replay = replay(&recording, &rules(&plan)).unwrap();
    assert_eq!(
        replay.end,
        End::Open {
            weight: 5,
            waiting: Waiting::Step
        }
    );
    assert_eq!(replay.steps[0].until, None);
}

#[test]
fn peers_go_through_the_same_weights_and_say_when_they_would_have_rolled_back() {
    let plan = patient(&[5, 50, 100]);
    let recording = recording(180, |_| (pod(100, 5, 0), pod(900, 1, 0)));
    let ours = replay(&recording, &rules(&plan)).unwrap();
    let theirs = |peer| replay_peer(&recording, &rules(&plan), peer).unwrap();
    // Five failed checks, and the sixth acts.
    let flagger = theirs(Peer::Flagger { threshold: 5 });
    let rolled_back = PeerEnd::RolledBack {
        at: at(FROM + 360),
        weight: 50,
    };
    assert_eq!((flagger.end, flagger.served), (rolled_back, calls(5 * 36, 100 * 36)));
    let argo = theirs(Peer::Argo { failure_limit: 3 });
    let rolled_back = PeerEnd::RolledBack {
        at: at(FROM + 240),
        weight: 5,
    };
    assert_eq!(argo.end, rolled_back);
    assert!(
        ours.served.failures * 4 < argo.served.failures,
        "{:?} and {:?}",
        ours.served,
        argo.served
    );
    // One that keeps its objective passes with both, at the end of all holds.
    let good = self::recording(180, |_| (pod(100, 0, 0), pod(900, 1, 0)));
    let end = replay_peer(&good, &rules(&plan), Peer::Flagger { threshold: 5 })
        .unwrap()
        .end;
    assert_eq!(end, PeerEnd::Promoted { at: at(FROM + 900) });
}

fn checkout() -> CustomMetric {
    CustomMetric {
        name: "checkout".to_owned(),
        role: Role::Judged,
        kind: CustomKind::Counts(CustomCounts {
            bad: "bad".to_owned(),
            total: "total".to_owned(),
            verb: None,
            objective: None,
            tolerance: 0.001,
            pass_tolerance: 0.05,
        }),
    }
}

fn memory() -> CustomMetric {
    CustomMetric {
        name: "memory".to_owned(),
        role: Role::Judged,
        kind: CustomKind::Value(CustomValue {
            query: "memory".to_owned(),
            min: None,
            max: Some(500.0),
            breaches: 3,
            per_arm: true,
        }),
    }
}

fn judged_by(metrics: Vec<CustomMetric>) -> Plan {
    let mut draft = draft(&[5, 100]);
    draft.objectives.latency_against_stable = None;
    draft.objectives.custom = metrics;
    Plan::parse(draft).unwrap()
}

/// All calls are well; of ten checkouts in a hundred calls as many are bad, and memory is as much.
fn with_own(ticks: i64, of: impl Fn(i64) -> (u64, f64)) -> Recording {
    let mut draft = past(ticks, |_| (pod(100, 0, 0), pod(900, 0, 0)));
    draft.metrics = vec![RecordedMetric::of(&memory()), RecordedMetric::of(&checkout())];
    draft.to = at(FROM + ticks * TICK);
    for (end, tick) in &mut draft.ticks {
        let (bad, memory) = of((end.as_second() - FROM) / TICK - 1);
        for (pods, tally) in [
            (&mut tick.canary, Tally::new(bad, 10)),
            (&mut tick.stable, Tally::new(0, 90)),
        ] {
            for pod in pods.values_mut() {
                pod.own = vec![tally];
            }
        }
        tick.values = vec![Reading {
            canary: Some(memory),
            stable: Some(100.0),
        }];
    }
    Recording::parse(draft).unwrap()
}

fn reason(replay: &Replay) -> (&str, &str) {
    match &replay.end {
        End::RolledBack { metric, reason, .. } => (metric.as_deref().unwrap_or_default(), reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn counters_of_the_users_own_fail_a_canary_whose_calls_are_all_well() {
    let plan = judged_by(vec![checkout()]);
    let recording = with_own(120, |_| (4, 100.0));
    for rules in [rules(&plan), by_plan(&plan)] {
        let replay = replay(&recording, &rules).unwrap();
        let (metric, why) = reason(&replay);
        assert_eq!(metric, "checkout");
        assert!(why.contains("were bad by checkout"), "{why}");
        assert_eq!(replay.served.failures, 0);
    }
    // By the plan it has 5 of the 100 checkouts of a tick instead of 10, and as many bad ones among ten.
    let divided = replay(&recording, &by_plan(&plan)).unwrap();
    let own = divided.ticks.iter().filter(|tick| tick.judged);
    let own: Vec<_> = own
        .filter_map(|tick| tick.metrics.iter().find(|m| m.metric == "checkout"))
        .collect();
    assert!(own.iter().all(|tick| tick.canary.total == 5), "{own:?}");
    // What the plan does not judge is not looked at.
    let end = replay(&recording, &rules(&judged_by(vec![]))).unwrap().end;
    assert!(!matches!(end, End::RolledBack { .. }), "{end:?}");
}

#[test]
fn a_value_fails_at_the_tick_of_its_last_breach_in_a_row() {
    let plan = judged_by(vec![checkout(), memory()]);
    let recording = with_own(60, |tick| (0, if tick < 5 || tick == 7 { 100.0 } else { 600.0 }));
    let replay = replay(&recording, &rules(&plan)).unwrap();
    let (metric, why) = reason(&replay);
    assert_eq!(metric, "memory");
    assert!(why.starts_with("memory is 600 on canary, stable 100"), "{why}");
    let End::RolledBack { at: when, .. } = replay.end else {
        panic!("{:?}", replay.end)
    };
    // The ticks 8, 9 and 10; known two seconds after the last one's end.
    assert_eq!(when, at(FROM + 11 * TICK + 2));
}

#[test]
fn a_metric_that_was_recorded_by_another_query_was_not_recorded() {
    let recording = with_own(60, |_| (0, 100.0));
    let mut other = checkout();
    other.kind = memory().kind;
    assert!(recording.has(&checkout()) && !recording.has(&other));
    let why = replay(&recording, &rules(&judged_by(vec![memory(), other]))).unwrap_err();
    assert_eq!(
        why.to_string(),
        "spec.analysis.metrics: checkout was not recorded with these queries"
    );
}

#[test]
fn what_cannot_be_replayed_says_why() {
    let plan = plan(&[5, 100]);
    let both = |_| (pod(100, 0, 0), pod(900, 0, 0));
    let silent = recording(10, |_| (PodRecords::new(), pod(900, 0, 0)));
    let why = |recording: &Recording| replay(recording, &rules(&plan)).unwrap_err();
    assert!(matches!(why(&silent), ReplayError::NoCalls { .. }));
    let other = Recording::parse(RecordingDraft {
        interval: secs(5),
        ..past(10, both)
    });
    assert!(matches!(why(&other.unwrap()), ReplayError::Interval { .. }));
    let mut unbounded = past(10, both);
    unbounded.bounds_ms = vec![100];
    let unbounded = Recording::parse(unbounded).unwrap();
    assert_eq!(why(&unbounded), ReplayError::Bound { bound_ms: 500 });

    let bad = |edit: &dyn Fn(&mut RecordingDraft)| {
        let mut draft = past(10, both);
        edit(&mut draft);
        Recording::parse(draft).unwrap_err()
    };
    assert!(matches!(bad(&|d| d.to = d.from), RecordingError::Backwards { .. }));
    assert!(matches!(bad(&|d| d.to = at(FROM + 1)), RecordingError::TooShort { .. }));
    assert!(matches!(
        bad(&|d| d.to = Timestamp::MAX),
        RecordingError::TooLong { .. }
    ));
    assert!(matches!(
        bad(&|d| d.interval = SignedDuration::ZERO),
        RecordingError::Interval(_)
    ));
    assert!(matches!(bad(&|d| d.interval = secs(7)), RecordingError::Unaligned(_)));
    assert!(matches!(bad(&|d| d.bounds_ms = vec![500, 100]), RecordingError::Bounds));
    assert!(matches!(bad(&|d| d.bounds_ms = vec![]), RecordingError::Slow { .. }));
    let more = |d: &mut RecordingDraft| {
        let tick = d.ticks.first_entry().unwrap();
        tick.into_mut().stable = pod(1, 2, 0);
    };
    assert!(matches!(bad(&more), RecordingError::MoreThanAll { .. }));
}

fn pods() -> impl Strategy<Value = PodRecords> {
    let one = (0u64..1_000_000_000_000, 0.0..1.0f64, 0.0..1.0f64, any::<bool>());
    prop::collection::btree_map("[a-c]", one, 0..3).prop_map(|pods| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of it"
        )]
        let part = |of: u64, share: f64| ((of as f64 * share * share) as u64).min(of);
        let record = |(requests, failed, slow, seen): (u64, f64, f64, bool)| PodRecord {
            counts: Counts {
                requests,
                failures: part(requests, failed),
                slow: vec![part(requests, slow)],
            },
            codes: BTreeMap::new(),
            own: vec![],
            seen,
        };
        pods.into_iter().map(|(name, pod)| (name, record(pod))).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_recorded_a_replay_ends_and_is_the_same_each_time(
        ticks in prop::collection::vec((pods(), pods()), 1..40), planned: bool, seed: u64, settle in 0i64..30
    ) {
        let count = i64::try_from(ticks.len()).unwrap();
        let recording = recording(count, |tick| ticks[usize::try_from(tick).unwrap()].clone());
        let plan = plan(&[5, 50, 100]);
        let division = if planned { Division::Plan { seed } } else { Division::Recorded };
        let rules = Rules { division, settle: secs(settle), ..rules(&plan) };
        let once = replay(&recording, &rules);
        prop_assert_eq!(&once, &replay(&recording, &rules));
        for peer in [Peer::Flagger { threshold: 5 }, Peer::Argo { failure_limit: 0 }] {
            prop_assert_eq!(once.is_ok(), replay_peer(&recording, &rules, peer).is_ok());
        }
        if let Ok(replay) = once {
            prop_assert!(replay.served.failures <= replay.served.requests);
            prop_assert!(replay.ticks.windows(2).all(|pair| pair[0].end < pair[1].end));
            prop_assert!(replay.steps.windows(2).all(|pair| pair[0].until.is_some_and(|until| until <= pair[1].from)));
        }
    }
}
