//! What a route is to be, as plain values. Must not know how a kind of route says it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use super::kind::Kind;

/// A route: the apex's calls go to two arms by weight.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteSpec {
    /// Which kind of route.
    pub kind: Kind,
    /// The namespace of the route, the apex and the arms.
    pub namespace: String,
    /// The route's name.
    pub name: String,
    /// It stands in Git: only the two weights are Serin's, and the arms' Services stay as long as the route names them.
    pub adopted: bool,
    /// The Service that clients call.
    pub apex: String,
    /// The apex's port.
    pub port: u16,
    /// The Service of stable's pods; see [`stable_service`].
    pub stable_service: String,
    /// The Service of the judged revision's pods; see [`canary_service`].
    pub canary_service: String,
    /// Calls that always go to the canary.
    pub testers: Option<Testers>,
    /// The rollout, which the generated objects go with.
    pub owner: OwnerReference,
}

/// Calls with this header go to the canary, at weight 0 too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Testers {
    /// The header's name.
    pub header: String,
    /// Its value, exactly.
    pub value: String,
}

/// The name of the generated Service of stable's pods.
pub fn stable_service(apex: &str) -> String {
    format!("{apex}-stable")
}

/// The name of the generated Service of the judged revision's pods.
pub fn canary_service(apex: &str) -> String {
    format!("{apex}-canary")
}

/// On an object that Serin made for an adopted route: the rollout's name. It stays when the rollout goes, so it has no
/// ownerReference.
pub(super) const ROLLOUT_ANNOTATION: &str = "serin.dev/rollout";

/// The metadata of what stays when the rollout goes.
pub(super) fn lasting_metadata(namespace: &str, name: &str, owner: &OwnerReference) -> Value {
    json!({
        "namespace": namespace,
        "name": name,
        "labels": { "app.kubernetes.io/managed-by": "serin" },
        "annotations": { ROLLOUT_ANNOTATION: owner.name },
    })
}

/// The metadata of what goes with the rollout.
pub(super) fn metadata(namespace: &str, name: &str, owner: &OwnerReference) -> Value {
    json!({
        "namespace": namespace,
        "name": name,
        "labels": { "app.kubernetes.io/managed-by": "serin" },
        "ownerReferences": [{
            "apiVersion": owner.api_version,
            "kind": owner.kind,
            "name": owner.name,
            "uid": owner.uid,
            "controller": true,
            "blockOwnerDeletion": true,
        }],
    })
}
