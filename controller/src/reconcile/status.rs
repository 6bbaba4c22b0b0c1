//! From the state machine's memory to the status that a person reads. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serin_core::Weight;
use serin_core::analysis::{Evidence, Outcome};
use serin_core::rollout::{
    Answer, Arm, Decision, FieldError, Lowered, NoteKind, Observation, PauseReason, Phase, Plan, Preflight, RestNote,
    Starting, State, Trial, Way,
};

use super::desk::ON_ITS_WAY;
use super::{asked, forecast, past, streams, ticks, way};
use crate::api::{
    CanaryRolloutStatus, CommandStatus, EvidenceStatus, LatencyStatus, Memory, PodStatus, RevisionStatus, WeightStatus,
};
use crate::gitops::ROLLBACK_BLOCKED;

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
        samples: ticks::after(before.samples.as_ref(), plan, (&memory.phase, phase), observation),
        streams: streams::after(before.streams, phase, observation),
        latency: latency.filter(|_| phase.samples_since().is_some()),
        forecast: forecast::of(phase, plan, now),
        hooks: asked::after(before, trial, (plan, phase), observation),
        rollback: None,
        promotion: None,
        history: before.history.clone(),
        last_command: state.last_command.as_ref().map(|c| CommandStatus {
            id: c.id.clone(),
            verb: c.verb.clone(),
            by: c.by.clone(),
            reason: c.reason.clone(),
            accepted: c.accepted,
            message: c.message.clone(),
        }),
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
    status.conditions = conditions(&before.conditions, generation, state, observation, message, now);
    let (is, reason, text) = match delivery {
        Some((reason, why)) => (*reason != ON_ITS_WAY, *reason, why.as_str()),
        None => (false, "NotBlocked", "no commit is kept from the cluster"),
    };
    set(
        &mut status.conditions,
        generation,
        DELIVERY_BLOCKED,
        is,
        reason,
        text,
        now,
    );
    let unread = unusable.map(ToString::to_string).or_else(|| {
        let unusable = phase.run().and_then(|run| run.analysis.unusable());
        unusable.map(|unusable| format!("{}: {}", unusable.field, unusable.problem))
    });
    let (is, reason, text) = match &unread {
        Some(why) => (false, "UnusableQuery", why.as_str()),
        None => (true, "Readable", "every metric that is judged can be read"),
    };
    set(
        &mut status.conditions,
        generation,
        "MetricsReadable",
        is,
        reason,
        text,
        now,
    );
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
    (reason, message): (&str, &str),
    paused: Option<&State>,
    now: Timestamp,
) -> Result<CanaryRolloutStatus, serde_json::Error> {
    let mut status = before.clone();
    status.observed_generation = generation;
    status.message = Some(message.to_owned());
    if let Some(state) = paused {
        status.phase = Some(state.phase.name().to_string());
        status.weight = Some(WeightStatus { wanted: 0, observed: 0 });
        status.next = None;
        status.machine = Some(Memory::of(state)?);
    }
    let mut conditions = before.conditions.clone();
    set(&mut conditions, generation, "SpecValid", false, reason, message, now);
    set(&mut conditions, generation, "Ready", false, reason, message, now);
    status.conditions = conditions;
    Ok(status)
}

/// The canary's share that a phase wants: no more than the pods that are left can carry.
fn wanted(phase: &Phase, plan: &Plan) -> Weight {
    let planned = planned(phase, plan);
    match lowered(phase) {
        Some(lowered) => planned.min(lowered.to),
        None => planned,
    }
}

/// What its weight was lowered to, as pods were lost, while it is.
fn lowered(phase: &Phase) -> Option<Lowered> {
    match phase {
        Phase::Progressing(_) | Phase::Paused(_) | Phase::Promoting(_) => phase.run()?.footing.lowered,
        _ => None,
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

fn conditions(
    before: &[Condition],
    generation: Option<i64>,
    state: &State,
    observation: &Observation,
    message: &str,
    now: Timestamp,
) -> Vec<Condition> {
    let mut conditions = before.to_vec();
    let mut put = |kind, is, reason, text: &str| set(&mut conditions, generation, kind, is, reason, text, now);
    put("SpecValid", true, "Parsed", "every field makes sense");
    put("Ready", true, "Reconciled", message);
    let failed = [
        observation.git.origin.as_ref().and_then(failure),
        observation.git.rollback.as_ref().and_then(failure),
        observation.git.promotion.as_ref().and_then(failure),
    ];
    let reason = observation.git.reason.unwrap_or("GitFailed");
    let failed = failed.into_iter().flatten().next();
    match &failed {
        Some(why) => put("GitPending", true, reason, why),
        None => put("GitPending", false, "NothingPending", "no commit is waited for"),
    }
    match &failed {
        Some(why) if reason == ROLLBACK_BLOCKED => put(ROLLBACK_BLOCKED, true, "Conflict", why),
        _ => put(ROLLBACK_BLOCKED, false, "NotBlocked", "no rollback is blocked"),
    }
    let stale = matches!(state.phase, Phase::Idle(RestNote::Stale));
    let text = if stale {
        "stable moved and the canary did not"
    } else {
        "the canary does not lag behind stable"
    };
    put(
        "CanaryStale",
        stale,
        if stale { "StableMoved" } else { "UpToDate" },
        text,
    );
    let refused = match &state.phase {
        Phase::Starting(Starting {
            preflight: Preflight::Refused(why),
            ..
        }) => Some(why.as_str()),
        _ => None,
    };
    put(
        "PreflightFailed",
        refused.is_some(),
        if refused.is_some() {
            "LineFailed"
        } else {
            "NothingInTheWay"
        },
        refused.unwrap_or("no start is refused"),
    );
    let strays = state
        .phase
        .run()
        .and_then(|run| run.following.deviation())
        .map(|deviation| {
            let causes = observation.causes.as_ref().and_then(|causes| match causes {
                Answer::Is(causes) => Some(format!("; likely causes: {causes}")),
                Answer::Failed(_) => None,
            });
            format!("{deviation}{}", causes.unwrap_or_default())
        });
    put(
        "TrafficNotFollowing",
        strays.is_some(),
        if strays.is_some() { "ShareOff" } else { "Follows" },
        strays
            .as_deref()
            .unwrap_or("no share of the calls is proven to be off its weight"),
    );
    let lowered = lowered(&state.phase).map(|lowered| {
        let Arm { ready, desired, .. } = observation.canary;
        format!(
            "the weight was lowered to {}, as canary pods were lost; {ready} of {desired} are ready",
            lowered.to
        )
    });
    put(
        "PodsLost",
        lowered.is_some(),
        if lowered.is_some() {
            "WeightLowered"
        } else {
            "NothingLost"
        },
        lowered
            .as_deref()
            .unwrap_or("no weight is lower than wanted for want of pods"),
    );
    let contest = match &state.phase {
        Phase::Paused(p) if p.reason == PauseReason::WeightContested => {
            Some(p.run.contest.as_ref().map_or("somebody", |contest| contest.by.as_str()))
        }
        _ => None,
    };
    put(
        "WeightContested",
        contest.is_some(),
        if contest.is_some() { "OtherWriter" } else { "OneWriter" },
        &contest.map_or_else(
            || "nobody else writes the weights".to_owned(),
            |by| {
                format!(
                    "{by} writes the weights too (managedFields); take the route out of its hands, then `serin resume`"
                )
            },
        ),
    );
    let blind = matches!(&state.phase, Phase::Paused(p) if p.reason == PauseReason::Blind);
    let text = observation
        .sampling_problem
        .as_deref()
        .unwrap_or("no fresh scrape of the canary's pods");
    put(
        "Blind",
        blind,
        if blind { "NoFreshScrape" } else { "Sighted" },
        if blind { text } else { "samples come in" },
    );
    conditions
}

/// A commit is kept from the cluster, and waiting alone does not change that.
const DELIVERY_BLOCKED: &str = "DeliveryBlocked";

/// What changed between the repository, the cluster and us, as the event that tells of it: kind, reason, message.
pub(super) fn news<'a>(before: &[Condition], after: &'a [Condition]) -> Option<(NoteKind, &'a str, &'a str)> {
    let pending = ("GitAnswered", "the config repository does what it is asked again");
    let blocked = ("Delivered", "nothing keeps commits from the cluster any more");
    change(before, after, "GitPending", pending).or_else(|| change(before, after, DELIVERY_BLOCKED, blocked))
}

/// What changed in one condition; the words are for its end.
fn change<'a>(
    before: &[Condition],
    after: &'a [Condition],
    kind: &str,
    (reason, message): (&'static str, &'static str),
) -> Option<(NoteKind, &'a str, &'a str)> {
    let now = after.iter().find(|c| c.type_ == kind)?;
    let was = before.iter().find(|c| c.type_ == kind);
    let (is, was_so) = (now.status == "True", was.is_some_and(|was| was.status == "True"));
    if is && was.is_none_or(|was| !was_so || was.reason != now.reason) {
        Some((NoteKind::Warning, &now.reason, &now.message))
    } else if !is && was_so {
        Some((NoteKind::Normal, reason, message))
    } else {
        None
    }
}

fn failure<T>(answer: &Answer<T>) -> Option<String> {
    match answer {
        Answer::Failed(why) => Some(why.clone()),
        Answer::Is(_) => None,
    }
}

fn set(
    conditions: &mut Vec<Condition>,
    generation: Option<i64>,
    kind: &str,
    is: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let status = if is { "True" } else { "False" };
    // The API server refuses longer ones.
    let message: String = message.chars().take(1024).collect();
    let known = conditions.iter().position(|c| c.type_ == kind);
    let since = known
        .and_then(|i| conditions.get(i))
        .filter(|c| c.status == status)
        .map(|c| c.last_transition_time.clone());
    let condition = Condition {
        last_transition_time: since.unwrap_or(Time(now)),
        message,
        observed_generation: generation,
        reason: reason.to_owned(),
        status: status.to_owned(),
        type_: kind.to_owned(),
    };
    match known.and_then(|i| conditions.get_mut(i)) {
        Some(slot) => *slot = condition,
        None => conditions.push(condition),
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
