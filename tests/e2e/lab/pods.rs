//! Stories of pods: that the lab's kubelet does what a kubelet does.

use std::{fs, sync::Arc};

use anyhow::{Context as _, ensure};
use k8s_openapi::api::{batch::v1::Job, core::v1::Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams},
};
use lab::Lab;
use serde_json::json;

use super::cluster::{at, create, deploy, environment, image, ip, is_ready, list, namespace, ready_pods};
use crate::story::{SOON, eventually};

pub(super) async fn rolls_over(lab: Arc<Lab>) -> anyhow::Result<()> {
    let client = namespace(&lab, "rolls-over").await?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "rolls-over");
    create(
        &secrets,
        json!({"metadata": {"name": "s"}, "stringData": {"key": "secret"}}),
    )
    .await?;
    let (one, two) = (image(&lab, "rolls-over:1")?, image(&lab, "rolls-over:2")?);
    let web = deploy(&client, "rolls-over", &one, 2, &json!({})).await?;
    let before = ready_pods(&client, "rolls-over", 2).await?;
    let shown = environment(before.first().context("no pod")?).await?;
    let expected = [
        ("FROM_FIELD", "web"),
        ("FROM_SECRET", "secret"),
        ("EXPANDED", "secret on 8080"),
        ("BAKED", "rolls-over:1"),
    ];
    for (name, value) in expected {
        ensure!(
            shown.get(name).map(String::as_str) == Some(value),
            "{name} is {:?}",
            shown.get(name)
        );
    }

    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": two}]}}}});
    web.patch("web", &PatchParams::default(), &Patch::Strategic(&patch))
        .await?;
    let after = eventually("both pods run the second image", SOON, || async {
        let pods = ready_pods(&client, "rolls-over", 2).await?;
        let baked = environment(pods.first().context("no pod")?).await?.remove("BAKED");
        ensure!(baked.as_deref() == Some("rolls-over:2"), "one runs {baked:?}");
        ensure!(list(&client, "rolls-over").await?.len() == 2, "the old pods are there");
        Ok(pods)
    })
    .await?;
    for pod in &before {
        ensure!(environment(pod).await.is_err(), "{} still answers", ip(pod));
    }

    web.delete("web", &DeleteParams::background()).await?;
    eventually("the pods are gone", SOON, || async {
        ensure!(list(&client, "rolls-over").await?.is_empty(), "some are there");
        Ok(())
    })
    .await?;
    for pod in &after {
        ensure!(environment(pod).await.is_err(), "{} still answers", ip(pod));
    }
    Ok(())
}

pub(super) async fn waits_for_its_image(lab: Arc<Lab>) -> anyhow::Result<()> {
    let client = namespace(&lab, "late-image").await?;
    deploy(&client, "late-image", "late-image:1", 1, &json!({})).await?;
    eventually("the container waits for its image", SOON, || async {
        let pods = list(&client, "late-image").await?;
        let reason = at(
            pods.first().context("no pod")?,
            "/status/containerStatuses/0/state/waiting/reason",
        );
        ensure!(reason == "ImagePullBackOff", "it says {reason}");
        Ok(())
    })
    .await?;
    image(&lab, "late-image:1")?;
    ready_pods(&client, "late-image", 1).await?;
    Ok(())
}

pub(super) async fn is_restarted(lab: Arc<Lab>) -> anyhow::Result<()> {
    let client = namespace(&lab, "restarts").await?;
    deploy(&client, "restarts", &image(&lab, "restarts:1")?, 1, &json!({})).await?;
    let pods = ready_pods(&client, "restarts", 1).await?;
    let name = pods
        .first()
        .and_then(|pod| pod.metadata.name.clone())
        .context("no pod")?;
    ensure!(
        lab.kubelet.kill_pod("restarts", &name),
        "the kubelet does not know {name}"
    );
    restarted(&client, "restarts").await
}

pub(super) async fn obeys_probes(lab: Arc<Lab>) -> anyhow::Result<()> {
    let client = namespace(&lab, "probes").await?;
    let probe =
        |path: &str| json!({"httpGet": {"path": path, "port": "http"}, "periodSeconds": 1, "failureThreshold": 1});
    let probes = json!({"livenessProbe": probe("/health"), "startupProbe": {"exec": {"command": ["true"]}}});
    deploy(&client, "probes", &image(&lab, "probes:1")?, 1, &probes).await?;
    let pods = ready_pods(&client, "probes", 1).await?;
    let name = pods
        .first()
        .and_then(|pod| pod.metadata.name.clone())
        .context("no pod")?;
    let folder = lab.dir().join("pods").join(format!("probes_{name}"));

    fs::write(folder.join("unready"), "")?;
    eventually("the pod is not ready", SOON, || async {
        ensure!(
            !is_ready(list(&client, "probes").await?.first().context("no pod")?),
            "it is"
        );
        Ok(())
    })
    .await?;
    fs::remove_file(folder.join("unready"))?;
    let ready = ready_pods(&client, "probes", 1).await?;
    ensure!(
        at(
            ready.first().context("no pod")?,
            "/status/containerStatuses/0/restartCount"
        ) == 0,
        "it was restarted"
    );

    fs::write(folder.join("sick"), "")?;
    eventually("the container ended", SOON, || async {
        let pods = list(&client, "probes").await?;
        ensure!(
            at(
                pods.first().context("no pod")?,
                "/status/containerStatuses/0/restartCount"
            ) != 0,
            "not restarted"
        );
        Ok(())
    })
    .await?;
    fs::remove_file(folder.join("sick"))?;
    restarted(&client, "probes").await
}

pub(super) async fn asks_every_way(lab: Arc<Lab>) -> anyhow::Result<()> {
    let client = namespace(&lab, "every-way").await?;
    let file = json!({"exec": {"command": ["sh", "-c", "test -n \"$BIND_ADDRESS\""]}, "periodSeconds": 1});
    let probes = json!({
        "startupProbe": file,
        "livenessProbe": {"tcpSocket": {"port": 50051}, "periodSeconds": 1},
        "readinessProbe": {"grpc": {"port": 50051, "service": "selftest"}, "periodSeconds": 1, "failureThreshold": 1},
    });
    deploy(&client, "every-way", &image(&lab, "every-way:1")?, 1, &probes).await?;
    let pods = ready_pods(&client, "every-way", 1).await?;
    let name = pods
        .first()
        .and_then(|pod| pod.metadata.name.clone())
        .context("no pod")?;
    fs::write(
        lab.dir().join("pods").join(format!("every-way_{name}")).join("unready"),
        "",
    )?;
    eventually("the pod is not ready", SOON, || async {
        ensure!(
            !is_ready(list(&client, "every-way").await?.first().context("no pod")?),
            "it is"
        );
        Ok(())
    })
    .await
}

pub(super) async fn ends(lab: Arc<Lab>) -> anyhow::Result<()> {
    let client = namespace(&lab, "job").await?;
    image(&lab, "job:1")?;
    let jobs: Api<Job> = Api::namespaced(client, "job");
    let container = json!({"name": "hook", "image": "job:1", "command": ["sh", "-c", "exit $(CODE)"], "env": [
        {"name": "CODE", "value": "0"},
    ]});
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [container]}});
    create(
        &jobs,
        json!({"metadata": {"name": "hook"}, "spec": {"template": template}}),
    )
    .await?;
    eventually("the job has succeeded", SOON, || async {
        let status = jobs.get("hook").await?.status.unwrap_or_default();
        ensure!(
            status.succeeded == Some(1) && status.completion_time.is_some(),
            "{status:?}"
        );
        Ok(())
    })
    .await
}

async fn restarted(client: &Client, namespace: &str) -> anyhow::Result<()> {
    eventually("the pod is ready again after a restart", SOON, || async {
        let pods = list(client, namespace).await?;
        let pod = pods.first().context("no pod")?;
        let count = at(pod, "/status/containerStatuses/0/restartCount");
        ensure!(count.as_i64() >= Some(1) && is_ready(pod), "restarts: {count}");
        ensure!(
            !at(pod, "/status/containerStatuses/0/lastState/terminated/exitCode").is_null(),
            "no last state"
        );
        environment(pod).await.map(drop)
    })
    .await
}
