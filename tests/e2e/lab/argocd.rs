//! Stories of the stand-in for Argo CD, with the very manifests of argocd/ and the very chart. They must not know the
//! controller.

mod place;
pub(super) mod windows;

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use lab::{Lab, argocd::REFRESH, git_server::Outage};
use serde_json::{Value, json};

use self::place::{Place, at};
use super::cluster::create;
use crate::story::{SOON, eventually};

/// Git is not looked at in a story's time, unless somebody asks.
const NEVER: Duration = Duration::from_hours(1);
/// From the question to the cluster, on a machine that does much else.
const QUICK: Duration = Duration::from_secs(10);

pub(super) async fn applies(lab: Arc<Lab>) -> anyhow::Result<()> {
    let place = Place::new(&lab, "applied", NEVER).await?;
    let first = place.repository.head("main").await?;
    let status = place.synced_at(&first, SOON).await?;
    ensure!(at(&status, "/operationState/phase") == "Succeeded", "{status}");
    ensure!(
        *at(&status, "/operationState/syncResult/revision") == json!(first),
        "{status}"
    );
    let resources = at(&status, "/resources").as_array().context("no resources")?;
    let rollout = json!({"group": "serin.dev", "version": "v1alpha1", "kind": "CanaryRollout",
        "namespace": "user-service-applied", "name": "user-service", "status": "Synced"});
    let has = |resource: &Value| {
        let fields = rollout.as_object();
        fields.is_some_and(|fields| fields.iter().all(|(key, value)| resource.get(key) == Some(value)))
    };
    ensure!(resources.iter().any(has), "the rollout is not in {resources:?}");
    let canary = place.deployments().get("user-service-canary").await?;
    let tracking = canary.metadata.annotations.unwrap_or_default();
    ensure!(
        tracking.get(lab::argocd::TRACKING).map(String::as_str)
            == Some("user-service-applied:apps/Deployment:user-service-applied/user-service-canary"),
        "{tracking:?}"
    );

    let text = place.values().await?;
    let (stable, canary) = text.split_once("\ncanary:").context("the values have no canary")?;
    let second = place
        .commit(&format!("{stable}\ncanary:{}", canary.replace("1.0.0", "1.1.0")))
        .await?;
    place.refresh().await?;
    eventually("the commit is in the cluster", QUICK, || async {
        ensure!(place.revision("user-service-canary").await? == "1.1.0", "it is not");
        Ok(())
    })
    .await?;
    let status = place.synced_at(&second, QUICK).await?;
    ensure!(
        place.revision("user-service").await? == "1.0.0",
        "stable has changed too"
    );
    let commits: Vec<_> = at(&status, "/history")
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| at(entry, "/revision"))
        .collect();
    ensure!(commits == [&json!(first), &json!(second)], "{commits:?}");
    ensure!(
        *at(&status, "/operationState/syncResult/revision") == json!(second),
        "{status}"
    );
    let annotations = place.application().await?.metadata.annotations.unwrap_or_default();
    ensure!(!annotations.contains_key(REFRESH), "the question is still there");

    place.argocd.pause().await;
    let third = place.commit(&text).await?;
    place.refresh().await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    ensure!(
        place.revision("user-service-canary").await? == "1.1.0",
        "it was not paused"
    );
    place.argocd.resume();
    place.synced_at(&third, QUICK).await?;
    place.end().await
}

pub(super) async fn heals(lab: Arc<Lab>) -> anyhow::Result<()> {
    let place = Place::new(&lab, "healed", NEVER).await?;
    let first = place.repository.head("main").await?;
    place.synced_at(&first, SOON).await?;
    let how = PatchParams {
        field_manager: Some("somebody".to_owned()),
        ..PatchParams::default()
    };
    let scale = async |name: &str, replicas: i32| {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        place.deployments().patch(name, &how, &patch).await
    };
    scale("user-service-canary", 2).await?;
    scale("user-service", 5).await?;
    let services: Api<Service> = Api::namespaced(place.client.clone(), "user-service-healed");
    let selector = Patch::Merge(json!({"spec": {"selector": {"serin.dev/track": "canary"}}}));
    services.patch("user-service", &how, &selector).await?;

    let replicas = async |name: &str| {
        let spec = place.deployments().get(name).await?.spec;
        anyhow::Ok(spec.and_then(|spec| spec.replicas).unwrap_or_default())
    };
    eventually("the drift is healed", QUICK, || async {
        let selector = services
            .get("user-service")
            .await?
            .spec
            .and_then(|spec| spec.selector)
            .unwrap_or_default();
        ensure!(
            selector.get("serin.dev/track").is_some_and(|track| track == "stable"),
            "{selector:?}"
        );
        let stable = replicas("user-service").await?;
        ensure!(stable == 1, "stable has {stable} replicas");
        Ok(())
    })
    .await?;
    ensure!(
        replicas("user-service-canary").await? == 2,
        "the canary's replicas were taken for drift"
    );

    let text = place.values().await?;
    let second = place.commit(&text.replace("1.0.0", "1.1.0")).await?;
    place.refresh().await?;
    place.synced_at(&second, QUICK).await?;
    ensure!(
        place.revision("user-service-canary").await? == "1.1.0",
        "the commit is not there"
    );
    ensure!(
        replicas("user-service-canary").await? == 2,
        "a sync changed the canary's replicas"
    );
    let canary = place.deployments().get("user-service-canary").await?;
    let owner = canary
        .metadata
        .managed_fields
        .unwrap_or_default()
        .into_iter()
        .find(|entry| {
            let fields = entry
                .fields_v1
                .as_ref()
                .and_then(|fields| fields.0.pointer("/f:spec/f:replicas"));
            fields.is_some()
        });
    let owner = owner.and_then(|owner| owner.manager);
    ensure!(owner.as_deref() == Some("somebody"), "the replicas belong to {owner:?}");
    place.end().await
}

pub(super) async fn prunes(lab: Arc<Lab>) -> anyhow::Result<()> {
    let place = Place::new(&lab, "pruned", NEVER).await?;
    let first = place.repository.head("main").await?;
    place.synced_at(&first, SOON).await?;
    let own: Api<ConfigMap> = Api::namespaced(place.client.clone(), "user-service-pruned");
    create(&own, json!({"metadata": {"name": "somebodys"}})).await?;

    let text = place.values().await?;
    let with = place.commit(&format!("{text}\nload: {{enabled: true}}\n")).await?;
    place.refresh().await?;
    place.synced_at(&with, QUICK).await?;
    place.deployments().get("user-load").await?;

    let without = place.commit(&text).await?;
    place.refresh().await?;
    eventually("what is not in Git any more is gone", QUICK, || async {
        ensure!(place.deployments().get_opt("user-load").await?.is_none(), "it is there");
        Ok(())
    })
    .await?;
    let status = place.synced_at(&without, QUICK).await?;
    ensure!(!at(&status, "/resources").to_string().contains("user-load"), "{status}");
    own.get("somebodys").await?;
    place.end().await
}

pub(super) async fn recovers(lab: Arc<Lab>) -> anyhow::Result<()> {
    let place = Place::new(&lab, "broken", NEVER).await?;
    let first = place.repository.head("main").await?;
    place.synced_at(&first, SOON).await?;
    let text = place.values().await?;
    place.commit(&text.replace("replicas: 1", "replicas: none")).await?;
    place.refresh().await?;
    place.complains("Failed to load target state", "replicas").await?;
    ensure!(
        place.revision("user-service-canary").await? == "1.0.0",
        "the cluster has changed"
    );
    let good = place.commit(&text.replace("1.0.0", "1.1.0")).await?;
    // Without being asked again: a failure is tried again with the newest commit.
    place.synced_at(&good, SOON).await?;
    ensure!(
        place.revision("user-service-canary").await? == "1.1.0",
        "the commit is not there"
    );

    place.git.set_outage(Outage::Unavailable);
    place.refresh().await?;
    place.complains("fetching", "503").await?;
    place.git.set_outage(Outage::None);
    place.synced_at(&good, SOON).await?;
    place.end().await
}

pub(super) async fn makes_environments(lab: Arc<Lab>) -> anyhow::Result<()> {
    let place = Place::new(&lab, "fleet", NEVER).await?;
    place.install.apply(&place.client).await?;
    let head = place.repository.head("main").await?;
    let applications = async || {
        let all = place.applications.list(&ListParams::default()).await?.items;
        let synced = |status: &Value| {
            *at(status, "/sync/revision") == json!(head) && at(status, "/operationState/phase") == "Succeeded"
        };
        let one = |application: kube::api::DynamicObject| {
            let is_synced = application.data.get("status").is_some_and(synced);
            (application.metadata.name.unwrap_or_default(), is_synced)
        };
        anyhow::Ok(all.into_iter().map(one).collect::<Vec<_>>())
    };
    let become_these = async |names: &[&str]| {
        let wanted: Vec<_> = names
            .iter()
            .map(|name| (format!("user-service-{name}"), true))
            .collect();
        eventually("the Applications are these", SOON, || async {
            let all = applications().await?;
            ensure!(all == wanted, "{all:?}, wanted {wanted:?}");
            Ok(())
        })
        .await
    };
    become_these(&["dev", "fleet", "prod", "staging"]).await?;
    let namespaces: Api<Namespace> = Api::all(place.client.clone());
    for (environment, enforced) in [("dev", None), ("staging", None), ("prod", Some("restricted"))] {
        let namespace = namespaces.get(&format!("user-service-{environment}")).await?;
        let labels = namespace.metadata.labels.unwrap_or_default();
        let label = labels.get("pod-security.kubernetes.io/enforce").map(String::as_str);
        ensure!(label == enforced, "{environment} takes pods that are {label:?}");
    }
    let sets = place.sets();
    let element = json!({"env": "prod", "repository": place.install.repository, "branch": "main"});
    let patch = json!({"spec": {"generators": [{"list": {"elements": [element]}}]}});
    sets.patch("user-service", &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    become_these(&["fleet", "prod"]).await?;
    sets.delete("user-service", &DeleteParams::background()).await?;
    become_these(&["fleet"]).await?;
    place.end().await
}
