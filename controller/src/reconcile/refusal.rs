//! Rollouts that can't be worked on: why, and what becomes of them. It must not know how a decision is made.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kube::ResourceExt as _;
use kube::api::Api;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use serin_core::rollout::{FieldError, NoteKind, PhaseName, State, refused};

use super::decide::Next;
use super::measure::Step;
use super::writes::{self, differs, release, write_status};
use super::{Context, Error, access, act, events, status};
use crate::api::{CanaryRollout, HookWay, Parsed, parse_receivers};
use crate::runtime::clock;

/// Why a rollout is not worked on: the reason of its condition and of its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A field makes no sense, or names what is not there.
    InvalidField,
    /// Serin's allow-list does not have it.
    NotAllowed,
    /// Another rollout has the same subtree.
    SubtreeTaken,
}

impl Refusal {
    fn reason(self) -> &'static str {
        match self {
            Self::InvalidField => "InvalidField",
            Self::NotAllowed => "NotAllowed",
            Self::SubtreeTaken => "SubtreeTaken",
        }
    }
}

/// Whether Serin may write where the rollout asks for it, and nobody else does.
pub(super) fn may_write(cx: &Context, rollout: &CanaryRollout, parsed: &Parsed) -> Result<(), (Refusal, FieldError)> {
    if rollout.metadata.deletion_timestamp.is_some() {
        // It writes no more commits, and has to be let go of.
        return Ok(());
    }
    let namespace = rollout.namespace().unwrap_or_default();
    let (access, layout) = (&cx.access, &parsed.layout);
    access
        .check(&namespace, &rollout.spec.git, layout)
        .map_err(|error| (Refusal::NotAllowed, error))?;
    let others = cx.rollouts.beside(&access::files_of(&rollout.spec.git, layout));
    access::taken(access, rollout, layout, others.iter().map(|other| &**other))
        .map_err(|error| (Refusal::SubtreeTaken, error))
}

/// Whether the rollout's hooks are of kinds that the controller's configuration allows.
pub(super) fn may_make_jobs(cx: &Context, parsed: &Parsed) -> Result<(), FieldError> {
    let mut calls = parsed.hooks.iter();
    match calls.position(|call| matches!(call.way, HookWay::Job(_))) {
        Some(i) if !cx.hooks.has_jobs() => Err(FieldError::new(
            format!("spec.hooks[{i}].job"),
            "Serin makes no Jobs, as whoever edits a rollout could run pods by them; whoever runs Serin may allow it \
             by `hooks.jobs` of its chart",
        )),
        _ => Ok(()),
    }
}

/// A rollout that cannot be worked on: said in status and in an event. What is on trial loses its traffic and pauses; nothing else
/// is touched. On the heap: few looks come to it, and each has room for what it holds itself.
pub(super) fn refuse<'a>(
    cx: &'a Context,
    api: &'a Api<CanaryRollout>,
    rollout: &'a Arc<CanaryRollout>,
    why: Refusal,
    errors: &'a [FieldError],
) -> BoxFuture<'a, Result<Next, Error>> {
    Box::pin(refuse_now(cx, api, rollout, why, errors))
}

async fn refuse_now(
    cx: &Context,
    api: &Api<CanaryRollout>,
    rollout: &Arc<CanaryRollout>,
    why: Refusal,
    errors: &[FieldError],
) -> Result<Next, Error> {
    let (key, now) = (ObjectRef::from_obj(&**rollout), clock::now());
    let stands = cx.unwritten.over(&key, rollout);
    let before = status::of(&stands);
    let deleted = rollout.metadata.deletion_timestamp.is_some();
    let memory = status::memory(Some(before)).ok();
    let on_trial = |state: &State| {
        matches!(
            state.phase.name(),
            PhaseName::Starting | PhaseName::Progressing | PhaseName::Paused
        )
    };
    if deleted || memory.as_ref().is_some_and(on_trial) {
        // What can't be judged gets no traffic. Without a plan there is no drain, but all traffic on stable there is.
        act::stop(cx, rollout).await?;
    }
    let message = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let paused = memory.as_ref().filter(|_| !deleted);
    let paused = paused.and_then(|memory| refused(memory, now));
    let after = status::refused(
        before,
        rollout.metadata.generation,
        (why.reason(), &message),
        paused.as_ref(),
        now,
    );
    let mut after = after.map_err(Error::Memory)?;
    let states = memory.as_ref().filter(|_| !deleted);
    let states = states.map(|memory| (memory, paused.as_ref().unwrap_or(memory)));
    let is_news = differs(before, &after);
    let own = parse_receivers("spec.notify", &rollout.spec.notify).unwrap_or_default();
    let telling = cx.teller.begin(rollout, &own);
    let dropped = states.map_or(0, |(was, is)| telling.record((was, before), (is, &mut after), now));
    let about = before.trial.as_deref();
    let is_due = differs(before, &after);
    let _room = if is_due { writes::room(cx).await? } else { None };
    if is_news {
        tracing::warn!("the rollout is refused: {message}");
        let what = events::What {
            kind: NoteKind::Warning,
            reason: why.reason(),
            message: &message,
            nth: 0,
        };
        events::tell(cx, events::About { rollout, trial: about }, what).await;
    }
    if is_due {
        write_status(cx, api, &rollout.with_status(Some(after.clone()))).await?;
        cx.unwritten.forget(&key);
        telling.recorded(cx, about, dropped).await;
        if let (Some((was, _)), Some(paused)) = (states, &paused) {
            Step::between(&was.phase, &paused.phase).count(&cx.metrics);
        }
    }
    // What stands since before a restart may not have been told to all.
    if states.is_some() {
        telling.send(&after, now);
    }
    if deleted {
        release(cx, api, rollout).await?;
        return Ok(Next::At(Action::await_change()));
    }
    // What is missing may come without a change of the rollout itself.
    Ok(Next::At(Action::requeue(Duration::from_secs(10))))
}
