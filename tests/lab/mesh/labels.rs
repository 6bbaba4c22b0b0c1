//! The labels that tell endpoints apart in a proxy's metrics. Pure text; it must not know the metrics.

use std::{fmt::Write as _, net::SocketAddr};

use super::policy::ServicePort;
use crate::kubelet::sidecar::PodInfo;

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
        }) => format!(
            "tls=\"true\",client_id=\"{service_account}.{namespace}.serviceaccount.identity.linkerd.cluster.local\""
        ),
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
    let control_plane = pod.is_meshed().then_some("linkerd");
    let parts = [
        ("dst_control_plane_ns", control_plane),
        ("dst_deployment", pod.deployment.as_deref()),
        ("dst_namespace", Some(pod.namespace.as_str())),
        ("dst_pod", Some(pod.name.as_str())),
        ("dst_pod_template_hash", pod.pod_template_hash.as_deref()),
        ("dst_service", Some(service.name.as_str())),
        ("dst_serviceaccount", Some(pod.service_account.as_str())),
        ("dst_zone", Some("")),
        ("dst_zone_locality", Some("unknown")),
    ];
    for (name, value) in parts.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        // Writing to a String can't fail.
        let _ = write!(labels, ",{name}=\"{value}\"");
    }
    labels
}
