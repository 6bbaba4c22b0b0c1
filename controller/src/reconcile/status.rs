//! From the state machine's memory to the status that a person reads. Pure.

use std::sync::LazyLock;

use jiff::Timestamp;
use serin_core::Weight;
use serin_core::analysis::{Evidence, Outcome};
use serin_core::rollout::{CommandAnswer, Decision, FieldError, Observation, Phase, Plan, State, Trial, Way};

use super::{asked, conditions, forecast, past, streams, ticks, way};
use crate::api::{
    CanaryRollout, CanaryRolloutStatus, CommandStatus, EvidenceStatus, LatencyStatus, Memory, PodStatus,
    RevisionStatus, WeightStatus,
};

/// The rollout's status, or that of one that has none yet.
pub(super) fn of(rollout: &CanaryRollout) -> &CanaryRolloutStatus {
    static NONE: LazyLock<CanaryRolloutStatus> = LazyLock::new(CanaryRolloutStatus::default);
    rollout.status.as_ref().unwrap_or(&NONE)
}

/// The memory in a status; empty for a rollout that was never looked at.
///
/// # Errors
/// When a status is there and can't be read: going on from an empty memory could start a revision anew.
pub(super) fn memory(status: Option<&CanaryRolloutStatus>) -> Result<State, serde_json::Error> {
    match status.and_then(|s| s.machine.as_ref()) {
        Some(machine) => machine.read(),
        None => Ok(State::default()),
    }
}

/// What a decision was made on.
#[derive(Clone)]
pub(super) struct Basis<'a> {
    /// The id of the trial.
    pub(super) trial: Option<&'a str>,
    pub(super) status: &'a CanaryRolloutStatus,
    /// What the status remembers.
    pub(super) memory: &'a State,
    pub(super) generation: Option<i64>,
    pub(super) plan: &'a Plan,
    pub(super) observation: &'a Observation,
    /// The metric of the user's own that keeps a trial from its start.
    pub(super) unusable: Option<&'a FieldError>,
    /// What is known of a commit that the cluster does not carry yet: the word for it, and a sentence.
    pub(super) delivery: Option<&'a (&'static str, String)>,
    /// Whether Argo CD or Flux say that they have applied the commit that is waited for.
    pub(super) delivered: bool,
    /// How fast the arms are, as far as that is known.
    pub(super) latency: Option<LatencyStatus>,
}

/// The status after a decision.
///
/// # Errors
/// When the memory can't be written as JSON, which no value of it can cause.
pub(super) fn after(
    basis: Basis<'_>,
    decision: &Decision,
    now: Timestamp,
) -> Result<CanaryRolloutStatus, serde_json::Error> {
    let Basis {
        trial,
        status: before,
        memory,
        generation,
        plan,
        observation,
        unusable,
        delivery,
        delivered,
        latency,
    } = basis;
    let Decision {
        state,
        effects: _,
        message,
        wake,
    } = decision;
    let phase = &state.phase;
    let mut status = CanaryRolloutStatus {
        observed_generation: generation,
        phase: Some(phase.name().to_string()),
        message: None,
        next: *wake,
        revision: phase.trial().map(revision).or_else(|| {
            observation.canary.revision.as_ref().map(|r| RevisionStatus {
                name: r.name.clone(),
                ..Default::default()
            })
        }),
        trial: trial.map(str::to_owned),
        stable: observation.stable.revision.as_ref().map(|r| r.name.clone()),
        step: step(phase, plan),
        weight: Some(WeightStatus {
            wanted: percent(wanted(phase, plan)),
            observed: percent(observation.weight.canary()),
        }),
        verdict: None,
        evidence: vec![],
        samples: ticks::after(before.samples.as_deref(), plan, (&memory.phase, phase), observation).map(Box::new),
        streams: streams::after(before.streams, phase, observation),
        latency: latency.filter(|_| phase.samples_since().is_some()).map(Box::new),
        forecast: forecast::of(phase, plan, now).map(Box::new),
        hooks: asked::after(before, trial, (plan, phase), observation),
        rollback: None,
        promotion: None,
        history: before.history.clone(),
        last_command: state.last_command.as_ref().map(command).map(Box::new),
        conditions: vec![],
        notify: before.notify.clone(),
        machine: Some(Memory::of(state)?),
    };
    let words = [
        Some(message.clone()),
        status.streams.as_ref().and_then(streams::sentence),
        delivery.map(|(_, why)| why.clone()),
    ];
    status.message = Some(words.into_iter().flatten().collect::<Vec<_>>().join("; "));
    judge(&mut status, phase, before);
    way::follow(&mut status, before, (phase, observation), delivered, now);
    past::remember(&mut status.history, memory, phase, now);
    past::complete(&mut status, before);
    let grounds = conditions::Grounds {
        state,
        observation,
        message,
        delivery,
        unusable,
    };
    status.conditions = conditions::after(&before.conditions, generation, &grounds, now);
    Ok(status)
}

/// The status of a rollout that can't be worked on: its spec, or what the spec names, makes no sense or is not its to have.
/// Nothing else of the status changes, but for a trial that was `paused` by it: its traffic is gone.
///
/// # Errors
/// When the memory can't be written as JSON, which no value of it can cause.
pub(super) fn refused(
    before: &CanaryRolloutStatus,
    generation: Option<i64>,
    why: (&str, &str),
    paused: Option<&State>,
    now: Timestamp,
) -> Result<CanaryRolloutStatus, serde_json::Error> {
    let mut status = before.clone();
    status.observed_generation = generation;
    status.message = Some(why.1.to_owned());
    if let Some(state) = paused {
        status.phase = Some(state.phase.name().to_string());
        status.weight = Some(WeightStatus { wanted: 0, observed: 0 });
        status.next = None;
        status.machine = Some(Memory::of(state)?);
    }
    status.conditions = conditions::refused(&before.conditions, generation, why, now);
    Ok(status)
}

/// The canary's share that a phase wants: no more than the pods that are left can carry.
fn wanted(phase: &Phase, plan: &Plan) -> Weight {
    let planned = planned(phase, plan);
    match phase.lowered() {
        Some(lowered) => planned.min(lowered.to),
        None => planned,
    }
}

fn planned(phase: &Phase, plan: &Plan) -> Weight {
    match phase {
        Phase::Progressing(p) => plan.step(p.step).weight,
        Phase::Paused(p) => p.weight,
        Phase::Promoting(p) if p.way == Way::FastReturn => Weight::ZERO,
        Phase::Promoting(p) => match &p.stage {
            serin_core::rollout::PromoteStage::Committing | serin_core::rollout::PromoteStage::Applying => Weight::FULL,
            serin_core::rollout::PromoteStage::Returning { share, .. } => {
                let shares = [75, 50];
                shares
                    .get(*share)
                    .and_then(|w| Weight::try_from(*w).ok())
                    .unwrap_or(Weight::ZERO)
            }
            serin_core::rollout::PromoteStage::Draining => Weight::ZERO,
        },
        Phase::RollingBack(r) if r.on_canary => Weight::FULL,
        _ => Weight::ZERO,
    }
}

fn percent(weight: Weight) -> i32 {
    i32::from(weight.percent())
}

fn step(phase: &Phase, plan: &Plan) -> Option<String> {
    let index = match phase {
        Phase::Progressing(p) => p.step,
        Phase::Paused(p) => p.step,
        _ => return None,
    };
    Some(format!("{}/{}", index + 1, plan.steps().len()))
}

fn command(answer: &CommandAnswer) -> CommandStatus {
    CommandStatus {
        id: answer.id.clone(),
        verb: answer.verb.clone(),
        by: answer.by.clone(),
        reason: answer.reason.clone(),
        accepted: answer.accepted,
        message: answer.message.clone(),
    }
}

fn revision(trial: Trial<'_>) -> RevisionStatus {
    RevisionStatus {
        name: trial.revision.name.clone(),
        commit: trial.commit.map(|c| c.id.clone()),
        author: trial.commit.map(|c| c.author.clone()),
        subject: trial.commit.map(|c| c.subject.clone()),
    }
}

fn judge(status: &mut CanaryRolloutStatus, phase: &Phase, before: &CanaryRolloutStatus) {
    match (phase, phase.run()) {
        (Phase::Starting(_) | Phase::Idle(_), _) => {}
        (_, Some(run)) => {
            let verdict = run.analysis.verdict();
            let rolls_back = matches!(phase, Phase::RollingBack(_));
            let outcome = if rolls_back { Outcome::Fail } else { verdict.outcome };
            status.verdict = Some(outcome.name().to_owned());
            status.evidence = verdict.evidence.iter().map(evidence).collect();
        }
        // What led to the end stays to be read.
        (_, None) => {
            status.verdict.clone_from(&before.verdict);
            status.evidence.clone_from(&before.evidence);
        }
    }
}

fn evidence(e: &Evidence) -> EvidenceStatus {
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    EvidenceStatus {
        metric: e.metric.clone(),
        arm: e.arm.to_string(),
        bad: count(e.bad),
        total: count(e.total),
        other_bad: count(e.other.bad),
        other_total: count(e.other.total),
        range: e.range.map(|range| range.to_string()),
        other_range: e.other_range.map(|range| range.to_string()),
        towards_fail: e.towards_fail.into(),
        towards_pass: e.towards_pass.into(),
        dry_run: e.dry_run,
        pods: e
            .pods
            .iter()
            .map(|p| PodStatus {
                pod: p.pod.clone(),
                bad: count(p.bad),
                total: count(p.total),
            })
            .collect(),
        sentence: e.sentence.clone(),
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "reasons_tests.rs"]
mod reasons_tests;

#[cfg(test)]
#[path = "upgrade_tests.rs"]
mod upgrade_tests;
