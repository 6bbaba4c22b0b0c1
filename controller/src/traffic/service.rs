//! The arms' Services, made after the apex's. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodSpec, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::error::Error;
use super::spec::{lasting_metadata, metadata};

/// Set by the Deployment controller on a ReplicaSet's pods.
const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// Linkerd speaks HTTP/2 without asking where this stands.
const H2C: &str = "kubernetes.io/h2c";

/// The Service of one arm.
#[derive(Debug, Clone, PartialEq)]
pub struct ArmService {
    /// Its namespace, the apex's.
    pub namespace: String,
    /// Its name; see [`super::stable_service`] and [`super::canary_service`].
    pub name: String,
    /// The labels by which the arm's Deployment finds its pods.
    pub selector: BTreeMap<String, String>,
    /// Only pods of this ReplicaSet: a revision that is not judged gets no calls.
    pub pin: Option<String>,
    /// The rollout, which the generated objects go with.
    pub owner: OwnerReference,
    /// It stays when the rollout goes: an adopted route goes on naming it, and the share of a missing Service fails.
    pub outlives: bool,
}

impl ArmService {
    /// The Service as Serin generates it: the apex's port, with its target and protocol.
    pub fn generated(&self, apex: &Service, port: u16) -> Result<Value, Error> {
        let of = apex_port(apex, port).ok_or_else(|| Error::NoSuchPort {
            service: format!(
                "{}/{}",
                self.namespace,
                apex.metadata.name.as_deref().unwrap_or_default()
            ),
            port,
        })?;
        let mut selector = self.selector.clone();
        if let Some(pin) = &self.pin {
            selector.insert(POD_TEMPLATE_HASH.to_owned(), pin.clone());
        }
        let mut arm_port = json!({
            "port": of.port,
            "protocol": "TCP",
            "targetPort": of.target_port.clone().unwrap_or(IntOrString::Int(of.port)),
            "appProtocol": of.app_protocol.as_deref().unwrap_or(H2C),
        });
        if let Some(name) = &of.name {
            arm_port
                .as_object_mut()
                .map(|port| port.insert("name".to_owned(), json!(name)));
        }
        let metadata = if self.outlives { lasting_metadata } else { metadata };
        Ok(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata(&self.namespace, &self.name, &self.owner),
            "spec": { "type": "ClusterIP", "selector": selector, "ports": [arm_port] },
        }))
    }
}

/// The port on which a pod's container answers what is called on the Service's port; `None` when either is unknown.
pub fn container_port(apex: &Service, port: u16, pod: &PodSpec) -> Option<u16> {
    let of = apex_port(apex, port)?;
    match &of.target_port {
        None => Some(port),
        Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
        Some(IntOrString::String(name)) => {
            let mut ports = pod
                .containers
                .iter()
                .chain(pod.init_containers.iter().flatten())
                .flat_map(|c| c.ports.iter().flatten());
            u16::try_from(ports.find(|p| p.name.as_ref() == Some(name))?.container_port).ok()
        }
    }
}

fn apex_port(apex: &Service, port: u16) -> Option<&ServicePort> {
    apex.spec
        .as_ref()?
        .ports
        .iter()
        .flatten()
        .find(|p| p.port == i32::from(port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apex() -> Service {
        serde_json::from_value(json!({
            "metadata": { "name": "user-service", "namespace": "prod" },
            "spec": { "ports": [
                { "name": "grpc", "port": 50051, "targetPort": "grpc" },
                { "name": "http", "port": 80, "targetPort": 8080, "appProtocol": "http" },
                { "port": 9000 },
            ] },
        }))
        .unwrap()
    }

    fn canary() -> ArmService {
        ArmService {
            namespace: "prod".to_owned(),
            name: "user-service-canary".to_owned(),
            selector: [
                ("app".to_owned(), "user-service".to_owned()),
                ("track".to_owned(), "canary".to_owned()),
            ]
            .into(),
            pin: Some("5d4f8c7b9".to_owned()),
            owner: OwnerReference {
                api_version: "serin.dev/v1alpha1".to_owned(),
                kind: "CanaryRollout".to_owned(),
                name: "user-service".to_owned(),
                uid: "u-1".to_owned(),
                ..OwnerReference::default()
            },
            outlives: false,
        }
    }

    #[test]
    fn what_an_adopted_route_names_does_not_go_with_the_rollout() {
        let lasting = ArmService {
            outlives: true,
            ..canary()
        };
        let metadata = lasting.generated(&apex(), 50051).unwrap()["metadata"].clone();
        assert_eq!(metadata.get("ownerReferences"), None);
        assert_eq!(metadata["annotations"]["serin.dev/rollout"], "user-service");
    }

    #[test]
    fn the_canarys_service_selects_only_the_judged_pods() {
        insta::assert_json_snapshot!(canary().generated(&apex(), 50051).unwrap());
    }

    #[test]
    fn an_arm_without_a_pin_selects_all_of_its_pods() {
        let all = ArmService { pin: None, ..canary() }.generated(&apex(), 80).unwrap();
        assert_eq!(
            all["spec"]["selector"],
            json!({ "app": "user-service", "track": "canary" })
        );
        assert_eq!(all["spec"]["ports"][0]["appProtocol"], "http");
        assert_eq!(all["spec"]["ports"][0]["targetPort"], 8080);
    }

    #[test]
    fn a_port_that_the_apex_lacks_is_named() {
        let error = canary().generated(&apex(), 1).unwrap_err();
        assert!(error.to_string().contains("prod/user-service has no port 1"), "{error}");
    }

    #[test]
    fn the_containers_port_is_found_by_name_by_number_and_by_default() {
        let pod: PodSpec = serde_json::from_value(json!({ "containers": [
            { "name": "proxy", "ports": [{ "name": "admin", "containerPort": 4191 }] },
            { "name": "app", "ports": [{ "name": "grpc", "containerPort": 6000 }] },
        ] }))
        .unwrap();
        assert_eq!(container_port(&apex(), 50051, &pod), Some(6000));
        assert_eq!(container_port(&apex(), 80, &pod), Some(8080));
        assert_eq!(container_port(&apex(), 9000, &pod), Some(9000));
        assert_eq!(container_port(&apex(), 1, &pod), None);
        assert_eq!(container_port(&apex(), 50051, &PodSpec::default()), None);
    }
}
