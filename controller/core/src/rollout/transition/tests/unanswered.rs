//! Decisions that are made before Prometheus has answered.

use super::*;

/// Half of the traffic is on the canary, and Prometheus takes its time.
fn unanswered() -> World {
    let mut world = World::new(STEPS).with_canary("1.1.0");
    let stands = |w: &World| {
        let seen = matches!(&w.state.phase, Phase::Progressing(p) if p.weight_at.is_some());
        seen && w.weight.canary().percent() == 50
    };
    world.until("half is given", 400, stands);
    world.is_silent = true;
    world
}

fn percent(world: &World) -> u8 {
    world.weight.canary().percent()
}

#[test]
fn pods_that_are_lost_take_their_traffic_with_them_before_an_answer() {
    let mut w = unanswered();
    w.pods_come = false;
    w.canary.ready = 0;
    w.step();
    w.step();
    assert_eq!(percent(&w), 0);
    w.is_silent = false;
    w.pods_come = true;
    w.until_phase(PhaseName::Promoted, 600);
}

#[test]
fn a_weight_that_others_raised_is_corrected_before_an_answer() {
    let mut w = unanswered();
    w.weight = LiveWeight::At(Weight::FULL);
    w.step();
    assert_eq!(percent(&w), 50);
    w.is_silent = false;
    w.until_phase(PhaseName::Promoted, 600);
}

#[test]
fn a_newcomer_gets_no_traffic_before_an_answer() {
    let mut w = unanswered();
    w.commit_canary("1.2.0", "c3");
    w.step();
    assert_eq!(percent(&w), 0);
    w.is_silent = false;
    w.until_phase(PhaseName::Promoted, 600);
    assert_eq!(w.promotions, 1);
}

#[test]
fn an_abort_is_heard_before_an_answer_and_any_other_word_after_it() {
    for verb in [Verb::Promote, Verb::PromoteFull, Verb::Pause] {
        let mut w = unanswered();
        w.order(verb);
        let before = w.state.clone();
        w.step();
        assert_eq!(w.state, before, "{}", verb.name());
        // It may hold a failure that nobody has seen.
        (w.failing, w.now, w.is_silent) = (0.5, w.now + 20, false);
        w.until_phase(PhaseName::RolledBack, 60);
    }
    let mut w = unanswered();
    w.order(Verb::Abort);
    w.step();
    assert_eq!((percent(&w), w.state.phase.name()), (0, PhaseName::RollingBack));
}

#[test]
fn time_alone_says_nothing_before_an_answer() {
    let mut w = unanswered();
    let before = w.state.clone();
    for _ in 0..100 {
        w.now += 60;
        assert_eq!(w.step().effects, []);
    }
    assert_eq!((&w.state, percent(&w)), (&before, 50), "neither blind nor over");
}

#[test]
fn what_failed_before_an_answer_is_counted_when_it_comes() {
    let mut w = unanswered();
    w.failing = 0.5;
    w.now += 10;
    // In the midst of it, what is left of the pods can carry less.
    w.pods_come = false;
    w.canary.ready = 1;
    w.canary.ready_any = 1;
    for _ in 0..15 {
        w.step();
        w.now += 1;
    }
    assert_eq!((percent(&w), w.rollbacks), (33, 0));
    w.is_silent = false;
    w.step();
    assert_eq!(w.state.phase.name(), PhaseName::RollingBack);
}
