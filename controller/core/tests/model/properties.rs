//! The nine invariants of the design, seen from outside: what a witness has to remember of the past, and what must not be
//! true of a decision, a write, a push or an end. The core's own predicates are asked about every decision too.

use std::hash::{DefaultHasher, Hash, Hasher};

use serin_core::Weight;
use serin_core::rollout::invariants::{self, Violation};
use serin_core::rollout::{
    Decision, Effect, Hook, HookAnswer, HookPoint, Occasion, OnHookFailure, PauseReason, Phase, Plan, Progressing,
    RollbackReason, State, Verb,
};

use super::controller::{Acting, Seen, need};
use super::git::{Ask, Entry, Git, What};
use super::prometheus::Kind;
use super::world::{HOTFIX, Rev, World, rev_of};

/// An invariant that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Broken {
    /// Its number in the design; 0 is liveness.
    pub(crate) invariant: u8,
    pub(crate) how: &'static str,
}

pub(crate) fn broken(invariant: u8, how: &'static str) -> Broken {
    Broken { invariant, how }
}

/// What the ticks since the last change of the weight prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) enum Proof {
    #[default]
    Nothing,
    Calls,
    Good,
}

/// What somebody who watches the world from outside remembers of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is something of its own to remember")]
pub(crate) struct Witness {
    /// What the ticks at the present weight proved.
    pub(crate) proof: Proof,
    /// Ticks since the weight changed, up to three.
    pub(crate) at_weight: u8,
    /// Whether the controller has recorded anything since it saw the present weight: from then on it judges.
    pub(crate) recorded: bool,
    /// Bad ticks in a row since then, up to four.
    pub(crate) bad: u8,
    /// Blind ticks in a row since then, up to four.
    pub(crate) blind: u8,
    /// A person's word was accepted and no weight was raised on it yet.
    pub(crate) word: bool,
    /// The revision that was found bad.
    pub(crate) failed: Option<Rev>,
    /// Somebody else lowered the weight, and nobody has said since that it may rise.
    pub(crate) lowered: bool,
    /// Somebody else raised the weight.
    pub(crate) raised: bool,
    /// What people made stable themselves.
    pub(crate) promoted_by_hand: Option<Rev>,
    /// The weight that was given, since lowered by Serin alone, as pods were lost.
    pub(crate) given: u8,
    /// Both arms failed alike in this trial: the analysis holds, and may go on to.
    pub(crate) both_failed: bool,
}

/// Bad ticks in a row that no analysis can be uncertain about.
const CERTAIN: u8 = 4;
/// Blind ticks in a row that are longer than the blind deadline.
const LONG: u8 = 3;

pub(crate) fn ticked(world: &mut World, kind: Kind, on_trial: bool) {
    let has_traffic = !world.live().is_zero();
    let witness = &mut world.witness;
    witness.at_weight = (witness.at_weight + 1).min(3);
    witness.proof = witness.proof.max(match kind {
        Kind::Good => Proof::Good,
        Kind::Thin => Proof::Calls,
        Kind::Bad | Kind::BothBad | Kind::Quiet | Kind::Blind => Proof::Nothing,
    });
    witness.both_failed |= on_trial && kind == Kind::BothBad;
    let counts = witness.recorded && on_trial && has_traffic;
    let in_a_row = |count: u8, is: bool| if is && counts { (count + 1).min(CERTAIN) } else { 0 };
    witness.bad = in_a_row(witness.bad, kind == Kind::Bad);
    witness.blind = in_a_row(witness.blind, kind == Kind::Blind);
}

fn another_weight(witness: &mut Witness) {
    (witness.proof, witness.at_weight, witness.recorded) = (Proof::Nothing, 0, false);
    (witness.bad, witness.blind) = (0, 0);
}

pub(crate) fn tampered(world: &mut World, to: Weight) {
    // Before Serin has seen its own weight on the route, a lower one looks like a write that was lost.
    // And when it is out of sight for the deadline, like Serin's own taking it away.
    let (lowers, is_known) = (
        to < world.live(),
        world.witness.recorded && world.witness.blind + 1 < LONG,
    );
    // To lower it to what status says already is nobody's word but Serin's.
    let says = match &world.status.phase {
        Phase::Progressing(p) => p.run.footing.lowered.map(|lowered| lowered.to),
        _ => None,
    };
    let is_foreign = is_known && says.is_none_or(|says| to < says);
    if lowers {
        another_weight(&mut world.witness);
    }
    if lowers && is_foreign {
        world.witness.given = 0;
    }
    world.witness.lowered |= lowers && is_foreign;
    world.witness.raised |= !lowers;
}

/// Whether Serin lowers the weight, as pods were lost: what was given may come back.
fn is_for_pods(acting: &Acting) -> bool {
    matches!(&acting.seen.state.phase, Phase::Progressing(p) if p.run.footing.lowered.is_some() && !p.from.is_zero())
}

/// What the witness notes of a weight that Serin writes.
pub(crate) fn wrote_weight(world: &mut World, acting: &Acting, to: Weight) {
    if world.live() != to {
        let raises = to > world.live();
        if raises {
            world.witness.word = false;
            world.witness.given = to.percent();
        } else if !is_for_pods(acting) {
            world.witness.given = 0;
        }
        // A weight that somebody raised is brought back to what it was.
        let corrects = !raises && world.witness.raised && !to.is_zero();
        if !corrects {
            another_weight(&mut world.witness);
        }
        world.witness.raised = false;
    }
    // A verdict is one even if nobody has recorded it yet; a deadline is not.
    if let Phase::RollingBack(r) = &acting.decision.state.phase
        && matches!(r.reason, RollbackReason::Failed(_))
    {
        world.witness.failed = Some(rev_of(&r.run.revision));
    }
}

/// What the witness notes of a status that Serin writes.
pub(crate) fn wrote_status(world: &mut World, acting: &Acting) {
    let state = &acting.decision.state;
    let before = &acting.seen.state;
    if acting.seen.observation.weight.canary() == world.live() {
        world.witness.recorded = true;
    }
    if state.last_command != before.last_command
        && let Some(answer) = state.last_command.as_ref().filter(|answer| answer.accepted)
    {
        let goes_on = [
            Verb::Promote,
            Verb::PromoteFull,
            Verb::Approve,
            Verb::Resume,
            Verb::Retry,
        ];
        if goes_on.iter().any(|verb| verb.name() == answer.verb) {
            world.witness.word = true;
            world.witness.lowered = false;
        }
        if answer.verb == Verb::Retry.name() {
            world.witness.failed = None;
        }
    }
    match (&before.phase, &state.phase) {
        (_, Phase::RollingBack(r)) => world.witness.failed = Some(rev_of(&r.run.revision)),
        (_, Phase::Starting(s)) => {
            // Another trial, or the same one from its first step.
            let again = before.phase.run().is_some_and(|run| run.revision == s.run.revision);
            if !again {
                world.witness.lowered = false;
                world.witness.word = false;
                world.witness.both_failed = false;
            }
            if world.witness.failed == Some(rev_of(&s.run.revision)) && !again {
                world.witness.failed = None;
            }
        }
        _ => {}
    }
}

/// What must be true of every decision.
pub(crate) fn decision(world: &World, seen: &Seen, decision: &Decision) -> Result<(), Broken> {
    let found = invariants::violations(&seen.state, &seen.observation, decision);
    if let Some(violation) = found.first() {
        return Err(match violation {
            Violation::RisesWithoutRecordedStep => broken(1, "the weight rises outside of a recorded step"),
            Violation::RisesWithoutCapacity => broken(1, "the weight rises without ready pods"),
            Violation::StaysWithoutPods => broken(1, "the weight stays where no pod is ready"),
            Violation::RisesWithoutFloor => broken(1, "the weight rises although stable could not take it all back"),
            Violation::TrafficNotFirst => broken(2, "something is done before the traffic is taken away"),
            Violation::CommitsBeforeTraffic => broken(2, "a rollback is committed while the canary has traffic"),
            Violation::ReturnsUnproven => broken(1, "a promotion without a trial of what was not promoted lately"),
            Violation::AsksUnrecorded => broken(9, "a hook is asked before that is recorded, or after it answered"),
            Violation::RisesBlind => broken(5, "the weight rises on a canary that cannot be seen"),
        });
    }
    let live = seen.observation.weight.canary();
    let away = decision.effects.first() == Some(&Effect::SetWeight(Weight::ZERO));
    if let (Phase::RollingBack(_), Phase::RollingBack(after)) = (&seen.state.phase, &decision.state.phase)
        && !after.on_canary
        && !live.is_zero()
        && !away
        && !seen.observation.deleted
    {
        return Err(broken(8, "taking traffic away waits for something else"));
    }
    let is_fresh = !seen.rollout_changed && !seen.route_changed && !seen.observation.deleted;
    let on_trial = match &seen.state.phase {
        Phase::Progressing(_) => true,
        Phase::Paused(p) => p.reason != PauseReason::Blind,
        _ => false,
    };
    // What was held up decides on an older world, and tries again at once.
    let is_now = is_fresh
        && std::sync::Arc::ptr_eq(&seen.state, &world.status)
        && matches!(world.process, super::controller::Process::Idle);
    let rises = decision
        .effects
        .iter()
        .any(|effect| matches!(effect, Effect::SetWeight(to) if *to > live));
    if on_trial && is_now && rises && !live.is_zero() && matches!(world.ticks.last(), Some((Kind::Blind, _))) {
        return Err(broken(5, "the weight rises while the canary is out of sight"));
    }
    if on_trial && is_now && !live.is_zero() && !away {
        if world.witness.bad >= CERTAIN && !world.witness.both_failed {
            return Err(broken(2, "the canary fails and keeps its traffic"));
        }
        if world.witness.blind >= LONG {
            return Err(broken(5, "the canary is out of sight and keeps its traffic"));
        }
    }
    roundtrip(decision, world)
}

/// What stands in status is all that a decision needs: it is read back as it was.
fn roundtrip(decision: &Decision, world: &World) -> Result<(), Broken> {
    // One in many: this is slow, and most states differ in little.
    let mut hasher = DefaultHasher::new();
    (world.now, &decision.message, world.budget).hash(&mut hasher);
    if !hasher.finish().is_multiple_of(64) {
        return Ok(());
    }
    let text = serde_json::to_string(&decision.state).map_err(|_| broken(9, "the state cannot be written"))?;
    let read: State = serde_json::from_str(&text).map_err(|_| broken(9, "the state cannot be read"))?;
    if read != decision.state {
        return Err(broken(9, "the state is read back as another one"));
    }
    if text.len() > 8 * 1024 {
        return Err(broken(9, "the state is larger than 8 KiB"));
    }
    Ok(())
}

/// What must be true of every write.
pub(crate) fn write(plan: &Plan, world: &World, acting: &Acting, effect: &Effect) -> Result<(), Broken> {
    match effect {
        Effect::SetWeight(to) if *to > world.live() => rises(plan, world, acting, *to),
        Effect::SetWeight(_) => {
            let takes = acting.seen.observation.deleted && acting.seen.observation.stable.ready_any == 0;
            if takes && !world.live().is_zero() {
                return Err(broken(
                    6,
                    "a deleted rollout's traffic goes to a stable that has no pods",
                ));
            }
            Ok(())
        }
        Effect::EnsureObjects { pin } => {
            let run = acting.decision.state.phase.run();
            if run.is_none_or(|run| run.revision.hash != *pin) {
                return Err(broken(7, "the canary's Service selects pods that are not on trial"));
            }
            Ok(())
        }
        Effect::ScaleCanary(replicas) => {
            let most = need(plan, Weight::FULL, &acting.seen.observation).max(plan.idle_replicas);
            if !(0..=most).contains(replicas) {
                return Err(broken(7, "the canary gets replicas that no weight needs"));
            }
            Ok(())
        }
        Effect::Release => {
            // What somebody else raises between the last look and this write nobody can see.
            let has_traffic = !world.live().is_zero() && !acting.seen.route_changed;
            if !world.deleted || has_traffic {
                return Err(broken(6, "a rollout is let go while the canary has traffic"));
            }
            Ok(())
        }
        Effect::RemoveRoute => {
            if !world.deleted || !acting.seen.observation.weight.canary().is_zero() {
                return Err(broken(6, "a route goes while the canary has traffic by it"));
            }
            Ok(())
        }
        Effect::CommitRollback { revision, .. } => {
            let recorded = matches!(&acting.seen.state.phase, Phase::RollingBack(r) if r.run.revision == *revision);
            recorded
                .then_some(())
                .ok_or(broken(9, "a rollback is asked for before it is recorded"))
        }
        Effect::CommitPromotion { .. } if !passed(plan, &acting.seen.state.phase, &[HookPoint::BeforePromotion]) => {
            Err(broken(1, "a promotion begins before a gate is open"))
        }
        Effect::CommitPromotion { revision, .. } => {
            let recorded = matches!(&acting.seen.state.phase, Phase::Promoting(p) if p.run.revision == *revision);
            recorded
                .then_some(())
                .ok_or(broken(9, "a promotion is asked for before it is recorded"))
        }
        Effect::AskBaseline(_)
        | Effect::AskOrigin(_)
        | Effect::AskPreflight(_)
        | Effect::AskCauses(_)
        | Effect::RunHook(_)
        | Effect::Refresh
        | Effect::SetMinimum { .. }
        | Effect::Note(_) => Ok(()),
    }
}

/// Whether every gate of these points is open, the steps' ones for the present step.
fn passed(plan: &Plan, phase: &Phase, points: &[HookPoint]) -> bool {
    let Some(run) = phase.run() else { return true };
    let now = match phase {
        Phase::Progressing(p) => Some(p.step),
        _ => None,
    };
    let opens = |hook: &Hook, point: HookPoint| {
        let step = now.filter(|_| point.is_of_a_step());
        run.hooks.iter().any(|asked| {
            let Occasion {
                hook: name,
                point: at,
                step: of,
                ..
            } = &asked.occasion;
            let is_it = *name == hook.name && *at == point && *of == step;
            is_it
                && match &asked.answer {
                    None => false,
                    Some(HookAnswer::Passed | HookAnswer::PassedOver) => true,
                    Some(HookAnswer::Failed(_) | HookAnswer::TimedOut(_)) => hook.on_failure == OnHookFailure::Continue,
                }
        })
    };
    let mut hooks = plan.hooks.iter();
    hooks.all(|hook| {
        let mut at = points.iter().filter(|point| hook.at.contains(point));
        at.all(|point| opens(hook, *point))
    })
}

/// The canary's weight rises.
fn rises(plan: &Plan, world: &World, acting: &Acting, to: Weight) -> Result<(), Broken> {
    let Some(run) = acting.seen.state.phase.run() else {
        return Err(broken(1, "the weight rises with nothing on trial"));
    };
    let gates = [HookPoint::BeforeRollout, HookPoint::BeforeTrafficIncrease];
    if matches!(acting.decision.state.phase, Phase::Progressing(_))
        && !passed(plan, &acting.decision.state.phase, &gates)
    {
        return Err(broken(1, "the weight rises before a gate is open"));
    }
    let rev = rev_of(&run.revision);
    let is_promoted = world.git.log.iter().any(|entry| match entry.what {
        What::Promote(commit) => {
            matches!(world.git.log.get(commit).map(|e| &e.what), Some(What::Canary(r)) if *r == rev)
        }
        _ => false,
    });
    if matches!(&acting.decision.state.phase, Phase::RollingBack(r) if r.on_canary) && is_promoted {
        return Ok(());
    }
    let observation = &acting.seen.observation;
    if observation.canary.ready < need(plan, to, observation) {
        return Err(broken(1, "the weight rises beyond the ready pods"));
    }
    let Phase::Progressing(Progressing { step, .. }) = &acting.seen.state.phase else {
        return Err(broken(9, "the weight rises before the step is recorded"));
    };
    if plan.step(*step).weight != to {
        return Err(broken(9, "the weight rises to one that no recorded step has"));
    }
    let witness = &world.witness;
    if witness.failed == Some(rev) {
        return Err(broken(2, "the weight rises for a revision that failed"));
    }
    if witness.lowered && !witness.word {
        return Err(broken(2, "the weight rises again after somebody lowered it"));
    }
    if observation.weight.canary().is_zero() {
        let first = to == plan.step(0).weight || witness.word;
        return first
            .then_some(())
            .ok_or(broken(1, "the first weight is not the first step's"));
    }
    let unproven = witness.proof >= Proof::Calls && witness.at_weight >= 2;
    // What Serin itself lowered comes back when something was seen since, and nothing against it.
    let returns = to.percent() <= witness.given && witness.at_weight >= 1;
    if witness.word || witness.proof == Proof::Good || unproven || returns {
        Ok(())
    } else {
        Err(broken(1, "the weight rises without a verdict or a person's word"))
    }
}

/// What must be true of every push: the world before it, and the commit.
pub(crate) fn push(world: &World, ask: &Ask, entry: &Entry) -> Result<(), Broken> {
    let (log, head) = (&world.git.log, world.git.head());
    match &entry.what {
        What::Promote(commit) => {
            let before = log.iter().filter(|e| e.what == What::Promote(*commit)).count();
            if before > 0 {
                return Err(broken(3, "a revision gets two promotion commits"));
            }
            let rolled_back = log
                .iter()
                .any(|e| matches!(&e.what, What::Rollback(places, _) if places.contains(commit)));
            if rolled_back {
                return Err(broken(3, "a revision that was rolled back is promoted"));
            }
            let Ask::Promotion { baseline, .. } = ask else {
                return Err(broken(3, "a promotion that nobody asked for"));
            };
            if head.stable != *baseline {
                return Err(broken(4, "a promotion overwrites a stable that is not the baseline"));
            }
        }
        What::Rollback(places, rev) => {
            let twice = log.iter().any(
                |e| matches!(&e.what, What::Rollback(other, of) if of == rev && other.iter().any(|p| places.contains(p))),
            );
            if twice {
                return Err(broken(3, "a revision gets two rollback commits"));
            }
            if head.stable == HOTFIX && entry.stable != HOTFIX {
                return Err(broken(4, "a rollback overwrites a hotfix"));
            }
            let untouched = entry.stable == head.stable || head.stable == *rev;
            if !untouched {
                return Err(broken(4, "a rollback changes a stable that is not the failed revision"));
            }
        }
        What::Canary(_) | What::People => return Err(broken(4, "Serin commits as people do")),
    }
    Ok(())
}

/// What must be true of the branch after every push.
pub(crate) fn branch(git: &Git) -> Result<(), Broken> {
    let stands = git
        .log
        .iter()
        .filter(|e| matches!(e.what, What::Canary(_) | What::People))
        .count();
    (stands == git.by_people)
        .then_some(())
        .ok_or(broken(4, "somebody's commit is lost"))
}

/// What must be true of a world in which everything has come to an end.
pub(crate) fn end(world: &World) -> Result<(), Broken> {
    branch(&world.git)?;
    if world.released {
        return Ok(());
    }
    if world.message.is_empty() {
        return Err(broken(0, "it rests, and status does not say why"));
    }
    if let Phase::RolledBack(ending) = &world.status.phase {
        let head = world.git.head();
        let rev = rev_of(&ending.revision);
        let by_hand = world.witness.promoted_by_hand == Some(rev);
        if head.stable == rev && !by_hand {
            return Err(broken(3, "a revision that failed is stable"));
        }
        let on_trial_again = world.git.log.iter().rposition(|e| e.what == What::Canary(rev));
        let answered = world
            .git
            .log
            .iter()
            .rposition(|e| matches!(&e.what, What::Rollback(_, of) if *of == rev));
        if head.canary == rev && head.stable != rev && answered >= on_trial_again {
            return Err(broken(3, "a revision that failed still stands in Git"));
        }
    }
    Ok(())
}

/// The reason why a world that rests is not to be disturbed: for the report.
pub(crate) fn how_it_ended(world: &World) -> String {
    if world.released {
        return "released".into();
    }
    match &world.status.phase {
        Phase::Paused(p) => format!("Paused ({:?})", p.reason),
        Phase::Idle(note) => format!("Idle ({note:?})"),
        phase => phase.name().to_string(),
    }
}
