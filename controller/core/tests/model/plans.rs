//! The plans that are explored. Durations are one or two units, so that every deadline can pass.

use serin_core::analysis::Objectives;
use serin_core::rollout::{
    Capacity, Hook, HookPoint, OnHookFailure, OnInconclusive, Plan, PlanDraft, RouteOrigin, StepDraft, Testers,
};

use super::world::UNIT;

pub(crate) fn draft(weights: &[i64]) -> PlanDraft {
    PlanDraft {
        steps: weights
            .iter()
            .map(|&weight| StepDraft {
                weight,
                hold: UNIT,
                at_most: Some(UNIT * 2),
                approval: false,
                on_inconclusive: None,
            })
            .collect(),
        on_inconclusive: OnInconclusive::Advance,
        route: RouteOrigin::Generated,
        testers: Testers::Absent,
        capacity: Capacity::Proportional,
        idle_replicas: 0,
        drain: UNIT,
        min_requests: 20,
        progress_deadline: UNIT * 2,
        promote_deadline: UNIT * 2,
        blind_deadline: UNIT * 2,
        interval: UNIT,
        fast_return: 0,
        warm_up: jiff::SignedDuration::ZERO,
        objectives: Objectives::default(),
        hooks: vec![],
    }
}

pub(crate) fn steps(weights: &[i64]) -> Plan {
    Plan::parse(draft(weights)).unwrap()
}

/// The first step asks for an approval, and what is not proven pauses.
pub(crate) fn careful(weights: &[i64]) -> Plan {
    let mut draft = draft(weights);
    draft.on_inconclusive = OnInconclusive::Pause;
    draft.steps[0].approval = true;
    Plan::parse(draft).unwrap()
}

/// Two hooks at every point.
pub(crate) fn gated(weights: &[i64], outcomes: [OnHookFailure; 2]) -> Plan {
    let mut draft = draft(weights);
    let hooks = ["a", "b"].into_iter().zip(outcomes);
    let hook = |(name, on_failure): (&str, OnHookFailure)| Hook {
        name: name.to_owned(),
        at: HookPoint::ALL.to_vec(),
        timeout: UNIT * 2,
        on_failure,
    };
    draft.hooks = hooks.map(hook).collect();
    Plan::parse(draft).unwrap()
}

/// What is not proven is rolled back.
pub(crate) fn strict(weights: &[i64]) -> Plan {
    let mut draft = draft(weights);
    draft.on_inconclusive = OnInconclusive::RollBack;
    Plan::parse(draft).unwrap()
}
