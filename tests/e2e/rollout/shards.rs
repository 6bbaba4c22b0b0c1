//! Replicas of Serin that share the work: each has shards, and a shard is one's at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{Context as _, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use lab::{
    Lab,
    site::{Detours, Environment, Serin, Setup},
};
use serde_json::{Value, json};
use serin::{
    api::{CanaryRollout, CanaryRolloutStatus},
    reconcile::shard_of,
    runtime::shards::Count,
};

use super::{
    replicas::{TAKEOVER, pod_of},
    site::site,
    witness::{PROMOTION, ROLLBACK, commits},
};
use crate::story::{SOON, eventually};

const SHARDS: usize = 4;
/// Beside the rollout that has everything there are some that have a branch of their own and nothing else.
const BRANCHES: usize = 12;

pub(super) async fn share(lab: Arc<Lab>) -> anyhow::Result<()> {
    let site = site(&lab).await?;
    let setup = Setup {
        values: json!({}),
        own_serin: true,
    };
    let replicas = json!({ "replicas": 2, "shards": SHARDS });
    let environment = Environment::start_with(&site, "shards", setup, &replicas, Detours::default()).await?;
    let serin = environment.serin.as_ref().context("it has no Serin of its own")?;
    let held = spread(serin, SHARDS, 2).await?;

    // Each works on the rollouts of its own shards, and the other does not.
    for number in 0..BRANCHES {
        let branch = format!("branch-{number}");
        environment
            .rollouts()
            .create(&PostParams::default(), &on_branch(&environment, &branch).await?)
            .await?;
    }
    eventually("somebody has said of each that it has no Deployments", SOON, || async {
        for number in 0..BRANCHES {
            let rollout = environment.rollouts().get(&format!("on-branch-{number}")).await?;
            ensure!(
                rollout.status.is_some_and(|status| !status.conditions.is_empty()),
                "nothing of {number}"
            );
        }
        Ok(())
    })
    .await?;
    let worked = workers(&environment, serin, &held).await?;
    ensure!(worked.len() == 2, "one replica did all of the work: {worked:?}");

    // One is killed while a bad canary of its shard has traffic.
    environment.commit("1.2.0", None).await?;
    let begun = |s: &CanaryRolloutStatus| s.weight.is_some_and(|w| w.observed > 0);
    environment.until("traffic on the canary", ROLLBACK, begun).await?;
    let lease = lease_of(&environment.rollout().await?)?;
    let first = serin.holders().await?.remove(&lease).context("nobody has the shard")?;
    ensure!(
        lab.kubelet.kill_pod(&environment.namespace(), pod_of(&first)),
        "no pod {first}"
    );
    eventually("all of its shards have moved", TAKEOVER, || async {
        let holders = shards(serin).await?;
        ensure!(
            holders.len() == SHARDS && holders.values().all(|holder| *holder != first),
            "{holders:?}"
        );
        Ok(())
    })
    .await?;
    environment.until_phase("RolledBack", "1.2.0", ROLLBACK).await?;
    ensure!(
        commits(&environment, "rollback", "1.2.0").await? == 1,
        "not one rollback commit"
    );

    // Two more join while a good one is on trial, and each gets a shard.
    environment.commit("1.1.0", None).await?;
    environment.until("traffic on the canary", ROLLBACK, begun).await?;
    scale(&environment, serin, SHARDS).await?;
    spread(serin, SHARDS, SHARDS).await?;
    environment.until_phase("Promoted", "1.1.0", PROMOTION).await?;
    ensure!(
        commits(&environment, "promote", "1.1.0").await? == 1,
        "not one promotion commit"
    );

    // Those of another number work when nobody does who has the old one.
    recount(&environment, serin, "2").await?;
    eventually("two shards are held, by two of the new replicas", PROMOTION, || async {
        let holders = shards(serin).await?;
        let names: Vec<_> = holders.keys().map(String::as_str).collect();
        let distinct: BTreeSet<_> = holders.values().collect();
        ensure!(names == ["serin", "serin-1"] && distinct.len() == 2, "{holders:?}");
        Ok(())
    })
    .await?;
    ensure!(
        commits(&environment, "rollback", "1.2.0").await? == 1,
        "not one rollback commit"
    );
    ensure!(
        commits(&environment, "promote", "1.1.0").await? == 1,
        "not one promotion commit"
    );
    Ok(())
}

/// Who holds each shard's lease.
async fn shards(serin: &Serin) -> anyhow::Result<BTreeMap<String, String>> {
    serin.holders().await
}

/// Waits until so many shards are held by so many replicas, each of which has as many as the others or one more.
async fn spread(serin: &Serin, count: usize, replicas: usize) -> anyhow::Result<BTreeMap<String, String>> {
    eventually("shards are spread", PROMOTION, || async {
        let held = shards(serin).await?;
        let mut loads = BTreeMap::new();
        for holder in held.values() {
            *loads.entry(holder.clone()).or_insert(0_usize) += 1;
        }
        let (least, most) = (loads.values().min().copied(), loads.values().max().copied());
        let is_even = least.zip(most).is_some_and(|(least, most)| most - least <= 1);
        ensure!(held.len() == count && loads.len() == replicas && is_even, "{loads:?}");
        Ok(held)
    })
    .await
}

/// The name of the lease of a rollout's shard.
fn lease_of(rollout: &CanaryRollout) -> anyhow::Result<String> {
    let count: Count = SHARDS.to_string().parse()?;
    Ok(match shard_of(count, rollout).index() {
        0 => "serin".to_owned(),
        index => format!("serin-{index}"),
    })
}

/// A rollout of services that are not there.
async fn on_branch(environment: &Environment, branch: &str) -> anyhow::Result<CanaryRollout> {
    let like = environment.rollout().await?;
    let mut spec = serde_json::to_value(&like.spec)?;
    let fields = spec.as_object_mut().context("no fields")?;
    fields.insert("service".to_owned(), json!({ "name": branch, "port": 80 }));
    fields.insert("stable".to_owned(), json!({ "deployment": branch }));
    fields.insert("canary".to_owned(), json!({ "deployment": format!("{branch}-canary") }));
    fields.remove("argocd");
    *spec.pointer_mut("/git/branch").context("no branch")? = json!(branch);
    let metadata = json!({ "name": format!("on-{branch}"), "namespace": environment.namespace() });
    let object =
        json!({ "apiVersion": "serin.dev/v1alpha1", "kind": "CanaryRollout", "metadata": metadata, "spec": spec });
    Ok(serde_json::from_value(object)?)
}

/// The processes that wrote about rollouts; an error if one wrote about a rollout whose shard another one has.
async fn workers(
    environment: &Environment,
    serin: &Serin,
    held: &BTreeMap<String, String>,
) -> anyhow::Result<BTreeSet<String>> {
    ensure!(*held == shards(serin).await?, "shards moved meanwhile");
    let mut workers = BTreeSet::new();
    for write in environment.asked_by(&serin.account())? {
        let is_ours = write.name.starts_with("on-branch-") && write.resource.starts_with("canaryrollouts");
        if !write.is_write() || !is_ours {
            continue;
        }
        let rollout = environment.rollouts().get(&write.name).await?;
        let holder = held.get(&lease_of(&rollout)?).context("nobody has the shard")?;
        ensure!(
            write.agent.contains(holder.as_str()),
            "{holder} has the shard, and {write:?}"
        );
        workers.insert(write.agent);
    }
    Ok(workers)
}

fn deployments(environment: &Environment) -> Api<Deployment> {
    Api::namespaced(environment.client(), &environment.namespace())
}

async fn scale(environment: &Environment, serin: &Serin, replicas: usize) -> anyhow::Result<()> {
    let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
    let api = deployments(environment);
    api.patch(serin.release(), &PatchParams::default(), &patch).await?;
    Ok(())
}

/// As an upgrade with another number of shards.
async fn recount(environment: &Environment, serin: &Serin, count: &str) -> anyhow::Result<()> {
    let api = deployments(environment);
    let deployment = serde_json::to_value(api.get(serin.release()).await?)?;
    let path = "/spec/template/spec/containers/0/args";
    let args = deployment
        .pointer(path)
        .and_then(Value::as_array)
        .context("no arguments")?;
    let place = args
        .iter()
        .position(|arg| arg == "--shards")
        .context("no number of shards")?;
    let replace = json!([{ "op": "replace", "path": format!("{path}/{}", place + 1), "value": count }]);
    let patch: Patch<()> = Patch::Json(serde_json::from_value(replace)?);
    api.patch(serin.release(), &PatchParams::default(), &patch).await?;
    Ok(())
}
