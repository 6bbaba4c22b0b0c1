//! The invariants of the design that can be seen in one decision, as predicates. Tests and the model call them on every
//! decision that is ever made.

use super::effect::{Decision, Effect};
use super::observation::Observation;
use super::state::{Floor, Phase, State, Way};
use crate::Weight;

/// What a decision must never do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// 1: the canary's weight rises outside of a step that was entered and recorded before.
    RisesWithoutRecordedStep,
    /// 1: the canary's weight rises beyond its ready pods.
    RisesWithoutCapacity,
    /// 1: the canary keeps its weight without any ready pod, though stable has some.
    StaysWithoutPods,
    /// Capacity: the canary's weight rises while stable could not take everything back.
    RisesWithoutFloor,
    /// 2: after a fail verdict something is done before weight 0 is written.
    TrafficNotFirst,
    /// 3: a rollback commit is asked for while the canary still has traffic that stable could carry.
    CommitsBeforeTraffic,
    /// 5: the canary's weight rises while its pods cannot be seen.
    RisesBlind,
    /// Fast return: a promotion without a trial begins for what is not among the revisions that were promoted lately.
    ReturnsUnproven,
    /// 9: a hook is asked for what was not recorded before, or is answered.
    AsksUnrecorded,
}

/// The violations of one decision; none, always.
pub fn violations(before: &State, observation: &Observation, decision: &Decision) -> Vec<Violation> {
    let mut found = Vec::new();
    let live = observation.weight.canary();
    for (i, effect) in decision.effects.iter().enumerate() {
        match effect {
            Effect::SetWeight(to) if *to > live => found.extend(rise(before, observation, decision)),
            Effect::SetWeight(to) if to.is_zero() && i > 0 && rolls_back(before, decision) => {
                found.push(Violation::TrafficNotFirst);
            }
            Effect::RunHook(occasion) if !before.phase.open_hooks().any(|run| run.occasion == *occasion) => {
                found.push(Violation::AsksUnrecorded);
            }
            Effect::CommitRollback { promoted: None, .. } if !live.is_zero() => {
                found.push(Violation::CommitsBeforeTraffic);
            }
            _ => {}
        }
    }
    if let (Phase::Promoting(p), false) = (&decision.state.phase, matches!(before.phase, Phase::Promoting(_)))
        && p.way == Way::FastReturn
        && !before.promoted.contains(&p.run.revision)
    {
        found.push(Violation::ReturnsUnproven);
    }
    if stays_without_pods(before, observation, decision) {
        found.push(Violation::StaysWithoutPods);
    }
    if rolls_back(before, decision) && !live.is_zero() {
        let first = decision.effects.first();
        let away = matches!(first, Some(Effect::SetWeight(_)));
        let stays = matches!(&decision.state.phase, Phase::RollingBack(r) if r.on_canary && live == Weight::FULL);
        if !away && !stays {
            found.push(Violation::TrafficNotFirst);
        }
    }
    found
}

fn rolls_back(before: &State, decision: &Decision) -> bool {
    matches!(decision.state.phase, Phase::RollingBack(_)) && !matches!(before.phase, Phase::RollingBack(_))
}

/// Of decisions in which nothing else happens: what begins in this one is decided on by the next.
fn stays_without_pods(before: &State, observation: &Observation, decision: &Decision) -> bool {
    let live = observation.weight.canary();
    let (canary, stable) = (&observation.canary, &observation.stable);
    let is_tried = matches!(
        before.phase,
        Phase::Progressing(_) | Phase::Paused(_) | Phase::Promoting(_)
    );
    let is_gone = canary.revision.is_some()
        && canary.revision.as_ref() == before.phase.run().map(|run| &run.revision)
        && canary.ready == 0
        && stable.ready_any > 0;
    let goes_on = before.phase.name() == decision.state.phase.name()
        && before.last_command == decision.state.last_command
        && !observation.deleted;
    let is_lowered = decision
        .effects
        .iter()
        .any(|effect| matches!(effect, Effect::SetWeight(to) if *to < live));
    let will_be = matches!(&decision.state.phase, Phase::Progressing(p) if p.weight_at.is_none() && p.from < live);
    is_tried && is_gone && goes_on && !live.is_zero() && !is_lowered && !will_be
}

fn rise(before: &State, observation: &Observation, decision: &Decision) -> Vec<Violation> {
    let mut found = Vec::new();
    let on_canary = matches!(&decision.state.phase, Phase::RollingBack(r) if r.on_canary);
    if on_canary {
        return found;
    }
    match (&before.phase, &decision.state.phase) {
        (Phase::Progressing(p), Phase::Progressing(_)) => {
            if p.weight_at.is_some() || observation.weight.canary() < p.from {
                found.push(Violation::RisesWithoutRecordedStep);
            }
        }
        _ => found.push(Violation::RisesWithoutRecordedStep),
    }
    if observation.canary.ready == 0 {
        found.push(Violation::RisesWithoutCapacity);
    }
    let low = |floor: &Floor| {
        let minimum = observation.autoscaler.as_ref().map_or(floor.held, |a| a.minimum);
        observation.stable.ready_any < floor.held || minimum < floor.held
    };
    if before.floor.as_ref().is_some_and(low) {
        found.push(Violation::RisesWithoutFloor);
    }
    let has_traffic = !observation.weight.canary().is_zero();
    let out_of_sight = has_traffic && decision.state.phase.run().is_some_and(|run| run.fresh_at < run.as_of);
    if out_of_sight || observation.canary.revision.is_none() {
        found.push(Violation::RisesBlind);
    }
    found
}
