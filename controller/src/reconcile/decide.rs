//! One decision about a rollout: on which samples, what it comes to, and what is done at once. It must not know what woke it, nor how
//! often decisions follow each other.

use std::sync::Arc;

use kube::ResourceExt as _;
use kube::api::Api;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use serin_core::rollout::transition;
use tokio::sync::SemaphorePermit;
use tracing::Instrument as _;

use super::cluster::Reads;
use super::measure::Step;
use super::observe::Look;
use super::record::{Made, News};
use super::refusal::{Refusal, may_make_jobs, may_write, refuse};
use super::samples::Sampled;
use super::unwritten::only_counts;
use super::writes::{differs, hold, release};
use super::{
    Context, Error, act, adopt, conditions, delivered, events, meanwhile, observe, pace, record, samples, status, trace,
};
use crate::api::{CanaryRollout, FINALIZER, parse};
use crate::board::{Deployed, Key as BoardKey, Scaler};
use crate::runtime::clock;

/// What a decision is made on.
pub(super) struct Given {
    pub(super) reads: Reads,
    /// What an earlier look for the same decision got: Prometheus is asked once.
    pub(super) sampled: Option<Sampled>,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            reads: Reads::Kept,
            sampled: None,
        }
    }
}

/// When the next decision about the rollout is to be made.
pub(super) enum Next {
    AtOnce,
    /// Nothing was done: it is decided again on what the API server says, and on these samples.
    OnThePresent(Option<Sampled>),
    At(Action),
}

impl Next {
    /// What comes after a decision that was made before its samples were there: they are asked for, and what else there is to be done is
    /// decided on them.
    fn with_samples(self) -> Self {
        match self {
            Self::At(_) | Self::OnThePresent(Some(_)) => Self::AtOnce,
            Self::AtOnce | Self::OnThePresent(None) => self,
        }
    }
}

/// What a decision came to, and when the next one is to be made.
enum Decided<'a> {
    /// All of it is done.
    Done(Next),
    /// This is to be written and told yet.
    Made(Box<Made<'a>>, Next),
}

/// One decision: samples, then observe, decide, act on what is so by then, and status. Each part is on the heap, and gone when the next
/// one begins: thousands may wait in each.
pub(super) async fn once(
    cx: &Context,
    api: &Api<CanaryRollout>,
    rollout: &Arc<CanaryRollout>,
    Given { reads, sampled }: Given,
) -> Result<Next, Error> {
    tokio::select! {
        biased;
        sampled = Box::pin(samples::samples(cx, rollout, (reads, sampled))) => {
            on_samples(cx, api, rollout, (reads, sampled?)).await
        }
        (now, unanswered) = meanwhile::pressing(cx, rollout) => {
            on_samples(cx, api, &now, (reads, unanswered)).await.map(Next::with_samples)
        }
    }
}

/// Observe, decide, act on what is so by then, and status.
async fn on_samples(
    cx: &Context,
    api: &Api<CanaryRollout>,
    rollout: &Arc<CanaryRollout>,
    (reads, sampled): (Reads, Sampled),
) -> Result<Next, Error> {
    // A thousand may have their samples at once. Looks at the API server have a room of their own.
    let room = if sampled.since.is_some() && reads == Reads::Kept {
        match cx.unless_yielding(cx.order.room_for_decision()).await {
            // The next turn says so.
            None => return Ok(Next::AtOnce),
            Some(found) => found,
        }
    } else {
        None
    };
    match Box::pin(decide(cx, api, rollout, (reads, sampled), room)).await? {
        Decided::Done(next) => Ok(next),
        Decided::Made(made, next) => Box::pin(record::record(cx, api, rollout, *made)).await.map(|()| next),
    }
}

/// Observes, decides and acts. `room` is given up as soon as no traffic is to be taken away.
async fn decide<'a>(
    cx: &'a Context,
    api: &Api<CanaryRollout>,
    rollout: &'a Arc<CanaryRollout>,
    (reads, sampled): (Reads, Sampled),
    room: Option<SemaphorePermit<'_>>,
) -> Result<Decided<'a>, Error> {
    let deleted = rollout.metadata.deletion_timestamp.is_some();
    let ours = rollout.finalizers().iter().any(|f| f == FINALIZER);
    if deleted && !ours {
        return Ok(Decided::Done(Next::At(Action::await_change())));
    }
    let refused = async |why, errors: &[_]| refuse(cx, api, rollout, why, errors).await.map(Decided::Done);
    let parsed = match parse(&rollout.spec) {
        Ok(parsed) => parsed,
        Err(errors) => return refused(Refusal::InvalidField, &errors).await,
    };
    if let Err((why, error)) = may_write(cx, rollout, &parsed) {
        return refused(why, &[error]).await;
    }
    let key = ObjectRef::from_obj(&**rollout);
    let stands = cx.unwritten.over(&key, rollout);
    let before = status::of(&stands);
    let state = status::memory(Some(before)).map_err(Error::Memory)?;
    let trial_before = trace::trial(rollout, &state.phase);
    trace::begins_with(trial_before.as_deref());
    // Once a revision is on trial it goes on, and such a hook says no.
    if let (false, Err(error)) = (deleted || state.phase.run().is_some(), may_make_jobs(cx, &parsed)) {
        return refused(Refusal::NotAllowed, &[error]).await;
    }

    if !deleted && rollout.spec.route.adopt.is_some() {
        adopt::stand_arms(cx, rollout).await?;
    }
    let since = sampled.since;
    let look = observe::observe(cx, rollout, &parsed, &state, (reads, sampled));
    let seen = look.instrument(trace::looking()).await?;
    let world = match seen {
        // That something is not there is no matter for a memory.
        Look::Refused(_) | Look::Gone if reads == Reads::Kept => return Ok(Decided::Done(Next::OnThePresent(None))),
        Look::Refused(errors) => return refused(Refusal::InvalidField, &errors).await,
        Look::Gone => {
            act::stop(cx, rollout).await?;
            release(cx, api, rollout).await?;
            return Ok(Decided::Done(Next::At(Action::await_change())));
        }
        Look::Seen(world) => *world,
    };
    if !ours {
        // From here on something may be written that a deletion has to undo.
        hold(cx, api, rollout).await?;
        return Ok(Decided::Done(Next::AtOnce));
    }

    let now = clock::now();
    let decision = transition(&parsed.plan, &state, &world.observation, now);
    let live = world.observation.weight;
    if reads == Reads::Kept && act::want_the_present(&decision.effects, live) {
        let sampled = Sampled {
            since,
            ticks: world.observation.ticks,
            sampling: world.observation.sampling,
        };
        return Ok(Decided::Done(Next::OnThePresent(Some(sampled))));
    }
    let room = room.filter(|_| act::take_away(&decision.effects, live));
    let trial = trace::trial(rollout, &decision.state.phase);
    trace::led_to(trial_before.as_deref(), trial.as_deref(), &decision.state.phase);
    tracing::debug!(effects = ?decision.effects, "decided");

    let about = act::About {
        rollout,
        trial: trial.as_deref(),
        phase: &state.phase,
    };
    let mut noted = Vec::new();
    let acted = act::act(cx, about, &world, &decision.effects, (room, &mut noted)).await;
    if acted.as_ref().map_or(true, |outcome| outcome.released) {
        // Nothing is recorded of it.
        let trial = trial.as_deref();
        events::tell_all(cx, events::About { rollout, trial }, &noted).await;
    }
    let outcome = acted?;
    delivered::ask(cx, rollout, &decision.state);
    cx.hooks
        .keep_only(rollout, &cx.cluster_name, [&state.phase, &decision.state.phase]);
    if outcome.released {
        release(cx, api, rollout).await?;
        cx.forget(&key);
        return Ok(Decided::Done(Next::At(Action::await_change())));
    }

    let delivery = cx.desk.delivery(&key);
    match samples::arms_on_trial(rollout, &world, &decision.state.phase) {
        Some(arms) => cx.speeds.want(&key, arms),
        None => cx.speeds.forget(&key),
    }
    let basis = status::Basis {
        trial: trial.as_deref(),
        delivery: delivery.as_ref(),
        delivered: (decision.state.phase.run()).is_some_and(|run| cx.desk.is_delivered(&key, &run.revision)),
        latency: cx.speeds.of(&key),
        status: before,
        memory: &state,
        generation: rollout.metadata.generation,
        plan: &parsed.plan,
        observation: &world.observation,
        unusable: world.unusable.as_ref(),
    };
    let mut after = status::after(basis, &decision, now).map_err(Error::Memory)?;
    let telling = cx.teller.begin(rollout, &parsed.notify);
    let dropped = telling.record((&state, before), (&decision.state, &mut after), now);
    // It is held once, for the page and until it is written.
    let would_be = Arc::new(rollout.with_status(Some(after)));
    let after = status::of(&would_be);
    let board_key = BoardKey::of(rollout);
    cx.board.tell(&board_key, &would_be, now);
    let (stable, canary) = (Deployed::of(&world.stable), Deployed::of(&world.canary));
    let scaler = world.autoscaler.as_deref().and_then(Scaler::of);
    cx.board.surround(&board_key, stable, canary, scaler);
    let changed = decision.state != state;
    let only_counted = only_counts((&state, before), (&decision.state, after));
    let is_kept_back = only_counted
        && (cx
            .unwritten
            .keep(&key, rollout.status.as_ref(), &would_be, parsed.plan.interval, now)
            || (cx.order.is_crowded() && cx.unwritten.put_off(&key, &would_be)));
    let untold = after.notify.as_ref().is_some_and(|outbox| !outbox.pending.is_empty());
    let turn = pace::turn(&key, &decision.state.phase, parsed.plan.interval, cx.unwritten.len());
    let wake = pace::wake(&parsed, &world, (&decision, untold), (now, turn));
    let news = conditions::news(&before.conditions, &after.conditions).map(|(kind, reason, message)| News {
        kind,
        reason: reason.to_owned(),
        message: message.to_owned(),
    });
    // What a new state wants is decided on a new look; a tick that only counted wants nothing.
    let wants_a_look = outcome.wrote || (decision.state.phase != state.phase && !only_counted);
    let made = Made {
        is_due: !is_kept_back && (changed || differs(before, after)),
        on_trial: decision.state.phase.run().is_some(),
        news,
        step: Step::between(&state.phase, &decision.state.phase),
        trial,
        noted,
        would_be,
        telling,
        dropped,
        now,
    };
    let next = if wants_a_look {
        // What this one recorded may have to be done before there are samples again.
        cx.rollouts.stir(std::slice::from_ref(&key));
        Next::AtOnce
    } else {
        Next::At(wake)
    };
    Ok(Decided::Made(Box::new(made), next))
}
