//! What happens to a rollout while its samples are waited for. It writes nothing, and must not know what comes of a decision.
//!
//! A query may take as long as a query may. Aborts, pods that are lost and weights that others write wait for none.

use std::sync::Arc;

use kube::runtime::reflector::ObjectRef;
use serin_core::rollout::transition;

use super::cluster::Reads;
use super::observe::Look;
use super::refusal::may_write;
use super::samples::Sampled;
use super::{Context, Error, observe, status};
use crate::api::{CanaryRollout, parse};
use crate::runtime::clock;

/// Waits until something new about the rollout has something done that waits for no sample. Comes back with the rollout as it is by then,
/// and with what that is to be decided on.
pub(super) async fn pressing(cx: &Context, rollout: &Arc<CanaryRollout>) -> (Arc<CanaryRollout>, Sampled) {
    let key = ObjectRef::from_obj(&**rollout);
    loop {
        cx.rollouts.stirred(&key).await;
        let now = cx.rollouts.get(&key).unwrap_or_else(|| rollout.clone());
        // On the heap only while it lasts: thousands wait.
        match Box::pin(without_samples(cx, &now)).await {
            Ok(Some(sampled)) => {
                tracing::debug!(rollout = %key, "decided before its samples are there");
                return (now, sampled);
            }
            Ok(None) => {}
            // Whoever decides when the samples are there runs into it as well.
            Err(error) => tracing::debug!(rollout = %key, "nothing is decided before its samples are there: {error}"),
        }
    }
}

/// What the rollout can be decided on now, if anything comes of that.
async fn without_samples(cx: &Context, rollout: &Arc<CanaryRollout>) -> Result<Option<Sampled>, Error> {
    let before = cx.unwritten.over(&ObjectRef::from_obj(&**rollout), rollout);
    let state = status::memory(before.status.as_ref()).map_err(Error::Memory)?;
    let (Some(since), Ok(parsed)) = (state.phase.samples_since(), parse(&rollout.spec)) else {
        return Ok(None);
    };
    if may_write(cx, rollout, &parsed).is_err() {
        return Ok(None);
    }
    let sampled = || Sampled::unanswered(since);
    let look = observe::observe(cx, rollout, &parsed, &state, (Reads::Kept, sampled())).await?;
    let comes_of_it = match look {
        Look::Seen(world) => {
            let decision = transition(&parsed.plan, &state, &world.observation, clock::now());
            decision.state.phase != state.phase || !decision.effects.is_empty()
        }
        // It is let go of.
        Look::Gone => true,
        // That is said when the samples are there.
        Look::Refused(_) => false,
    };
    Ok(comes_of_it.then(sampled))
}
