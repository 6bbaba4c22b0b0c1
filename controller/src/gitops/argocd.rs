//! Argo CD's Application: tells it to look at Git now. It must not know what was committed.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use serde_json::{Value, json};

use crate::api::{CanaryRollout, FIELD_MANAGER};

/// Argo CD removes it when it has looked.
const REFRESH: &str = "argocd.argoproj.io/refresh";
/// How an Application names the cluster that Argo CD itself runs in.
const HERE: [&str; 2] = ["https://kubernetes.default.svc", "in-cluster"];
/// The longest wait for one answer of the API server.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks for a refresh of the Application that applies this rollout.
///
/// # Errors
/// When there is no such Application, when it is another rollout's, or when the API server refuses. Argo CD polls Git by
/// itself, so nothing depends on it but time.
pub async fn refresh(client: &Client, namespace: &str, application: &str, of: (&str, &str)) -> anyhow::Result<()> {
    let kind = GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Application");
    let api: Api<DynamicObject> = Api::namespaced_with(
        client.clone(),
        namespace,
        &ApiResource::from_gvk_with_plural(&kind, "applications"),
    );
    let doing = || format!("refreshing the Application {namespace}/{application}");
    let work = async {
        let object = api.get(application).await.with_context(doing)?;
        ensure!(
            applies(&object.data, of),
            "the Application {namespace}/{application} does not apply the rollout {}/{} in this cluster; correct spec.argocd",
            of.0,
            of.1
        );
        let patch = json!({ "metadata": { "annotations": { REFRESH: "normal" } } });
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        api.patch(application, &params, &Patch::Merge(patch))
            .await
            .with_context(doing)?;
        anyhow::Ok(())
    };
    tokio::time::timeout(TIMEOUT, work)
        .await
        .with_context(|| format!("{}: the API server did not answer in {TIMEOUT:?}", doing()))?
}

/// Whether the Application goes to this cluster and this namespace, and lists this rollout among what it applied: no
/// rollout may disturb an Application that is not its own.
fn applies(application: &Value, (namespace, name): (&str, &str)) -> bool {
    let text = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let destination = |field: &str| text(application, &format!("/spec/destination/{field}"));
    let here = [destination("server"), destination("name")]
        .into_iter()
        .flatten()
        .any(|to| HERE.contains(&to.as_str()));
    let kind = <CanaryRollout as kube::Resource>::kind(&());
    let resources = application.pointer("/status/resources").and_then(Value::as_array);
    let lists = resources.into_iter().flatten().any(|resource| {
        let is = |field: &str, value: &str| resource.get(field).and_then(Value::as_str) == Some(value);
        is("group", crate::api::GROUP) && is("kind", &kind) && is("namespace", namespace) && is("name", name)
    });
    here && destination("namespace").as_deref() == Some(namespace) && lists
}

#[cfg(test)]
mod tests {
    use super::*;

    fn application() -> Value {
        json!({
            "spec": { "destination": { "server": "https://kubernetes.default.svc", "namespace": "prod" } },
            "status": { "resources": [
                { "group": "apps", "kind": "Deployment", "namespace": "prod", "name": "web" },
                { "group": "serin.dev", "kind": "CanaryRollout", "namespace": "prod", "name": "web" },
            ] },
        })
    }

    #[test]
    fn only_the_application_that_applies_the_rollout_is_refreshed() {
        assert!(applies(&application(), ("prod", "web")));
        assert!(!applies(&application(), ("prod", "other")));
        assert!(!applies(&application(), ("dev", "web")));
        let mut elsewhere = application();
        elsewhere["spec"]["destination"]["server"] = json!("https://10.0.0.1");
        assert!(!applies(&elsewhere, ("prod", "web")));
        let mut unsynced = application();
        unsynced["status"] = json!({});
        assert!(!applies(&unsynced, ("prod", "web")));
    }
}
