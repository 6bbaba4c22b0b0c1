//! Stable's autoscaler while its traffic is elsewhere.

use super::*;
use crate::rollout::Floor;

/// A world in which something scales stable, down to this many of its three pods.
fn scaled(minimum: i32) -> World {
    let mut world = World::new(&[10, 100]).with_canary("1.1.0");
    world.autoscaler = Some(Autoscaler {
        name: "hpa".into(),
        minimum,
    });
    world
}

fn minimum(world: &World) -> i32 {
    world.autoscaler.as_ref().unwrap().minimum
}

fn held(original: i32) -> Floor {
    Floor {
        autoscaler: "hpa".into(),
        original,
        held: 3,
    }
}

#[test]
fn stable_keeps_its_size_from_the_first_weight_until_the_promotion_is_over() {
    let mut world = scaled(1);
    world.until("a weight", 100, |w| !w.weight.canary().is_zero());
    assert_eq!((minimum(&world), world.state.floor.clone()), (3, Some(held(1))));
    world.until_phase(PhaseName::Promoted, 1_000);
    world.until("it is given back", 10, |w| w.state.floor.is_none());
    assert_eq!(minimum(&world), 1);
}

#[test]
fn stable_gets_its_minimum_back_after_a_rollback() {
    let mut world = scaled(2);
    world.failing = 0.5;
    world.until_phase(PhaseName::RolledBack, 1_000);
    assert!(world.weights.contains(&10), "{:?}", world.weights);
    world.until("it is given back", 10, |w| w.state.floor.is_none());
    assert_eq!(minimum(&world), 2);
}

#[test]
fn a_deleted_rollout_gives_the_minimum_back_before_it_lets_go() {
    let mut world = scaled(1);
    world.until("a weight", 100, |w| !w.weight.canary().is_zero());
    world.deleted = true;
    world.until("released", 100, |w| w.released);
    assert_eq!((minimum(&world), world.state.floor.clone()), (1, None));
}

#[test]
fn what_is_to_be_given_back_is_recorded_before_it_is_overwritten() {
    let mut world = scaled(1);
    world.until("it is recorded", 100, |w| w.state.floor.is_some());
    assert_eq!(minimum(&world), 1);
    assert!(world.weight.canary().is_zero());
}

#[test]
fn a_minimum_that_people_set_meanwhile_is_held_up_and_is_what_is_given_back() {
    let mut world = scaled(1);
    world.until("a weight", 100, |w| !w.weight.canary().is_zero());
    world.autoscaler.as_mut().unwrap().minimum = 2;
    world.until("it is held again", 10, |w| minimum(w) == 3);
    assert_eq!(world.state.floor, Some(held(2)));
    world.until_phase(PhaseName::Promoted, 1_000);
    world.until("it is given back", 10, |w| w.state.floor.is_none());
    assert_eq!(minimum(&world), 2);
}

#[test]
fn a_higher_minimum_of_people_stays() {
    let mut world = scaled(1);
    world.until("a weight", 100, |w| !w.weight.canary().is_zero());
    world.autoscaler.as_mut().unwrap().minimum = 5;
    world.until_phase(PhaseName::Promoted, 1_000);
    world.until("nothing is held", 10, |w| w.state.floor.is_none());
    assert_eq!(minimum(&world), 5);
}

#[test]
fn no_weight_rises_while_stable_could_not_take_everything_back() {
    let mut world = scaled(1);
    world.until("the first step", 100, |w| w.weight.canary().percent() == 10);
    world.stable.ready_any = 2;
    for _ in 0..200 {
        world.step();
        world.now += 1;
    }
    assert_eq!(world.weight.canary().percent(), 10);
    assert_eq!(world.state.phase.name(), PhaseName::Progressing);
    world.stable.ready_any = 3;
    world.until("the second step", 100, |w| w.weight.canary().percent() == 100);
}

#[test]
fn an_autoscaler_that_goes_no_lower_is_left_alone() {
    let mut world = scaled(3);
    world.until_phase(PhaseName::Promoted, 1_000);
    assert_eq!((minimum(&world), world.state.floor.clone()), (3, None));
}

#[test]
fn a_minimum_that_cannot_be_written_holds_no_rollback_up_and_is_tried_again() {
    let mut world = scaled(1);
    world.until("a weight", 100, |w| !w.weight.canary().is_zero());
    world.takes_minimum = false;
    world.failing = 0.5;
    world.until_phase(PhaseName::RolledBack, 1_000);
    assert_eq!((world.rollbacks, minimum(&world)), (1, 3));
    let decision = world.step();
    assert!(
        decision
            .effects
            .iter()
            .any(|e| matches!(e, Effect::SetMinimum { minimum: 1, .. }))
    );
    assert!(decision.wake.is_some(), "nothing else would wake it");
    world.takes_minimum = true;
    world.until("it is given back", 10, |w| w.state.floor.is_none());
    assert_eq!(minimum(&world), 1);
}

#[test]
fn no_weight_rises_while_the_minimum_cannot_be_written() {
    let mut world = scaled(1);
    world.takes_minimum = false;
    for _ in 0..200 {
        world.step();
        world.now += 1;
    }
    assert!(world.weight.canary().is_zero());
    assert_eq!((world.rollbacks, world.state.phase.name()), (0, PhaseName::Progressing));
}
