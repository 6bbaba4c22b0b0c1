//! A step whose time is over without a verdict does what its plan says, and each step may say something else.

use jiff::SignedDuration;

use super::*;
use crate::rollout::OnInconclusive;
use crate::rollout::plan::tests::draft;

/// Steps that can't be proven: with a margin of nothing no number of calls does it. Each has time for three ticks; only the first says
/// for itself what then.
fn world(first: Option<OnInconclusive>, plan: OnInconclusive) -> World {
    let mut draft = draft(&[5, 25, 100]);
    draft.on_inconclusive = plan;
    draft.objectives.success.pass_tolerance = 0.0;
    for step in &mut draft.steps {
        step.at_most = Some(SignedDuration::from_secs(39));
    }
    draft.steps[0].on_inconclusive = first;
    let mut world = World::new(&[100]).with_canary("1.1.0");
    world.plan = Plan::parse(draft).unwrap();
    world
}

/// From the first weight on, with or without calls, until the first step's time is over.
fn after_its_time(mut world: World, traffic: bool) -> World {
    world.is_idle = !traffic;
    world.until("5 %", 60, |w| w.weight.canary().percent() == 5);
    for _ in 0..50 {
        world.step();
        world.now += 1;
    }
    world
}

#[test]
fn an_unproven_step_advances_pauses_or_fails_as_the_plan_says() {
    let advanced = after_its_time(world(None, OnInconclusive::Advance), true);
    assert_eq!(advanced.weights, [5, 25]);
    let paused = after_its_time(world(None, OnInconclusive::Pause), true);
    assert_eq!(paused.pause_reason(), Some(PauseReason::Inconclusive));
    assert_eq!(paused.weights, [5], "and keeps its weight");
    let failed = after_its_time(world(None, OnInconclusive::RollBack), true);
    assert_eq!(failed.weights, [5, 0]);
    assert_eq!(
        (failed.state.phase.name(), failed.rollbacks),
        (PhaseName::RolledBack, 1)
    );
}

#[test]
fn a_step_says_otherwise_than_its_plan_for_itself_alone() {
    let mut world = after_its_time(world(Some(OnInconclusive::Advance), OnInconclusive::Pause), true);
    world.until_phase(PhaseName::Paused, 60);
    assert_eq!(world.pause_reason(), Some(PauseReason::Inconclusive));
    assert_eq!(world.weights, [5, 25], "the second step does as the plan says");
    let world = after_its_time(
        self::world(Some(OnInconclusive::RollBack), OnInconclusive::Advance),
        true,
    );
    assert_eq!((world.weights.as_slice(), world.rollbacks), ([5, 0].as_slice(), 1));
}

#[test]
fn without_traffic_an_unproven_step_never_advances_and_fails_only_where_the_plan_says_so() {
    for on_inconclusive in [OnInconclusive::Advance, OnInconclusive::Pause] {
        let paused = after_its_time(world(None, on_inconclusive), false);
        assert_eq!(
            paused.pause_reason(),
            Some(PauseReason::Inconclusive),
            "{on_inconclusive:?}"
        );
        assert_eq!((paused.weights.as_slice(), paused.rollbacks), ([5].as_slice(), 0));
        assert_eq!(paused.state.phase.run().unwrap().analysis.step_requests(), 0);
    }
    let failed = after_its_time(world(None, OnInconclusive::RollBack), false);
    assert_eq!((failed.weights.as_slice(), failed.rollbacks), ([5, 0].as_slice(), 1));
}

#[test]
fn a_step_never_advances_unproven_while_something_speaks_against_the_canary() {
    // So little worse than its tolerance that three ticks do not fail it.
    let mut suspect = world(None, OnInconclusive::Advance);
    suspect.failing = 0.008;
    suspect.until_phase(PhaseName::Paused, 100);
    assert!(suspect.state.phase.run().unwrap().analysis.verdict().suspect);
    assert_eq!(suspect.pause_reason(), Some(PauseReason::Inconclusive));
    assert_eq!((suspect.weights.as_slice(), suspect.rollbacks), ([5].as_slice(), 0));
}

#[test]
fn a_step_never_advances_while_stable_breaks_the_objective_as_well() {
    let mut held = world(None, OnInconclusive::Advance);
    held.failing = 0.05;
    held.stable_failing = 0.05;
    let held = after_its_time(held, true);
    assert_eq!(
        held.state.phase.run().unwrap().analysis.outcome(),
        crate::analysis::Outcome::Hold
    );
    assert_eq!(held.pause_reason(), Some(PauseReason::Inconclusive));
    assert_eq!((held.weights.as_slice(), held.rollbacks), ([5].as_slice(), 0));
}

#[test]
fn fewer_calls_than_min_requests_advance_nothing() {
    let mut world = world(None, OnInconclusive::Advance);
    world.plan.min_requests = 1_000_000;
    let world = after_its_time(world, true);
    assert_eq!(world.pause_reason(), Some(PauseReason::Inconclusive));
    assert_eq!(world.weights, [5]);
}
