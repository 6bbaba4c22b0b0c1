use serin_core::analysis::{ArmSample, Counts, CustomTick, Sent, Sight, Streams, Tick};
use serin_core::rollout::state::Pushed;
use serin_core::rollout::{Commit, Ending, Preflight, RestNote, Revision, Run, Starting};

use super::*;
use crate::api::{AnswerStatus, HistoryEntry, Memory, parse};
use crate::reconcile::past::{HISTORY, complete, remember};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn revision_of(name: &str) -> Revision {
    Revision {
        name: name.to_owned(),
        hash: format!("hash-of-{name}"),
    }
}

fn commit(id: &str) -> Commit {
    Commit {
        id: id.to_owned(),
        author: String::new(),
        subject: String::new(),
    }
}

/// A trial whose canary has answered so many calls.
fn after_calls(name: &str, requests: u64) -> State {
    let mut state = starting(name);
    let arm = |requests| ArmSample {
        sight: Sight::Fresh,
        counts: Counts {
            requests,
            ..Counts::default()
        },
        pods: vec![],
    };
    if let Phase::Starting(starting) = &mut state.phase {
        starting.run.analysis.begin_step(0, 0.5);
        starting.run.analysis.observe(&Tick {
            start: at(0),
            end: at(20),
            canary: arm(requests),
            stable: arm(9_999),
            custom: CustomTick::default(),
            sent: Sent::default(),
            open: Streams::default(),
        });
    }
    state
}

fn starting(name: &str) -> State {
    let spec = serde_json::from_value(serde_json::json!({
        "service": {"name": "web", "port": 80}, "stable": {"deployment": "web"}, "canary": {"deployment": "web-canary"},
        "git": {"repository": "https://git.example.com/x.git", "path": "prod"},
    }));
    let plan = parse(&spec.unwrap()).unwrap().plan;
    let run = Run::begin(
        revision_of(name),
        revision_of("1.0.0"),
        Some(commit("brought")),
        &plan,
        at(0),
    );
    State {
        phase: Phase::Starting(Starting {
            preflight: Preflight::Wanted,
            run,
            baseline: serin_core::rollout::Baseline::default(),
            since: at(0),
        }),
        ..State::default()
    }
}

#[test]
fn a_revision_that_ended_is_remembered_once_with_what_it_took() {
    let ended = Phase::RolledBack(Ending {
        revision: revision_of("1.1.0"),
        commit: Some(commit("brought")),
        began: at(0),
        at: at(725),
        answer: Some(Pushed {
            id: "answer".to_owned(),
            at: at(700),
            committed: None,
        }),
        reason: "20 % of calls failed".to_owned(),
        traffic_at: None,
        hooks: vec![],
    });
    let mut history = Vec::new();
    remember(&mut history, &after_calls("1.1.0", 120), &ended, at(725));
    let [entry] = history.as_slice() else {
        panic!("{history:?}")
    };
    assert_eq!(
        (entry.outcome.as_str(), entry.duration.as_str(), entry.requests),
        ("RolledBack", "12m 5s", 120)
    );
    assert_eq!(
        (entry.canary_commit.as_deref(), entry.commit.as_deref()),
        (Some("brought"), Some("answer"))
    );
    let rests = State {
        phase: ended.clone(),
        ..State::default()
    };
    remember(&mut history, &rests, &ended, at(900));
    assert_eq!(history.len(), 1, "it stays in its phase");
}

#[test]
fn a_promoted_revision_is_remembered_with_the_calls_that_proved_it() {
    let mut before = after_calls("1.1.0", 340);
    if let Phase::Starting(starting) = &mut before.phase {
        starting.run.analysis = starting.run.analysis.of_stable();
    }
    let ended = Phase::Promoted(Ending {
        revision: revision_of("1.1.0"),
        commit: None,
        began: at(0),
        at: at(60),
        answer: None,
        reason: String::new(),
        traffic_at: None,
        hooks: vec![],
    });
    let mut history = Vec::new();
    remember(&mut history, &before, &ended, at(60));
    assert_eq!(history[0].requests, 340);
}

#[test]
fn a_revision_whose_place_another_one_took_is_remembered_as_superseded() {
    let mut history = Vec::new();
    let before = after_calls("1.1.0", 7);
    remember(&mut history, &before, &starting("1.1.0").phase, at(5));
    assert_eq!(history, [], "it goes on");
    remember(&mut history, &before, &starting("1.2.0").phase, at(65));
    remember(&mut history, &before, &Phase::Idle(RestNote::Held), at(65));
    let outcomes: Vec<_> = history
        .iter()
        .map(|entry| (entry.revision.as_str(), entry.outcome.as_str()))
        .collect();
    assert_eq!(outcomes, [("1.1.0", "Superseded"); 2]);
    assert_eq!((history[0].duration.as_str(), history[0].requests), ("1m 5s", 7));
    for _ in 0..20 {
        remember(&mut history, &before, &starting("1.2.0").phase, at(70));
    }
    assert_eq!(history.len(), HISTORY);
}

#[test]
fn history_has_the_way_of_the_commit_and_what_the_metrics_said() {
    let evidence = |metric: &str, total, dry_run| EvidenceStatus {
        metric: metric.to_owned(),
        total,
        dry_run,
        sentence: "9.1 % of 412 canary calls failed".to_owned(),
        ..EvidenceStatus::default()
    };
    let before = CanaryRolloutStatus {
        evidence: vec![
            evidence("success-rate", 412, false),
            evidence("mine", 0, false),
            evidence("yours", 9, true),
            evidence(&"long".repeat(99), 9, false),
        ],
        ..CanaryRolloutStatus::default()
    };
    let entry = HistoryEntry {
        revision: "1.1.0".to_owned(),
        outcome: "RolledBack".to_owned(),
        commit: Some("answer".to_owned()),
        ..HistoryEntry::default()
    };
    let rollback = AnswerStatus {
        revision: "1.1.0".to_owned(),
        commit: Some("answer".to_owned()),
        traffic_at: Some(at(1)),
        committed_at: Some(at(2)),
        pushed_at: Some(at(3)),
        applied_at: Some(at(4)),
        ..AnswerStatus::default()
    };
    let mut status = CanaryRolloutStatus {
        history: vec![entry],
        rollback: Some(Box::new(rollback)),
        ..CanaryRolloutStatus::default()
    };
    complete(&mut status, &before);
    let last = &status.history[0];
    let times = [
        last.traffic_at,
        last.committed_at,
        last.pushed_at,
        last.applied_at,
        last.healthy_at,
    ];
    assert_eq!(times, [Some(at(1)), Some(at(2)), Some(at(3)), Some(at(4)), None]);
    assert_eq!(last.evidence.len(), 2, "{:?}", last.evidence);
    assert_eq!(last.evidence[0], "success-rate: 9.1 % of 412 canary calls failed");
    assert!(last.evidence[1].len() <= 160);

    let before = status.clone();
    status.rollback.as_mut().unwrap().healthy_at = Some(at(5));
    complete(&mut status, &before);
    assert_eq!(status.history[0].healthy_at, Some(at(5)), "it comes after the end");
    assert_eq!(status.history[0].evidence, before.history[0].evidence);
    status.rollback.as_mut().unwrap().commit = Some("another".to_owned());
    status.rollback.as_mut().unwrap().healthy_at = None;
    complete(&mut status, &before);
    assert_eq!(status.history[0].healthy_at, Some(at(5)), "another commit's");
}

#[test]
fn a_refused_spec_says_so_and_a_trial_that_it_paused_has_no_traffic() {
    let before = CanaryRolloutStatus {
        phase: Some("Progressing".to_owned()),
        weight: Some(WeightStatus {
            wanted: 25,
            observed: 25,
        }),
        verdict: Some("inconclusive".to_owned()),
        machine: Some(Memory::of(&starting("1.1.0")).unwrap()),
        ..CanaryRolloutStatus::default()
    };
    let why = "spec.analysis.falseRollbacks: `60%` bounds nothing";
    let refused = |paused: Option<&State>| refused(&before, Some(7), ("InvalidField", why), paused, at(9)).unwrap();
    let conditions = |status: &CanaryRolloutStatus| {
        let all = status.conditions.iter();
        all.map(|c| format!("{}={} {}: {}", c.type_, c.status, c.reason, c.message))
            .collect::<Vec<_>>()
    };
    let said = [
        format!("SpecValid=False InvalidField: {why}"),
        format!("Ready=False InvalidField: {why}"),
    ];

    let rests = refused(None);
    assert_eq!(conditions(&rests), said);
    assert_eq!((&rests.phase, &rests.machine), (&before.phase, &before.machine));

    let paused = State::default();
    let pauses = refused(Some(&paused));
    assert_eq!(conditions(&pauses), said);
    assert_eq!(pauses.weight, Some(WeightStatus { wanted: 0, observed: 0 }));
    assert_eq!(memory(Some(&pauses)).unwrap(), paused);
    assert_eq!(pauses.phase.as_deref(), Some("Idle"), "as the memory says");
    assert_eq!(pauses.verdict, before.verdict, "what was judged stays to be read");
}
