//! The routing table of the whole mesh, made of objects as they are now. Pure; it must not know who calls, nor whether an
//! endpoint can be reached.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use k8s_openapi::{
    api::core::v1::{Pod, Service},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{
    breaker::Breaker,
    policy::{Policy, ServicePort},
    profile::Profile,
    route::Route,
};

/// The objects that the mesh has read.
#[derive(Debug, Default, Clone)]
pub(super) struct Objects {
    pub(super) services: Vec<Arc<Service>>,
    pub(super) pods: Vec<Arc<Pod>>,
    pub(super) routes: Vec<Route>,
    /// Those that act; of several for one Service in one namespace the first counts.
    pub(super) profiles: Vec<Profile>,
}

/// What each port of each Service means.
#[derive(Debug, Default)]
pub(super) struct Table {
    ports: HashMap<ServicePort, Entry>,
    /// By the namespace in which a profile stands, and the port that it is about.
    profiles: HashMap<(String, ServicePort), (Arc<Policy>, Arc<Profile>)>,
    /// Namespaces and names by cluster address.
    services: HashMap<IpAddr, (String, String)>,
    known: HashSet<(String, String)>,
    /// All that have an address, ready or not.
    pods: HashMap<IpAddr, Arc<Pod>>,
}

#[derive(Debug)]
struct Entry {
    policy: Arc<Policy>,
    endpoints: Vec<Endpoint>,
}

/// A pod that can be called.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    pub(super) pod: Arc<Pod>,
}

impl Table {
    pub(super) fn new(objects: &Objects) -> Self {
        let Objects {
            services,
            pods,
            routes,
            profiles,
        } = objects;
        let key = |service: &Service| {
            let meta = &service.metadata;
            (
                meta.namespace.clone().unwrap_or_default(),
                meta.name.clone().unwrap_or_default(),
            )
        };
        let known: HashSet<_> = services.iter().map(|service| key(service)).collect();
        let exists = |port: &ServicePort| known.contains(&(port.namespace.clone(), port.name.clone()));
        let mut ready: HashMap<&str, Vec<&Arc<Pod>>> = HashMap::new();
        for pod in pods.iter().filter(|pod| is_ready(pod)) {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            ready.entry(namespace).or_default().push(pod);
        }
        let mut by_namespace: HashMap<&str, Vec<&Route>> = HashMap::new();
        for route in routes {
            by_namespace.entry(&route.namespace).or_default().push(route);
        }
        let mut entries = HashMap::new();
        let mut of_profiles = HashMap::new();
        for service in services {
            let (namespace, name) = key(service);
            let pods = ready.get(namespace.as_str()).map(Vec::as_slice).unwrap_or_default();
            let pods: Vec<_> = pods.iter().filter(|pod| selects(service, pod)).collect();
            let routes = by_namespace
                .get(namespace.as_str())
                .map(Vec::as_slice)
                .unwrap_or_default();
            for port in service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()) {
                let Ok(number) = u16::try_from(port.port) else { continue };
                let at = ServicePort {
                    namespace: namespace.clone(),
                    name: name.clone(),
                    port: number,
                };
                let endpoint = |pod: &&&Arc<Pod>| {
                    let port = target_port(port.target_port.as_ref(), number, pod)?;
                    Some(Endpoint {
                        address: SocketAddr::new(address(pod)?, port),
                        pod: Arc::clone(pod),
                    })
                };
                let breaker = Breaker::read(service.metadata.annotations.as_ref());
                let policy = Policy::new(&at, routes, exists);
                let entry = Entry {
                    policy: Arc::new(policy.breaking(breaker).speaking(port.app_protocol.as_deref())),
                    endpoints: pods.iter().filter_map(endpoint).collect(),
                };
                let about = |profile: &&Profile| profile.service == (namespace.clone(), name.clone());
                for profile in profiles.iter().filter(about) {
                    let profile = profile.at_port(number);
                    let policy = Arc::new(Policy::of_profile(&at, &profile, exists));
                    let key = (profile.namespace.clone(), at.clone());
                    of_profiles.entry(key).or_insert((policy, Arc::new(profile)));
                }
                entries.insert(at, entry);
            }
        }
        let addresses = services.iter().filter_map(|service| {
            let address = service.spec.as_ref()?.cluster_ip.as_ref()?;
            Some((address.parse().ok()?, key(service)))
        });
        Self {
            ports: entries,
            profiles: of_profiles,
            services: addresses.collect(),
            pods: pods
                .iter()
                .filter_map(|pod| Some((address(pod)?, Arc::clone(pod))))
                .collect(),
            known,
        }
    }

    /// What a ServiceProfile says about a Service to clients of a namespace, if one acts.
    pub(super) fn profile(&self, client: &str, service: &ServicePort) -> Option<&Arc<Policy>> {
        self.profiled(client, service).map(|(policy, _)| policy)
    }

    /// The same, with the profile itself.
    pub(super) fn profiled(&self, client: &str, service: &ServicePort) -> Option<&(Arc<Policy>, Arc<Profile>)> {
        let of = |namespace: &str| self.profiles.get(&(namespace.to_owned(), service.clone()));
        of(client).or_else(|| of(&service.namespace))
    }

    /// The namespace and name of the Service with this cluster address.
    pub(super) fn service_at(&self, address: IpAddr) -> Option<&(String, String)> {
        self.services.get(&address)
    }

    /// All Services with a cluster address, by that: namespaces and names.
    pub(super) fn services(&self) -> impl Iterator<Item = (IpAddr, &(String, String))> {
        self.services.iter().map(|(address, service)| (*address, service))
    }

    /// Whether there is such a Service, whatever its ports are.
    pub(super) fn has_service(&self, namespace: &str, name: &str) -> bool {
        self.known.contains(&(namespace.to_owned(), name.to_owned()))
    }

    /// The pod with this address.
    pub(super) fn pod_at(&self, address: IpAddr) -> Option<&Arc<Pod>> {
        self.pods.get(&address)
    }

    /// The pod with this name.
    pub(super) fn pod(&self, namespace: &str, name: &str) -> Option<&Arc<Pod>> {
        self.pods.values().find(|pod| {
            let meta = &pod.metadata;
            meta.namespace.as_deref() == Some(namespace) && meta.name.as_deref() == Some(name)
        })
    }

    /// What the routes say about a Service; none when there is no such Service.
    pub(super) fn policy(&self, service: &ServicePort) -> Option<&Arc<Policy>> {
        self.ports.get(service).map(|entry| &entry.policy)
    }

    /// The ready pods of a Service.
    pub(super) fn endpoints(&self, service: &ServicePort) -> &[Endpoint] {
        self.ports
            .get(service)
            .map(|entry| entry.endpoints.as_slice())
            .unwrap_or_default()
    }
}

fn address(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions
            .unwrap_or_default()
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// A Service without a selector selects nothing: its endpoints are somebody else's to name.
fn selects(service: &Service, pod: &Pod) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let labels = pod.metadata.labels.as_ref();
    selector.is_some_and(|selector| {
        !selector.is_empty()
            && selector
                .iter()
                .all(|(name, value)| labels.and_then(|labels| labels.get(name)) == Some(value))
    })
}

fn target_port(target: Option<&IntOrString>, port: u16, pod: &Pod) -> Option<u16> {
    match target {
        None | Some(IntOrString::Int(0)) => Some(port),
        Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
        Some(IntOrString::String(name)) => {
            let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
            let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
            let found = ports.find(|port| port.name.as_ref() == Some(name))?;
            u16::try_from(found.container_port).ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(ip: &str, changes: &Value) -> Arc<Pod> {
        let mut pod = json!({
            "metadata": {"name": ip, "namespace": "shop", "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "a", "ports": [{"name": "grpc", "containerPort": 50051}]}]},
            "status": {"podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]},
        });
        for (pointer, value) in changes.as_object().into_iter().flatten() {
            *pod.pointer_mut(pointer).unwrap() = value.clone();
        }
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn endpoints(port: &Value, pods: Vec<Arc<Pod>>) -> Vec<String> {
        let service = json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"selector": {"app": "web"}, "ports": [port]},
        });
        let objects = Objects {
            services: vec![Arc::new(serde_json::from_value(service).unwrap())],
            pods,
            routes: Vec::new(),
            profiles: Vec::new(),
        };
        let at = ServicePort::parse("web.shop:80", "").unwrap();
        let table = Table::new(&objects);
        assert!(table.policy(&at).is_some());
        table
            .endpoints(&at)
            .iter()
            .map(|endpoint| endpoint.address.to_string())
            .collect()
    }

    #[test]
    fn a_target_port_is_a_number_a_name_or_the_port_itself() {
        let one = || vec![pod("10.0.0.1", &json!({}))];
        assert_eq!(endpoints(&json!({"port": 80}), one()), ["10.0.0.1:80"]);
        assert_eq!(
            endpoints(&json!({"port": 80, "targetPort": 8080}), one()),
            ["10.0.0.1:8080"]
        );
        assert_eq!(
            endpoints(&json!({"port": 80, "targetPort": "grpc"}), one()),
            ["10.0.0.1:50051"]
        );
        assert!(endpoints(&json!({"port": 80, "targetPort": "http"}), one()).is_empty());
    }

    #[test]
    fn only_ready_pods_of_the_selector_and_the_namespace_are_endpoints() {
        let mut leaving = Pod::clone(&pod("10.0.0.5", &json!({})));
        let now = jiff::Timestamp::from_second(1).unwrap();
        leaving.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
        let pods = vec![
            pod("10.0.0.1", &json!({})),
            pod("10.0.0.2", &json!({"/status/conditions/0/status": "False"})),
            pod("10.0.0.3", &json!({"/metadata/labels/app": "other"})),
            pod("10.0.0.4", &json!({"/metadata/namespace": "elsewhere"})),
            Arc::new(leaving),
        ];
        assert_eq!(endpoints(&json!({"port": 80}), pods), ["10.0.0.1:80"]);
    }
}
