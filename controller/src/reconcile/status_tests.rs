use serin_core::rollout::state::Pushed;
use serin_core::rollout::{Commit, RestNote, Revision, Starting};

use super::*;
use crate::api::parse;

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
            run,
            baseline: serin_core::rollout::Baseline::default(),
            since: at(0),
        }),
        ..State::default()
    }
}

fn counted(total: i64) -> Vec<EvidenceStatus> {
    let of = |arm: &str, total| EvidenceStatus {
        arm: arm.to_owned(),
        total,
        ..EvidenceStatus::default()
    };
    vec![of("stable", 9_999), of("canary", total)]
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
        }),
        reason: "20 % of calls failed".to_owned(),
        traffic_at: None,
    });
    let mut history = Vec::new();
    remember(&mut history, &starting("1.1.0"), &ended, &counted(120), at(725));
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
    remember(&mut history, &rests, &ended, &counted(120), at(900));
    assert_eq!(history.len(), 1, "it stays in its phase");
}

#[test]
fn a_revision_whose_place_another_one_took_is_remembered_as_superseded() {
    let mut history = Vec::new();
    let before = starting("1.1.0");
    remember(&mut history, &before, &starting("1.1.0").phase, &[], at(5));
    assert_eq!(history, [], "it goes on");
    remember(&mut history, &before, &starting("1.2.0").phase, &counted(7), at(65));
    remember(&mut history, &before, &Phase::Idle(RestNote::Held), &counted(7), at(65));
    let outcomes: Vec<_> = history
        .iter()
        .map(|entry| (entry.revision.as_str(), entry.outcome.as_str()))
        .collect();
    assert_eq!(outcomes, [("1.1.0", "Superseded"); 2]);
    assert_eq!((history[0].duration.as_str(), history[0].requests), ("1m 5s", 7));
    for _ in 0..20 {
        remember(&mut history, &before, &starting("1.2.0").phase, &[], at(70));
    }
    assert_eq!(history.len(), HISTORY);
}
