//! The kinds of routes beside GRPCRoute: each promotes and rolls back.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use lab::{
    Lab,
    faults::{Behind, Proxy},
    site::{Detours, Environment},
};
use serde_json::json;
use serin::api::CanaryRolloutStatus;

use super::{
    site::{environment, environment_with},
    witness::{PROMOTION, ROLLBACK, commits, nobody_meets, traffic_away, weights, written_by_serin},
};

/// HTTPRoute of policy.linkerd.io, for meshes without the Gateway API.
pub(super) async fn linkerds_own(lab: Arc<Lab>) -> anyhow::Result<()> {
    let route = json!({ "kind": "HTTPRoute.policy.linkerd.io" });
    let environment = environment(&lab, "policy-route", json!({ "rollout": { "route": route } })).await?;
    environment.commit("1.1.0", None).await?;
    is_promoted(&environment, "1.1.0").await?;
    rolls_back(&environment, "1.2.0").await?;
    goes_with_its_rollout(&environment, "httproutes.policy.linkerd.io").await
}

/// HTTPRoute of the Gateway API. Clients see every failure over it as HTTP 200; Serin sees the servers'.
pub(super) async fn http(lab: Arc<Lab>) -> anyhow::Result<()> {
    let route = json!({ "kind": "HTTPRoute" });
    let environment = environment(&lab, "http-route", json!({ "rollout": { "route": route } })).await?;
    environment.commit("1.1.0", None).await?;
    is_promoted(&environment, "1.1.0").await?;
    rolls_back(&environment, "1.2.0").await?;
    let namespace = environment.namespace();
    let seen = |status: &str| {
        format!(
            "sum(outbound_http_route_backend_response_statuses_total{{parent_namespace=\"{namespace}\",\
             backend_name=\"user-service-canary\",error=\"\"{status}}})"
        )
    };
    let count = async |query: String| -> anyhow::Result<f64> {
        let result = lab.prometheus.query(&query).await?;
        let value = result
            .first()
            .and_then(|series| series.pointer("/value/1")?.as_str())
            .context("no series")?;
        Ok(value.parse()?)
    };
    let (all, fine) = (count(seen("")).await?, count(seen(",http_status=\"200\"")).await?);
    ensure!(
        all > 0.0 && all.to_bits() == fine.to_bits(),
        "the lab shows no trap: of {all} answers {fine} are 200"
    );
    goes_with_its_rollout(&environment, "httproutes.gateway.networking.k8s.io").await
}

/// Serin deletes the route of a rollout that is deleted, itself: the garbage collector would leave traffic on it for as long as it takes.
async fn goes_with_its_rollout(environment: &Environment, kind: &str) -> anyhow::Result<()> {
    let namespace = environment.namespace();
    let get = ["get", kind, "-n", &namespace, "-o", "name"];
    let stands = environment.site.kubectl(&get, b"").await?;
    ensure!(!stands.trim().is_empty(), "there is no route: {kind}");
    super::ends::delete(environment).await?;
    let left = environment.site.kubectl(&get, b"").await?;
    ensure!(left.trim().is_empty(), "a route outlives its rollout: {left}");
    let serin = environment.serin.as_ref().context("it has no Serin of its own")?;
    let asked = environment.asked_by(&serin.account())?;
    let plural = kind.split('.').next().unwrap_or_default();
    let deleted = asked.iter().any(|one| one.verb == "delete" && one.resource == plural);
    ensure!(deleted, "Serin did not delete it");
    Ok(())
}

/// Who is promoted has met clients, and went up by the plan's steps.
async fn is_promoted(environment: &Environment, revision: &str) -> anyhow::Result<()> {
    environment.until_phase("Promoted", revision, PROMOTION).await?;
    let all = weights(environment)?;
    ensure!(all.ends_with(&[0, 10, 25, 50, 100, 75, 50, 0]), "{all:?}");
    let met = met(environment, revision)?;
    ensure!(met > 100, "only {met} calls met {revision}");
    let found = commits(environment, "promote", revision).await?;
    ensure!(found == 1, "{found} promotion commits of {revision}");
    traffic_away(environment)?;
    written_by_serin(environment)
}

/// A bad revision is committed, and found.
async fn rolls_back(environment: &Environment, revision: &str) -> anyhow::Result<()> {
    environment.commit(revision, None).await?;
    environment.until_phase("RolledBack", revision, ROLLBACK).await?;
    let found = commits(environment, "rollback", revision).await?;
    ensure!(found == 1, "{found} rollback commits of {revision}");
    nobody_meets(environment, revision)
}

fn met(environment: &Environment, revision: &str) -> anyhow::Result<usize> {
    let calls = environment.calls()?.into_iter();
    Ok(calls.filter(|call| call.revision.as_deref() == Some(revision)).count())
}

fn follows(status: &CanaryRolloutStatus, wanted: &str, words: &str) -> bool {
    let is = |kind: &str| kind == "TrafficNotFollowing";
    status
        .conditions
        .iter()
        .any(|c| is(&c.type_) && c.status == wanted && c.message.contains(words))
}

async fn restart_clients(environment: &Environment) -> anyhow::Result<()> {
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
    Ok(())
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
    let met = met(&environment, "1.1.0")?;
    ensure!(met == 0, "the lab shows no trap: {met} calls met 1.1.0");
    ensure!(weights(&environment)? == [0, 10], "{:?}", weights(&environment)?);
    restart_clients(&environment).await?;
    let follows_now = |s: &CanaryRolloutStatus| follows(s, "False", "");
    environment.until("traffic follows", ROLLBACK, follows_now).await?;
    is_promoted(&environment, "1.1.0").await?;
    rolls_back(&environment, "1.2.0").await
}

/// A cluster that serves only the first version of TrafficSplit, as far as Serin can see.
pub(super) async fn first_split(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = lab.control_plane.server();
    let front = Proxy::start((lab.net.infra(), lab.net.free_port()?).into(), Behind::Api, &api).await?;
    front.hide("/apis/split.smi-spec.io/v1alpha2");
    let detours = Detours {
        api: Some(front.address()),
        ..Detours::default()
    };
    let route = json!({ "kind": "TrafficSplit" });
    let environment = environment_with(&lab, "first-split", json!({ "rollout": { "route": route } }), detours).await?;
    environment.commit("1.2.0", None).await?;
    let written = |s: &CanaryRolloutStatus| s.weight.is_some_and(|w| w.observed == 10);
    environment.until("the split is there", ROLLBACK, written).await?;
    restart_clients(&environment).await?;
    environment.until_phase("RolledBack", "1.2.0", ROLLBACK).await?;
    nobody_meets(&environment, "1.2.0")?;
    ensure!(
        commits(&environment, "rollback", "1.2.0").await? == 1,
        "not one rollback commit"
    );
    environment.commit("1.1.0", None).await?;
    is_promoted(&environment, "1.1.0").await?;
    ensure!(front.hidden() > 0, "nobody asked for what is hidden");
    let account = format!(
        "system:serviceaccount:{}:serin-{}",
        environment.namespace(),
        environment.name
    );
    let asked = environment.asked_by(&account)?;
    let splits = asked
        .iter()
        .filter(|a| a.resource == "trafficsplits" && a.is_write())
        .count();
    ensure!(splits >= 9, "only {splits} writes of the split");
    goes_with_its_rollout(&environment, "trafficsplits.split.smi-spec.io").await
}
