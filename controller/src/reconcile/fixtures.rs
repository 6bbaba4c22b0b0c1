//! What tests of this room look at.

use serin_core::analysis::Sides;
use serin_core::rollout::{Arm, GitView, LiveWeight, Observation};

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
        sampling_problem: None,
        preflight: None,
        baseline: None,
        git: GitView::default(),
        hooks: vec![],
        command: None,
        deleted: false,
    }
}
