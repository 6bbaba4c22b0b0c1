//! The arms' Services of an adopted route stand from the first look on: the route names them in Git, and the share of a
//! missing Service fails. It decides nothing, and must not know the route.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

use super::observe::route;
use super::{Context, Error, act, arms, call, fence};
use crate::api::CanaryRollout;

/// Makes the Services that are missing. What stands is left as it is: a trial's effects see to it.
pub(super) async fn stand_arms(cx: &Context, rollout: &CanaryRollout) -> Result<(), Error> {
    let (namespace, spec) = (rollout.namespace().unwrap_or_default(), &rollout.spec);
    let route = route(rollout, &namespace);
    let services: Api<Service> = Api::namespaced(cx.client.clone(), &namespace);
    let service = async |name: &str| {
        call(
            || format!("reading the Service {namespace}/{name}"),
            services.get_opt(name),
        )
        .await
    };
    let (stable, canary) = tokio::try_join!(service(&route.stable_service), service(&route.canary_service))?;
    if stable.is_some() && canary.is_some() {
        return Ok(());
    }
    let deployments: Api<Deployment> = Api::namespaced(cx.client.clone(), &namespace);
    let deployment = async |name: &str| {
        let doing = || format!("reading the Deployment {namespace}/{name}");
        call(doing, deployments.get_opt(name)).await
    };
    let (apex, stable_deployment, canary_deployment) = tokio::try_join!(
        service(&spec.service.name),
        deployment(&spec.stable.deployment),
        deployment(&spec.canary.deployment)
    )?;
    // What is missing is said by the look that follows.
    let (Some(apex), Some(of_stable), Some(of_canary)) = (apex, stable_deployment, canary_deployment) else {
        return Ok(());
    };
    let sets: Api<ReplicaSet> = Api::namespaced(cx.client.clone(), &namespace);
    let all = call(
        || format!("listing the ReplicaSets of {namespace}"),
        sets.list(&ListParams::default()),
    )
    .await?;
    let Some(revision) = arms::arm(&of_canary, &all.items).revision else {
        return Ok(());
    };
    let [of_stable, of_canary] = act::arm_services(&route, &apex, (&of_stable, &of_canary), &revision.hash)?;
    fence(cx)?;
    for (stands, service) in [(stable, of_stable), (canary, of_canary)] {
        if stands.is_none() {
            cx.traffic.ensure_service(&namespace, &service, &route.owner).await?;
        }
    }
    Ok(())
}
