//! Where a command's rollout comes from: the cluster, or a manifest. Must not know what the command is about to do with it.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, anyhow, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client};
use serde_json::Value;

use crate::api::{CanaryRollout, Parsed, parse};
use crate::traffic;

/// A rollout of the cluster.
pub(super) struct InCluster {
    pub(super) rollout: CanaryRollout,
    pub(super) namespace: String,
    pub(super) api: Api<CanaryRollout>,
}

/// Reads a rollout of this namespace, or of the kubeconfig's own.
pub(super) async fn in_cluster(client: Client, name: &str, namespace: Option<&str>) -> anyhow::Result<InCluster> {
    let namespace = namespace.map_or_else(|| client.default_namespace().to_owned(), str::to_owned);
    let api: Api<CanaryRollout> = Api::namespaced(client, &namespace);
    let rollout = api
        .get(name)
        .await
        .with_context(|| format!("reading the rollout {namespace}/{name}"))?;
    Ok(InCluster {
        rollout,
        namespace,
        api,
    })
}

/// The one rollout of a file, or the one of this name; `-` is standard input.
pub(super) fn in_file(path: &Path, name: Option<&str>) -> anyhow::Result<CanaryRollout> {
    let doing = || format!("reading a rollout from {}", path.display());
    let text = if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    in_manifest(&text.with_context(doing)?, name).with_context(doing)
}

/// The one rollout of a manifest, or the one of this name.
pub(super) fn in_manifest(text: &str, name: Option<&str>) -> anyhow::Result<CanaryRollout> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)?;
    let of_kind = documents
        .into_iter()
        .filter(|document| document.get("kind").and_then(Value::as_str) == Some("CanaryRollout"));
    let is_named = |document: &Value| {
        name.is_none_or(|name| document.pointer("/metadata/name").and_then(Value::as_str) == Some(name))
    };
    let mut found: Vec<Value> = of_kind.filter(is_named).collect();
    let one = found.pop().context(match name {
        Some(name) => format!("there is no CanaryRollout {name} in it"),
        None => "there is no CanaryRollout in it".to_owned(),
    })?;
    ensure!(found.is_empty(), "there are several CanaryRollouts in it; name one");
    serde_json::from_value(one).context("its CanaryRollout is incomplete or has a field of the wrong type")
}

/// The port on which the containers of a Deployment listen, as the Service in the cluster says it; the Service's own where no
/// cluster is asked.
pub(super) async fn container_port(
    client: Option<&Client>,
    namespace: &str,
    rollout: &CanaryRollout,
    deployment: &str,
) -> anyhow::Result<u16> {
    let service = &rollout.spec.service;
    let own = u16::try_from(service.port).context("spec.service.port is no port")?;
    let Some(client) = client else { return Ok(own) };
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let (apex, deployment) = tokio::join!(services.get_opt(&service.name), deployments.get_opt(deployment));
    let apex = apex.with_context(|| format!("reading the Service {namespace}/{}", service.name))?;
    let deployment = deployment.with_context(|| format!("reading a Deployment of {namespace}"))?;
    let pod = deployment.and_then(|deployment| deployment.spec?.template.spec);
    let found = apex
        .zip(pod)
        .and_then(|(apex, pod)| traffic::container_port(&apex, own, &pod));
    Ok(found.unwrap_or(own))
}

/// The parsed spec of a rollout; an error names every field that makes no sense.
pub(super) fn parsed(rollout: &CanaryRollout, name: &str) -> anyhow::Result<Parsed> {
    parse(&rollout.spec).map_err(|errors| {
        let lines: String = errors.iter().map(|error| format!("\n  {error}")).collect();
        anyhow!("the spec of {name} makes no sense:{lines}")
    })
}

/// With nothing but what a rollout must have, and these parts of its spec.
#[cfg(test)]
pub(super) fn minimal(more: &Value) -> CanaryRollout {
    let mut rollout = serde_json::json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "CanaryRollout",
        "metadata": {"name": "user-service", "namespace": "prod"},
        "spec": {
            "service": {"name": "user-service", "port": 50051}, "stable": {"deployment": "user-service"},
            "canary": {"deployment": "user-service-canary"},
            "git": {"repository": "https://git.example.com/config.git", "path": "deploy/environments/prod"},
        },
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        rollout["spec"][key] = value.clone();
    }
    serde_json::from_value(rollout).unwrap()
}
