//! The story of a second lab, beside the first one, over a cluster that is there already.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use lab::{Lab, Options, control_plane::ControlPlane, net::Net, project_root, tools::Tools};
use serde_json::json;

use super::cluster::{deploy, image, namespace, ready_pods};

pub(super) async fn uses_a_cluster_that_is_there(lab: Arc<Lab>) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let net = Net::choose()?;
    let cluster = ControlPlane::start(&Tools::load()?, &net, dir.path(), &project_root().join("crds"))
        .await
        .context("starting somebody's cluster")?;
    let guest = Lab::start(Options {
        kubeconfig: Some(cluster.kubeconfig_admin()),
        keep: false,
        ..Options::default()
    })
    .await
    .context("starting a lab over it")?;
    ensure!(
        guest.control_plane.server() == cluster.server() && cluster.server() != lab.control_plane.server(),
        "the second lab's cluster is {}",
        guest.control_plane.server()
    );
    ensure!(
        guest.net.number() != lab.net.number() && guest.dir() != lab.dir(),
        "the labs share their network or their folder"
    );
    let client = namespace(&guest, "guest").await?;
    deploy(&client, "guest", &image(&guest, "guest:1")?, 1, &json!({})).await?;
    ready_pods(&client, "guest", 1).await?;
    guest.stop().await;
    drop(guest);
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    namespaces
        .get("guest")
        .await
        .context("the cluster ended with the lab that only used it")?;
    cluster.stop().await;
    Ok(())
}
