//! The cluster, for objects of any kind: read, apply, delete. It must not know Applications.

use std::collections::BTreeMap;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
    discovery::{Scope, pinned_kind},
};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{FIELD_MANAGER, object::Key};

/// A client with a memory of kinds.
pub(super) struct Cluster {
    client: Client,
    kinds: Mutex<BTreeMap<String, (ApiResource, bool)>>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

impl Cluster {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            kinds: Mutex::default(),
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// The kind's resource, and whether it is in namespaces. A kind that is not known is asked for again the next time.
    async fn kind(&self, gvk: &GroupVersionKind) -> anyhow::Result<(ApiResource, bool)> {
        let name = format!("{}/{} {}", gvk.group, gvk.version, gvk.kind);
        if let Some(known) = self.kinds.lock().await.get(&name) {
            return Ok(known.clone());
        }
        let (resource, capabilities) = pinned_kind(&self.client, gvk)
            .await
            .with_context(|| format!("the cluster does not serve {name}"))?;
        let found = (resource, capabilities.scope == Scope::Namespaced);
        self.kinds.lock().await.insert(name, found.clone());
        Ok(found)
    }

    pub(super) async fn is_namespaced(&self, key: &Key) -> anyhow::Result<bool> {
        Ok(self.kind(&key.gvk()).await?.1)
    }

    async fn api(&self, key: &Key) -> anyhow::Result<Api<DynamicObject>> {
        let (resource, namespaced) = self.kind(&key.gvk()).await?;
        Ok(if namespaced {
            Api::namespaced_with(self.client.clone(), &key.namespace, &resource)
        } else {
            Api::all_with(self.client.clone(), &resource)
        })
    }

    pub(super) async fn get(&self, key: &Key) -> anyhow::Result<Option<Value>> {
        let live = self
            .api(key)
            .await?
            .get_opt(&key.name)
            .await
            .with_context(|| format!("reading {key}"))?;
        live.map(|live| Ok(serde_json::to_value(live)?)).transpose()
    }

    /// Applies, and returns what the object then says.
    pub(super) async fn apply(&self, key: &Key, wanted: &Value) -> anyhow::Result<Value> {
        self.patch(
            key,
            wanted,
            &PatchParams::apply(FIELD_MANAGER).force().validation_strict(),
        )
        .await
    }

    /// What the object would say.
    pub(super) async fn try_apply(&self, key: &Key, wanted: &Value) -> anyhow::Result<Value> {
        self.patch(
            key,
            wanted,
            &PatchParams::apply(FIELD_MANAGER).force().validation_strict().dry_run(),
        )
        .await
    }

    async fn patch(&self, key: &Key, wanted: &Value, how: &PatchParams) -> anyhow::Result<Value> {
        let api = self.api(key).await?;
        let result = api
            .patch(&key.name, how, &Patch::Apply(wanted))
            .await
            .with_context(|| format!("applying {key}"))?;
        Ok(serde_json::to_value(result)?)
    }

    /// Deletes the object, if it is there and still the one with this uid.
    pub(super) async fn delete(&self, key: &Key, uid: Option<String>) -> anyhow::Result<()> {
        let mut how = DeleteParams::background();
        how.preconditions = uid.map(|uid| kube::api::Preconditions {
            uid: Some(uid),
            resource_version: None,
        });
        match self.api(key).await?.delete(&key.name, &how).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error).with_context(|| format!("deleting {key}")),
        }
    }

    /// Gives a namespace these labels, beside those of others; it is made if it is not there.
    pub(super) async fn label_namespace(&self, name: &str, labels: &BTreeMap<String, String>) -> anyhow::Result<()> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let metadata = json!({"name": name, "labels": labels});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
        let how = PatchParams::apply(FIELD_MANAGER).force();
        let labelled = api.patch(name, &how, &Patch::Apply(&namespace)).await;
        labelled
            .map(drop)
            .with_context(|| format!("labelling the namespace {name}"))
    }

    pub(super) async fn ensure_namespace(&self, name: &str) -> anyhow::Result<()> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let making = || format!("making the namespace {name}");
        if api.get_opt(name).await.with_context(making)?.is_none() {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            let how = PatchParams::apply(FIELD_MANAGER).force();
            match api.patch(name, &how, &Patch::Apply(&namespace)).await {
                // Somebody made it at the same moment.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                made => drop(made.with_context(making)?),
            }
        }
        Ok(())
    }
}
