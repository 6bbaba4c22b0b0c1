//! What the lab's own stories do with the cluster. It must not know any of them.

use std::{collections::BTreeMap, env, time::Duration};

use anyhow::ensure;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Pod, Service, ServiceAccount},
};
use kube::{
    Api, Client, Resource,
    api::{DynamicObject, ListParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use lab::{Lab, kubelet::images::Image};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    pod::ROLE,
    story::{SOON, eventually},
};

pub(super) async fn namespace(lab: &Lab, name: &str) -> anyhow::Result<Client> {
    let client = lab.control_plane.client();
    create(
        &Api::<Namespace>::all(client.clone()),
        json!({"metadata": {"name": name}}),
    )
    .await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), name);
    eventually("the namespace has its service account", SOON, || async {
        Ok(accounts.get("default").await?)
    })
    .await?;
    Ok(client)
}

pub(super) async fn create<K>(api: &Api<K>, object: Value) -> anyhow::Result<K>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + serde::Serialize,
{
    Ok(api
        .create(&PostParams::default(), &serde_json::from_value(object)?)
        .await?)
}

/// Puts this binary into the image store.
pub(super) fn image(lab: &Lab, reference: &str) -> anyhow::Result<String> {
    let image = Image::new(env::current_exe()?).env(ROLE, "web").env("BAKED", reference);
    lab.images.add(reference, image);
    Ok(reference.to_owned())
}

pub(super) async fn deploy(
    client: &Client,
    namespace: &str,
    image: &str,
    replicas: i32,
    probes: &Value,
) -> anyhow::Result<Api<Deployment>> {
    let mut container = json!({
        "name": "web",
        "image": image,
        "ports": [{"name": "http", "containerPort": 8080}],
        "env": [
            {"name": "FROM_FIELD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app.kubernetes.io/name']"}}},
            {"name": "FROM_SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "key", "optional": true}}},
            {"name": "EXPANDED", "value": "$(FROM_SECRET) on 8080"},
        ],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1, "failureThreshold": 1},
    });
    if let (Some(container), Some(probes)) = (container.as_object_mut(), probes.as_object()) {
        container.extend(probes.clone());
    }
    let labels = json!({"app.kubernetes.io/name": "web"});
    deploy_meshed(client, namespace, ("web", &labels), replicas, &container).await
}

/// Pods of one container, meshed.
async fn deploy_meshed(
    client: &Client,
    namespace: &str,
    (name, labels): (&str, &Value),
    replicas: i32,
    container: &Value,
) -> anyhow::Result<Api<Deployment>> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let object = json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": {"linkerd.io/inject": "enabled"}},
                "spec": {"containers": [container]},
            },
        },
    });
    create(&deployments, object).await?;
    Ok(deployments)
}

/// One meshed pod of an arm, or of a client.
pub(super) async fn deploy_arm(client: &Client, namespace: &str, arm: &str, container: &Value) -> anyhow::Result<()> {
    let labels = json!({"arm": arm});
    deploy_meshed(client, namespace, (arm, &labels), 1, container)
        .await
        .map(drop)
}

/// The apex Service, which selects stable's pods, and one for each arm.
pub(super) async fn arm_services(client: &Client, namespace: &str, name: &str, port: &Value) -> anyhow::Result<()> {
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    for (suffix, arm) in [("", "stable"), ("-stable", "stable"), ("-canary", "canary")] {
        let spec = json!({"selector": {"arm": arm}, "ports": [port]});
        create(
            &services,
            json!({"metadata": {"name": format!("{name}{suffix}")}, "spec": spec}),
        )
        .await?;
    }
    Ok(())
}

/// The Gateway API's routes of a kind.
pub(super) fn routes(client: &Client, namespace: &str, kind: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", kind);
    Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk(&kind))
}

/// A route that divides the calls of a Service between those of its arms.
pub(super) fn route(
    kind: &str,
    namespace: &str,
    (name, port): (&str, u16),
    [stable, canary]: [u32; 2],
) -> anyhow::Result<DynamicObject> {
    let backend = |arm: &str, weight: u32| json!({"group": "", "kind": "Service", "namespace": namespace, "name": format!("{name}-{arm}"), "port": port, "weight": weight});
    let object = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "parentRefs": [{"group": "core", "kind": "Service", "name": name, "port": port}],
            "rules": [{"backendRefs": [backend("stable", stable), backend("canary", canary)]}],
        },
    });
    Ok(serde_json::from_value(object)?)
}

pub(super) async fn list(client: &Client, namespace: &str) -> anyhow::Result<Vec<Pod>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    Ok(pods.list(&ListParams::default()).await?.items)
}

pub(super) async fn ready_pods(client: &Client, namespace: &str, count: usize) -> anyhow::Result<Vec<Pod>> {
    eventually("the pods are ready", SOON, || async {
        let mut pods = list(client, namespace).await?;
        pods.retain(is_ready);
        ensure!(pods.len() == count, "{} of {count} are", pods.len());
        Ok(pods)
    })
    .await
}

pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    conditions
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

pub(super) fn at(pod: &Pod, pointer: &str) -> Value {
    let value = serde_json::to_value(pod).unwrap_or_default();
    value.pointer(pointer).cloned().unwrap_or_default()
}

pub(super) fn ip(pod: &Pod) -> String {
    pod.status
        .as_ref()
        .and_then(|status| status.pod_ip.clone())
        .unwrap_or_default()
}

pub(super) async fn environment(pod: &Pod) -> anyhow::Result<BTreeMap<String, String>> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(2)).build()?;
    Ok(client
        .get(format!("http://{}:8080/env", ip(pod)))
        .send()
        .await?
        .json()
        .await?)
}
