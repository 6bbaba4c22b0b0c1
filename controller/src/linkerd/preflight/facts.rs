//! What a preflight looks at: objects as the API server gives them, and what Prometheus says. Must not know what is right.

use std::collections::BTreeSet;

use serde_json::Value;

/// What was read, or why it could not be.
pub type Read<T> = Result<T, String>;

/// Everything that the lines are about.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The rollout's namespace.
    pub namespace: String,
    /// The apex Service's name.
    pub apex: String,
    /// The apex's port.
    pub port: u16,
    /// Stable's Deployment.
    pub stable: String,
    /// The canary's Deployment.
    pub canary: String,
    /// The Service of stable's pods.
    pub stable_service: String,
    /// The Service of the judged pods.
    pub canary_service: String,
    /// Somebody else scales the canary.
    pub external_capacity: bool,
    /// Seconds between two scrapes.
    pub scrape_seconds: f64,
    /// The route that carries the weights.
    pub route: Route,
    /// The versions of its kind that the cluster serves and Serin can use.
    pub versions: Read<Vec<String>>,
    /// The namespace itself.
    pub namespace_object: Read<Value>,
    /// Services of the namespace.
    pub services: Read<Vec<Value>>,
    /// Deployments of the namespace.
    pub deployments: Read<Vec<Value>>,
    /// Pods of the namespace.
    pub pods: Read<Vec<Value>>,
    /// Linkerd's ServiceProfiles, of all namespaces if they can be read.
    pub profiles: Read<Vec<Value>>,
    /// Routes and TrafficSplits of all kinds, of all namespaces if they can be read.
    pub routes: Read<Vec<Value>>,
    /// HorizontalPodAutoscalers of the namespace.
    pub autoscalers: Read<Vec<Value>>,
    /// PodDisruptionBudgets of the namespace.
    pub budgets: Read<Vec<Value>>,
    /// ResourceQuotas of the namespace.
    pub quotas: Read<Vec<Value>>,
    /// Ingresses of the namespace.
    pub ingresses: Read<Vec<Value>>,
    /// Argo CD's Application, if the rollout names one.
    pub application: Option<Read<Value>>,
    /// What Prometheus says.
    pub sight: Read<Sight>,
}

/// The route that carries the weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// As in a manifest.
    pub kind: String,
    /// The API group.
    pub group: String,
    /// Its name.
    pub name: String,
    /// It stands in Git.
    pub adopted: bool,
}

/// What Prometheus says; times in seconds since the epoch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sight {
    /// The checker's clock when it asked.
    pub here: f64,
    /// Prometheus's clock when it answered.
    pub there: f64,
    /// The proxies of both arms.
    pub proxies: Vec<Proxy>,
    /// Labels of the inbound responses of both arms; none when there was no call.
    pub labels: BTreeSet<String>,
    /// The share of stable's recent calls that came without a mesh identity; `None` when there was no call.
    pub unmeshed: Option<f64>,
}

/// A proxy that was scraped.
#[derive(Debug, Clone, PartialEq)]
pub struct Proxy {
    /// Its pod.
    pub pod: String,
    /// When it was scraped last.
    pub scraped: f64,
}

impl Facts {
    pub(super) fn is_split(&self) -> bool {
        self.route.kind == "TrafficSplit"
    }

    /// The route object, if it is there.
    pub(super) fn live_route(&self) -> Option<&Value> {
        self.routes.as_ref().ok()?.iter().find(|route| self.is_the_route(route))
    }

    /// Whether an object is of the rollout's namespace.
    pub(super) fn is_here(&self, object: &Value) -> bool {
        text(object, "/metadata/namespace") == Some(&self.namespace)
    }

    pub(super) fn is_the_route(&self, object: &Value) -> bool {
        let version = text(object, "/apiVersion").unwrap_or_default();
        text(object, "/kind") == Some(&self.route.kind)
            && self.is_here(object)
            && version.split('/').next() == Some(&self.route.group)
            && name(object) == self.route.name
    }
}

pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer)?.as_str()
}

pub(super) fn name(object: &Value) -> &str {
    text(object, "/metadata/name").unwrap_or_default()
}

pub(super) fn list<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    object.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

pub(super) fn named<'a>(objects: &'a [Value], wanted: &str) -> Option<&'a Value> {
    objects.iter().find(|object| name(object) == wanted)
}

/// Whether a selector selects these labels; an empty one selects nothing.
pub(super) fn selects(selector: Option<&Value>, labels: Option<&Value>) -> bool {
    let Some(selector) = selector.and_then(Value::as_object).filter(|s| !s.is_empty()) else {
        return false;
    };
    selector
        .iter()
        .all(|(key, value)| labels.and_then(|l| l.get(key)) == Some(value))
}

/// The annotations of an object whose names begin so.
pub(super) fn annotations<'a>(object: &'a Value, prefixes: &'a [&str]) -> Vec<&'a str> {
    let all = object.pointer("/metadata/annotations").and_then(Value::as_object);
    let keys = all.into_iter().flatten().map(|(key, _)| key.as_str());
    keys.filter(|key| prefixes.iter().any(|prefix| key.starts_with(prefix)))
        .collect()
}
