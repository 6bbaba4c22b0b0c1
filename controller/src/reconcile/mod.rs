//! Samples → observe → decide → act → status, for one rollout at a time. To decide is one call of the core; [`act`] is the only place
//! that matches on effects.
//!
//! # Guarantees
//! A decision's effects are carried out before its state is written, in their order, events last; the core asks for what gives traffic,
//! and for commits, only when the state that wants it stands in status. So a controller that is killed on any line goes on
//! as if nothing had happened: it decides the same again, and every effect may be carried out twice.
//!
//! # Reads
//! A look costs no request: it is made on what watches told. Three rules keep that safe:
//! - The rollout and its route are never older than what this process wrote last ([`rollouts`], [`crate::traffic`]): the answer of
//!   a write is kept at once. So no decision forgets a verdict, or a weight, that was written.
//! - A decision that does more than count, or take traffic away, is made again on what the API server says now
//!   ([`act::want_the_present`]): what others did, and no watch has told yet, is not gone past. Taking traffic away never waits for that.
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
mod decide;
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
mod meanwhile;
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
use serin_core::rollout::PhaseName;

use crate::api::CanaryRollout;
use crate::board::Board;
use crate::gitops::GitOps;
use crate::metrics::Metrics;
use crate::prometheus::Prometheus;
use crate::runtime::lease::Leadership;
use crate::runtime::order::Order;
use crate::runtime::shards::{Count, Shard};
use crate::traffic::Traffic;
use cluster::{Cluster, Reads};
use decide::{Given, Next};
use desk::Desk;
use error::{API_TIMEOUT, call, is_conflict, is_forbidden};
use hooks::Hooks;
use quota::Quota;
use rollouts::Rollouts;
use rooms::Rooms;
use speeds::Speeds;
use tell::Teller;
use tracing::Instrument as _;
use unwritten::Unwritten;
use writes::fence;

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
        let once = Box::pin(decide::once(&cx, &api, &rollout, std::mem::take(&mut given)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_of_one_reconcile_is_an_error_of_its_own() {
        let panics = apart(async { if true { panic!("no {}", "plan") } else { Ok(()) } }).await;
        assert!(matches!(panics, Err(Error::Panicked(words)) if words == "no plan"));
        assert!(apart(async { Ok(()) }).await.is_ok());
    }
}
