//! The story of the lab's mesh: that what is written to the API server reaches the calls, and what was served reaches
//! Prometheus.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use lab::{Lab, binary, clock, kubelet::images::Image};
use serde_json::{Value, json};
use user_client::load::record::{Call, records};

use super::cluster::{arm_services, deploy_arm, namespace, ready_pods, route, routes};
use crate::story::{SOON, eventually};

const NAMESPACE: &str = "meshed";
/// How long new weights may take, on a machine that does much else. Linkerd takes tens of milliseconds.
const SHIFT: SignedDuration = SignedDuration::from_millis(500);

pub(super) async fn splits(lab: Arc<Lab>) -> anyhow::Result<()> {
    let client = namespace(&lab, NAMESPACE).await?;
    let told = story(&lab, &client).await;
    // Two hundred calls a second would take the machine from all who come after.
    let deployments: Api<Deployment> = Api::namespaced(client, NAMESPACE);
    deployments
        .delete_collection(&DeleteParams::default(), &ListParams::default())
        .await?;
    told
}

async fn story(lab: &Lab, client: &Client) -> anyhow::Result<()> {
    let port = json!({"port": 50051, "targetPort": "grpc"});
    arm_services(client, NAMESPACE, "users", &port).await?;
    let routes = routes(client, NAMESPACE, "GRPCRoute");
    let divided = route("GRPCRoute", NAMESPACE, ("users", 50051), [90, 10])?;
    routes.create(&PostParams::default(), &divided).await?;
    let work = tempfile::tempdir()?;
    let calls = work.path().join("calls");
    let service = Image::new(binary("user-service")?)
        .env("SHUTDOWN_DRAIN", "0s")
        .env("DATABASE_URL", "sqlite::memory:");
    lab.images
        .add("users:stable", service.clone().env("SERVICE_REVISION", "stable"));
    let canary = service.env("SERVICE_REVISION", "canary").env("FAULT_ERROR_RATE", "0.5");
    lab.images.add("users:canary", canary);
    let load = Image::new(binary("user-load")?).env("USER_LOAD_RECORD", calls.display().to_string());
    lab.images.add("load:1", lab.client(load));
    for arm in ["stable", "canary"] {
        deploy(client, arm, &format!("users:{arm}"), &json!([])).await?;
    }
    ready_pods(client, NAMESPACE, 2).await?;
    let arguments = json!([
        "--authority",
        format!("users.{NAMESPACE}.svc.cluster.local:50051"),
        "--rate",
        "200"
    ]);
    deploy(client, "load", "load:1", &arguments).await?;

    let seen = eventually("1,000 calls are recorded", SOON, || async {
        let calls = records(&calls)?;
        ensure!(calls.len() >= 1_000, "{} are", calls.len());
        Ok(calls)
    })
    .await?;
    let share = share_of(&seen, "canary");
    ensure!((60..=140).contains(&share), "of 1,000 calls the canary got {share}");

    let patch = json!([
        {"op": "replace", "path": "/spec/rules/0/backendRefs/0/weight", "value": 100},
        {"op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": 0},
    ]);
    let patch: Patch<DynamicObject> = Patch::Json(serde_json::from_value(patch)?);
    routes.patch("users", &PatchParams::default(), &patch).await?;
    let shifted = clock::now();
    let last = |calls: &[Call]| {
        calls
            .iter()
            .map(|call| call.start)
            .max()
            .unwrap_or(Timestamp::UNIX_EPOCH)
    };
    let all = eventually("calls go on", SOON, || async {
        let calls = records(&calls)?;
        ensure!(last(&calls) > shifted + SHIFT + SHIFT, "the last one is older");
        Ok(calls)
    })
    .await?;
    let strays = all
        .iter()
        .filter(|call| call.start > shifted + SHIFT && call.revision.as_deref() == Some("canary"));
    ensure!(strays.count() == 0, "the canary was called though its weight was 0");
    let latest = all
        .iter()
        .filter(|call| call.revision.as_deref() == Some("canary"))
        .map(|call| call.start)
        .max();
    if let Some(latest) = latest {
        println!(
            "the last call to the canary was due {} ms after the write",
            latest.duration_since(shifted).as_millis()
        );
    }

    let failures = all.iter().filter(|call| call.code == "UNAVAILABLE").count();
    eventually("Prometheus has both views of the canary's failures", Duration::from_secs(20), || async {
        let inbound = format!(
            "response_total{{namespace=\"{NAMESPACE}\",deployment=\"canary\",direction=\"inbound\",srv_port=\"50051\",\
             classification=\"failure\",grpc_status=\"14\"}}"
        );
        let outbound = format!(
            "outbound_grpc_route_backend_response_statuses_total{{namespace=\"{NAMESPACE}\",deployment=\"load\",\
             backend_name=\"users-canary\",grpc_status=\"UNAVAILABLE\"}}"
        );
        for query in [inbound, outbound] {
            let result = lab.prometheus.query(&query).await?;
            let value = result.first().and_then(|series| series.pointer("/value/1")?.as_str()).context("no series")?;
            ensure!(value == failures.to_string(), "{value} of {failures} at {query}");
        }
        Ok(())
    })
    .await
}

/// Of a thousand calls that were answered, how many by this revision.
fn share_of(calls: &[Call], revision: &str) -> usize {
    let answered = calls.iter().filter(|call| call.revision.is_some()).count();
    let theirs = calls
        .iter()
        .filter(|call| call.revision.as_deref() == Some(revision))
        .count();
    theirs * 1_000 / answered.max(1)
}

async fn deploy(client: &Client, arm: &str, image: &str, arguments: &Value) -> anyhow::Result<()> {
    let mut container = json!({"name": "main", "image": image, "args": arguments});
    if arm != "load"
        && let Some(container) = container.as_object_mut()
    {
        container.insert("ports".to_owned(), json!([{"name": "grpc", "containerPort": 50051}]));
        let probe = json!({"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1});
        container.insert("readinessProbe".to_owned(), probe);
    }
    deploy_arm(client, NAMESPACE, arm, &container).await
}
