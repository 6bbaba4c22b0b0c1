//! Blue-green: testers' calls are judged at weight 0, then everything goes over at once; and what happens there when all pods die.

use std::{sync::Arc, time::Duration};

use anyhow::ensure;
use jiff::SignedDuration;
use lab::{Lab, clock, site::Environment};
use serde_json::json;
use serin::api::CanaryRolloutStatus;

use super::{
    inside::Tester,
    site::environment,
    witness::{PROMOTION, ROLLBACK, census, commits, traffic_away, weights, written_by_serin},
};
use crate::story::{SOON, eventually};

/// Few enough that their ends, which Linkerd takes for failures, decide nothing.
const STREAMS: usize = 6;
const ALL: i64 = 6;

/// From the end of the pods on; Linkerd's proxies have their failfast, and calls in flight their end.
const FAILFAST: SignedDuration = SignedDuration::from_secs(1);

pub(super) async fn story(lab: Arc<Lab>) -> anyhow::Result<()> {
    let values = json!({ "rollout": {
        "route": { "testers": { "header": "x-canary", "value": "always" } },
        "plan": { "steps": [{ "weight": 0, "hold": "2s", "atMost": "90s" }, { "weight": 100, "hold": "6s", "atMost": "90s" }] },
    } });
    let environment = environment(&lab, "blue-green", values).await?;
    let tester = Tester::start(&environment, "x-canary", "always").await?;
    finds_what_is_bad(&environment, &tester).await?;
    goes_over(&environment, &tester).await
}

/// A bad revision meets the testers, and nobody else.
async fn finds_what_is_bad(environment: &Environment, tester: &Tester) -> anyhow::Result<()> {
    environment.commit("1.2.0", None).await?;
    environment.until_phase("RolledBack", "1.2.0", ROLLBACK).await?;
    let met = tester.met("1.2.0");
    ensure!(met > 10, "only {met} of the testers' calls met 1.2.0");
    let calls = environment.calls()?;
    let others = calls
        .iter()
        .filter(|call| call.revision.as_deref() == Some("1.2.0"))
        .count();
    ensure!(others == 0, "{others} calls of others met 1.2.0: {}", census(&calls));
    let failed = calls.iter().filter(|call| call.is_failure()).count();
    ensure!(failed == 0, "{failed} calls of others failed: {}", census(&calls));
    ensure!(weights(environment)? == [0], "{:?}", weights(environment)?);
    let found = commits(environment, "rollback", "1.2.0").await?;
    ensure!(found == 1, "{found} rollback commits");
    // Without a canary testers are served by stable.
    let gone = clock::now();
    eventually("testers are served without a canary", SOON, || async {
        let calls = tester.calls();
        let last: Vec<_> = calls.iter().filter(|call| call.at > gone).rev().take(20).collect();
        let stable = last
            .iter()
            .filter(|call| call.succeeded && call.revision.as_deref() == Some("1.0.0"));
        ensure!(last.len() == 20 && stable.count() == 20, "{last:#?}");
        Ok(())
    })
    .await
}

/// A good one goes over at once, and at full weight all its pods die.
async fn goes_over(environment: &Environment, tester: &Tester) -> anyhow::Result<()> {
    environment.commit("1.1.0", None).await?;
    eventually("testers meet 1.1.0", ROLLBACK, || async {
        ensure!(tester.met("1.1.0") > 0, "none does");
        Ok(())
    })
    .await?;
    ensure!(weights(environment)? == [0], "{:?}", weights(environment)?);
    let all = |s: &CanaryRolloutStatus| s.weight.is_some_and(|w| w.observed == 100);
    environment.until("everything goes to 1.1.0", ROLLBACK, all).await?;
    eventually("clients meet 1.1.0", SOON, || async {
        let met = environment.calls()?;
        let met = met
            .iter()
            .filter(|call| call.revision.as_deref() == Some("1.1.0"))
            .count();
        ensure!(met > 20, "{met} calls did");
        Ok(())
    })
    .await?;
    let namespace = environment.namespace();
    let kill = [
        "delete",
        "pods",
        "-n",
        &namespace,
        "-l",
        "serin.dev/track=canary",
        "--force",
        "--grace-period=0",
    ];
    // The pods die somewhere between these two, and others may be ready before kubectl has seen that they are gone.
    let asked = clock::now();
    environment.site.kubectl(&kill, b"").await?;
    let killed = clock::now();
    environment.until_phase("Promoted", "1.1.0", PROMOTION).await?;
    let calls = environment.calls()?;
    let late: Vec<_> = calls
        .iter()
        .filter(|call| call.is_failure() && call.start > killed + FAILFAST)
        .collect();
    ensure!(late.is_empty(), "calls failed after the pods were gone: {late:#?}");
    let by_stable = calls
        .iter()
        .filter(|call| call.start > asked && call.revision.as_deref() == Some("1.0.0"));
    ensure!(
        by_stable.count() > 0,
        "the lab shows no trap: no call had to go to stable"
    );
    // Without a pod it has no weight, and goes through the testers' step again; pods that are back before Serin looks lost nothing.
    let written = weights(environment)?;
    ensure!(
        written == [0, 100, 0, 100, 75, 50, 0] || written == [0, 100, 75, 50, 0],
        "{written:?}"
    );
    ensure!(
        commits(environment, "promote", "1.1.0").await? == 1,
        "not one promotion commit"
    );
    traffic_away(environment)?;
    services_came_first(environment)?;
    is_accepted(environment).await?;
    written_by_serin(environment)
}

/// A route that names a missing Service fails its share, so the Services were there before.
fn services_came_first(environment: &Environment) -> anyhow::Result<()> {
    let account = format!(
        "system:serviceaccount:{}:serin-{}",
        environment.namespace(),
        environment.name
    );
    let asked = environment.asked_by(&account)?;
    let made: Vec<_> = asked
        .iter()
        .filter(|a| a.is_write() && a.verb != "delete" && matches!(a.resource.as_str(), "services" | "grpcroutes"))
        .map(|a| a.resource.as_str())
        .collect();
    let first: Vec<_> = made.iter().take(3).copied().collect();
    ensure!(first == ["services", "services", "grpcroutes"], "{made:?}");
    Ok(())
}

/// Linkerd has accepted the route, without the generation that it never sets, and nobody waited for that.
async fn is_accepted(environment: &Environment) -> anyhow::Result<()> {
    let namespace = environment.namespace();
    let get = ["get", "grpcroutes", "-n", &namespace, "-o", "json"];
    let text = environment.site.kubectl(&get, b"").await?;
    let list: serde_json::Value = serde_json::from_str(&text)?;
    let conditions = list.pointer("/items/0/status/parents/0/conditions");
    let conditions = conditions
        .and_then(serde_json::Value::as_array)
        .cloned()
        .unwrap_or_default();
    let is_true = |kind: &str| {
        conditions
            .iter()
            .any(|c| c.get("type") == Some(&json!(kind)) && c.get("status") == Some(&json!("True")))
    };
    ensure!(is_true("Accepted") && is_true("ResolvedRefs"), "{conditions:#?}");
    let generations = conditions.iter().filter(|c| c.get("observedGeneration").is_some());
    ensure!(generations.count() == 0, "{conditions:#?}");
    Ok(())
}

/// Long-lived streams stay where an earlier weight sent them; Serin says how many, and the service's maximum age moves them.
pub(super) async fn streams(lab: Arc<Lab>) -> anyhow::Result<()> {
    let values = json!({
        "connections": { "maxAge": "10s", "maxAgeGrace": "1s" },
        "rollout": { "plan": { "steps": [
            { "weight": 50, "hold": "1s", "atMost": "90s", "approval": "Required" },
            { "weight": 100, "hold": "24s", "atMost": "120s" },
        ] } },
    });
    let environment = environment(&lab, "streams", values).await?;
    let streams = super::inside::Streams::open(&environment, STREAMS).await?;
    environment.commit("1.1.0", None).await?;
    let waits = |s: &CanaryRolloutStatus| s.phase.as_deref() == Some("Paused");
    environment.until("half is on the canary", ROLLBACK, waits).await?;
    // They were opened when all of them belonged to stable. Each time that a connection comes of age they are dealt out anew, by half and
    // half, and may be too many on stable again.
    let old =
        |s: &CanaryRolloutStatus| waits(s) && s.streams.is_some_and(|streams| streams.old > 0 && streams.stable > 3);
    let status = environment.until("streams are known to be old", SOON * 4, old).await?;
    let reported = status.streams.unwrap_or_default();
    ensure!(reported.old_percent > 0, "{reported:?}");
    environment.order("approve").await?;
    let moved = |s: &CanaryRolloutStatus| {
        let is_full = s.weight.is_some_and(|w| w.observed == 100);
        is_full
            && s.streams
                .is_some_and(|streams| streams.old == 0 && streams.canary >= ALL)
    };
    let within = Duration::from_secs(60);
    environment.until("their age has moved them all", within, moved).await?;
    ensure!(streams.with("1.0.0").is_empty(), "some are with stable");
    Ok(())
}
