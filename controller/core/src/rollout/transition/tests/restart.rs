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
