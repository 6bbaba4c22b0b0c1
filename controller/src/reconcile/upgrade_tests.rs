//! Statuses as released versions wrote them: they are understood, and a new version starts nothing because of them.
//!
//! `tests/fixtures/status/<version>/<phase>.json` holds `status` as it stood in a cluster. Files of a version that was released
//! are never changed; a version that writes another form adds its own.

use std::path::{Path, PathBuf};

use serin_core::rollout::{Arm, Effect, LiveWeight, Observation, PhaseName, transition};

use super::*;
use crate::api::parse;
use crate::reconcile::fixtures::seen_of;

fn fixtures() -> Vec<(PathBuf, CanaryRolloutStatus)> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/status"));
    let mut found = Vec::new();
    for version in std::fs::read_dir(folder).unwrap() {
        for file in std::fs::read_dir(version.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let status = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            found.push((path, status));
        }
    }
    found
}

fn plan() -> Plan {
    let spec = serde_json::json!({
        "service": {"name": "web", "port": 80}, "stable": {"deployment": "web"}, "canary": {"deployment": "web-canary"},
        "git": {"repository": "https://git.example.com/x.git", "path": "prod"},
    });
    parse(&serde_json::from_value(spec).unwrap()).unwrap().plan
}

/// The cluster as it stood when the status was written: nothing has happened since.
fn as_it_stood(status: &CanaryRolloutStatus, state: &State) -> Observation {
    let arm = |revision| Arm {
        revision: Some(revision),
        desired: 2,
        ready: 2,
        ready_any: 2,
        settled: true,
    };
    let canary = match state.phase.run() {
        Some(run) => run.revision.clone(),
        None => state.seen.clone().unwrap(),
    };
    let stable = serin_core::rollout::Revision {
        name: status.stable.clone().unwrap(),
        hash: "stable".to_owned(),
    };
    let weight = status.weight.map_or(0, |weight| weight.observed);
    let canary = Arm {
        desired: if state.phase.run().is_some() { 2 } else { 0 },
        ..arm(canary)
    };
    Observation {
        weight: LiveWeight::At(Weight::try_from(i64::from(weight)).unwrap()),
        sides: serin_core::analysis::Sides::Both,
        ..seen_of(arm(stable), canary)
    }
}

#[test]
fn every_phase_that_a_released_version_wrote_is_understood() {
    let fixtures = fixtures();
    for phase in [
        PhaseName::Idle,
        PhaseName::Starting,
        PhaseName::Progressing,
        PhaseName::Paused,
        PhaseName::Promoting,
        PhaseName::RollingBack,
        PhaseName::Withdrawn,
        PhaseName::Promoted,
        PhaseName::RolledBack,
    ] {
        let of_phase = |(_, status): &&(PathBuf, CanaryRolloutStatus)| status.phase == Some(phase.to_string());
        assert!(
            fixtures.iter().any(|fixture| of_phase(&fixture)),
            "no fixture of {phase}"
        );
    }
    for (path, status) in &fixtures {
        let state = memory(Some(status)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(Some(state.phase.name().to_string()), status.phase, "{}", path.display());
        let again = serde_json::to_value(&state).unwrap();
        let read: State = serde_json::from_value(again).unwrap();
        assert_eq!(read, state, "{}", path.display());
    }
}

#[test]
fn a_new_version_starts_no_rollout_and_moves_no_traffic() {
    for (path, status) in fixtures() {
        let state = memory(Some(&status)).unwrap();
        let now = status.next.unwrap_or_else(crate::runtime::clock::now);
        let observation = as_it_stood(&status, &state);
        let decision = transition(&plan(), &state, &observation, now);
        let begins = decision.state.phase.run().map(|run| &run.revision) != state.phase.run().map(|run| &run.revision);
        assert!(
            !begins || decision.state.phase.run().is_none(),
            "{}: {:?}",
            path.display(),
            decision.state.phase
        );
        let live = observation.weight.canary();
        for effect in &decision.effects {
            let moves = matches!(effect, Effect::SetWeight(weight) if *weight > live);
            let asks = state.phase.run().is_none()
                && matches!(
                    effect,
                    Effect::AskOrigin(_) | Effect::CommitPromotion { .. } | Effect::CommitRollback { .. }
                );
            assert!(!moves && !asks, "{}: {effect:?}", path.display());
        }
    }
}
