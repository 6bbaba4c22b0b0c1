//! The arms' Services of an adopted route stand from the first look on: the route names them in Git, and the share of a
//! missing Service fails. It decides nothing, and must not know the route.

use kube::ResourceExt as _;

use super::cluster::Reads;
use super::observe::route;
use super::{Context, Error, act, arms, fence};
use crate::api::CanaryRollout;

/// Makes the Services that are missing. What stands is left as it is: a trial's effects see to it.
pub(super) async fn stand_arms(cx: &Context, rollout: &CanaryRollout) -> Result<(), Error> {
    let (namespace, spec) = (rollout.namespace().unwrap_or_default(), &rollout.spec);
    let route = route(rollout, &namespace);
    let service = async |reads, name: &str| cx.cluster.services.get(reads, &namespace, name).await;
    let arms = async |reads| {
        tokio::try_join!(
            service(reads, &route.stable_service),
            service(reads, &route.canary_service)
        )
    };
    if let (Some(_), Some(_)) = arms(Reads::Kept).await? {
        return Ok(());
    }
    let deployment = async |name: &str| cx.cluster.deployments.get(Reads::Direct, &namespace, name).await;
    let ((stable, canary), apex, stable_deployment, canary_deployment) = tokio::try_join!(
        arms(Reads::Direct),
        service(Reads::Direct, &spec.service.name),
        deployment(&spec.stable.deployment),
        deployment(&spec.canary.deployment)
    )?;
    // What is missing is said by the look that follows.
    let (Some(apex), Some(of_stable), Some(of_canary)) = (apex, stable_deployment, canary_deployment) else {
        return Ok(());
    };
    let sets = cx.cluster.replica_sets_of(Reads::Direct, &of_canary).await?;
    let Some(revision) = arms::arm(&of_canary, &sets).revision else {
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
