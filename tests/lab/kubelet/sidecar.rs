//! What the kubelet tells others about a pod's life: the seam at which the mesh's proxies and Prometheus's targets are
//! plugged in. It must not know what they do with it.

use std::{collections::BTreeMap, fmt::Debug, net::Ipv4Addr};

use k8s_openapi::api::core::v1::Pod;

/// The annotation that puts a pod into the mesh.
pub const INJECT_ANNOTATION: &str = "linkerd.io/inject";

/// Something that stands beside each meshed pod, as a proxy container would.
pub trait Sidecar: Debug + Send + Sync {
    /// The pod has its address; its containers start right after this returns. Called once a pod; must not block.
    fn pod_started(&self, pod: &PodInfo);

    /// The pod's processes are gone. Called once a pod, also when the lab stops; must not block.
    fn pod_stopped(&self, pod: &PodInfo);
}

/// A port that a container of the pod declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPort {
    /// Empty when the container gives no name.
    pub name: String,
    /// The number.
    pub port: u16,
}

/// What is fixed about a pod from its start to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodInfo {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's uid.
    pub uid: String,
    /// The pod's address; every port on it is the pod's own.
    pub ip: Ipv4Addr,
    /// The pod's labels as they were at its start.
    pub labels: BTreeMap<String, String>,
    /// The pod's annotations as they were at its start.
    pub annotations: BTreeMap<String, String>,
    /// The Deployment behind the pod's ReplicaSet.
    pub deployment: Option<String>,
    /// The label `pod-template-hash`.
    pub pod_template_hash: Option<String>,
    /// `spec.serviceAccountName`, else `default`.
    pub service_account: String,
    /// The ports of all containers, in order.
    pub ports: Vec<NamedPort>,
    /// The network namespace that the pod's processes run in; none: they run in the lab's own.
    pub network: Option<String>,
}

impl PodInfo {
    /// Reads the pod; the address is the one that the kubelet has just given it.
    pub fn new(pod: &Pod, ip: Ipv4Addr) -> Self {
        let meta = &pod.metadata;
        let labels = meta.labels.clone().unwrap_or_default();
        let pod_template_hash = labels.get("pod-template-hash").cloned();
        let spec = pod.spec.as_ref();
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            ip,
            annotations: meta.annotations.clone().unwrap_or_default(),
            deployment: deployment(pod, pod_template_hash.as_deref()),
            pod_template_hash,
            labels,
            service_account: spec
                .and_then(|s| s.service_account_name.clone())
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| "default".to_owned()),
            ports: spec
                .iter()
                .flat_map(|s| &s.containers)
                .flat_map(|c| c.ports.iter().flatten())
                .filter_map(|p| {
                    let port = u16::try_from(p.container_port).ok()?;
                    Some(NamedPort {
                        name: p.name.clone().unwrap_or_default(),
                        port,
                    })
                })
                .collect(),
            network: None,
        }
    }

    /// Whether the pod asked to be in the mesh.
    pub fn is_meshed(&self) -> bool {
        self.annotations
            .get(INJECT_ANNOTATION)
            .is_some_and(|value| value == "enabled" || value == "ingress")
    }

    /// The number of the port with this name.
    pub fn port(&self, name: &str) -> Option<u16> {
        self.ports.iter().find(|p| p.name == name).map(|p| p.port)
    }
}

/// A Deployment names its ReplicaSets `<deployment>-<pod-template-hash>`.
fn deployment(pod: &Pod, hash: Option<&str>) -> Option<String> {
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    let replica_set = owners
        .iter()
        .find(|o| o.kind == "ReplicaSet" && o.controller == Some(true))?;
    let name = replica_set.name.strip_suffix(hash?)?.strip_suffix('-')?;
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(value: serde_json::Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn deployment_is_the_replica_set_without_its_hash() {
        let pod = pod(json!({
            "metadata": {
                "name": "web-5d8f-abcde", "namespace": "shop", "uid": "u",
                "labels": {"pod-template-hash": "5d8f"},
                "annotations": {"linkerd.io/inject": "enabled"},
                "ownerReferences": [
                    {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d8f", "uid": "r", "controller": true}
                ],
            },
            "spec": {"containers": [
                {"name": "a", "ports": [{"name": "grpc", "containerPort": 50051}, {"containerPort": 8080}]}
            ]},
        }));
        let info = PodInfo::new(&pod, Ipv4Addr::new(127, 20, 1, 1));
        assert_eq!(info.deployment.as_deref(), Some("web"));
        assert!(info.is_meshed());
        assert_eq!(info.port("grpc"), Some(50051));
        assert_eq!(info.ports.len(), 2);
        assert_eq!(info.service_account, "default");
    }

    #[test]
    fn a_bare_pod_has_no_deployment_and_is_not_meshed() {
        let info = PodInfo::new(&pod(json!({"metadata": {"name": "one"}})), Ipv4Addr::LOCALHOST);
        assert_eq!(info.deployment, None);
        assert!(!info.is_meshed());
    }
}
