use serde_json::json;
use serin_core::rollout::{Arm, Revision, RollbackReason, Run, Way};

use super::*;
use crate::api::parse;
use crate::reconcile::fixtures::seen_of;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn named(name: &str) -> Revision {
    Revision {
        name: name.to_owned(),
        hash: format!("hash-of-{name}"),
    }
}

fn run() -> Run {
    let spec = json!({
        "service": {"name": "web", "port": 80}, "stable": {"deployment": "web"}, "canary": {"deployment": "web-canary"},
        "git": {"repository": "https://git.example.com/x.git", "path": "prod"},
    });
    let plan = parse(&serde_json::from_value(spec).unwrap()).unwrap().plan;
    Run::begin(named("1.1.0"), named("1.0.0"), None, &plan, at(0))
}

fn arm(name: &str, settled: bool) -> Arm {
    Arm {
        revision: Some(named(name)),
        desired: 1,
        ready: 1,
        ready_any: 1,
        settled,
    }
}

fn pushed() -> Pushed {
    Pushed {
        id: "answer".to_owned(),
        at: at(12),
        committed: Some(at(11)),
    }
}

fn rolls_back(git: RollbackGit) -> Phase {
    Phase::RollingBack(RollingBack {
        run: run(),
        reason: RollbackReason::Inconclusive,
        since: at(9),
        traffic_at: Some(at(10)),
        promoted: None,
        on_canary: false,
        own_fields_because: None,
        git,
    })
}

fn end(answer: Option<Pushed>) -> Ending {
    Ending {
        revision: named("1.1.0"),
        commit: None,
        began: at(0),
        at: at(30),
        answer,
        reason: String::new(),
        traffic_at: Some(at(10)),
        hooks: vec![],
    }
}

/// What stands after a decision at this second.
fn step(
    before: &CanaryRolloutStatus,
    phase: &Phase,
    seen: &Observation,
    delivered: bool,
    second: i64,
) -> CanaryRolloutStatus {
    let mut status = CanaryRolloutStatus::default();
    follow(&mut status, before, (phase, seen), delivered, at(second));
    status
}

fn times(answer: &AnswerStatus) -> [Option<i64>; 5] {
    let AnswerStatus {
        traffic_at,
        committed_at,
        pushed_at,
        applied_at,
        healthy_at,
        ..
    } = answer;
    let second = |at: &Option<Timestamp>| at.map(|at| at.as_second() - 1_700_000_000);
    [traffic_at, committed_at, pushed_at, applied_at, healthy_at].map(second)
}

#[test]
fn each_stage_of_a_rollback_has_the_time_at_which_it_was_seen_first() {
    let failed = || seen_of(arm("1.0.0", true), arm("1.1.0", true));
    let none = CanaryRolloutStatus::default();
    let committing = step(&none, &rolls_back(RollbackGit::Committing), &failed(), false, 10);
    assert_eq!(
        times(committing.rollback.as_ref().unwrap()),
        [Some(10), None, None, None, None]
    );
    let applying = rolls_back(RollbackGit::Applying(pushed()));
    let waits = step(&committing, &applying, &failed(), false, 13);
    assert_eq!(
        times(waits.rollback.as_ref().unwrap()),
        [Some(10), Some(11), Some(12), None, None]
    );
    let restored = |settled| seen_of(arm("1.0.0", true), arm("1.0.0", settled));
    let applied = step(&waits, &applying, &restored(false), false, 14);
    let ended = step(
        &applied,
        &Phase::RolledBack(end(Some(pushed()))),
        &restored(false),
        false,
        30,
    );
    assert_eq!(
        times(ended.rollback.as_ref().unwrap()),
        [Some(10), Some(11), Some(12), Some(14), None],
        "its pods are still going"
    );
    let later = step(
        &ended,
        &Phase::RolledBack(end(Some(pushed()))),
        &restored(true),
        false,
        33,
    );
    let rests = step(
        &later,
        &Phase::RolledBack(end(Some(pushed()))),
        &restored(true),
        false,
        99,
    );
    assert_eq!(
        times(rests.rollback.as_ref().unwrap()),
        [Some(10), Some(11), Some(12), Some(14), Some(33)]
    );
}

#[test]
fn a_commit_is_applied_when_those_who_apply_it_say_so() {
    let failed = seen_of(arm("1.0.0", true), arm("1.1.0", true));
    let none = CanaryRolloutStatus::default();
    let applying = rolls_back(RollbackGit::Applying(pushed()));
    let applied = step(&none, &applying, &failed, true, 13);
    assert_eq!(times(applied.rollback.as_ref().unwrap())[3..], [Some(13), None]);
    // An answer to an earlier question is none to this one.
    let committing = step(&none, &rolls_back(RollbackGit::Committing), &failed, true, 13);
    assert_eq!(times(committing.rollback.as_ref().unwrap())[3..], [None, None]);
}

#[test]
fn a_rollback_whose_place_another_revision_took_was_applied_by_nobody() {
    let newer = seen_of(arm("1.0.0", true), arm("1.2.0", true));
    let ended = step(
        &CanaryRolloutStatus::default(),
        &Phase::RolledBack(end(None)),
        &newer,
        false,
        30,
    );
    assert_eq!(
        times(ended.rollback.as_ref().unwrap()),
        [Some(10), None, None, None, None]
    );
}

#[test]
fn what_an_earlier_version_ended_gets_no_time_that_nobody_saw() {
    let restored = seen_of(arm("1.0.0", true), arm("1.0.0", true));
    let old = CanaryRolloutStatus {
        rollback: Some(Box::new(AnswerStatus {
            revision: "1.1.0".to_owned(),
            commit: Some("answer".to_owned()),
            ended_at: Some(at(30)),
            ..AnswerStatus::default()
        })),
        ..CanaryRolloutStatus::default()
    };
    let now = step(&old, &Phase::RolledBack(end(Some(pushed()))), &restored, false, 99);
    assert_eq!(times(now.rollback.as_ref().unwrap())[3..], [None, None]);
}

#[test]
fn a_promotion_is_healthy_when_stable_is_available_on_it() {
    let promoting = |stage| {
        Phase::Promoting(Promoting {
            run: run(),
            way: Way::Trial,
            stage,
            since: at(9),
            commit: Some(pushed()),
        })
    };
    let none = CanaryRolloutStatus::default();
    let canary = || arm("1.1.0", true);
    let before = step(
        &none,
        &promoting(PromoteStage::Applying),
        &seen_of(arm("1.0.0", true), canary()),
        false,
        13,
    );
    let rolls = step(
        &before,
        &promoting(PromoteStage::Applying),
        &seen_of(arm("1.1.0", false), canary()),
        false,
        14,
    );
    let settled = seen_of(arm("1.1.0", true), canary());
    let draining = step(&rolls, &promoting(PromoteStage::Draining), &settled, false, 20);
    assert_eq!(
        times(draining.promotion.as_ref().unwrap()),
        [None, Some(11), Some(12), Some(14), Some(20)]
    );
    let ended = Ending {
        traffic_at: None,
        ..end(Some(pushed()))
    };
    let promoted = step(&draining, &Phase::Promoted(ended), &settled, false, 30);
    assert_eq!(times(promoted.promotion.as_ref().unwrap())[3..], [Some(14), Some(20)]);
}
