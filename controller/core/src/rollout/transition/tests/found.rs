//! What the model found in this code once, each as the story that led there (`tests/model`).

use super::*;

/// At the first step's weight, judged once; the next step is wanted, and its pods do not come.
fn waiting_for_pods() -> World {
    let mut world = World::new(&[50, 100]).with_canary("1.1.0");
    world.until("50 %", 100, |w| w.weight.canary().percent() == 50);
    world.pods_come = false;
    world.until(
        "the second step",
        100,
        |w| matches!(&w.state.phase, Phase::Progressing(p) if p.step == 1),
    );
    world
}

#[test]
fn a_canary_that_fails_while_the_next_step_waits_for_pods_loses_its_traffic() {
    let mut world = waiting_for_pods();
    world.failing = 0.5;
    world.until_phase(PhaseName::RollingBack, 60);
    assert_eq!(world.weight.canary(), Weight::ZERO);
    assert!(matches!(&world.state.phase, Phase::RollingBack(r) if matches!(r.reason, RollbackReason::Failed(_))));
}

#[test]
fn a_weight_does_not_rise_while_the_canary_is_out_of_sight() {
    let mut world = waiting_for_pods();
    world.sight = Sight::Blind;
    for _ in 0..20 {
        world.step();
        world.now += 1;
    }
    world.pods_come = true;
    for _ in 0..20 {
        world.step();
        world.now += 1;
    }
    assert_eq!(world.weight.canary().percent(), 50);
    world.sight = Sight::Fresh;
    world.until("100 %", 30, |w| w.weight.canary() == Weight::FULL);
}

#[test]
fn what_a_person_paused_does_not_go_on_by_itself_when_sight_returns() {
    let mut world = World::new(STEPS).with_canary("1.1.0");
    world.until("25 %", 100, |w| w.weight.canary().percent() == 25);
    world.order(Verb::Pause);
    world.step();
    world.sight = Sight::Blind;
    world.until("no traffic", 100, |w| w.weight.canary().is_zero());
    world.sight = Sight::Fresh;
    for _ in 0..60 {
        world.step();
        world.now += 1;
    }
    assert_eq!(world.pause_reason(), Some(PauseReason::Operator));
    assert_eq!(world.weight.canary(), Weight::ZERO);
    world.order(Verb::Resume);
    world.until("first step again", 30, |w| w.weights.ends_with(&[0, 5]));
}

#[test]
fn a_pause_does_not_give_a_blind_canary_more_time() {
    let mut world = World::new(STEPS).with_canary("1.1.0");
    world.until("25 %", 100, |w| w.weight.canary().percent() == 25);
    let since = world.now;
    world.sight = Sight::Blind;
    for _ in 0..50 {
        world.step();
        world.now += 1;
    }
    world.order(Verb::Pause);
    world.until("no traffic", 60, |w| w.weight.canary().is_zero());
    assert!(world.now - since <= 75, "{} s", world.now - since);
}

#[test]
fn a_command_does_not_talk_over_a_failure_that_could_not_be_recorded() {
    let mut world = World::new(STEPS).with_canary("1.2.0");
    world.until("25 %", 100, |w| w.weight.canary().percent() == 25);
    world.failing = 0.5;
    let before = loop {
        let before = world.state.clone();
        world.step();
        if world.state.phase.name() == PhaseName::RollingBack {
            break before;
        }
        world.now += 1;
    };
    // Weight 0 is written and status is not. The ticks of that time are still the same ones.
    let observation = |command| {
        let mut then = World::new(STEPS);
        (then.state, then.now, then.failing) = (before.clone(), world.now, 0.5);
        (then.stable, then.canary) = (world.stable.clone(), world.canary.clone());
        then.weight = LiveWeight::At(Weight::try_from(25).unwrap());
        let mut seen = then.look();
        seen.weight = world.weight;
        seen.command = command;
        seen
    };
    for verb in [Verb::Promote, Verb::PromoteFull, Verb::Resume, Verb::Approve] {
        let (id, reason) = ("late".to_owned(), String::new());
        let seen = observation(Some(Command {
            id,
            verb,
            reason,
            by: None,
        }));
        let decision = transition(&world.plan, &before, &seen, at(world.now));
        assert_eq!(decision.state.phase.name(), PhaseName::RollingBack, "{verb:?}");
    }
}

#[test]
fn an_answer_about_another_revision_is_no_answer() {
    let mut world = World::new(STEPS).with_canary("1.2.0");
    world.failing = 0.2;
    world.until_phase(PhaseName::RollingBack, 100);
    world.git.rollback = Some(Answer::Is((rev("1.1.0", "c9"), RollbackOutcome::AtRest)));
    let before = world.rollbacks;
    world.step();
    assert_eq!(world.rollbacks, before + 1, "the commit is still asked for");
}

#[test]
fn a_canary_that_no_commit_asks_for_is_not_tried_on_a_hotfix() {
    let mut world = World::new(STEPS).with_canary("1.2.0");
    world.failing = 0.2;
    world.until_phase(PhaseName::RolledBack, 100);
    // The rollback brought the canary back to 1.0.0; then a hotfix of stable alone.
    world.stable.revision = Some(rev("1.0.1", "s9"));
    world.origin = Origin {
        commit: None,
        at_rest: false,
        prior: None,
    };
    world.state.seen = Some(rev("1.2.0", "c2"));
    for _ in 0..60 {
        world.step();
        world.now += 1;
    }
    assert_eq!(world.state.phase.run(), None);
    assert!(world.weight.canary().is_zero());
}

#[test]
fn traffic_leaves_a_failed_canary_when_stable_is_back_though_people_committed_it_again() {
    let mut world = World::new(STEPS).with_canary("1.1.0");
    world.until("promotion", 400, |w| w.promotions == 1);
    world.stable.settled = false;
    world.applies = false;
    world.until(
        "on the canary",
        200,
        |w| matches!(&w.state.phase, Phase::RollingBack(r) if r.on_canary && r.git != RollbackGit::Committing),
    );
    world.stable.revision = Some(rev("1.0.0", "s1"));
    world.stable.settled = true;
    world.until("no traffic", 5, |w| w.weight.canary().is_zero());
    world.until("the canary is idle", 20, |w| w.canary.desired == 0);
}

#[test]
fn what_people_made_stable_before_its_trial_needs_none() {
    let mut world = World::new(STEPS).with_canary("1.1.0");
    world.pods_come = false;
    world.until_phase(PhaseName::Starting, 5);
    world.stable.revision = Some(rev("1.1.0", "s2"));
    world.origin.at_rest = true;
    world.until_phase(PhaseName::Withdrawn, 5);
    assert_eq!((world.promotions, world.rollbacks), (0, 0));
}
