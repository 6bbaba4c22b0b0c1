//! What Linkerd's policy controller says of routes in their status. Like the real one it never sets `observedGeneration`. It must not
//! know proxies.

use std::{collections::HashSet, sync::Arc};

use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle};
use tracing::debug;

use super::route::{Kind, Route};
use crate::clock;

const CONTROLLER: &str = "linkerd.io/policy-controller";
/// A route with this annotation gets its status from whoever set it.
pub const BY_HAND: &str = "lab.serin.dev/status-by-hand";

/// A route object, and what the mesh reads in it.
pub(super) type Object = (Arc<DynamicObject>, Option<Route>);

/// All that a verdict on a route rests on.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) routes: Vec<Object>,
    /// Namespaces and names.
    pub(super) services: HashSet<(String, String)>,
}

/// Writes what is to be said. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Teller {
    seen: watch::Sender<Arc<Seen>>,
    task: JoinHandle<()>,
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Teller {
    pub(super) fn start(client: Client) -> Self {
        let (seen, mut changes) = watch::channel(Arc::<Seen>::default());
        let task = tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                let now = changes.borrow_and_update().clone();
                for (object, route) in &now.routes {
                    let Some(route) = route else { continue };
                    if let Some(status) = status(object, route, &now) {
                        write(&client, object, route.kind, &status).await;
                    }
                }
            }
        });
        Self { seen, task }
    }

    /// What there is now.
    pub(super) fn tell(&self, seen: Seen) {
        self.seen.send_replace(Arc::new(seen));
    }
}

/// Errors are those of an object that has just changed, or gone: it comes again.
async fn write(client: &Client, object: &DynamicObject, kind: Kind, status: &Value) {
    let kind = GroupVersionKind::gvk(kind.group(), kind.version(), kind.name());
    let (namespace, name) = (object.metadata.namespace.as_deref(), object.metadata.name.as_deref());
    let routes: Api<DynamicObject> = Api::namespaced_with(
        client.clone(),
        namespace.unwrap_or_default(),
        &ApiResource::from_gvk(&kind),
    );
    let params = PatchParams {
        field_manager: Some("policy.linkerd.io".to_owned()),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(json!({ "status": status }));
    if let Err(error) = routes.patch_status(name.unwrap_or_default(), &params, &patch).await {
        debug!(namespace, name, %error, "telling a route's status");
    }
}

/// The status that the route is to have; none when it has it.
fn status(object: &DynamicObject, route: &Route, seen: &Seen) -> Option<Value> {
    let annotations = object.metadata.annotations.as_ref();
    if annotations.is_some_and(|all| all.contains_key(BY_HAND)) {
        return None;
    }
    let list = |pointer: &str| {
        let found = object.data.pointer(pointer).and_then(Value::as_array);
        found.cloned().unwrap_or_default()
    };
    let is_ours = |parent: &Value| parent.get("controllerName").is_some_and(|name| name == CONTROLLER);
    let (was, others): (Vec<_>, Vec<_>) = list("/status/parents").into_iter().partition(is_ours);
    let is: Vec<_> = list("/spec/parentRefs")
        .into_iter()
        .filter(|parent| parent.get("kind").is_some_and(|kind| kind == "Service"))
        .map(|parent| of_parent(&parent, route, seen))
        .collect();
    if bare(&was) == bare(&is) {
        return None;
    }
    Some(json!({ "parents": others.into_iter().chain(is).collect::<Vec<_>>() }))
}

fn of_parent(parent: &Value, route: &Route, seen: &Seen) -> Value {
    let name = parent.get("name").and_then(Value::as_str).unwrap_or_default();
    let port = parent.get("port").and_then(Value::as_u64);
    let port = port.and_then(|port| u16::try_from(port).ok());
    let exists = |namespace: &str, name: &str| seen.services.contains(&(namespace.to_owned(), name.to_owned()));
    let accepted = if !exists(&route.namespace, name) {
        ("False", "NoMatchingParent")
    } else if is_beaten(route, name, port, seen) {
        ("False", "RouteReasonConflicted")
    } else {
        ("True", "Accepted")
    };
    let mut backends = route.rules.iter().flat_map(|rule| &rule.backends);
    let resolved = backends.all(|backend| {
        let namespace = backend.namespace.as_deref().unwrap_or(&route.namespace);
        backend.is_service() && exists(namespace, &backend.name)
    });
    let resolved = if resolved {
        ("True", "ResolvedRefs")
    } else {
        ("False", "BackendNotFound")
    };
    let now = clock::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |kind: &str, (status, reason): (&str, &str)| json!({ "type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": now });
    json!({
        "controllerName": CONTROLLER, "parentRef": parent,
        "conditions": [condition("Accepted", accepted), condition("ResolvedRefs", resolved)],
    })
}

/// GRPCRoutes beat HTTPRoutes on the same parent.
fn is_beaten(route: &Route, service: &str, port: Option<u16>, seen: &Seen) -> bool {
    let beats = |other: &Route| {
        other.kind == Kind::Grpc
            && route.kind != Kind::Grpc
            && other.is_attached_to(&route.namespace, service, port.unwrap_or_default())
    };
    seen.routes.iter().filter_map(|(_, other)| other.as_ref()).any(beats)
}

/// Without the times.
fn bare(parents: &[Value]) -> Vec<Value> {
    let mut parents = parents.to_vec();
    for parent in &mut parents {
        let conditions = parent.get_mut("conditions").and_then(Value::as_array_mut);
        for condition in conditions.into_iter().flatten().filter_map(Value::as_object_mut) {
            condition.remove("lastTransitionTime");
        }
    }
    parents
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: Kind, backend: &str) -> Object {
        let spec = json!({
            "parentRefs": [{ "group": "core", "kind": "Service", "name": "web", "port": 80 }],
            "rules": [{ "backendRefs": [{ "name": backend, "port": 80 }] }],
        });
        let route = Route::read(kind, "shop", kind.name(), "", &spec).unwrap();
        let object = json!({
            "apiVersion": format!("{}/{}", kind.group(), kind.version()), "kind": kind.name(),
            "metadata": { "name": kind.name(), "namespace": "shop" }, "spec": spec,
        });
        (Arc::new(serde_json::from_value(object).unwrap()), Some(route))
    }

    fn said(of: &Object, routes: &[Object]) -> Option<String> {
        let service = |name: &str| ("shop".to_owned(), name.to_owned());
        let seen = Seen {
            routes: routes.to_vec(),
            services: ["web", "web-canary"].map(service).into(),
        };
        let status = status(&of.0, of.1.as_ref().unwrap(), &seen)?;
        let conditions = status
            .pointer("/parents/0/conditions")
            .and_then(Value::as_array)?
            .clone();
        assert!(conditions.iter().all(|c| c.get("observedGeneration").is_none()));
        let words = |c: &Value| format!("{}={}", c["reason"].as_str().unwrap(), c["status"].as_str().unwrap());
        Some(conditions.iter().map(words).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_route_is_accepted_unless_a_grpc_route_takes_its_parent() {
        let (grpc, http) = (object(Kind::Grpc, "web-canary"), object(Kind::Http, "web-canary"));
        let accepted = Some("Accepted=True ResolvedRefs=True".to_owned());
        assert_eq!(said(&http, std::slice::from_ref(&http)), accepted);
        let both = [grpc.clone(), http.clone()];
        assert_eq!(said(&grpc, &both), accepted);
        let beaten = Some("RouteReasonConflicted=False ResolvedRefs=True".to_owned());
        assert_eq!(said(&http, &both), beaten);
        assert_eq!(said(&object(Kind::Policy, "web-canary"), &both), beaten);
    }

    #[test]
    fn a_backend_that_is_missing_is_not_resolved() {
        let route = object(Kind::Grpc, "nobody");
        let missing = Some("Accepted=True BackendNotFound=False".to_owned());
        assert_eq!(said(&route, std::slice::from_ref(&route)), missing);
    }

    #[test]
    fn what_was_said_already_is_not_said_again() {
        let (object, route) = object(Kind::Grpc, "web-canary");
        let seen = Seen {
            routes: vec![],
            services: [("shop".to_owned(), "web".to_owned())].into(),
        };
        let first = status(&object, route.as_ref().unwrap(), &seen).unwrap();
        let mut told = DynamicObject::clone(&object);
        told.data["status"] = first;
        assert_eq!(status(&told, route.as_ref().unwrap(), &seen), None);
        told.metadata.annotations = Some([(BY_HAND.to_owned(), String::new())].into());
        assert_eq!(status(&told, route.as_ref().unwrap(), &Seen::default()), None);
    }
}
