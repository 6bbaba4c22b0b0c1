//! Fast return: what was promoted lately is promoted again without a canary.

use super::*;
use crate::rollout::Way;

/// A world in which these were promoted one after the other, the first one first.
fn promoted(revisions: &[(&str, &str)]) -> World {
    let mut world = World::new(STEPS);
    for (name, hash) in revisions {
        world.commit_canary(name, hash);
        world.until(
            &format!("{name} is promoted"),
            400,
            |w| matches!(&w.state.phase, Phase::Promoted(ending) if ending.revision == rev(name, hash)),
        );
    }
    world.weights.clear();
    world
}

const TWO: &[(&str, &str)] = &[("1.1.0", "c2"), ("1.2.0", "c3")];

fn is_on_trial(world: &World) -> bool {
    matches!(world.state.phase, Phase::Starting(_) | Phase::Progressing(_))
}

#[test]
fn a_revision_that_was_promoted_lately_returns_without_a_canary() {
    let mut world = promoted(TWO);
    world.commit_canary("1.1.0", "c2");
    world.until("it is promoted again", 200, |w| {
        assert!(!is_on_trial(w), "a trial began");
        matches!(&w.state.phase, Phase::Promoted(ending) if ending.revision.name == "1.1.0")
    });
    assert_eq!(
        (world.weights.as_slice(), world.canary.desired),
        ([].as_slice(), 0),
        "no traffic moved"
    );
    assert_eq!((world.promotions, world.rollbacks), (3, 0));
    assert_eq!(world.stable.revision.as_ref().unwrap().name, "1.1.0");
    assert_eq!(world.state.promoted, [rev("1.1.0", "c2"), rev("1.2.0", "c3")]);
}

#[test]
fn the_same_name_with_another_template_is_another_revision() {
    let mut world = promoted(TWO);
    world.commit_canary("1.1.0", "c9");
    world.until("a trial begins", 20, is_on_trial);
}

#[test]
fn what_was_promoted_longer_ago_has_a_trial_again() {
    let mut world = promoted(&[("1.1.0", "c2"), ("1.2.0", "c3"), ("1.3.0", "c4"), ("1.4.0", "c5")]);
    world.commit_canary("1.1.0", "c2");
    world.until("a trial begins", 20, is_on_trial);
    let mut off = promoted(TWO);
    off.plan.fast_return = 0;
    off.commit_canary("1.1.0", "c2");
    off.until("a trial begins", 20, is_on_trial);
}

#[test]
fn a_revision_that_was_rolled_back_in_between_never_returns_without_a_trial() {
    let mut world = promoted(TWO);
    world.applies = false;
    world.commit_canary("1.1.0", "c2");
    world.until_phase(PhaseName::RollingBack, 200);
    assert!(world.weights.is_empty(), "stable keeps the traffic that it has");
    assert_eq!(world.state.promoted, [rev("1.2.0", "c3")]);
    world.applies = true;
    world.until_phase(PhaseName::RolledBack, 20);
    world.until("the rest state is recorded", 5, |w| w.state.seen == w.canary.revision);
    world.commit_canary("1.1.0", "c2");
    world.until("a trial begins", 20, is_on_trial);

    // What people rolled back themselves is in Git's trailers alone.
    let mut by_hand = promoted(TWO);
    by_hand.commit_canary("1.1.0", "c2");
    by_hand.origin.prior = Some(PriorAnswer::RolledBack);
    by_hand.until_phase(PhaseName::Idle, 20);
    assert_eq!(by_hand.state.phase, Phase::Idle(RestNote::Held));
}

#[test]
fn a_trial_that_fails_takes_the_revisions_name_off_the_list() {
    let mut world = promoted(TWO);
    world.failing = 0.2;
    world.commit_canary("1.1.0", "c9");
    world.until_phase(PhaseName::RolledBack, 100);
    assert_eq!(world.state.promoted, [rev("1.2.0", "c3")]);
}

#[test]
fn a_return_that_breaks_stable_is_rolled_back_on_both_arms() {
    let mut world = promoted(TWO);
    world.commit_canary("1.1.0", "c2");
    world.until(
        "stable runs it",
        30,
        |w| matches!(&w.state.phase, Phase::Promoting(p) if p.way == Way::FastReturn && p.commit.is_some()),
    );
    world.order(Verb::Abort);
    world.until_phase(PhaseName::RolledBack, 30);
    assert_eq!(world.stable.revision.as_ref().unwrap().name, "1.2.0");
    assert_eq!((world.rollbacks, world.weights.as_slice()), (1, [].as_slice()));
}

#[test]
fn a_return_beside_a_hotfix_waits_for_a_person() {
    let mut world = promoted(TWO);
    world.promotion = PromotionOutcome::StableChanged;
    world.commit_canary("1.1.0", "c2");
    world.until_phase(PhaseName::Paused, 20);
    assert_eq!(world.pause_reason(), Some(PauseReason::StableChanged));
    assert!(world.weights.is_empty());
}

#[test]
fn the_memory_of_an_older_version_is_read_and_a_forged_return_is_seen() {
    let mut world = promoted(TWO);
    let mut memory = serde_json::to_value(&world.state).unwrap();
    memory.as_object_mut().unwrap().remove("promoted");
    let old: State = serde_json::from_value(memory).unwrap();
    assert_eq!(old.promoted, []);

    world.commit_canary("1.1.0", "c2");
    let mut before = world.state.clone();
    world.until_phase(PhaseName::Promoting, 20);
    let (observation, decision) = (
        world.look(),
        Decision {
            state: world.state.clone(),
            effects: vec![],
            message: String::new(),
            wake: None,
        },
    );
    assert_eq!(invariants::violations(&before, &observation, &decision), []);
    before.promoted.clear();
    assert_eq!(
        invariants::violations(&before, &observation, &decision),
        [invariants::Violation::ReturnsUnproven]
    );
}
