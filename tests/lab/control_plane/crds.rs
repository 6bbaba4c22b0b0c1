//! Installs custom resource definitions and waits until the API server serves them. It must not know what they are for.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, anyhow};
use futures::future::try_join_all;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
    core::ApiResource,
    runtime::{conditions, wait::await_condition},
};
use tokio::time::timeout;

/// Schemas of the lab's own that take everything, for kinds whose controllers the lab stands in for.
const TOLERANT: [&str; 5] = [
    include_str!("../crds/argo-cd.yaml"),
    include_str!("../crds/flux.yaml"),
    include_str!("../crds/linkerd.yaml"),
    include_str!("../crds/prometheus-operator.yaml"),
    include_str!("../crds/smi.yaml"),
];

const ESTABLISHED: Duration = Duration::from_secs(30);

/// Installs the tolerant ones and all that are in YAML files in the two folders. The second one may be absent or empty.
pub(super) async fn install(client: &Client, gateway: &Path, more: &Path) -> anyhow::Result<()> {
    let mut definitions = Vec::new();
    for text in TOLERANT {
        definitions.extend(parse(text)?);
    }
    definitions.extend(read_dir(gateway)?);
    if more.is_dir() {
        definitions.extend(read_dir(more)?);
    }
    try_join_all(definitions.iter().map(|definition| apply(client, definition))).await?;
    Ok(())
}

fn read_dir(dir: &Path) -> anyhow::Result<Vec<DynamicObject>> {
    let entries = fs::read_dir(dir).with_context(|| format!("reading the CRDs in {}", dir.display()))?;
    let mut definitions = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
            let read = || parse(&fs::read_to_string(&path)?);
            definitions.extend(read().with_context(|| format!("reading the CRDs in {}", path.display()))?);
        }
    }
    Ok(definitions)
}

/// The definitions among the documents; other kinds are left out.
fn parse(text: &str) -> anyhow::Result<Vec<DynamicObject>> {
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(text)?;
    let definitions = documents
        .into_iter()
        .filter(|d| d.get("kind").is_some_and(|k| k == "CustomResourceDefinition"));
    Ok(definitions.map(serde_json::from_value).collect::<Result<_, _>>()?)
}

async fn apply(client: &Client, definition: &DynamicObject) -> anyhow::Result<()> {
    let name = definition.metadata.name.as_deref().context("a CRD has no name")?;
    // Untyped, so that fields newer than the types here are kept.
    let kind = ApiResource::erase::<CustomResourceDefinition>(&());
    let objects: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
    let params = PatchParams::apply("lab").force();
    objects
        .patch(name, &params, &Patch::Apply(definition))
        .await
        .with_context(|| format!("applying the CRD {name}"))?;
    let typed: Api<CustomResourceDefinition> = Api::all(client.clone());
    timeout(
        ESTABLISHED,
        await_condition(typed, name, conditions::is_crd_established()),
    )
    .await
    .map_err(|_| anyhow!("the CRD {name} is not established after {ESTABLISHED:?}"))?
    .with_context(|| format!("waiting for the CRD {name}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tolerant_definitions_are_whole() {
        let all: Vec<_> = TOLERANT.iter().flat_map(|text| parse(text).unwrap()).collect();
        for definition in &all {
            let typed: CustomResourceDefinition =
                serde_json::from_value(serde_json::to_value(definition).unwrap()).unwrap();
            assert_eq!(
                typed.metadata.name.unwrap(),
                format!("{}.{}", typed.spec.names.plural, typed.spec.group)
            );
            assert_eq!(typed.spec.versions.iter().filter(|v| v.storage).count(), 1);
        }
        assert_eq!(all.len(), 13);
    }
}
