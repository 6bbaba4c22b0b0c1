//! Rollouts while something breaks.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use lab::Lab;
use serde_json::json;
use serin::api::CanaryRolloutStatus;

use super::{
    site::environment,
    witness::{PROMOTION, ROLLBACK, commits, nobody_meets, traffic_away, weights},
};

fn is_blind(status: &CanaryRolloutStatus) -> bool {
    status
        .conditions
        .iter()
        .any(|c| c.type_ == "Blind" && c.status == "True")
}

pub(super) async fn loses_sight(lab: Arc<Lab>) -> anyhow::Result<()> {
    let plan = json!({
        "blindDeadline": "8s",
        "steps": [{ "weight": 10, "hold": "2s", "atMost": "90s" }, { "weight": 50, "hold": "8s", "atMost": "90s" }, { "weight": 100, "hold": "2s", "atMost": "60s" }],
    });
    let environment = environment(&lab, "blind", json!({ "rollout": { "plan": plan } })).await?;
    let serin = environment.serin.as_ref().context("it has no Serin of its own")?;
    environment.commit("1.1.0", None).await?;
    let half = |s: &CanaryRolloutStatus| s.weight.is_some_and(|w| w.observed == 50);
    environment.until("50 % on the canary", ROLLBACK, half).await?;
    serin.to_prometheus.cut();
    environment
        .until("Serin is blind", Duration::from_secs(60), is_blind)
        .await?;
    traffic_away(&environment)?;
    for action in ["promote", "rollback"] {
        ensure!(
            commits(&environment, action, "1.1.0").await? == 0,
            "there is a commit: {action}"
        );
    }
    let before = weights(&environment)?;
    serin.to_prometheus.heal();
    environment.until_phase("Promoted", "1.1.0", PROMOTION).await?;
    let since = weights(&environment)?;
    let since = since.get(before.len()..).unwrap_or_default();
    ensure!(
        since == [10, 50, 100, 75, 50, 0],
        "sight returns to the first step: {since:?}"
    );
    Ok(())
}

pub(super) async fn is_killed(lab: Arc<Lab>) -> anyhow::Result<()> {
    let environment = environment(&lab, "killed", json!({})).await?;
    let serin = environment.serin.as_ref().context("it has no Serin of its own")?;
    environment.commit("1.1.0", None).await?;
    let at = |weight: i32| move |s: &CanaryRolloutStatus| s.weight.is_some_and(|w| w.observed == weight);
    environment.until("25 % on the canary", ROLLBACK, at(25)).await?;
    serin.kill().await?;
    let promoting = |s: &CanaryRolloutStatus| s.phase.as_deref() == Some("Promoting");
    environment.until("it is promoting", PROMOTION, promoting).await?;
    serin.kill().await?;
    environment.until_phase("Promoted", "1.1.0", PROMOTION).await?;
    ensure!(
        commits(&environment, "promote", "1.1.0").await? == 1,
        "not one promotion commit"
    );
    ensure!(
        weights(&environment)? == [0, 10, 25, 50, 100, 75, 50, 0],
        "{:?}",
        weights(&environment)?
    );

    environment.commit("1.2.0", None).await?;
    let rolling = |s: &CanaryRolloutStatus| s.phase.as_deref() == Some("RollingBack");
    environment.until("it is rolling back", ROLLBACK, rolling).await?;
    serin.kill().await?;
    environment.until_phase("RolledBack", "1.2.0", ROLLBACK).await?;
    ensure!(
        commits(&environment, "rollback", "1.2.0").await? == 1,
        "not one rollback commit"
    );
    nobody_meets(&environment, "1.2.0")
}
