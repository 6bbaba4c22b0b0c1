//! The production `transition` in a world of an API server, Git, Argo CD, Prometheus and people, explored exhaustively within
//! bounds: every order of everything that can happen, with a crash between any two effects.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod actions;
mod controller;
mod explore;
mod fingerprint;
mod git;
mod mutation;
mod plans;
mod prometheus;
mod properties;
mod walks;
mod world;

use std::io::Write as _;
use std::time::Instant;

use controller::Model;
use explore::{Report, explore};
use mutation::Mutation;
use prometheus::Kind;
use serin_core::rollout::{OnHookFailure, Plan};
use world::Budget;

/// Prints past the harness, which shows nothing of a test that holds.
fn tell(line: &str) {
    // What can't be written is told to nobody.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Explores, prints what was seen, and tells the story of what is broken.
fn holds(name: &str, plan: &Plan, kinds: &[Kind], faults: u8, people: u8) -> Report {
    let began = Instant::now();
    let model = Model {
        plan,
        kinds,
        mutation: Mutation::None,
    };
    let report = explore(&model, Budget { faults, people });
    tell(&format!(
        "{name}: {} steps, {faults} faults, {people} of people: {} worlds, {} steps between them, depth {}, {:.1} s; ends {:?}",
        plan.steps().len(),
        report.worlds,
        report.steps,
        report.depth,
        began.elapsed().as_secs_f64(),
        report.ends
    ));
    if let Some((broken, story)) = &report.broken {
        let story: Vec<&str> = story.lines().collect();
        let story = story[story.len().saturating_sub(70)..].join("\n");
        panic!("invariant {}: {}\n{story}", broken.invariant, broken.how);
    }
    report
}

use Kind::{Bad, Blind, Quiet, Thin};

/// Every verdict at every step, and nothing else goes wrong.
#[test]
fn every_verdict_ends_a_plan_of_three_steps() {
    let all = [Bad, Thin, Quiet, Blind];
    let three = holds("verdicts", &plans::steps(&[25, 50, 100]), &all, 0, 0);
    let careful = holds("approval, pause", &plans::careful(&[50, 100]), &all, 0, 0);
    let strict = holds("roll back", &plans::strict(&[50, 100]), &all, 0, 0);
    assert!(three.worlds >= 20_000, "{}", three.worlds);
    assert!(
        careful.worlds + strict.worlds >= 10_000,
        "{} {}",
        careful.worlds,
        strict.worlds
    );
}

/// One fault of any kind at any instant: a crash between any two effects, a lost reply, a refusal, a stale look, a slow
/// controller, one dead pod or all of them, somebody else's weight, Git that fails or is overtaken, an arm that is applied alone.
/// What fails when nobody sees the canary is another world than what fails in sight.
#[test]
fn one_fault_at_any_instant_breaks_nothing() {
    let report = holds("faults", &plans::steps(&[50, 100]), &[Bad, Blind], 1, 0);
    assert!(report.worlds >= 220_000, "{}", report.worlds);
}

/// Hooks that say yes, say no or say nothing, at every point and whatever the canary does meanwhile.
#[test]
fn hooks_that_answer_anything_or_nothing_break_nothing() {
    let plan = plans::gated(&[100], [OnHookFailure::RollBack, OnHookFailure::Pause]);
    let report = holds("hooks", &plan, &[Bad], 0, 0);
    assert!(report.worlds >= 100_000, "{}", report.worlds);
}

/// One thing that people do at any instant: a command, another revision, a hotfix, a canary taken back or promoted by hand, a
/// deletion.
#[test]
fn one_word_of_people_at_any_instant_breaks_nothing() {
    let report = holds("people", &plans::steps(&[100]), &[Bad], 0, 1);
    assert!(report.worlds >= 150_000, "{}", report.worlds);
}

/// `make model`: deeper, in about half an hour.
#[test]
#[ignore = "takes long: make model"]
fn faults_and_people_together_break_nothing() {
    let mut worlds = 0;
    for (name, plan, kinds, faults, people) in [
        ("three steps and a fault", plans::steps(&[25, 50, 100]), &[Bad], 1, 0),
        ("two steps and people", plans::steps(&[50, 100]), &[Bad], 0, 1),
        ("approval and people", plans::careful(&[50, 100]), &[Bad], 0, 1),
        ("a fault and people", plans::steps(&[100]), &[Bad], 1, 1),
    ] {
        worlds += holds(name, &plan, kinds, faults, people).worlds;
    }
    tell(&format!("{worlds} worlds in all"));
    assert!(worlds >= 5_000_000, "{worlds}");
}

/// Breaks the code on purpose; the model has to find it, and to say which invariant does not hold any more.
fn catches(mutation: Mutation, plan: &Plan, kinds: &[Kind], faults: u8, people: u8) -> u8 {
    let model = Model { plan, kinds, mutation };
    let report = explore(&model, Budget { faults, people });
    let Some((broken, story)) = report.broken else {
        panic!("{mutation:?} is not noticed in {} worlds", report.worlds);
    };
    println!(
        "{mutation:?}: invariant {} does not hold: {} ({} worlds, {} steps)",
        broken.invariant,
        broken.how,
        report.worlds,
        story.lines().count()
    );
    broken.invariant
}

#[test]
fn every_mutation_is_caught_by_the_invariant_that_it_breaks() {
    let (one, two) = (plans::steps(&[100]), plans::steps(&[50, 100]));
    assert_eq!(catches(Mutation::RaisesWithoutVerdict, &two, &[Bad, Quiet], 0, 0), 1);
    assert_eq!(catches(Mutation::RaisesWithoutPods, &two, &[Bad], 0, 0), 1);
    assert_eq!(catches(Mutation::IgnoresLostPods, &one, &[Bad], 1, 0), 1);
    assert_eq!(catches(Mutation::ReturnsUnseen, &one, &[Bad], 1, 0), 1);
    assert_eq!(catches(Mutation::KeepsTraffic, &one, &[Bad], 0, 0), 2);
    assert_eq!(catches(Mutation::RestoresWeight, &two, &[Bad], 1, 0), 2);
    assert_eq!(catches(Mutation::ForgetsWhatItPushed, &one, &[Bad], 1, 0), 3);
    assert_eq!(catches(Mutation::PushesByForce, &one, &[Bad], 1, 1), 4);
    assert_eq!(catches(Mutation::OverwritesHotfixes, &one, &[Bad], 0, 1), 4);
    assert_eq!(catches(Mutation::StaysBlind, &one, &[Bad, Blind], 0, 0), 5);
    assert_eq!(catches(Mutation::ReleasesAtOnce, &one, &[Bad], 0, 1), 6);
    assert_eq!(catches(Mutation::PinsTheNewcomer, &one, &[Bad], 0, 1), 7);
    assert_eq!(catches(Mutation::WaitsForGit, &one, &[Bad], 1, 0), 8);
    assert_eq!(catches(Mutation::CommitsBeforeItIsRecorded, &one, &[Bad], 0, 0), 9);
}
