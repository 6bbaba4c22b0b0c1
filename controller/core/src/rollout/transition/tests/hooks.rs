//! Hooks: what is asked when, what waits for it, and what a no or a silence does.

use jiff::SignedDuration;

use super::*;
use crate::rollout::hooks::{HookAnswer, HookRun};
use crate::rollout::plan::tests::draft;
use crate::rollout::{Hook, HookPoint, OnHookFailure};

fn hook(name: &str, at: &[HookPoint], on_failure: OnHookFailure) -> Hook {
    Hook {
        name: name.to_owned(),
        at: at.to_vec(),
        timeout: SignedDuration::from_secs(60),
        on_failure,
    }
}

fn world(hooks: Vec<Hook>) -> World {
    let mut world = World::new(&[50, 100]).with_canary("1.1.0");
    let mut draft = draft(&[50, 100]);
    draft.hooks = hooks;
    world.plan = Plan::parse(draft).unwrap();
    world
}

/// One of the outcomes for each of three hooks, in turn, at every point.
pub(super) fn everywhere(turn: usize) -> World {
    let outcomes = [OnHookFailure::RollBack, OnHookFailure::Pause, OnHookFailure::Continue];
    let mut outcomes = outcomes.into_iter().cycle().skip(turn);
    let hooks = ["a", "b"].map(|name| hook(name, &HookPoint::ALL, outcomes.next().unwrap_or_default()));
    let mut draft = draft(STEPS);
    draft.hooks = hooks.to_vec();
    let mut world = World::new(STEPS);
    world.plan = Plan::parse(draft).unwrap();
    world
}

fn asked(world: &World) -> Vec<String> {
    world.asked.iter().map(ToString::to_string).collect()
}

fn runs(world: &World) -> Vec<HookRun> {
    match &world.state.phase {
        Phase::Promoted(ending) | Phase::RolledBack(ending) => ending.hooks.clone(),
        phase => phase.run().map(|run| run.hooks.clone()).unwrap_or_default(),
    }
}

fn wait(world: &mut World, seconds: i64) -> Decision {
    let mut last = world.step();
    for _ in 1..seconds {
        world.now += 1;
        last = world.step();
    }
    world.now += 1;
    last
}

const NEVER: fn(&Occasion) -> Option<HookView> = |_| None;
const NO: fn(&Occasion) -> Option<HookView> = |_| Some(HookView::Failed("HTTP 403: not today".into()));
/// Each gate, and the weights that were written when it holds a rollout of two steps up.
const GATES: [(HookPoint, &[u8]); 4] = [
    (HookPoint::BeforeRollout, &[]),
    (HookPoint::BeforeTrafficIncrease, &[]),
    (HookPoint::Step, &[50]),
    (HookPoint::BeforePromotion, &[50, 100]),
];

#[test]
fn each_hook_is_asked_once_at_each_of_its_points_and_in_their_order() {
    let mut world = world(vec![hook("all", &HookPoint::ALL, OnHookFailure::RollBack)]);
    world.until_phase(PhaseName::Promoted, 400);
    wait(&mut world, 20);
    assert_eq!(world.weights, [50, 100, 75, 50, 0]);
    assert_eq!(
        asked(&world),
        [
            "hook all (BeforeRollout)",
            "hook all (BeforeTrafficIncrease, step 1)",
            "hook all (Step, step 1)",
            "hook all (BeforeTrafficIncrease, step 2)",
            "hook all (Step, step 2)",
            "hook all (BeforePromotion)",
            "hook all (AfterPromotion)",
        ]
    );
    assert!(
        runs(&world).iter().all(|run| run.answer == Some(HookAnswer::Passed)),
        "{:?}",
        runs(&world)
    );
}

#[test]
fn every_gate_holds_its_weight_or_its_promotion_until_it_is_answered_and_says_for_whom_it_waits() {
    for (point, weights) in GATES {
        let mut world = world(vec![hook("smoke", &[point], OnHookFailure::RollBack)]);
        world.plan.hooks[0].timeout = SignedDuration::from_secs(600);
        world.hook = NEVER;
        world.until("it is asked", 200, |w| !w.asked.is_empty());
        let waits = wait(&mut world, 100);
        assert!(
            waits.message.contains("waits for hook smoke until 1970-01-12T"),
            "{point:?}: {}",
            waits.message
        );
        assert_eq!(world.weights, weights, "{point:?}");
        assert_eq!(world.promotions, 0);
        world.hook = |_| Some(HookView::Passed);
        world.until_phase(PhaseName::Promoted, 400);
        assert_eq!(world.weights, [50, 100, 75, 50, 0]);
    }
}

#[test]
fn a_hook_says_what_keeps_it() {
    let mut world = world(vec![hook(
        "smoke",
        &[HookPoint::BeforeRollout],
        OnHookFailure::RollBack,
    )]);
    world.hook = |_| Some(HookView::Pending("HTTP 503: busy\nsorry".into()));
    world.until("it is asked", 60, |w| !w.asked.is_empty());
    let said = wait(&mut world, 3).message;
    assert!(said.contains("(HTTP 503: busy)"), "{said}");
}

#[test]
fn a_no_rolls_back_or_pauses_or_is_told_only() {
    for (point, held) in GATES {
        let mut world = world(vec![hook("smoke", &[point], OnHookFailure::RollBack)]);
        world.hook = NO;
        world.until_phase(PhaseName::RolledBack, 200);
        // What it had is taken away.
        let weights: Vec<_> = if held.is_empty() { vec![] } else { [held, &[0]].concat() };
        assert_eq!((&world.weights, world.rollbacks), (&weights, 1), "{point:?}");
        let Phase::RolledBack(ending) = &world.state.phase else {
            unreachable!()
        };
        assert!(
            ending.reason.contains("failed: HTTP 403: not today"),
            "{}",
            ending.reason
        );

        let mut world = self::world(vec![hook("smoke", &[point], OnHookFailure::Continue)]);
        world.hook = NO;
        world.until_phase(PhaseName::Promoted, 400);
        assert_eq!(world.weights, [50, 100, 75, 50, 0], "{point:?}");
    }
}

#[test]
fn a_pause_is_gone_past_by_promote_and_asked_again_by_resume() {
    for (point, held) in GATES {
        let mut world = world(vec![hook("smoke", &[point], OnHookFailure::Pause)]);
        world.hook = |occasion| {
            let is_first = occasion.attempt == 0 && occasion.step.unwrap_or(0) == 0;
            Some(if is_first {
                HookView::Failed("no".into())
            } else {
                HookView::Passed
            })
        };
        world.until("it waits for a person", 200, |w| {
            w.pause_reason() == Some(PauseReason::Hook)
        });
        assert_eq!((world.weights.as_slice(), world.rollbacks), (held, 0), "{point:?}");
        let times = world.asked.len();
        let said = wait(&mut world, 50).message;
        assert!(said.contains("failed: no (`serin resume` asks again"), "{said}");
        assert_eq!(
            (world.weights.as_slice(), world.asked.len()),
            (held, times),
            "a no is not asked again"
        );
        world.order(Verb::Resume);
        world.until_phase(PhaseName::Promoted, 600);
        let mut again = world.asked.iter().filter(|occasion| occasion.attempt == 1);
        assert!(again.next().is_some(), "{:?}", world.asked);

        let mut world = self::world(vec![hook("smoke", &[point], OnHookFailure::Pause)]);
        world.hook = |occasion| {
            let is_first = occasion.step.unwrap_or(0) == 0;
            Some(if is_first {
                HookView::Failed("no".into())
            } else {
                HookView::Passed
            })
        };
        world.until("it waits for a person", 200, |w| {
            w.pause_reason() == Some(PauseReason::Hook)
        });
        world.order(Verb::Promote);
        world.until_phase(PhaseName::Promoted, 600);
        assert!(
            world.asked.iter().all(|occasion| occasion.attempt == 0),
            "{:?}",
            world.asked
        );
        assert!(world.weights.starts_with(&[50, 100]), "{point:?}: {:?}", world.weights);
    }
}

#[test]
fn a_person_goes_past_a_gate_that_is_waited_for() {
    for point in [
        HookPoint::BeforeRollout,
        HookPoint::BeforeTrafficIncrease,
        HookPoint::Step,
        HookPoint::BeforePromotion,
    ] {
        let mut world = world(vec![hook("smoke", &[point], OnHookFailure::RollBack)]);
        world.plan.hooks[0].timeout = SignedDuration::from_hours(24);
        world.hook = |occasion| (occasion.step == Some(1)).then_some(HookView::Passed);
        world.until("it is asked", 200, |w| !w.asked.is_empty());
        wait(&mut world, 30);
        world.order(Verb::Promote);
        world.step();
        let answer = world.state.last_command.clone().unwrap();
        assert!(answer.accepted, "{point:?}: {}", answer.message);
        world.until_phase(PhaseName::Promoted, 400);
    }
}

#[test]
fn promote_full_asks_no_gate() {
    let mut world = world(vec![hook("smoke", &HookPoint::ALL, OnHookFailure::RollBack)]);
    world.until("50 %", 100, |w| w.weight.canary().percent() == 50);
    world.hook = NO;
    world.order(Verb::PromoteFull);
    world.until("straight to 100 %", 30, |w| w.weight.canary() == Weight::FULL);
    world.until_phase(PhaseName::Promoted, 400);
}

#[test]
fn no_gate_waits_for_ever_and_a_late_answer_changes_nothing() {
    let mut world = world(vec![hook(
        "smoke",
        &[HookPoint::BeforeTrafficIncrease],
        OnHookFailure::RollBack,
    )]);
    world.hook = |_| Some(HookView::Pending("HTTP 202".into()));
    world.until("it is asked", 60, |w| !w.asked.is_empty());
    let began = world.now;
    world.until_phase(PhaseName::RollingBack, 100);
    assert!((59..=62).contains(&(world.now - began)), "{} s", world.now - began);
    world.hook = |_| Some(HookView::Passed);
    world.until_phase(PhaseName::RolledBack, 60);
    let Phase::RolledBack(ending) = &world.state.phase else {
        unreachable!()
    };
    assert_eq!(
        ending.reason,
        "hook smoke (BeforeTrafficIncrease, step 1) did not answer in time: HTTP 202"
    );
    assert!(world.weights.is_empty());
}

#[test]
fn a_failing_canary_is_taken_away_whatever_gate_is_waited_for() {
    for point in [
        HookPoint::Step,
        HookPoint::BeforePromotion,
        HookPoint::BeforeTrafficIncrease,
    ] {
        let mut world = world(vec![hook("smoke", &[point], OnHookFailure::Continue)]);
        world.plan.hooks[0].timeout = SignedDuration::from_hours(24);
        world.hook = |occasion| (occasion.step == Some(0)).then_some(HookView::Passed);
        world.until("it is waited for", 200, |w| {
            let mut open = w.state.phase.open_hooks();
            open.any(|run| run.occasion.step != Some(0))
        });
        world.failing = 0.2;
        world.until("its traffic is gone", 40, |w| w.weight.canary().is_zero());
        world.until_phase(PhaseName::RolledBack, 60);
        assert_eq!(world.rollbacks, 1, "{point:?}");
    }
}

#[test]
fn a_gate_of_a_canary_that_loses_its_pods_ends_by_its_own_time_and_then_by_theirs() {
    let mut world = world(vec![hook(
        "smoke",
        &[HookPoint::BeforeRollout],
        OnHookFailure::RollBack,
    )]);
    world.plan.hooks[0].timeout = SignedDuration::from_secs(300);
    world.hook = NEVER;
    world.until("it is asked", 60, |w| !w.asked.is_empty());
    wait(&mut world, 200);
    (world.pods_come, world.canary.ready) = (false, 0);
    wait(&mut world, 20);
    assert_eq!(world.state.phase.name(), PhaseName::Starting, "the wait was the gate's");
    world.pods_come = true;
    world.hook = |_| Some(HookView::Passed);
    world.until_phase(PhaseName::Promoted, 400);
}

#[test]
fn a_newer_revision_drops_the_gate_and_has_occasions_of_its_own() {
    let mut world = world(vec![hook("smoke", &[HookPoint::Step], OnHookFailure::RollBack)]);
    world.hook = NEVER;
    world.until("it is asked", 100, |w| !w.asked.is_empty());
    world.commit_canary("1.2.0", "c3");
    world.until(
        "1.2.0 starts",
        10,
        |w| matches!(&w.state.phase, Phase::Starting(s) if s.run.revision.name == "1.2.0"),
    );
    assert!(runs(&world).is_empty());
    world.hook = |_| Some(HookView::Passed);
    world.until_phase(PhaseName::Promoted, 400);
    assert_eq!(world.rollbacks, 0);
}

#[test]
fn what_was_answered_is_not_asked_again_after_blindness() {
    let mut world = world(vec![hook("smoke", &HookPoint::ALL, OnHookFailure::RollBack)]);
    world.until("50 % is judged", 100, |w| asked(w).len() == 3);
    world.sight = Sight::Blind;
    world.until("paused blind", 100, |w| w.pause_reason() == Some(PauseReason::Blind));
    world.sight = Sight::Fresh;
    world.until_phase(PhaseName::Promoted, 400);
    let mut occasions = asked(&world);
    occasions.sort();
    occasions.dedup();
    assert_eq!(occasions.len(), world.asked.len(), "{:?}", world.asked);
}

#[test]
fn after_a_rollback_hooks_are_told_when_the_traffic_is_gone_and_nothing_waits_for_them() {
    let mut world = world(vec![hook("tell", &[HookPoint::OnRollback], OnHookFailure::RollBack)]);
    world.hook = NEVER;
    world.failing = 0.2;
    world.until("it is told", 100, |w| !w.asked.is_empty());
    assert!(world.weight.canary().is_zero());
    world.until_phase(PhaseName::RolledBack, 20);
    assert_eq!((world.rollbacks, world.canary.desired), (1, 0));
    wait(&mut world, 10);
    world.hook = NO;
    wait(&mut world, 3);
    assert_eq!(
        (runs(&world)[0].answer.clone(), world.state.phase.name()),
        (
            Some(HookAnswer::Failed("HTTP 403: not today".into())),
            PhaseName::RolledBack
        )
    );
    let times = world.asked.len();
    wait(&mut world, 30);
    assert_eq!(world.asked.len(), times);
}

#[test]
fn a_hook_that_is_added_later_is_not_told_of_what_was() {
    let mut world = world(vec![]);
    world.until_phase(PhaseName::Promoted, 400);
    world.plan.hooks = vec![hook("tell", &HookPoint::ALL, OnHookFailure::RollBack)];
    wait(&mut world, 30);
    assert!(world.asked.is_empty());
}

#[test]
fn a_hook_that_is_taken_out_of_the_plan_holds_nothing_up() {
    let mut world = world(vec![hook("smoke", &[HookPoint::BeforeRollout], OnHookFailure::Pause)]);
    world.hook = NEVER;
    world.until("it is asked", 60, |w| !w.asked.is_empty());
    world.plan.hooks.clear();
    world.until_phase(PhaseName::Promoted, 400);
}

#[test]
fn a_person_who_approves_decides_after_the_hooks() {
    let mut world = world(vec![hook(
        "window",
        &[HookPoint::BeforePromotion],
        OnHookFailure::RollBack,
    )]);
    let mut draft = draft(&[100]);
    draft.hooks = world.plan.hooks.clone();
    draft.steps[0].approval = true;
    world.plan = Plan::parse(draft).unwrap();
    world.until("approval", 100, |w| w.pause_reason() == Some(PauseReason::Approval));
    assert_eq!(asked(&world), ["hook window (BeforePromotion)"]);
    world.order(Verb::Approve);
    world.until_phase(PhaseName::Promoted, 300);
}

#[test]
fn hooks_that_make_no_sense_are_refused_by_their_fields() {
    let fields = |hooks: Vec<Hook>| -> Vec<String> {
        let mut draft = draft(&[5, 25, 50, 75, 100]);
        draft.hooks = hooks;
        let errors = Plan::parse(draft).unwrap_err();
        errors.into_iter().map(|error| error.field).collect()
    };
    let good = hook("a", &[HookPoint::Step], OnHookFailure::Pause);
    let twice = [HookPoint::Step, HookPoint::Step];
    let named = |name: &str, at: &[HookPoint]| hook(name, at, OnHookFailure::Pause);
    assert_eq!(fields(vec![good.clone(), good.clone()]), ["spec.hooks[1].name"]);
    assert_eq!(
        fields(vec![named("a", &[]), named("b", &twice)]),
        ["spec.hooks[0].at", "spec.hooks[1].at"]
    );
    let mut slow = good;
    slow.timeout = SignedDuration::from_hours(25);
    assert_eq!(fields(vec![slow]), ["spec.hooks[0].timeout"]);
    let many = (0..5).map(|i| named(&i.to_string(), &HookPoint::ALL));
    assert_eq!(fields(many.collect()), ["spec.hooks"]);
}
