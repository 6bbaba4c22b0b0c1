//! One Application as an object: its newest version, and the two things that are written to it. It must not know why.

use anyhow::{Context as _, bail};
use kube::{
    Api, ResourceExt as _,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{FIELD_MANAGER, REFRESH, operation::Operation, status::Status};

/// An Application.
pub(super) struct Application {
    api: Api<DynamicObject>,
    newest: DynamicObject,
}

impl Application {
    pub(super) fn new(api: Api<DynamicObject>, newest: DynamicObject) -> Self {
        Self { api, newest }
    }

    /// Takes what a watch tells; it may be older than the answer to what was written last.
    pub(super) fn see(&mut self, object: DynamicObject) {
        if version(&object) >= version(&self.newest) || object.uid() != self.newest.uid() {
            self.newest = object;
        }
    }

    pub(super) fn name(&self) -> String {
        self.newest.name_any()
    }

    pub(super) fn is_going(&self) -> bool {
        self.newest.metadata.deletion_timestamp.is_some()
    }

    pub(super) fn spec(&self) -> &Value {
        self.newest.data.get("spec").unwrap_or(&Value::Null)
    }

    pub(super) fn source(&self) -> &Value {
        self.spec().get("source").unwrap_or(&Value::Null)
    }

    /// What was written last; what another version wrote is forgotten.
    pub(super) fn status(&self) -> Status {
        let status = self.newest.data.get("status").cloned().unwrap_or_default();
        serde_json::from_value(status).unwrap_or_default()
    }

    /// What stands outside of the spec and would change what happens.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if let Some(finalizer) = self.newest.finalizers().first() {
            bail!("metadata.finalizers: the lab's stand-in for Argo CD does not know {finalizer}");
        }
        Ok(())
    }

    /// The sync that somebody asked for and that is not done.
    pub(super) fn operation(&self) -> anyhow::Result<Option<Operation>> {
        self.ordered().map(Operation::read).transpose()
    }

    /// Whether there is such a sync.
    pub(super) fn has_operation(&self) -> bool {
        self.ordered().is_some()
    }

    fn ordered(&self) -> Option<&Value> {
        let operation = self.newest.data.get("operation");
        operation.filter(|operation| !operation.is_null())
    }

    /// Whether somebody asked for a sync of which the status says nothing.
    pub(super) fn is_ordered(&self) -> bool {
        let is_running = self
            .status()
            .operation_state
            .is_some_and(|state| state.phase == "Running");
        self.has_operation() && !is_running
    }

    /// The sync that was asked for is done, or has failed.
    pub(super) async fn clear_operation(&mut self) -> anyhow::Result<()> {
        self.patch(Patch::Merge(json!({"operation": null}))).await
    }

    pub(super) fn is_refresh_asked(&self) -> bool {
        self.newest.annotations().contains_key(REFRESH)
    }

    /// The comparison that was asked for begins.
    pub(super) async fn clear_refresh(&mut self) -> anyhow::Result<()> {
        self.patch(Patch::Merge(json!({"metadata": {"annotations": {REFRESH: null}}})))
            .await
    }

    /// Writes the status, if it says something new.
    pub(super) async fn write_status(&mut self, status: &Status) -> anyhow::Result<()> {
        let status = serde_json::to_value(status)?;
        if self.newest.data.get("status") == Some(&status) {
            return Ok(());
        }
        // Whole: a merge would leave what is not said any more.
        let patch = json!([{"op": "add", "path": "/status", "value": status}]);
        self.patch(Patch::Json::<()>(serde_json::from_value(patch)?)).await
    }

    async fn patch<P: serde::Serialize + std::fmt::Debug>(&mut self, patch: Patch<P>) -> anyhow::Result<()> {
        let name = self.name();
        let how = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let writing = || format!("writing to the Application {name}");
        self.newest = self.api.patch(&name, &how, &patch).await.with_context(writing)?;
        Ok(())
    }
}

fn version(object: &DynamicObject) -> u64 {
    object
        .resource_version()
        .and_then(|version| version.parse().ok())
        .unwrap_or_default()
}
