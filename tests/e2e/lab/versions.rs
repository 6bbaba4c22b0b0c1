//! The story of the definition's next version: both are served, what was stored is taken along, the old one goes. It must not know
//! what the fields mean.
//!
//! It is told of a copy of the definition in another group: all other stories use the real one meanwhile.
#![expect(clippy::indexing_slicing, reason = "a JSON value makes what is not there")]

use std::{fs, sync::Arc};

use anyhow::{Context as _, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
    runtime::{conditions, wait::await_condition},
};
use lab::{Lab, project_root};
use serde_json::{Value, json};
use serin::api::CanaryRollout;
use tokio::time::timeout;

use super::cluster::namespace;
use crate::story::{SOON, eventually};

const PLACE: &str = "versions";
const GROUP: &str = "next.serin.dev";
const DEFINITION: &str = "canaryrollouts.next.serin.dev";
const NOW: &str = "v1alpha1";
const NEXT: &str = "v1beta1";

pub(super) async fn moves_on(lab: Arc<Lab>) -> anyhow::Result<()> {
    let client = namespace(&lab, PLACE).await?;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definition = definition()?;
    define(&definitions, &definition, &[(NOW, true)]).await?;

    // Every phase of a rollout, as it stood in a cluster.
    let old = rollouts(&client, NOW);
    let mut names = Vec::new();
    for file in fs::read_dir(project_root().join("tests/fixtures/status/0.1.0"))? {
        let path = file?.path();
        let name = path
            .file_stem()
            .context("a file has a name")?
            .to_string_lossy()
            .into_owned();
        let status: Value = serde_json::from_slice(&fs::read(&path)?)?;
        let rollout = json!({
            "apiVersion": format!("{GROUP}/{NOW}"),
            "kind": "CanaryRollout",
            "metadata": {"name": name},
            "spec": spec(),
        });
        let made = old
            .create(&PostParams::default(), &serde_json::from_value(rollout)?)
            .await?;
        let mut told = serde_json::to_value(&made)?;
        told["status"] = status;
        old.replace_status(&name, &PostParams::default(), &serde_json::from_value(told)?)
            .await
            .with_context(|| format!("writing the status of {}", path.display()))?;
        names.push(name);
    }
    ensure!(names.len() == 9, "{names:?}");
    let mut before = Vec::new();
    for name in &names {
        before.push(old.get(name).await?);
    }

    // Both are served, and the next one is stored from now on.
    define(&definitions, &definition, &[(NOW, false), (NEXT, true)]).await?;
    let new = rollouts(&client, NEXT);
    for was in &before {
        let name = was.name_any();
        let is = eventually("the next version is served", SOON, || async {
            Ok(new.get(&name).await?)
        })
        .await?;
        same(was, &is)?;
        // Serin's types read it.
        let mut read = serde_json::to_value(&is)?;
        read["apiVersion"] = "serin.dev/v1alpha1".into();
        serde_json::from_value::<CanaryRollout>(read).with_context(|| name.clone())?;
        // Written as the next version, it is stored as that, and who asks for the old one sees what was written.
        let wider = json!({"spec": {"plan": {"minRequests": 77}}});
        new.patch(&name, &PatchParams::default(), &Patch::Merge(wider)).await?;
        let back = old.get(&name).await?;
        ensure!(
            back.data.pointer("/spec/plan/minRequests") == Some(&json!(77)),
            "{name}: {:?}",
            back.data
        );
        ensure!(
            back.data.get("status") == was.data.get("status"),
            "{name} lost of its status"
        );
    }

    // All of it is stored as the next version: the old one may go.
    let stored = json!({"status": {"storedVersions": [NEXT]}});
    definitions
        .patch_status(DEFINITION, &PatchParams::default(), &Patch::Merge(stored))
        .await?;
    define(&definitions, &definition, &[(NEXT, true)]).await?;
    for was in &before {
        let is = new.get(&was.name_any()).await?;
        ensure!(
            is.data.get("status") == was.data.get("status"),
            "{} lost of its status",
            was.name_any()
        );
    }
    eventually("the old version is gone", SOON, || async {
        ensure!(old.get(&names[0]).await.is_err(), "it is still served");
        Ok(())
    })
    .await?;
    definitions.delete(DEFINITION, &DeleteParams::default()).await?;
    Ok(())
}

/// The generated definition, in the other group.
fn definition() -> anyhow::Result<Value> {
    let file = project_root().join("crds/canaryrollouts.serin.dev.yaml");
    let mut definition: Value = serde_saphyr::from_str(&fs::read_to_string(file)?)?;
    definition["metadata"]["name"] = DEFINITION.into();
    definition["spec"]["group"] = GROUP.into();
    Ok(definition)
}

/// Applies the definition with these versions of the same schema; of each, whether it is the one that is stored.
async fn define(
    definitions: &Api<CustomResourceDefinition>,
    definition: &Value,
    versions: &[(&str, bool)],
) -> anyhow::Result<()> {
    let mut definition = definition.clone();
    let schema = definition["spec"]["versions"][0].clone();
    let all = versions.iter().map(|(name, is_stored)| {
        let mut version = schema.clone();
        version["name"] = (*name).into();
        version["storage"] = (*is_stored).into();
        version
    });
    definition["spec"]["versions"] = all.collect();
    definitions
        .patch(
            DEFINITION,
            &PatchParams::apply("lab").force(),
            &Patch::Apply(&definition),
        )
        .await
        .with_context(|| format!("defining {versions:?}"))?;
    let established = await_condition(definitions.clone(), DEFINITION, conditions::is_crd_established());
    timeout(SOON, established).await??;
    Ok(())
}

fn rollouts(client: &Client, version: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk(GROUP, version, "CanaryRollout");
    Api::namespaced_with(
        client.clone(),
        PLACE,
        &ApiResource::from_gvk_with_plural(&kind, "canaryrollouts"),
    )
}

/// The least that a rollout says.
fn spec() -> Value {
    json!({
        "service": {"name": "user-service", "port": 50051},
        "stable": {"deployment": "user-service"},
        "canary": {"deployment": "user-service-canary"},
        "git": {
            "repository": "https://git.example.com/platform/config.git",
            "path": "deploy/environments/prod",
            "secretRef": {"name": "config-repo"},
        },
    })
}

/// Nothing but the version differs.
fn same(one: &DynamicObject, other: &DynamicObject) -> anyhow::Result<()> {
    ensure!(
        one.data == other.data,
        "{} is not the same: {} {}",
        one.name_any(),
        one.data,
        other.data
    );
    ensure!(one.metadata.uid == other.metadata.uid && one.metadata.generation == other.metadata.generation);
    Ok(())
}
