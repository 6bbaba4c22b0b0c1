//! Creates what stands in the cluster, many at once, through the API server: this is set-up, and no part of what is measured.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::StreamExt as _;
use futures::stream;
use http::Request;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use lab::clock::now;
use serde_json::{Value, json};

use crate::memory;
use crate::objects::{self, Arm, IN_NAMESPACE, Rollout, WRITER};
use crate::repositories::Repositories;

/// So many rollouts at once.
const AT_ONCE: usize = 48;

const CORE: &str = "/api/v1";
pub(crate) const APPS: &str = "/apis/apps/v1";
pub(crate) const ROUTES: &str = "/apis/gateway.networking.k8s.io/v1";
pub(crate) const SERIN: &str = "/apis/serin.dev/v1alpha1";

/// Creates `count` rollouts, and says how long that took.
pub(crate) async fn fill(client: &Client, count: usize, repositories: &Arc<Repositories>) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let namespaces = stream::iter(0..count.div_ceil(IN_NAMESPACE)).map(async |number| {
        let namespace =
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": objects::namespace(number) } });
        post(client, &format!("{CORE}/namespaces"), &namespace).await
    });
    collect(
        namespaces.buffer_unordered(AT_ONCE),
        "namespaces",
        count.div_ceil(IN_NAMESPACE),
    )
    .await?;
    let all = stream::iter((0..count).map(Rollout)).map(|of| one(client, of, repositories.clone()));
    collect(all.buffer_unordered(AT_ONCE), "rollouts", count).await?;
    Ok(began.elapsed())
}

async fn collect<T>(
    mut all: impl futures::Stream<Item = anyhow::Result<T>> + Unpin,
    what: &str,
    count: usize,
) -> anyhow::Result<()> {
    let mut done = 0;
    while let Some(one) = all.next().await {
        one?;
        done += 1;
        if done % 1_000 == 0 {
            eprintln!("scale: {done} of {count} {what} created");
        }
    }
    Ok(())
}

async fn one(client: &Client, of: Rollout, repositories: Arc<Repositories>) -> anyhow::Result<()> {
    let namespace = of.namespace();
    let at = |group: &str, plural: &str| format!("{group}/namespaces/{namespace}/{plural}");
    post(client, &at(CORE, "services"), &objects::apex(of)).await?;
    for arm in [Arm::Stable, Arm::Canary] {
        let deployments = at(APPS, "deployments");
        let deployment = post(client, &deployments, &objects::deployment(of, arm)).await?;
        let uid = deployment
            .pointer("/metadata/uid")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let name = of.deployment(arm);
        patch(
            client,
            &format!("{deployments}/{name}/status"),
            &objects::deployment_status(of, arm),
        )
        .await?;
        let sets = at(APPS, "replicasets");
        post(client, &sets, &objects::replica_set(of, arm, uid)).await?;
        if of.is_progressing() {
            let set = format!("{sets}/{name}-{}", of.hash(arm));
            patch(client, &format!("{set}/status"), &objects::replica_set_status(of, arm)).await?;
        }
    }
    let repository = repositories.url(of);
    let rollout = post(client, &at(SERIN, "canaryrollouts"), &objects::rollout(of, &repository)).await?;
    let owner = OwnerReference {
        api_version: "serin.dev/v1alpha1".to_owned(),
        kind: "CanaryRollout".to_owned(),
        name: of.name(),
        uid: rollout
            .pointer("/metadata/uid")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    for arm in [Arm::Stable, Arm::Canary] {
        post(client, &at(CORE, "services"), &objects::arm_service(of, arm, &owner)).await?;
    }
    let mine = format!("?fieldManager={WRITER}");
    post(
        client,
        &format!("{}{mine}", at(ROUTES, "grpcroutes")),
        &objects::route(of, &owner)?,
    )
    .await?;
    if !of.is_progressing() {
        begin(client, of, &repositories).await?;
    }
    Ok(())
}

/// Lets all begin that are to progress: the last thing before Serin starts, so that it has little to catch up with.
pub(crate) async fn begin_all(client: &Client, count: usize, repositories: &Arc<Repositories>) -> anyhow::Result<()> {
    let progressing = (0..count).map(Rollout).filter(|of| of.is_progressing());
    let all = stream::iter(progressing).map(|of| begin(client, of, repositories));
    collect(Box::pin(all.buffer_unordered(AT_ONCE)), "trials", count).await
}

async fn begin(client: &Client, of: Rollout, repositories: &Repositories) -> anyhow::Result<()> {
    let repository = repositories.url(of);
    let status = memory::status(of, &repository, repositories.commit(of), now())?;
    let at = format!(
        "{SERIN}/namespaces/{}/canaryrollouts/{}/status?fieldManager={WRITER}",
        of.namespace(),
        of.name()
    );
    patch(client, &at, &status).await?;
    Ok(())
}

pub(crate) async fn get(client: &Client, path: &str) -> anyhow::Result<Value> {
    let request = Request::get(path).body(Vec::new())?;
    client.request(request).await.with_context(|| format!("GET {path}"))
}

pub(crate) async fn post(client: &Client, path: &str, object: &Value) -> anyhow::Result<Value> {
    send(client, "POST", "application/json", path, object).await
}

pub(crate) async fn patch(client: &Client, path: &str, object: &Value) -> anyhow::Result<Value> {
    send(client, "PATCH", "application/merge-patch+json", path, object).await
}

/// By operations that say what stands where.
pub(crate) async fn replace(client: &Client, path: &str, operations: &Value) -> anyhow::Result<Value> {
    send(client, "PATCH", "application/json-patch+json", path, operations).await
}

async fn send(client: &Client, method: &str, kind: &str, path: &str, object: &Value) -> anyhow::Result<Value> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", kind)
        .body(serde_json::to_vec(object)?)?;
    client
        .request(request)
        .await
        .with_context(|| format!("{method} {path}"))
}
