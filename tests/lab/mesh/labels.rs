//! The labels that tell endpoints apart in a proxy's metrics. Pure text; it must not know the metrics.

use std::{fmt::Write as _, net::SocketAddr};

use super::policy::ServicePort;
use crate::kubelet::sidecar::PodInfo;

/// The namespace of Linkerd's control plane.
pub(super) const CONTROL_PLANE: &str = "linkerd";
pub(super) const TRUST_DOMAIN: &str = "cluster.local";

fn target(address: SocketAddr) -> String {
    format!(
        "target_addr=\"{address}\",target_ip=\"{}\",target_port=\"{}\"",
        address.ip(),
        address.port()
    )
}

/// Calls that a pod answers at this address: those of a meshed pod, or of anybody outside of the mesh.
pub(super) fn inbound(address: SocketAddr, client: Option<&PodInfo>) -> String {
    let tls = match client {
        Some(PodInfo {
            namespace,
            service_account,
            ..
        }) => format!("tls=\"true\",client_id=\"{}\"", identity(namespace, service_account)),
        None => "tls=\"no_identity\",no_tls_reason=\"no_tls_from_remote\"".to_owned(),
    };
    format!(
        "direction=\"inbound\",{},{tls},srv_group=\"\",\
         srv_kind=\"default\",srv_name=\"all-unauthenticated\",srv_port=\"{}\",route_group=\"\",route_kind=\"default\",\
         route_name=\"default\",authz_group=\"\",authz_kind=\"default\",authz_name=\"all-unauthenticated\"",
        target(address),
        address.port()
    )
}

/// Calls to an endpoint of a Service.
pub(super) fn outbound(service: &ServicePort, address: SocketAddr, pod: &PodInfo) -> String {
    let mut labels = format!(
        "direction=\"outbound\",authority=\"{}\",{},tls=\"no_identity\",\
         no_tls_reason=\"not_provided_by_service_discovery\"",
        service.authority(),
        target(address)
    );
    for (name, value) in destination(service, pod) {
        // Writing to a String can't fail.
        let _ = write!(labels, ",dst_{name}=\"{value}\"");
    }
    labels
}

/// What tells the endpoints of a Service apart, by name and in order.
pub(super) fn destination<'a>(service: &'a ServicePort, pod: &'a PodInfo) -> Vec<(&'static str, &'a str)> {
    let control_plane = pod.is_meshed().then_some(CONTROL_PLANE);
    let parts = [
        ("control_plane_ns", control_plane),
        ("deployment", pod.deployment.as_deref()),
        ("namespace", Some(pod.namespace.as_str())),
        ("pod", Some(pod.name.as_str())),
        ("pod_template_hash", pod.pod_template_hash.as_deref()),
        ("service", Some(service.name.as_str())),
        ("serviceaccount", Some(pod.service_account.as_str())),
        ("zone", Some("")),
        ("zone_locality", Some("unknown")),
    ];
    parts
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// The name by which a pod is known to the others in the mesh.
pub(super) fn identity(namespace: &str, service_account: &str) -> String {
    format!("{service_account}.{namespace}.serviceaccount.identity.{CONTROL_PLANE}.{TRUST_DOMAIN}")
}
