//! The weight follows the canary's ready pods.

use super::*;
use crate::rollout::plan::Capacity;
use crate::rollout::{Progressing, PromoteStage};

/// All traffic is on the canary's three pods, and is judged.
fn at_full() -> World {
    given(100, World::new(STEPS).with_canary("1.1.0"))
}

fn given(weight: u8, mut world: World) -> World {
    let stands = |w: &World| {
        let seen = matches!(&w.state.phase, Phase::Progressing(p) if p.weight_at.is_some());
        seen && w.weight.canary().percent() == weight
    };
    world.until("the weight is given", 400, stands);
    world
}

fn percent(world: &World) -> u8 {
    world.weight.canary().percent()
}

impl World {
    /// Only so many pods are left, and no others come.
    fn lose(&mut self, left: i32) {
        self.pods_come = false;
        self.canary.ready = left;
        self.canary.ready_any = left;
    }

    fn seconds(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.step();
            self.now += 1;
        }
    }

    fn times(&self) -> u32 {
        self.state.phase.run().map_or(0, |run| run.footing.times)
    }
}

#[test]
fn lost_pods_lower_the_weight_to_what_is_left_and_it_returns_when_that_was_seen() {
    let mut w = at_full();
    w.lose(2);
    w.until("the weight is lowered", 13, |w| percent(w) == 66);
    let lowered = w.now;
    w.seconds(15);
    assert_eq!(percent(&w), 66);
    w.pods_come = true;
    w.until("the weight returns", 20, |w| percent(w) == 100);
    assert!(w.now - lowered >= 10, "nothing was seen since: {} s", w.now - lowered);
    w.until_phase(PhaseName::Promoted, 400);
    assert_eq!(w.weights, [5, 25, 50, 100, 66, 100, 75, 50, 0]);
}

#[test]
fn a_pod_that_restarts_for_a_moment_changes_no_weight() {
    let mut w = World::new(STEPS).with_canary("1.1.0");
    let mut draft = crate::rollout::plan::tests::draft(STEPS);
    draft.steps[3].hold = jiff::SignedDuration::from_mins(10);
    w.plan = Plan::parse(draft).unwrap();
    let mut w = given(100, w);
    for _ in 0..3 {
        w.lose(2);
        w.seconds(6);
        w.pods_come = true;
        w.seconds(2);
    }
    assert_eq!((percent(&w), w.times()), (100, 0));
}

#[test]
fn without_any_pod_the_weight_goes_at_once_and_the_first_step_begins_again() {
    let mut w = at_full();
    w.lose(0);
    w.seconds(2);
    assert_eq!(percent(&w), 0);
    w.seconds(30);
    assert_eq!(percent(&w), 0);
    w.pods_come = true;
    w.until_phase(PhaseName::Promoted, 600);
    assert_eq!(w.weights, [5, 25, 50, 100, 0, 5, 25, 50, 100, 75, 50, 0]);
}

#[test]
fn pods_that_are_back_before_the_weight_was_lowered_lose_it_when_nobody_sees_them() {
    let mut w = given(50, World::new(STEPS).with_canary("1.1.0"));
    w.pods_come = false;
    let waits = |w: &World| w.canary.desired == 3;
    w.until("the last step waits for its pods", 200, waits);
    w.lose(0);
    w.step();
    assert_eq!(percent(&w), 50, "it is recorded first");
    w.pods_come = true;
    w.canary.ready = w.canary.desired;
    w.sight = Sight::Blind;
    w.until("the weight is taken away", 100, |w| percent(w) == 0);
    w.seconds(30);
    assert_eq!(percent(&w), 0);
}

#[test]
fn pods_that_never_return_roll_back_at_the_deadline() {
    let mut w = at_full();
    w.lose(1);
    w.until("the weight is lowered", 13, |w| percent(w) == 33);
    w.until_phase(PhaseName::RolledBack, 200);
    assert_eq!((percent(&w), w.rollbacks), (0, 1));
}

#[test]
fn a_canary_that_turns_bad_at_a_lowered_weight_is_rolled_back() {
    let mut w = at_full();
    w.lose(2);
    w.until("the weight is lowered", 13, |w| percent(w) == 66);
    w.failing = 0.5;
    w.until_phase(PhaseName::RolledBack, 60);
    assert_eq!(w.weights, [5, 25, 50, 100, 66, 0]);
}

#[test]
fn pods_that_are_lost_again_and_again_wait_for_a_person() {
    let mut w = at_full();
    let mut returns = 0;
    while w.state.phase.name() == PhaseName::Progressing {
        w.lose(2);
        w.until("the weight is lowered", 13, |w| percent(w) == 66);
        w.step();
        if w.state.phase.name() == PhaseName::Progressing {
            w.pods_come = true;
            w = given(100, w);
            returns += 1;
        }
    }
    assert_eq!((returns, w.pause_reason()), (3, Some(PauseReason::PodsLost)));
    w.pods_come = true;
    w.seconds(60);
    assert_eq!(percent(&w), 66, "nothing rises without a person's word");
    w.order(Verb::Resume);
    w.until("the step is tried again", 30, |w| percent(w) == 100);
    assert_eq!(w.times(), 0);
}

#[test]
fn while_a_person_is_waited_for_the_weight_only_goes_down() {
    let mut w = at_full();
    w.order(Verb::Pause);
    w.until_phase(PhaseName::Paused, 5);
    w.lose(2);
    w.until("the weight is lowered", 13, |w| percent(w) == 66);
    w.lose(0);
    w.seconds(2);
    assert_eq!(percent(&w), 0);
    w.pods_come = true;
    w.seconds(60);
    assert_eq!((percent(&w), w.pause_reason()), (0, Some(PauseReason::Operator)));
    w.order(Verb::Resume);
    w.until_phase(PhaseName::Promoted, 600);
    assert_eq!(w.weights, [5, 25, 50, 100, 66, 0, 5, 25, 50, 100, 75, 50, 0]);
}

#[test]
fn a_stable_that_grows_takes_no_weight_from_a_canary_that_grows_after_it() {
    for pauses in [false, true] {
        let mut w = given(50, World::new(STEPS).with_canary("1.1.0"));
        if pauses {
            w.order(Verb::Pause);
            w.until_phase(PhaseName::Paused, 5);
        }
        assert_eq!(w.canary.desired, 2);
        w.pods_come = false;
        (w.stable.desired, w.stable.ready, w.stable.ready_any) = (8, 8, 8);
        w.seconds(15);
        assert_eq!((w.canary.desired, percent(&w)), (4, 50));
        // Beside the three that there were.
        w.lose(1);
        w.until("the weight is lowered", 13, |w| percent(w) == 33);
    }
}

#[test]
fn a_canary_of_full_size_keeps_what_its_pods_carry_and_one_pod_carries_all_of_an_external_one() {
    let mut w = World::new(STEPS).with_canary("1.1.0");
    w.plan.capacity = Capacity::Full;
    let mut w = given(25, w);
    assert_eq!(w.canary.desired, 3);
    w.lose(1);
    w.seconds(15);
    assert_eq!(percent(&w), 25);
    w.lose(0);
    w.seconds(2);
    assert_eq!(percent(&w), 0);

    let mut w = World::new(STEPS).with_canary("1.1.0");
    w.plan.capacity = Capacity::External;
    w.canary.desired = 3;
    let mut w = given(100, w);
    w.lose(1);
    w.seconds(15);
    assert_eq!(percent(&w), 100);
    w.lose(0);
    w.seconds(2);
    assert_eq!(percent(&w), 0);
}

#[test]
fn traffic_stays_where_it_is_while_stable_has_no_more_pods_than_the_canary() {
    let mut w = at_full();
    w.lose(1);
    (w.stable.ready, w.stable.ready_any) = (0, 0);
    w.seconds(15);
    assert_eq!(percent(&w), 100);
    (w.stable.ready, w.stable.ready_any) = (1, 1);
    w.until("each arm has what it can bear", 13, |w| percent(w) == 50);
}

#[test]
fn while_a_promotion_waits_for_stable_traffic_leaves_the_pods_that_are_lost_and_stays_away() {
    let mut w = World::new(STEPS).with_canary("1.1.0");
    w.applies = false;
    w.until("the promotion is pushed", 400, |w| w.promotions == 1);
    w.seconds(5);
    w.lose(1);
    w.until("the weight is lowered", 13, |w| percent(w) == 33);
    w.lose(0);
    w.seconds(2);
    assert_eq!(percent(&w), 0);
    w.pods_come = true;
    w.seconds(30);
    let applying = |w: &World| matches!(&w.state.phase, Phase::Promoting(p) if p.stage == PromoteStage::Applying);
    assert!(percent(&w) == 0 && applying(&w), "{:?}", w.state.phase);
    w.stable.revision = Some(rev("1.1.0", "s2"));
    w.until_phase(PhaseName::Promoted, 100);
    assert_eq!(w.weights, [5, 25, 50, 100, 33, 0]);
}

/// Its weight is lower than status wants, by Serin's own hand, and that stands in status already.
#[test]
fn a_controller_that_is_killed_after_it_lowered_the_weight_takes_it_for_nobodys_word() {
    let mut w = at_full();
    w.lose(2);
    let is_lowered = |w: &World| matches!(&w.state.phase, Phase::Progressing(Progressing { run, .. }) if run.footing.lowered.is_some());
    w.until("that it goes down is recorded", 13, is_lowered);
    let recorded = w.state.clone();
    w.step();
    assert_eq!(percent(&w), 66);
    w.state = recorded;
    w.seconds(5);
    assert_eq!((percent(&w), w.state.phase.name()), (66, PhaseName::Progressing));
}

#[test]
fn a_weight_that_somebody_lowers_further_is_somebodys_word() {
    let mut w = at_full();
    w.lose(2);
    w.until("the weight is lowered", 13, |w| percent(w) == 66);
    w.weight = LiveWeight::At(Weight::try_from(10).unwrap());
    w.step();
    assert_eq!(w.pause_reason(), Some(PauseReason::WeightContested));
}

#[test]
fn nothing_is_lowered_while_the_deployment_controller_has_not_caught_up() {
    let mut w = at_full();
    let revision = w.canary.revision.take();
    w.lose(0);
    w.seconds(5);
    assert_eq!(percent(&w), 100);
    w.canary.revision = revision;
    w.seconds(2);
    assert_eq!(percent(&w), 0);
}
