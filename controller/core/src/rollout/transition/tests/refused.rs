//! A spec that makes no sense while a rollout runs: it pauses, and nobody is blamed.

use super::*;

fn at_25_percent() -> World {
    let mut world = World::new(STEPS).with_canary("1.1.0");
    world.until("25 %", 100, |w| w.weight.canary().percent() == 25);
    world
}

fn wait(world: &mut World, seconds: i64) {
    for _ in 0..seconds {
        world.step();
        world.now += 1;
    }
}

#[test]
fn a_trial_waits_for_a_person_at_weight_0_and_starts_again_when_he_says_so() {
    let mut world = at_25_percent();
    let counted = world.state.phase.run().unwrap().analysis.canary_requests();
    world.refuse();
    // Nothing is decided for an hour.
    world.now += 3_600;
    assert_eq!(world.pause_reason(), Some(PauseReason::SpecRefused));
    wait(&mut world, 60);
    assert_eq!(world.pause_reason(), Some(PauseReason::SpecRefused), "nor by itself");
    assert_eq!(world.weights, [5, 25, 0]);
    let said = world.step().message;
    assert!(
        said.contains("waits at 0 %: its spec was refused; it makes sense now (`serin resume`"),
        "{said}"
    );
    world.order(Verb::Resume);
    world.until_phase(PhaseName::Progressing, 60);
    let run = world.state.phase.run().unwrap();
    assert!(
        run.analysis.canary_requests() >= counted,
        "what was counted stays counted"
    );
    world.until_phase(PhaseName::Promoted, 400);
    assert_eq!(world.weights, [5, 25, 0, 5, 25, 50, 100, 75, 50, 0]);
    assert_eq!((world.promotions, world.rollbacks), (1, 0));
}

#[test]
fn what_has_no_traffic_or_has_an_end_in_sight_goes_on_when_the_spec_is_mended() {
    let mut starting = World::new(STEPS).with_canary("1.1.0");
    starting.pods_come = false;
    starting.until_phase(PhaseName::Starting, 5);
    let mut promoting = at_25_percent();
    promoting.until_phase(PhaseName::Promoting, 400);
    let mut rolling_back = at_25_percent();
    rolling_back.git_down = true;
    rolling_back.order(Verb::Abort);
    rolling_back.until_phase(PhaseName::RollingBack, 5);
    let mut idle = World::new(STEPS);
    idle.step();
    for world in [starting, promoting, rolling_back, idle] {
        assert_eq!(
            crate::rollout::refused(&world.state, at(world.now)),
            None,
            "{:?}",
            world.state.phase
        );
    }
}

#[test]
fn one_that_waits_without_traffic_goes_on_waiting_for_the_same() {
    let mut world = at_25_percent();
    world.sight = Sight::Blind;
    world.until_phase(PhaseName::Paused, 100);
    world.refuse();
    assert_eq!(world.pause_reason(), Some(PauseReason::Blind));
    // One with traffic loses it, whatever it waited for.
    let mut world = at_25_percent();
    world.order(Verb::Pause);
    world.until_phase(PhaseName::Paused, 5);
    world.refuse();
    assert_eq!(world.pause_reason(), Some(PauseReason::SpecRefused));
    world.refuse();
    assert_eq!(world.weights, [5, 25, 0]);
}

#[test]
fn only_a_resume_or_an_abort_moves_it() {
    for verb in [Verb::Approve, Verb::Promote, Verb::PromoteFull, Verb::Pause] {
        let mut world = at_25_percent();
        world.refuse();
        world.order(verb);
        wait(&mut world, 5);
        assert_eq!(world.pause_reason(), Some(PauseReason::SpecRefused), "{verb:?}");
    }
    let mut world = at_25_percent();
    world.refuse();
    world.order(Verb::Abort);
    world.until_phase(PhaseName::RolledBack, 60);
    assert_eq!(world.rollbacks, 1);
}
