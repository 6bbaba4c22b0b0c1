//! Blue-green: a first step of weight 0 judges the testers' calls, and then everything goes over at once.

use super::*;
use crate::rollout::plan::tests::draft;
use crate::rollout::{PlanDraft, Testers};

fn world(weights: &[i64], testers: u64) -> World {
    let draft = PlanDraft {
        testers: Testers::Routed,
        ..draft(weights)
    };
    let mut world = World::new(&[100]).with_canary("1.1.0");
    world.plan = Plan::parse(draft).unwrap();
    world.testers = testers;
    world
}

#[test]
fn everything_goes_over_at_once_after_the_testers_calls_passed() {
    let mut world = world(&[0, 100], 5);
    let is_first = |w: &World| matches!(&w.state.phase, Phase::Progressing(p) if p.step == 0 && p.weight_at.is_some());
    world.until("the testers' calls are judged", 60, is_first);
    assert!(world.weights.is_empty(), "{:?}", world.weights);
    assert_eq!(world.canary.desired, 1, "testers need a pod");
    world.until_phase(PhaseName::Promoted, 400);
    assert_eq!(world.weights, [100, 75, 50, 0]);
    assert_eq!((world.promotions, world.rollbacks), (1, 0));
}

#[test]
fn what_testers_find_never_meets_anybody_else() {
    let mut world = world(&[0, 100], 5);
    world.failing = 0.2;
    world.until_phase(PhaseName::RolledBack, 100);
    assert!(world.weights.is_empty(), "{:?}", world.weights);
    assert_eq!((world.promotions, world.rollbacks, world.canary.desired), (0, 1, 0));
}

#[test]
fn without_testers_calls_it_waits_for_a_person() {
    let mut world = world(&[0, 100], 0);
    world.until_phase(PhaseName::Paused, 200);
    assert_eq!(world.pause_reason(), Some(PauseReason::Inconclusive));
    for _ in 0..120 {
        world.step();
        world.now += 1;
    }
    assert!(world.weights.is_empty(), "{:?}", world.weights);
    world.order(Verb::Promote);
    world.until("the last step has its weight", 60, |w| w.weights == [100]);
}

#[test]
fn a_weight_that_somebody_gives_while_testers_are_judged_is_taken_back() {
    let mut world = world(&[0, 100], 5);
    let is_first = |w: &World| matches!(&w.state.phase, Phase::Progressing(p) if p.step == 0 && p.weight_at.is_some());
    world.until("the testers' calls are judged", 60, is_first);
    world.weight = LiveWeight::At(Weight::FULL);
    world.step();
    assert_eq!(world.weights, [0]);
}
