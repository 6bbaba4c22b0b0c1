//! Samples → observe → decide → act → status, for one rollout at a time. To decide is one call of the core; [`act`] is the only place
//! that matches on effects.
//!
//! # Guarantees
//! A decision's effects are carried out before its state is written, in their order; the core asks for what gives traffic,
//! and for commits, only when the state that wants it stands in status. So a controller that is killed on any line goes on
//! as if nothing had happened: it decides the same again, and every effect may be carried out twice.
//!
//! # Reads
//! A look costs no request: it is made on what watches told. Three rules keep that safe:
//! - The rollout and its route are never older than what this process wrote last ([`rollouts`], [`crate::traffic`]): the answer of
//!   a write is kept at once. So no decision forgets a verdict, or a weight, that was written.
//! - A decision that does more than count, or take traffic away, is made again on what the API server says now
//!   ([`want_the_present`]): what others did, and no watch has told yet, is not gone past. Taking traffic away never waits for that.
//! - Each write names the version that it was decided on: whatever was written meanwhile is a conflict, and decided on anew.
//!
//! So a watch that is behind can delay a decision, by a minute where a connection hangs, and cannot make one rise.

mod access;
mod act;
mod adopt;
mod arms;
mod asked;
mod cluster;
mod conditions;
mod delivered;
mod desk;
mod error;
mod events;
pub mod facts;
mod floor;
mod forecast;
#[doc(hidden)]
pub mod fuzz;
mod git;
mod hooks;
mod measure;
mod observe;
pub(crate) mod own;
mod pace;
mod past;
mod places;
mod quota;
mod record;
mod refusal;
mod repository;
mod rollouts;
mod rooms;
mod run;
mod samples;
mod secrets;
mod speeds;
mod start;
mod status;
mod streams;
mod tell;
mod ticks;
mod trace;
mod turns;
mod unwritten;
mod way;
mod writes;

#[cfg(test)]
mod fixtures;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use kube::api::Api;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Client, ResourceExt as _};
use serin_core::rollout::{Effect, LiveWeight, PhaseName, transition};

use crate::api::{CanaryRollout, CanaryRolloutStatus, FINALIZER, parse};
use crate::board::{Board, Deployed, Key as BoardKey, Scaler};
use crate::gitops::GitOps;
use crate::metrics::Metrics;
use crate::prometheus::Prometheus;
use crate::runtime::clock;
use crate::runtime::lease::Leadership;
use crate::runtime::order::Order;
use crate::runtime::shards::{Count, Shard};
use crate::traffic::Traffic;
use cluster::{Cluster, Reads};
use desk::Desk;
use error::{API_TIMEOUT, call, is_conflict, is_forbidden};
use hooks::Hooks;
use measure::Step;
use observe::Look;
use quota::Quota;
use record::{Made, News};
use refusal::{Refusal, may_make_jobs, may_write, refuse};
use rollouts::Rollouts;
use rooms::Rooms;
use samples::Sampled;
use speeds::Speeds;
use tell::Teller;
use tokio::sync::SemaphorePermit;
use tracing::Instrument as _;
use unwritten::{Unwritten, only_counts};
use writes::{differs, fence, hold, release};

pub use access::Access;
pub use error::Error;
pub use rooms::shard_of;
pub use run::{Options, run};

/// Decisions that may follow each other at once, before other rollouts have their turn.
const DECISIONS: usize = 8;

/// What all reconciles of a shard share.
struct Context {
    /// How many shards there are, and which one this is.
    shard: (Count, Shard),
    client: Client,
    cluster: Cluster,
    traffic: Traffic,
    prometheus: Prometheus,
    gitops: Arc<GitOps>,
    desk: Desk,
    hooks: Hooks,
    speeds: Speeds,
    unwritten: Unwritten,
    /// How many events there were lately.
    quota: Quota,
    leadership: Leadership,
    /// The cluster's name in commit trailers.
    cluster_name: String,
    /// Who may have commits written where.
    access: Access,
    /// Who is told what happens.
    teller: Arc<Teller>,
    /// All rollouts, as they were last seen.
    rollouts: Rollouts,
    /// What goes first.
    order: Order,
    /// What the page and the metrics tell of rollouts.
    board: Board,
    metrics: Metrics,
}

impl Context {
    /// Whether a rollout is this shard's, as its spec is now.
    fn has(&self, rollout: &CanaryRollout) -> bool {
        let (count, shard) = self.shard;
        shard_of(count, rollout) == shard
    }

    /// What is waited for, or `None` when this process leads no more, or is to lead no more, before it comes.
    async fn unless_yielding<T>(&self, awaited: impl Future<Output = T>) -> Option<T> {
        let mut leadership = self.leadership.clone();
        tokio::select! {
            come = awaited => Some(come),
            () = leadership.yielding() => None,
        }
    }

    /// Forgets a rollout that is gone.
    fn forget(&self, key: &ObjectRef<CanaryRollout>) {
        self.desk.forget(key);
        self.hooks.forget(key);
        self.speeds.forget(key);
        self.unwritten.forget(key);
        self.quota.forget(key);
        self.teller.forget(key);
    }

    /// Where the preflight reads.
    fn sources(&self) -> facts::Sources {
        facts::Sources {
            client: self.client.clone(),
            traffic: self.traffic.clone(),
            prometheus: self.prometheus.clone(),
        }
    }
}

/// As [`reconcile`], in the room of the rollout's shard; a panic is this rollout's error, and the others go on. Those at rest wait for
/// each other, and after a start all wait for those on their way back.
async fn reconcile_apart(cached: Arc<CanaryRollout>, rooms: Arc<Rooms>) -> Result<Action, Error> {
    let start = rooms.start(&cached);
    let key = ObjectRef::from_obj(&*cached);
    if let Some(start) = &start {
        start.turn(&key).await;
    }
    let _turn_at_rest = if is_at_rest(&cached) {
        rooms.turn_at_rest().await
    } else {
        None
    };
    let Some((cx, _turn)) = rooms.enter(&cached) else {
        // Another replica's. It is looked at when its shard is this one's.
        return Ok(Action::await_change());
    };
    // On the heap only once it begins: thousands wait for their turn.
    let ended = Box::pin(apart(reconcile(cached, cx))).await;
    if let Some(start) = &start {
        start.looked(&key);
    }
    ended
}

fn is_at_rest(rollout: &CanaryRollout) -> bool {
    let phase = rollout.status.as_ref().and_then(|status| status.phase.as_deref());
    let names = [
        PhaseName::Idle,
        PhaseName::Promoted,
        PhaseName::RolledBack,
        PhaseName::Withdrawn,
    ];
    rollout.metadata.deletion_timestamp.is_none() && phase.is_none_or(|phase| names.iter().any(|at| at.word() == phase))
}

async fn apart<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    // What was shared is behind locks that don't mind, and each decision begins with a new look.
    let ended = AssertUnwindSafe(work).catch_unwind().await;
    ended.unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<&str>().map(|words| (*words).to_owned());
        let words = words.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(Error::Panicked(words.unwrap_or_default()))
    })
}

/// Looks at one rollout until nothing is left to do at once.
async fn reconcile(cached: Arc<CanaryRollout>, cx: Arc<Context>) -> Result<Action, Error> {
    let (namespace, name) = (cached.namespace().unwrap_or_default(), cached.name_any());
    let key = ObjectRef::from_obj(&*cached);
    let api: Api<CanaryRollout> = Api::namespaced(cx.client.clone(), &namespace);
    let (mut given, mut room) = (Given::default(), None);
    for _ in 0..DECISIONS {
        let kept = (given.reads == Reads::Kept).then(|| cx.rollouts.get(&key)).flatten();
        let rollout = match kept {
            Some(kept) => kept,
            None => {
                let read = call(|| format!("reading the rollout {namespace}/{name}"), api.get_opt(&name)).await?;
                let Some(rollout) = read else {
                    cx.forget(&key);
                    return Ok(Action::await_change());
                };
                cx.rollouts.put(rollout)
            }
        };
        if !cx.has(&rollout) {
            // Its spec names another branch by now, and this change wakes the shard that has it.
            cx.forget(&key);
            return Ok(Action::await_change());
        }
        if !cx.leadership.is_to_stay() {
            // Whoever gets the shard decides.
            return Ok(Action::await_change());
        }
        let span = trace::decision(&rollout);
        // Whoever is handed a future has room for it twice.
        let once = Box::pin(once(&cx, &api, &rollout, std::mem::take(&mut given)));
        match measure::look(&cx.metrics, once.instrument(span)).await {
            Ok(Next::AtOnce) => {}
            Ok(Next::OnThePresent(sampled)) => {
                // Not for one that watches tell too little of: its traffic may have to be taken away.
                if sampled.is_some() && room.is_none() {
                    match cx.unless_yielding(cx.order.room_for_look()).await {
                        // The next turn says so.
                        None => continue,
                        // Nothing was done: it is decided again on what is so by then.
                        Some(None) => return Ok(Action::requeue(Duration::from_secs(1))),
                        Some(found) => room = found,
                    }
                }
                given = Given {
                    reads: Reads::Direct,
                    sampled,
                }
            }
            Ok(Next::At(action)) => return Ok(action),
            // Somebody else wrote it: decide again on what it is now.
            Err(error) if is_conflict(&error) => cx.rollouts.doubt(&key),
            Err(error) => {
                cx.rollouts.doubt(&key);
                return Err(error);
            }
        }
    }
    Ok(Action::requeue(Duration::from_millis(100)))
}

/// What a decision is made on.
struct Given {
    reads: Reads,
    /// What an earlier look for the same decision got: Prometheus is asked once.
    sampled: Option<Sampled>,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            reads: Reads::Kept,
            sampled: None,
        }
    }
}

enum Next {
    AtOnce,
    /// Nothing was done: it is decided again on what the API server says, and on these samples.
    OnThePresent(Option<Sampled>),
    At(Action),
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
async fn once(
    cx: &Context,
    api: &Api<CanaryRollout>,
    rollout: &Arc<CanaryRollout>,
    Given { reads, sampled }: Given,
) -> Result<Next, Error> {
    let sampled = Box::pin(samples::samples(cx, rollout, (reads, sampled))).await?;
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
    let (stands, nothing) = (cx.unwritten.over(&key, rollout), CanaryRolloutStatus::default());
    let before = stands.status.as_ref().unwrap_or(&nothing);
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
    if reads == Reads::Kept && want_the_present(&decision.effects, live) {
        let sampled = Sampled {
            since: state.phase.samples_since(),
            ticks: world.observation.ticks,
            problem: world.observation.sampling_problem,
        };
        return Ok(Decided::Done(Next::OnThePresent(Some(sampled))));
    }
    let room = room.filter(|_| takes_away(&decision.effects, live));
    let trial = trace::trial(rollout, &decision.state.phase);
    trace::led_to(trial_before.as_deref(), trial.as_deref(), &decision.state.phase);
    tracing::debug!(effects = ?decision.effects, "decided");

    let about = act::About {
        rollout,
        trial: trial.as_deref(),
        phase: &state.phase,
    };
    let outcome = act::act(cx, about, &world, &decision.effects, room).await?;
    delivered::ask(cx, rollout, &decision.state);
    cx.hooks
        .keep_only(rollout, &cx.cluster_name, [&state.phase, &decision.state.phase]);
    if outcome.released {
        let trial = trial.as_deref();
        events::tell_all(cx, events::About { rollout, trial }, &outcome.noted).await;
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
    let after = would_be.status.as_ref().unwrap_or(before);
    let board_key = BoardKey::of(rollout);
    cx.board.tell(&board_key, &would_be, now);
    let (stable, canary) = (Deployed::of(&world.stable), Deployed::of(&world.canary));
    let scaler = world.autoscaler.as_deref().and_then(Scaler::of);
    cx.board.surround(&board_key, stable, canary, scaler);
    let changed = decision.state != state;
    let only_counted = only_counts((&state, before), (&decision.state, after));
    let stands = rollout.status.as_ref();
    let is_kept_back = only_counted
        && (cx.unwritten.keep(&key, stands, &would_be, parsed.plan.interval, now)
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
        noted: outcome.noted,
        would_be,
        telling,
        dropped,
        now,
    };
    let next = if wants_a_look { Next::AtOnce } else { Next::At(wake) };
    Ok(Decided::Made(Box::new(made), next))
}

/// Whether effects are to be decided on what the API server says, and not on what watches told some time ago. Taking traffic
/// away waits for no second look, and rollback commits are decided on status and Git. A promotion is asked for again: a person
/// may have said no.
fn want_the_present(effects: &[Effect], live: LiveWeight) -> bool {
    let depends = |effect: &Effect| match effect {
        Effect::SetWeight(weight) => *weight > live.canary(),
        Effect::EnsureObjects { .. }
        | Effect::ScaleCanary(_)
        | Effect::SetMinimum { .. }
        | Effect::RemoveRoute
        | Effect::CommitPromotion { .. }
        | Effect::Release => true,
        Effect::AskPreflight(_)
        | Effect::AskCauses(_)
        | Effect::AskBaseline(_)
        | Effect::AskOrigin(_)
        | Effect::CommitRollback { .. }
        | Effect::RunHook(_)
        | Effect::Refresh
        | Effect::Note(_) => false,
    };
    effects.iter().any(depends) && !takes_away(effects, live)
}

/// Whether traffic is taken away from the canary.
fn takes_away(effects: &[Effect], live: LiveWeight) -> bool {
    let lowers = |effect: &Effect| matches!(effect, Effect::SetWeight(weight) if *weight < live.canary());
    effects.iter().any(lowers)
}

#[cfg(test)]
mod tests {
    use serin_core::Weight;

    use super::*;

    #[test]
    fn what_takes_traffic_away_waits_for_no_second_look_and_what_raises_it_does() {
        let percent = |percent: i64| Weight::try_from(percent).unwrap();
        let live = LiveWeight::At(percent(10));
        let set = |to: i64| Effect::SetWeight(percent(to));
        assert!(want_the_present(&[set(25)], live));
        assert!(want_the_present(&[set(25)], LiveWeight::Absent));
        assert!(want_the_present(&[Effect::ScaleCanary(0)], live));
        assert!(!want_the_present(&[set(0), Effect::ScaleCanary(0)], live));
        assert!(!want_the_present(&[Effect::Refresh], live));
    }

    #[tokio::test]
    async fn a_panic_of_one_reconcile_is_an_error_of_its_own() {
        let panics = apart(async { if true { panic!("no {}", "plan") } else { Ok(()) } }).await;
        assert!(matches!(panics, Err(Error::Panicked(words)) if words == "no plan"));
        assert!(apart(async { Ok(()) }).await.is_ok());
    }
}
