//! The story of pods in networks of their own, with a program beside each that takes their connections: all of `make test-linkerd` but
//! the proxy. It is told in another process, in a network that ends with it. It must not know what a real proxy does beyond that.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Service},
};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use lab::{Lab, Options, PROXY, kubelet::sidecar::PodInfo, process::Program, project_root};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::cluster::{arm_services, at, deploy_arm, image, ip, namespace, ready_pods, route, routes};
use crate::{
    pod::ROLE,
    story::{SOON, eventually},
};

const NAMESPACE: &str = "apart";
const LONGEST: Duration = Duration::from_mins(4);
/// Connections of one look at where they go.
const DIALS: usize = 20;

/// Tells the story in another network.
pub(super) async fn are_apart(_lab: Arc<Lab>) -> anyhow::Result<()> {
    let itself = env::current_exe()?;
    let work = tempfile::tempdir()?;
    let proxy = work.path().join("linkerd2-proxy");
    // The lab gives a proxy its environment and nothing else.
    fs::write(&proxy, format!("#!/bin/sh\n{ROLE}=proxy exec {}\n", itself.display()))?;
    fs::set_permissions(&proxy, fs::Permissions::from_mode(0o755))?;
    let setup = project_root().join("tests/lab/setup");
    let made = Program::new(setup.join("network.sh")).output(LONGEST).await?;
    made.text().context("what networks are made with")?;
    let told = Program::new(setup.join("apart.sh"))
        .arg(&itself)
        .env(ROLE, "networks")
        .env(PROXY, &proxy);
    told.output(LONGEST).await?.text().map(drop)
}

/// The story, where it can be told.
pub(crate) async fn tell() -> anyhow::Result<()> {
    let lab = Lab::start(Options::default()).await?;
    let told = story(&lab).await;
    lab.stop().await;
    told
}

async fn story(lab: &Lab) -> anyhow::Result<()> {
    let client = namespace(lab, NAMESPACE).await?;
    let port = json!({"port": 80, "targetPort": "http"});
    arm_services(&client, NAMESPACE, "web", &port).await?;
    let routes = routes(&client, NAMESPACE, "HTTPRoute");
    let divided = route("HTTPRoute", NAMESPACE, ("web", 80), [1, 0])?;
    routes.create(&PostParams::default(), &divided).await?;
    let image = image(lab, "apart:1")?;
    for arm in ["stable", "canary", "client"] {
        deploy(&client, arm, &image).await?;
    }
    // The kubelet's probes come in by the proxies, as in a cluster.
    let pods = ready_pods(&client, NAMESPACE, 3).await?;
    beside_each_pod_stands_a_proxy(&pods).await?;

    for (stable, canary, answers) in [(100, 0, "stable"), (1, 99_999, "canary"), (100, 0, "stable")] {
        let patch = json!([
            {"op": "replace", "path": "/spec/rules/0/backendRefs/0/weight", "value": stable},
            {"op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": canary},
        ]);
        let patch: Patch<DynamicObject> = Patch::Json(serde_json::from_value(patch)?);
        routes.patch("web", &PatchParams::default(), &patch).await?;
        eventually("the client's calls go where the weights say", SOON, || async {
            let answered = dial(lab).await?;
            ensure!(answered == [answers.to_owned()].into(), "{answered:?} answered");
            Ok(())
        })
        .await
        .with_context(|| format!("at {stable}:{canary}"))?;
    }
    a_story_can_call_as_the_client_does(lab, &client).await?;
    eventually("Prometheus sees the proxies", SOON, || async {
        let query =
            format!("stub_connections_total{{namespace=\"{NAMESPACE}\",deployment=\"client\",direction=\"outbound\"}}");
        let found = lab.prometheus.query(&query).await?;
        let count = found
            .first()
            .and_then(|series| series.pointer("/value/1")?.as_str()?.parse::<usize>().ok());
        ensure!(count.is_some_and(|count| count >= 3 * DIALS), "{count:?} connections");
        Ok(())
    })
    .await?;

    let canary: Vec<_> = lab
        .kubelet
        .pods()
        .into_iter()
        .filter(|pod| pod.deployment.as_deref() == Some("canary"))
        .collect();
    let network = canary
        .first()
        .and_then(|pod| pod.network.clone())
        .context("the canary has no network")?;
    ensure!(networks().await?.contains(&network), "there is no {network}");
    let deployments: Api<Deployment> = Api::namespaced(client, NAMESPACE);
    deployments.delete("canary", &DeleteParams::background()).await?;
    eventually("a pod's network goes with the pod", SOON, || async {
        ensure!(!networks().await?.contains(&network), "{network} is still there");
        Ok(())
    })
    .await
}

/// It knows the pod's name and what it is to be called, and has its certificate: without one it is never ready.
async fn beside_each_pod_stands_a_proxy(pods: &[Pod]) -> anyhow::Result<()> {
    for pod in pods {
        let (address, name) = (ip(pod), at(pod, "/metadata/name"));
        ensure!(address.starts_with("10."), "{name} has the address {address}");
        let shown = reqwest::get(format!("http://{address}:4191/env")).await?;
        let shown: BTreeMap<String, String> = shown.json().await?;
        let is = |variable: &str, value: &str| {
            let found = shown.get(variable).map(String::as_str);
            ensure!(found == Some(value), "{variable} of {name} is {found:?}");
            Ok(())
        };
        is("HOSTNAME", name.as_str().unwrap_or_default())?;
        is("LINKERD2_PROXY_INBOUND_IPS", &address)?;
        is(
            "LINKERD2_PROXY_IDENTITY_LOCAL_NAME",
            "default.apart.serviceaccount.identity.linkerd.cluster.local",
        )?;
        let metrics = reqwest::get(format!("http://{address}:4191/metrics"))
            .await?
            .text()
            .await?;
        let probed = metrics
            .lines()
            .any(|line| line.contains("inbound") && !line.ends_with(" 0"));
        ensure!(probed, "{name} was probed past its proxy: {metrics}");
    }
    Ok(())
}

/// By its proxy, from this very process: what stories do that call themselves.
async fn a_story_can_call_as_the_client_does(lab: &Lab, client: &Client) -> anyhow::Result<()> {
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    let apex = services.get("web").await?.spec.and_then(|spec| spec.cluster_ip);
    let apex = SocketAddr::new(apex.context("web has no address")?.parse()?, 80);
    let pod = client_pod(lab)?.ip;
    let mut connection = lab.mesh.connect(pod, apex).await?;
    let request = b"GET /env HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n";
    connection.write_all(request).await?;
    let mut answer = String::new();
    timeout(SOON, connection.read_to_string(&mut answer)).await??;
    ensure!(answer.contains("\"HOSTNAME\":\"stable-"), "the answer was {answer}");
    Ok(())
}

fn client_pod(lab: &Lab) -> anyhow::Result<PodInfo> {
    let mut pods = lab.kubelet.pods().into_iter();
    pods.find(|pod| pod.deployment.as_deref() == Some("client"))
        .context("there is no client")
}

/// Who answers when the client's pod calls the Service by its name, a connection each.
async fn dial(lab: &Lab) -> anyhow::Result<BTreeSet<String>> {
    let dialled = Program::new(env::current_exe()?)
        .in_network(client_pod(lab)?.network)
        .env(ROLE, "dial")
        .env("TARGET", format!("http://web.{NAMESPACE}.svc.cluster.local/env"))
        .env("DIALS", DIALS.to_string())
        .output(SOON)
        .await?
        .text()?;
    // Names of pods begin with that of their Deployment.
    let arm = |line: &str| line.split('-').next().unwrap_or_default().to_owned();
    Ok(dialled.lines().map(arm).collect())
}

/// Prints the name of the pod that answers, again and again.
pub(crate) async fn dial_from_within() -> anyhow::Result<()> {
    lab::install_crypto();
    let (target, dials) = (env::var("TARGET")?, env::var("DIALS")?.parse::<usize>()?);
    for _ in 0..dials {
        // A client of its own has a connection of its own.
        let client = reqwest::Client::builder().no_proxy().timeout(SOON).build()?;
        let shown: BTreeMap<String, String> = client.get(&target).send().await?.json().await?;
        println!("{}", shown.get("HOSTNAME").context("no name")?);
    }
    Ok(())
}

async fn networks() -> anyhow::Result<String> {
    Program::new("ip").args(["netns", "list"]).output(SOON).await?.text()
}

async fn deploy(client: &Client, arm: &str, image: &str) -> anyhow::Result<()> {
    let container: Value = json!({
        "name": "web", "image": image,
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1},
    });
    deploy_arm(client, NAMESPACE, arm, &container).await
}
