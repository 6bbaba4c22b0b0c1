//! The account under which the controller runs. It must not know what the controller does.

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::PostParams;
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The account, with all that a cluster's administrator may do: which permissions Serin needs is judged elsewhere.
pub(crate) async fn account(client: &Client) -> anyhow::Result<()> {
    create::<Namespace>(Api::all(client.clone()), &json!({ "metadata": { "name": "serin" } })).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "serin");
    create(accounts, &json!({ "metadata": { "name": "serin" } })).await?;
    let binding = json!({
        "metadata": { "name": "serin" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [{ "kind": "ServiceAccount", "name": "serin", "namespace": "serin" }],
    });
    create::<ClusterRoleBinding>(Api::all(client.clone()), &binding).await
}

async fn create<K>(api: Api<K>, object: &Value) -> anyhow::Result<()>
where
    K: Clone + DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object.clone())?;
    api.create(&PostParams::default(), &object)
        .await
        .context("creating the controller's account")?;
    Ok(())
}
