//! What is written to a rollout itself: its status and its finalizer. It must not know why.

use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::SemaphorePermit;

use super::{API_TIMEOUT, Context, Error, call};
use crate::api::{CanaryRollout, CanaryRolloutStatus, FIELD_MANAGER, FINALIZER};

/// One who yields goes on for so long with statuses that wait.
const YIELDING: Duration = Duration::from_secs(3);

/// Whether a status is worth a write: times and estimates alone are not.
pub(super) fn differs(before: &CanaryRolloutStatus, after: &CanaryRolloutStatus) -> bool {
    let mut before = before.clone();
    before.next = after.next;
    before.latency.clone_from(&after.latency);
    before != *after
}

/// Waits until a status, and the events that come with it, can be on their way soon.
///
/// # Errors
/// When this process is to lead no more before: whoever leads next sees what was done.
pub(super) async fn room(cx: &Context) -> Result<Option<SemaphorePermit<'_>>, Error> {
    let mut leadership = cx.leadership.clone();
    let yields = async {
        leadership.yielding().await;
        tokio::time::sleep(YIELDING).await;
    };
    tokio::select! {
        room = cx.order.room_for_status() => Ok(room),
        () = yields => Err(Error::NotLeading),
    }
}

/// Writes the status that this rollout has, over the version that it has. There is to be [`room`] for it.
pub(super) async fn write_status(cx: &Context, api: &Api<CanaryRollout>, rollout: &CanaryRollout) -> Result<(), Error> {
    fence(cx)?;
    let name = rollout.name_any();
    // Whole, as a merge would mix the memory of two phases; and a rollout that anybody has written since is a conflict.
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let answer = call(
        || format!("writing the status of {name}"),
        api.replace_status(&name, &params, rollout),
    )
    .await?;
    cx.rollouts.put(answer);
    Ok(())
}

pub(super) async fn hold(cx: &Context, api: &Api<CanaryRollout>, rollout: &CanaryRollout) -> Result<(), Error> {
    let mut finalizers = rollout.finalizers().to_vec();
    finalizers.push(FINALIZER.to_owned());
    write_finalizers(cx, api, rollout, &finalizers).await
}

pub(super) async fn release(cx: &Context, api: &Api<CanaryRollout>, rollout: &CanaryRollout) -> Result<(), Error> {
    let finalizers: Vec<_> = rollout
        .finalizers()
        .iter()
        .filter(|f| *f != FINALIZER)
        .cloned()
        .collect();
    write_finalizers(cx, api, rollout, &finalizers).await
}

async fn write_finalizers(
    cx: &Context,
    api: &Api<CanaryRollout>,
    rollout: &CanaryRollout,
    finalizers: &[String],
) -> Result<(), Error> {
    fence(cx)?;
    let name = rollout.name_any();
    let version = &rollout.metadata.resource_version;
    let patch = json!({ "metadata": { "resourceVersion": version, "finalizers": finalizers } });
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let answer = call(
        || format!("writing the finalizers of {name}"),
        api.patch(&name, &params, &Patch::Merge(patch)),
    )
    .await?;
    cx.rollouts.put(answer);
    Ok(())
}

/// Nothing is written when the lease may end before the write does.
pub(super) fn fence(cx: &Context) -> Result<(), Error> {
    if cx.leadership.holds_for(API_TIMEOUT) {
        Ok(())
    } else {
        Err(Error::NotLeading)
    }
}
