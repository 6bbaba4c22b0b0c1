//! Ways to break the code on purpose, one or more for each invariant: between the production `transition` and the world, or
//! in what the model's Git leaves out. None of them is in production code.

use jiff::Timestamp;
use serin_core::Weight;
use serin_core::rollout::{Decision, Effect, Observation, PauseReason, Phase, Plan, State};

use super::controller;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// The code as it is.
    None,
    /// 1: goes on to the next step without a verdict.
    RaisesWithoutVerdict,
    /// 1: raises the weight before the pods for it are ready.
    RaisesWithoutPods,
    /// 1: takes pods that died for ready ones.
    IgnoresLostPods,
    /// 1: gives a weight that was lowered for lost pods again, before anything was seen at the lower one.
    ReturnsUnseen,
    /// 2: rolls back without taking the traffic away first.
    KeepsTraffic,
    /// 2: gives a weight that somebody lowered again by itself.
    RestoresWeight,
    /// 3: does not look for its own commit before it pushes one.
    ForgetsWhatItPushed,
    /// 4: pushes over what others pushed meanwhile.
    PushesByForce,
    /// 4: promotes over a stable that is not the baseline.
    OverwritesHotfixes,
    /// 5: blindness changes nothing.
    StaysBlind,
    /// 6: lets go of a deleted rollout at once.
    ReleasesAtOnce,
    /// 7: pins the canary's Service to pods that are not on trial.
    PinsTheNewcomer,
    /// 8: takes traffic away only when Git has answered.
    WaitsForGit,
    /// 9: asks for the commit in the decision that first wants it.
    CommitsBeforeItIsRecorded,
}

/// The production decision, broken or not.
pub(crate) fn decide(
    mutation: Mutation,
    plan: &Plan,
    state: &State,
    observation: &Observation,
    now: Timestamp,
) -> Decision {
    let mut decision = match ignores_lost_pods(mutation, state, observation) {
        Some(believed) => controller::decide(plan, state, &believed, now),
        None => controller::decide(plan, state, observation, now),
    };
    match mutation {
        Mutation::None
        | Mutation::IgnoresLostPods
        | Mutation::ForgetsWhatItPushed
        | Mutation::PushesByForce
        | Mutation::OverwritesHotfixes => {}
        Mutation::RaisesWithoutVerdict => {
            if let Phase::Progressing(p) = &mut decision.state.phase
                && p.weight_at.is_some()
                && !plan.is_last(p.step)
            {
                p.step += 1;
                p.weight_at = None;
                p.from = observation.weight.canary();
            }
        }
        Mutation::RaisesWithoutPods => {
            if let Phase::Progressing(p) = &decision.state.phase
                && let Phase::Progressing(_) = &state.phase
                && p.weight_at.is_none()
                && observation.weight.canary() < plan.step(p.step).weight
            {
                let weight = plan.step(p.step).weight;
                decision.effects.insert(0, Effect::SetWeight(weight));
            }
        }
        Mutation::ReturnsUnseen => {
            if let Phase::Progressing(p) = &decision.state.phase
                && p.run.footing.lowered.is_some()
                && observation.weight.canary() == p.from
                && observation.canary.ready >= controller::need(plan, plan.step(p.step).weight, observation)
            {
                let weight = plan.step(p.step).weight;
                decision.effects.insert(0, Effect::SetWeight(weight));
            }
        }
        Mutation::KeepsTraffic => {
            if matches!(decision.state.phase, Phase::RollingBack(_)) {
                decision
                    .effects
                    .retain(|effect| *effect != Effect::SetWeight(Weight::ZERO));
            }
        }
        Mutation::RestoresWeight => {
            if let Phase::Paused(p) = &decision.state.phase
                && p.reason == PauseReason::WeightContested
                && let Phase::Progressing(before) = &state.phase
            {
                let mut again = before.clone();
                (again.from, again.weight_at, again.step) = (Weight::ZERO, None, 0);
                decision.effects.clear();
                decision.state.phase = Phase::Progressing(again);
            }
        }
        Mutation::StaysBlind => {
            if let Phase::Paused(p) = &decision.state.phase
                && p.reason == PauseReason::Blind
                && !matches!(&state.phase, Phase::Paused(p) if p.reason == PauseReason::Blind)
            {
                decision.effects.clear();
                decision.state = state.clone();
            }
        }
        Mutation::ReleasesAtOnce => {
            if observation.deleted {
                decision.effects = vec![Effect::Release];
            }
        }
        Mutation::PinsTheNewcomer => {
            if let (Some(run), Some(newcomer)) = (state.phase.run(), &observation.canary.revision)
                && run.revision != *newcomer
            {
                let pin = newcomer.hash.clone();
                decision.effects.push(Effect::EnsureObjects { pin });
            }
        }
        Mutation::WaitsForGit => {
            if matches!(state.phase, Phase::RollingBack(_)) && observation.git.rollback.is_none() {
                decision
                    .effects
                    .retain(|effect| *effect != Effect::SetWeight(Weight::ZERO));
            }
        }
        Mutation::CommitsBeforeItIsRecorded => {
            if let Phase::Promoting(p) = &decision.state.phase
                && !matches!(state.phase, Phase::Promoting(_))
            {
                decision.effects.push(Effect::CommitPromotion {
                    revision: p.run.revision.clone(),
                    baseline: p.run.baseline.clone(),
                    commit: p.run.commit.clone(),
                });
            }
        }
    }
    decision
}

/// What is believed of a canary that was at its step's weight.
fn ignores_lost_pods(mutation: Mutation, state: &State, observation: &Observation) -> Option<Observation> {
    let at_weight = matches!(&state.phase, Phase::Progressing(p) if p.weight_at.is_some());
    let believes = mutation == Mutation::IgnoresLostPods && at_weight && observation.canary.revision.is_some();
    believes.then(|| {
        let mut believed = observation.clone();
        believed.canary.ready = believed.canary.desired;
        believed
    })
}
