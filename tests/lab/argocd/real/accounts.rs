//! What Argo CD's own manifests bring beside its processes: settings, and accounts with what they may do. It must not know what the
//! processes do with them.

use std::path::PathBuf;

use k8s_openapi::api::{
    core::v1::{ConfigMap, Secret, ServiceAccount},
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::{super::install::put, SERVER};
use crate::control_plane::ControlPlane;

/// Those beside argocd-cm, all of them empty here.
const SETTINGS: [&str; 5] = [
    "argocd-cmd-params-cm",
    "argocd-gpg-keys-cm",
    "argocd-rbac-cm",
    "argocd-ssh-known-hosts-cm",
    "argocd-tls-certs-cm",
];
const RBAC: &str = "rbac.authorization.k8s.io";

/// The settings.
pub(super) async fn settings(client: &Client, namespace: &str) -> anyhow::Result<()> {
    let labels = json!({ "app.kubernetes.io/part-of": "argocd" });
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    for name in SETTINGS {
        put(&maps, &json!({ "metadata": { "name": name, "labels": labels } })).await?;
    }
    let secret = json!({
        "metadata": { "name": "argocd-secret", "labels": labels },
        "stringData": { "server.secretkey": "signs the tokens of users, of whom there are none" },
    });
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    put(&secrets, &secret).await
}

/// A controller's account, which may do everything; returns its kubeconfig.
pub(super) async fn controller(cluster: &ControlPlane, namespace: &str, name: &str) -> anyhow::Result<PathBuf> {
    bind(cluster, namespace, name, "cluster-admin").await?;
    cluster.kubeconfig_for_service_account(namespace, name).await
}

/// The server's account, which may look at everything and change what is there; returns its kubeconfig. It gives commands to rollouts
/// by the very binding of argocd/README.md.
pub(super) async fn server(cluster: &ControlPlane, namespace: &str) -> anyhow::Result<PathBuf> {
    let own = |rules: Value| json!({ "metadata": { "name": SERVER }, "rules": rules });
    let everywhere = own(json!([
        { "apiGroups": ["*"], "resources": ["*"], "verbs": ["delete", "get", "patch"] },
        { "apiGroups": ["argoproj.io"], "resources": ["applications", "applicationsets"], "verbs": ["list", "watch"] },
    ]));
    put::<ClusterRole>(&Api::all(cluster.client()), &everywhere).await?;
    bind(cluster, namespace, SERVER, SERVER).await?;
    let verbs = ["create", "get", "list", "watch", "update", "patch", "delete"];
    let at_home = own(json!([{ "apiGroups": ["", "argoproj.io"], "resources": ["*"], "verbs": verbs }]));
    put::<Role>(&Api::namespaced(cluster.client(), namespace), &at_home).await?;
    let binding = binding("Role", SERVER, SERVER, namespace);
    put::<RoleBinding>(&Api::namespaced(cluster.client(), namespace), &binding).await?;
    cluster.kubeconfig_for_service_account(namespace, SERVER).await
}

/// An account that has a role everywhere.
async fn bind(cluster: &ControlPlane, namespace: &str, name: &str, role: &str) -> anyhow::Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client(), namespace);
    put(&accounts, &json!({ "metadata": { "name": name } })).await?;
    let binding = binding("ClusterRole", role, name, namespace);
    put::<ClusterRoleBinding>(&Api::all(cluster.client()), &binding).await
}

fn binding(kind: &str, role: &str, account: &str, namespace: &str) -> Value {
    json!({
        "metadata": { "name": account },
        "roleRef": { "apiGroup": RBAC, "kind": kind, "name": role },
        "subjects": [{ "kind": "ServiceAccount", "name": account, "namespace": namespace }],
    })
}
