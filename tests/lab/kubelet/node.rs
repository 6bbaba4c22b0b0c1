//! The one Node object. It must not know what runs on it.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::clock;

/// Creates the node, ready, with room for everything. On the port the API server asks for what is not in the objects; without one it
/// finds nobody there.
pub(super) async fn register(client: &Client, name: &str, address: Ipv4Addr, port: Option<u16>) -> kube::Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let params = PatchParams::apply("lab-kubelet").force();
    let node = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}},
    });
    nodes.patch(name, &params, &Patch::Apply(&node)).await?;
    // Admission taints new nodes until a controller that does not run here finds them ready.
    nodes
        .patch(
            name,
            &PatchParams::default(),
            &Patch::Merge(json!({"spec": {"taints": null}})),
        )
        .await?;
    let room = json!({"cpu": "1000", "memory": "1000Gi", "pods": "60000", "ephemeral-storage": "1000Gi"});
    let now = clock::now().to_string();
    let status = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "status": {
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port.unwrap_or_default()}},
            "capacity": room,
            "allocatable": room,
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "the lab's kubelet runs",
                "lastHeartbeatTime": now, "lastTransitionTime": now,
            }],
            "nodeInfo": {
                "machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "", "osImage": "the lab",
                "containerRuntimeVersion": "processes://1", "kubeletVersion": "v1.36.0", "kubeProxyVersion": "",
                "operatingSystem": "linux", "architecture": std::env::consts::ARCH,
            },
        },
    });
    nodes.patch_status(name, &params, &Patch::Apply(&status)).await?;
    Ok(())
}
