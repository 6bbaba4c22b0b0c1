//! Reads what a preflight looks at, from the API server and from Prometheus: for `serin check` and before every start. Decides
//! nothing; what is right is known to `linkerd::preflight`.

use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use super::observe::route;
use crate::api::{CanaryRollout, CapacitySpec, parse_duration};
use crate::linkerd::preflight::{Facts, Read, Route};
use crate::prometheus::Prometheus;
use crate::runtime::clock;
use crate::traffic::{Kind, Traffic};

/// The longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Where facts come from. Cheap to clone.
#[derive(Clone)]
pub struct Sources {
    /// The API server, asked as whoever checks.
    pub client: Client,
    /// The same, for what kinds it serves.
    pub traffic: Traffic,
    /// Linkerd's metrics.
    pub prometheus: Prometheus,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources")
            .field("traffic", &self.traffic)
            .field("prometheus", &self.prometheus)
            .finish_non_exhaustive()
    }
}

impl Sources {
    /// Reads everything that the preflight of this rollout is about. What can't be read says why, and nothing else fails
    /// for it.
    pub async fn facts(&self, rollout: &CanaryRollout) -> Facts {
        let spec = &rollout.spec;
        let namespace = rollout.namespace().unwrap_or_default();
        let route = route(rollout, &namespace);
        let within = Some(namespace.as_str());
        let read = |group, version, kind, plural| self.list(resource((group, version, kind, plural)), within);
        let core = async {
            tokio::join!(
                read("", "v1", "Service", "services"),
                read("", "v1", "Pod", "pods"),
                read("", "v1", "ResourceQuota", "resourcequotas"),
                read("apps", "v1", "Deployment", "deployments"),
                self.namespace(&namespace),
                self.application(rollout),
            )
        };
        let others = async {
            tokio::join!(
                read(
                    "autoscaling",
                    "v2",
                    "HorizontalPodAutoscaler",
                    "horizontalpodautoscalers"
                ),
                read("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
                read("networking.k8s.io", "v1", "Ingress", "ingresses"),
                self.profiles(&namespace),
                self.routes(route.kind, &namespace),
            )
        };
        let arms = (spec.stable.deployment.as_str(), spec.canary.deployment.as_str());
        let glance = self.prometheus.glance(&namespace, arms, clock::now());
        let (core, others, sight) = tokio::join!(core, others, glance);
        let (services, pods, quotas, deployments, namespace_object, application) = core;
        let (autoscalers, budgets, ingresses, profiles, (routes, versions)) = others;
        Facts {
            apex: route.apex.clone(),
            port: route.port,
            stable: spec.stable.deployment.clone(),
            canary: spec.canary.deployment.clone(),
            stable_service: route.stable_service.clone(),
            canary_service: route.canary_service.clone(),
            external_capacity: spec.plan.capacity == CapacitySpec::External,
            scrape_seconds: parse_duration(&spec.analysis.scrape_interval).map_or(10.0, |d| d.as_secs_f64()),
            route: Route {
                kind: route.kind.name().to_owned(),
                group: route.kind.group().to_owned(),
                name: route.name,
                adopted: route.adopted,
            },
            versions,
            namespace_object,
            services,
            deployments,
            pods,
            profiles,
            routes,
            autoscalers,
            budgets,
            quotas,
            ingresses,
            application,
            sight: sight.map_err(|error| chain(&error)),
            namespace,
        }
    }

    async fn namespace(&self, name: &str) -> Read<Value> {
        let kind = resource(("", "v1", "Namespace", "namespaces"));
        get(Api::all_with(self.client.clone(), &kind), name, &kind).await
    }

    async fn application(&self, rollout: &CanaryRollout) -> Option<Read<Value>> {
        let of = rollout.spec.argocd.as_ref()?;
        let kind = resource(("argoproj.io", "v1alpha1", "Application", "applications"));
        let api = Api::namespaced_with(self.client.clone(), &of.namespace, &kind);
        Some(get(api, &of.application, &kind).await)
    }

    /// A client may look a profile up in its own namespace, so all are read; where only this one may be, this one's are.
    async fn profiles(&self, namespace: &str) -> Read<Vec<Value>> {
        let kind = resource(("linkerd.io", "v1alpha2", "ServiceProfile", "serviceprofiles"));
        self.everywhere(&kind, namespace).await
    }

    /// The routes of all kinds that are served, of all namespaces if they may be read, and the versions of the rollout's
    /// kind.
    async fn routes(&self, wanted: Kind, namespace: &str) -> (Read<Vec<Value>>, Read<Vec<String>>) {
        let (mut all, mut versions) = (Ok(Vec::new()), Ok(Vec::new()));
        for kind in Kind::ALL {
            let served = self.traffic.served(kind).await.map_err(|error| error.to_string());
            if kind == wanted {
                versions = served.clone().map(|r| r.into_iter().map(|r| r.api_version).collect());
            }
            let found = match served {
                Ok(Some(resource)) => self.everywhere(&resource, namespace).await,
                Ok(None) => Ok(Vec::new()),
                Err(why) => Err(why),
            };
            all = all.and_then(|mut all: Vec<Value>| {
                all.extend(found?);
                Ok(all)
            });
        }
        (all, versions)
    }

    /// All objects of a kind that may be read: those of all namespaces, else those of this one.
    async fn everywhere(&self, resource: &ApiResource, namespace: &str) -> Read<Vec<Value>> {
        match self.list(resource.clone(), None).await {
            Ok(all) => Ok(all),
            Err(_) => self.list(resource.clone(), Some(namespace)).await,
        }
    }

    /// All objects of a kind; a kind that is not served has none.
    async fn list(&self, resource: ApiResource, namespace: Option<&str>) -> Read<Vec<Value>> {
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        match tokio::time::timeout(TIMEOUT, api.list(&ListParams::default())).await {
            Ok(Ok(list)) => Ok(list.items.iter().map(|object| value(object, &resource)).collect()),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(Vec::new()),
            Ok(Err(error)) => Err(format!("listing {}: {error}", resource.plural)),
            Err(_) => Err(format!("listing {}: no answer in {TIMEOUT:?}", resource.plural)),
        }
    }
}

fn resource((group, version, kind, plural): (&str, &str, &str, &str)) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

async fn get(api: Api<DynamicObject>, name: &str, resource: &ApiResource) -> Read<Value> {
    let doing = || format!("reading the {} {name}", resource.kind);
    match tokio::time::timeout(TIMEOUT, api.get(name)).await {
        Ok(Ok(object)) => Ok(value(&object, resource)),
        Ok(Err(error)) => Err(format!("{}: {error}", doing())),
        Err(_) => Err(format!("{}: no answer in {TIMEOUT:?}", doing())),
    }
}

/// In a list, objects do not say what they are.
fn value(object: &DynamicObject, resource: &ApiResource) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(map) = value.as_object_mut() {
        map.insert("apiVersion".to_owned(), json!(resource.api_version));
        map.insert("kind".to_owned(), json!(resource.kind));
    }
    value
}

/// An error with all that led to it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        out.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    out
}
