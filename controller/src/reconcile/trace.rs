//! A decision as a span: which rollout and which trial its log lines belong to, and the parts of which a trace of it is made. It must
//! not know what is decided.
//!
//! # Guarantees
//! One trace for each decision: looking (at samples, then at all else), each effect in its order, and the write of status. What
//! Git is asked goes on when the decision is made; it is a trace of its own, which links to that of the decision.

use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use serin_core::rollout::{Effect, Phase};
use tracing::Span;
use tracing::field::{Empty, display};

use crate::api::{CanaryRollout, trial_id};
use crate::runtime::telemetry::TRACE;

/// The span of a decision that is to be made.
pub(super) fn decision(rollout: &CanaryRollout) -> Span {
    tracing::info_span!("decision", rollout = %ObjectRef::from_obj(rollout), trial = Empty, phase = Empty)
}

/// The id of the trial that a phase belongs to, or ended.
pub(super) fn trial(rollout: &CanaryRollout, phase: &Phase) -> Option<String> {
    let trial = phase.trial()?;
    Some(trial_id(&rollout.uid().unwrap_or_default(), trial.began))
}

/// Says in the present decision's span which trial it begins with.
pub(super) fn begins_with(trial: Option<&str>) {
    if let Some(trial) = trial {
        Span::current().record("trial", trial);
    }
}

/// Says in it where it led, from the trial that it began with. A field that is said twice is in the trace twice.
pub(super) fn led_to(before: Option<&str>, trial: Option<&str>, phase: &Phase) {
    Span::current().record("phase", phase.name().word());
    if trial != before {
        begins_with(trial);
    }
}

/// Looking at samples, or at all else.
pub(super) fn looking() -> Span {
    tracing::info_span!(target: TRACE, "look")
}

/// An effect that is carried out.
pub(super) fn effect(effect: &Effect) -> Span {
    let span = tracing::info_span!(target: TRACE, "effect", otel.name = effect.word(), weight = Empty);
    if let Effect::SetWeight(weight) = effect {
        span.record("weight", display(weight));
    }
    span
}

/// An event that is told: the effect that comes last.
pub(super) fn note() -> Span {
    tracing::info_span!(target: TRACE, "effect", otel.name = "Note")
}

/// Writing status.
pub(super) fn writing() -> Span {
    tracing::info_span!(target: TRACE, "write status")
}

/// What goes on when the decision that asked for it is made.
pub(super) fn aside(rollout: &CanaryRollout, trial: Option<&str>, effect: &Effect) -> Span {
    let span = tracing::info_span!(
        parent: None,
        "git",
        otel.name = effect.word(),
        rollout = %ObjectRef::from_obj(rollout),
        trial = Empty,
    );
    span.follows_from(Span::current());
    if let Some(trial) = trial {
        span.record("trial", trial);
    }
    span
}
