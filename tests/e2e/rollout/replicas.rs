//! Two replicas of Serin: one leads, the other follows.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::DeleteParams};
use lab::{
    Lab,
    site::{Detours, Environment, Serin, Setup},
};
use serde_json::json;
use serin::api::CanaryRolloutStatus;

use super::{
    site::site,
    witness::{PROMOTION, ROLLBACK, commits, terms},
};
use crate::story::{SOON, eventually};

/// So long after a leader's death somebody else leads.
pub(super) const TAKEOVER: Duration = Duration::from_secs(15);
/// Much less than the lease lasts: a lease that was let go of is not waited for.
const AT_ONCE: Duration = Duration::from_secs(6);

pub(super) async fn follow(lab: Arc<Lab>) -> anyhow::Result<()> {
    let site = site(&lab).await?;
    let setup = Setup {
        values: json!({}),
        own_serin: true,
    };
    let replicas = json!({ "replicas": 2 });
    let environment = Environment::start_with(&site, "replicas", setup, &replicas, Detours::default()).await?;
    let serin = environment.serin.as_ref().context("it has no Serin of its own")?;
    // Who follows is as ready as who leads, or the Deployment would never be rolled out.
    eventually("both are ready", SOON, || async {
        let ready = serin.pods().await?.iter().filter(|pod| is_ready(pod)).count();
        ensure!(ready == 2, "{ready} of 2");
        Ok(())
    })
    .await?;

    // The leader sleeps while the revision turns out bad; the other one rolls it back.
    let first = serin.leader().await?.context("nobody leads")?;
    environment.commit("1.2.0", None).await?;
    let begun = |s: &CanaryRolloutStatus| s.weight.is_some_and(|w| w.observed > 0);
    environment.until("traffic on the canary", ROLLBACK, begun).await?;
    let (namespace, sleeper) = (environment.namespace(), pod_of(&first));
    ensure!(lab.kubelet.freeze_pod(&namespace, sleeper), "no pod {sleeper}");
    let second = another_leads(serin, &first, TAKEOVER).await?;
    environment.until_phase("RolledBack", "1.2.0", ROLLBACK).await?;
    ensure!(
        commits(&environment, "rollback", "1.2.0").await? == 1,
        "not one rollback commit"
    );

    // It wakes late, finds that its time is over, and ends; its next life follows.
    ensure!(lab.kubelet.thaw_pod(&namespace, sleeper), "no pod {sleeper}");
    eventually("who slept too long has ended", SOON, || async {
        let pods = serin.pods().await?;
        let pod = pods.iter().find(|pod| pod.metadata.name.as_deref() == Some(sleeper));
        let restarts = pod.and_then(restarts).context("no status")?;
        ensure!(restarts > 0, "it still runs");
        Ok(())
    })
    .await?;
    ensure!(serin.leader().await?.as_ref() == Some(&second), "the lease went back");

    // A leader that is stopped lets go of the lease; one that is killed does not.
    let pods: Api<Pod> = Api::namespaced(environment.client(), &namespace);
    pods.delete(pod_of(&second), &DeleteParams::default()).await?;
    let third = another_leads(serin, &second, AT_ONCE).await?;
    environment.commit("1.1.0", None).await?;
    environment.until("traffic on the canary", ROLLBACK, begun).await?;
    ensure!(lab.kubelet.kill_pod(&namespace, pod_of(&third)), "no pod {third}");
    another_leads(serin, &third, TAKEOVER).await?;
    environment.until_phase("Promoted", "1.1.0", PROMOTION).await?;
    ensure!(
        commits(&environment, "promote", "1.1.0").await? == 1,
        "not one promotion commit"
    );
    ensure!(
        commits(&environment, "rollback", "1.2.0").await? == 1,
        "not one rollback commit"
    );
    let terms = terms(&environment)?;
    ensure!(terms.len() == 4, "four processes led, one after the other: {terms:?}");
    Ok(())
}

async fn another_leads(serin: &Serin, than: &str, within: Duration) -> anyhow::Result<String> {
    eventually("another replica leads", within, || async {
        let leader = serin.leader().await?.context("nobody leads")?;
        ensure!(leader != than, "still {leader}");
        Ok(leader)
    })
    .await
}

/// An identity is the pod's name and what tells its lives apart.
pub(super) fn pod_of(identity: &str) -> &str {
    identity.rsplit_once('_').map_or(identity, |(pod, _)| pod)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

fn restarts(pod: &Pod) -> Option<i32> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.first().map(|status| status.restart_count)
}
