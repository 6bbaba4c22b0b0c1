//! The kinds of routes beside the Gateway API's.

use std::{sync::Arc, time::Duration};

use anyhow::ensure;
use lab::Lab;
use serde_json::json;
use serin::api::CanaryRolloutStatus;

use super::{
    site::environment,
    witness::{PROMOTION, ROLLBACK, commits, traffic_away, weights, written_by_serin},
};

/// HTTPRoute of policy.linkerd.io, for meshes without the Gateway API.
pub(super) async fn linkerds_own(lab: Arc<Lab>) -> anyhow::Result<()> {
    let route = json!({ "kind": "HTTPRoute.policy.linkerd.io" });
    let environment = environment(&lab, "policy-route", json!({ "rollout": { "route": route } })).await?;
    environment.commit("1.1.0", None).await?;
    environment.until_phase("Promoted", "1.1.0", PROMOTION).await?;
    ensure!(
        weights(&environment)? == [0, 10, 25, 50, 100, 75, 50, 0],
        "{:?}",
        weights(&environment)?
    );
    let met = environment
        .calls()?
        .iter()
        .filter(|call| call.revision.as_deref() == Some("1.1.0"))
        .count();
    ensure!(met > 100, "only {met} calls met 1.1.0");
    written_by_serin(&environment)
}

fn follows(status: &CanaryRolloutStatus, wanted: &str, words: &str) -> bool {
    let is = |kind: &str| kind == "TrafficNotFollowing";
    status
        .conditions
        .iter()
        .any(|c| is(&c.type_) && c.status == wanted && c.message.contains(words))
}

/// A TrafficSplit acts through a ServiceProfile, which clients look for once: those that call already never see the first one. No
/// step passes on that; when the clients are restarted, as the condition says, the trial goes on to its end.
pub(super) async fn split(lab: Arc<Lab>) -> anyhow::Result<()> {
    let route = json!({ "kind": "TrafficSplit" });
    let environment = environment(&lab, "split", json!({ "rollout": { "route": route } })).await?;
    environment.commit("1.1.0", None).await?;
    let inert = |s: &CanaryRolloutStatus| {
        follows(s, "True", "the weight is 10 %, and 0 of") && follows(s, "True", "restart the clients")
    };
    environment
        .until("it is known that no traffic follows", ROLLBACK, inert)
        .await?;
    let met = environment
        .calls()?
        .iter()
        .filter(|call| call.revision.as_deref() == Some("1.1.0"))
        .count();
    ensure!(met == 0, "the lab shows no trap: {met} calls met 1.1.0");
    ensure!(weights(&environment)? == [0, 10], "{:?}", weights(&environment)?);

    let namespace = environment.namespace();
    let clients = [
        "delete",
        "pods",
        "-n",
        &namespace,
        "-l",
        "app.kubernetes.io/name=user-load",
        "--wait=false",
    ];
    environment.site.kubectl(&clients, b"").await?;
    let follows_now = |s: &CanaryRolloutStatus| follows(s, "False", "");
    environment
        .until("traffic follows", Duration::from_secs(60), follows_now)
        .await?;
    environment.until_phase("Promoted", "1.1.0", PROMOTION).await?;
    ensure!(
        weights(&environment)? == [0, 10, 25, 50, 100, 75, 50, 0],
        "{:?}",
        weights(&environment)?
    );
    ensure!(
        commits(&environment, "promote", "1.1.0").await? == 1,
        "not one promotion commit"
    );
    traffic_away(&environment)?;
    written_by_serin(&environment)
}
