//! A clock that jumps. Time is an argument: a jump is a number.

use super::*;

const GOOD: &[u8] = &[5, 25, 50, 100, 75, 50, 0];

#[test]
fn a_clock_that_jumps_back_holds_a_rollout_up_and_changes_nothing_else() {
    for weight in [5, 25, 100] {
        let mut world = World::new(STEPS).with_canary("1.1.0");
        world.until("traffic", 200, |w| w.weight.canary().percent() == weight);
        world.now -= 90;
        world.until_phase(PhaseName::Promoted, 600);
        assert_eq!(
            (world.weights.as_slice(), world.promotions, world.rollbacks),
            (GOOD, 1, 0)
        );
    }
}

#[test]
fn a_clock_that_jumps_back_saves_no_bad_revision() {
    let mut world = World::new(STEPS).with_canary("1.2.0");
    world.until("traffic", 100, |w| w.weight.canary().percent() == 5);
    world.failing = 0.2;
    world.now -= 90;
    world.until_phase(PhaseName::RolledBack, 300);
    assert_eq!((world.weights.as_slice(), world.rollbacks), ([5, 0].as_slice(), 1));
}

/// Prometheus knows nothing of the hour that never was.
#[test]
fn a_clock_that_jumps_ahead_makes_blind_and_blames_nobody() {
    let mut world = World::new(STEPS).with_canary("1.1.0");
    world.until("traffic", 100, |w| w.weight.canary().percent() == 25);
    world.now += 3600;
    world.sight = Sight::Blind;
    world.until_phase(PhaseName::Paused, 10);
    assert_eq!(world.pause_reason(), Some(PauseReason::Blind));
    assert_eq!((world.weights.as_slice(), world.rollbacks), ([5, 25, 0].as_slice(), 0));
    world.now -= 3600;
    world.sight = Sight::Fresh;
    world.until_phase(PhaseName::Promoted, 4_200);
    assert_eq!((world.promotions, world.rollbacks), (1, 0));
}

proptest! {
    /// Each step asks the invariants.
    #[test]
    fn no_jumps_of_the_clock_break_an_invariant(
        jumps in prop::collection::vec((1..40_usize, -4_000..4_000_i64), 1..8),
        failing in prop_oneof![Just(0.0), Just(0.3)],
    ) {
        let mut world = World::new(STEPS).with_canary("1.1.0");
        world.failing = failing;
        for (steps, jump) in jumps {
            for _ in 0..steps {
                world.step();
                world.now += 1;
            }
            world.now += jump;
        }
        prop_assert!(world.rollbacks <= 1 && world.promotions <= 1);
    }
}
