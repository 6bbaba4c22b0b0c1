//! What tests of this room look at.

use jiff::Timestamp;
use serde_json::json;
use serin_core::analysis::Sides;
use serin_core::rollout::{Arm, GitView, LiveWeight, Observation, Phase, Progressing, Revision, Run, Sampling, State};

use crate::api::parse;

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

/// In its first step, with ticks up to `seconds` counted.
pub(super) fn on_trial(seconds: i64) -> State {
    let spec = serde_json::from_value(json!({
        "service": {"name": "web", "port": 80}, "stable": {"deployment": "web"}, "canary": {"deployment": "web-canary"},
        "git": {"repository": "https://git.example.com/x.git", "path": "prod"},
    }));
    let plan = parse(&spec.unwrap()).unwrap().plan;
    let revision = |name: &str| Revision {
        name: name.to_owned(),
        hash: name.to_owned(),
    };
    let mut run = Run::begin(revision("1.1.0"), revision("1.0.0"), None, &plan, at(0));
    run.as_of = at(seconds);
    State {
        phase: Phase::Progressing(Progressing {
            run,
            step: 0,
            since: at(0),
            from: serin_core::Weight::ZERO,
            weight_at: Some(at(0)),
        }),
        ..State::default()
    }
}

/// An arm whose only pod is ready.
pub(super) fn one_pod() -> Arm {
    Arm {
        revision: None,
        desired: 1,
        ready: 1,
        ready_any: 1,
        settled: true,
    }
}

/// Two arms, and nothing else that is known.
pub(super) fn seen_of(stable: Arm, canary: Arm) -> Observation {
    Observation {
        stable,
        canary,
        autoscaler: None,
        weight: LiveWeight::Absent,
        route_accepted: None,
        sides: Sides::Neither,
        writer: None,
        causes: None,
        pinned: None,
        ticks: vec![],
        sampling: Sampling::Answered,
        preflight: None,
        baseline: None,
        git: GitView::default(),
        hooks: vec![],
        command: None,
        deleted: false,
    }
}
