//! A route as it stands in the cluster. Tolerant: a field that is missing has the API's default, one that makes no sense is
//! passed over. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, OwnerReference};
use kube::api::DynamicObject;
use serde_json::{Value, json};
use serin_core::Weight;
use serin_core::analysis::Sides;

use super::FIELD_MANAGER;
use super::error::Error;
use super::spec::{ROLLOUT_ANNOTATION, RouteSpec};

/// The controller whose word on a route counts. It never sets `observedGeneration`.
const LINKERD: &str = "linkerd.io/policy-controller";

/// Written by `kubectl apply`, whole.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A route that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveRoute {
    /// Stable's and the canary's weight; `None` when the route does not split between the two.
    pub weights: Option<(i64, i64)>,
    /// The version that was read; the next write is guarded by it.
    pub resource_version: String,
    /// What Linkerd says of the route; `None` while it says nothing.
    pub accepted: Option<bool>,
    /// Whether every call goes by the weights.
    pub sides: Sides,
    /// Who wrote the weights last, if it was not Serin.
    pub writer: Option<String>,
    /// Whether it is the rollout's own.
    pub owned: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Why an adopted route can't be adopted; `None` when it can, and for a generated one.
    pub misfit: Option<String>,
    /// All of it.
    pub(super) object: Value,
}

impl LiveRoute {
    pub(super) fn of(spec: &RouteSpec, object: &DynamicObject) -> Self {
        let value = serde_json::to_value(object).unwrap_or_default();
        Self {
            weights: spec.kind.rules().weights(spec, &value),
            resource_version: object.metadata.resource_version.clone().unwrap_or_default(),
            accepted: accepted(spec, &value),
            sides: spec.kind.rules().sides(spec, &value),
            writer: writer(object),
            owned: is_owned(object, &spec.owner.uid),
            deleting: object.metadata.deletion_timestamp.is_some(),
            misfit: spec.adopted.then(|| misfit(spec, object, &value)).flatten(),
            object: value,
        }
    }

    /// The error of a route that is somebody else's.
    pub fn foreign(&self, spec: &RouteSpec) -> Error {
        let object: Option<DynamicObject> = serde_json::from_value(self.object.clone()).ok();
        Error::Foreign {
            object: format!("{} {}/{}", spec.kind, spec.namespace, spec.name),
            owner: object.as_ref().map_or_else(|| "somebody".to_owned(), owner),
        }
    }

    /// The canary's share; `None` when the weights say nothing that can be a share.
    pub fn weight(&self) -> Option<Weight> {
        self.weights
            .and_then(|(stable, canary)| Weight::from_backends(stable, canary))
    }
}

impl LiveRoute {
    /// The route itself, if it can be adopted.
    pub(super) fn fit(self, object: String) -> Result<Self, Error> {
        match self.misfit {
            Some(why) => Err(Error::Misfit { object, why }),
            None => Ok(self),
        }
    }
}

/// One entry of a rule's `backendRefs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// The rule's place.
    pub rule: usize,
    /// The backend's place in the rule.
    pub index: usize,
    /// The API group; empty for the core.
    pub group: String,
    /// The kind, `Service` by default.
    pub kind: String,
    /// The name.
    pub name: String,
    /// The namespace, if it is said.
    pub namespace: Option<String>,
    /// The weight, 1 by default.
    pub weight: i64,
    /// Whether the weight is said.
    pub has_weight: bool,
}

impl Backend {
    /// The JSON pointer of one of its fields.
    pub(super) fn pointer(&self, field: &str) -> String {
        format!("/spec/rules/{}/backendRefs/{}/{field}", self.rule, self.index)
    }

    pub(super) fn is_service(&self, namespace: &str, name: &str) -> bool {
        let near = self.namespace.as_deref().is_none_or(|n| n == namespace);
        near && self.name == name && self.kind == "Service" && matches!(self.group.as_str(), "" | "core")
    }
}

/// The backends of a GRPCRoute's or HTTPRoute's rules, in order.
pub(super) fn backends(route: &Value) -> Vec<Backend> {
    let list = |value: &Value, field: &str| value.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut out = Vec::new();
    for (rule, of) in list(route.get("spec").unwrap_or(&Value::Null), "rules")
        .iter()
        .enumerate()
    {
        for (index, backend) in list(of, "backendRefs").iter().enumerate() {
            let text = |field| backend.get(field).and_then(Value::as_str).map(str::to_owned);
            let Some(name) = text("name") else { continue };
            let weight = backend.get("weight").and_then(Value::as_i64);
            out.push(Backend {
                rule,
                index,
                group: text("group").unwrap_or_default(),
                kind: text("kind").unwrap_or_else(|| "Service".to_owned()),
                name,
                namespace: text("namespace"),
                weight: weight.unwrap_or(1),
                has_weight: backend.get("weight").is_some(),
            });
        }
    }
    out
}

/// Whether the object belongs to the rollout of this id.
pub(super) fn is_owned(object: &DynamicObject, uid: &str) -> bool {
    object
        .metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| owner.uid == uid)
}

/// Whether the object is the rollout's: it goes with it, or was made for it to stay.
pub(super) fn is_ours(object: &DynamicObject, owner: &OwnerReference) -> bool {
    let made_for = object
        .metadata
        .annotations
        .as_ref()
        .and_then(|a| a.get(ROLLOUT_ANNOTATION));
    is_owned(object, &owner.uid) || (controller(object).is_none() && made_for == Some(&owner.name))
}

/// The controller that an object goes with.
pub(super) fn controller(object: &DynamicObject) -> Option<&OwnerReference> {
    let mut owners = object.metadata.owner_references.iter().flatten();
    owners.find(|owner| owner.controller == Some(true))
}

/// A route that another controller made is written by that one.
fn misfit(spec: &RouteSpec, object: &DynamicObject, value: &Value) -> Option<String> {
    match controller(object) {
        Some(other) => Some(format!(
            "it belongs to the {} {}, which writes it; adopt a route that stands in Git",
            other.kind, other.name
        )),
        None => spec.kind.rules().misfit(spec, value),
    }
}

/// Whose an object is: its controller, else who wrote it last.
pub(super) fn owner(object: &DynamicObject) -> String {
    let controller = controller(object).map(|o| format!("{} {}", o.kind, o.name));
    let managers = object.metadata.managed_fields.iter().flatten();
    let writer = managers
        .filter(|m| m.subresource.is_none())
        .filter_map(|m| m.manager.clone())
        .next_back();
    controller.or(writer).unwrap_or_else(|| "somebody".to_owned())
}

/// Who wrote the weights last, if it was not Serin.
fn writer(object: &DynamicObject) -> Option<String> {
    let last = last_of_weights(object)?;
    last.manager.clone().filter(|manager| manager != FIELD_MANAGER)
}

/// The last write of the weights. The lists of a route are atomic, so whoever wrote one owns it alone.
fn last_of_weights(object: &DynamicObject) -> Option<&ManagedFieldsEntry> {
    let writes = |fields: &Value| {
        let spec = fields.get("f:spec");
        spec.is_some_and(|spec| ["f:rules", "f:backends"].iter().any(|field| spec.get(field).is_some()))
    };
    let managers = object.metadata.managed_fields.iter().flatten();
    let of_weights = managers.filter(|m| m.fields_v1.as_ref().is_some_and(|fields| writes(&fields.0)));
    of_weights.max_by_key(|m| m.time.as_ref().map(|time| time.0))
}

/// The route without what no look reads: of who wrote what, the last write of the weights is left.
pub(super) fn lean(object: &DynamicObject) -> DynamicObject {
    let mut object = object.clone();
    let last = last_of_weights(&object).cloned().map(|mut last| {
        // That it is of the weights is all that is asked of it.
        last.fields_v1 = Some(FieldsV1(json!({ "f:spec": { "f:rules": {} } })));
        last
    });
    object.metadata.managed_fields = last.map(|last| vec![last]);
    if let Some(annotations) = &mut object.metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
    object
}

/// Which deviations from the weights mean anything, where some of the calls go past them.
pub(super) fn sides(only_canary: bool, only_stable: bool) -> Sides {
    match (only_canary, only_stable) {
        (false, false) => Sides::Both,
        (true, false) => Sides::TooFew,
        (false, true) => Sides::TooMany,
        (true, true) => Sides::Neither,
    }
}

/// Linkerd's `Accepted` for the apex. Not gated on `observedGeneration`, which Linkerd does not set.
fn accepted(spec: &RouteSpec, route: &Value) -> Option<bool> {
    let parents = route.pointer("/status/parents")?.as_array()?;
    let ours = |parent: &&Value| {
        let name = parent.pointer("/parentRef/name").and_then(Value::as_str);
        parent.get("controllerName").and_then(Value::as_str) == Some(LINKERD) && name == Some(&spec.apex)
    };
    let conditions = parents.iter().find(ours)?.get("conditions")?.as_array()?;
    let is_accepted = |c: &&Value| c.get("type").and_then(Value::as_str) == Some("Accepted");
    match conditions.iter().find(is_accepted)?.get("status")?.as_str()? {
        "True" => Some(true),
        "False" => Some(false),
        _ => None,
    }
}
