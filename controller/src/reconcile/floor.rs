//! Stable's HorizontalPodAutoscaler, as it is seen and written. What its minimum is to be is the core's to say.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use serin_core::rollout::Autoscaler;

use super::{Context, Error, call};
use crate::api::FIELD_MANAGER;

/// As the core knows it.
pub(super) fn seen(autoscaler: &HorizontalPodAutoscaler) -> Autoscaler {
    Autoscaler {
        name: autoscaler.name_any(),
        minimum: autoscaler.spec.as_ref().and_then(|spec| spec.min_replicas).unwrap_or(1),
    }
}

/// Sets the minimum of what was seen: who has changed it since is read first.
pub(super) async fn set(cx: &Context, live: Option<&HorizontalPodAutoscaler>, minimum: i32) -> Result<(), Error> {
    let Some(live) = live else { return Ok(()) };
    let (namespace, name) = (live.namespace().unwrap_or_default(), live.name_any());
    let api: Api<HorizontalPodAutoscaler> = Api::namespaced(cx.client.clone(), &namespace);
    let patch = json!({
        "metadata": { "resourceVersion": live.resource_version() },
        "spec": { "minReplicas": minimum },
    });
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let doing = || format!("setting minReplicas of the HorizontalPodAutoscaler {namespace}/{name} to {minimum}");
    call(doing, api.patch(&name, &params, &Patch::Merge(patch))).await?;
    Ok(())
}
