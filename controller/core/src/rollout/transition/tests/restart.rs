//! What was counted and not written when a controller died is counted again, to the same bits: status keeps the state of the tests
//! and up to where it has counted, and Prometheus keeps the samples.

use jiff::SignedDuration;

use super::*;
use crate::rollout::plan::tests::draft;

/// What status held when the second step, of ten minutes, began; and the world so many seconds later.
fn counted(failing: f64, seconds: i64) -> (State, World) {
    let mut draft = draft(STEPS);
    draft.steps[1].hold = SignedDuration::from_secs(600);
    let mut world = World::new(&[100]).with_canary("1.1.0");
    world.plan = Plan::parse(draft).unwrap();
    world.failing = failing;
    let is_second = |w: &World| matches!(&w.state.phase, Phase::Progressing(p) if p.step == 1 && p.weight_at.is_some());
    world.until("the second step has its weight", 200, is_second);
    let written = world.state.clone();
    for _ in 0..seconds {
        world.now += 1;
        world.step();
    }
    (written, world)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_restart_goes_on_exactly_where_it_was(failing in 0.0..0.0018f64, seconds in 1i64..500) {
        let (written, mut world) = counted(failing, seconds);
        prop_assert!(written.counts_up_to(&world.state), "something else than counting happened: {:?}", world.state.phase);
        // Another process reads what status holds, and asks for all ticks since then at once.
        let alive = world.state.clone();
        let ticks = alive.phase.run().unwrap().as_of.duration_since(written.phase.run().unwrap().as_of).as_secs() / 10;
        prop_assert!(ticks >= seconds / 10 - 1, "{ticks} ticks in {seconds} s");
        world.state = serde_json::from_str(&serde_json::to_string(&written).unwrap()).unwrap();
        world.git = GitView::default();
        world.step();
        prop_assert_eq!(&world.state, &alive);
        prop_assert_eq!(serde_json::to_string(&world.state).unwrap(), serde_json::to_string(&alive).unwrap());
    }
}

/// A controller that writes a weight, is killed before it sees it, and comes back a while later.
fn killed_with_the_weight_written(from: u8, failing: f64) -> World {
    let mut world = World::new(STEPS).with_canary("1.1.0");
    let enters = |w: &World| matches!(&w.state.phase, Phase::Progressing(p) if p.weight_at.is_none() && p.from.percent() == from);
    world.until("the step is entered", 200, enters);
    let recorded = world.state.clone();
    let weights = world.weights.len();
    world.until("its weight is written", 20, |w| w.weights.len() > weights);
    world.state = recorded;
    world.failing = failing;
    world.now += 60;
    world
}

#[test]
fn what_failed_while_nobody_had_seen_the_new_weight_is_counted_when_it_is_seen() {
    let mut world = killed_with_the_weight_written(25, 0.5);
    world.step();
    assert_eq!(world.state.phase.name(), PhaseName::RollingBack);
    assert!(world.weight.canary().is_zero());
}

/// Before the first weight there is nothing to count from, and the first calls warm the canary up: those that come from then on
/// say the same.
#[test]
fn a_first_weight_that_nobody_had_seen_counts_from_when_it_is_seen() {
    let mut world = killed_with_the_weight_written(0, 0.5);
    world.step();
    assert_eq!(world.state.phase.name(), PhaseName::Progressing);
    world.until_phase(PhaseName::RollingBack, 40);
}

#[test]
fn a_good_canary_loses_nothing_by_a_controller_that_was_killed_with_its_weight_written() {
    let mut world = killed_with_the_weight_written(25, 0.0);
    world.until_phase(PhaseName::Promoted, 400);
    assert_eq!(world.weights, [5, 25, 50, 100, 75, 50, 0]);
}
