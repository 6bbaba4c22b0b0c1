//! How revisions end: promoted, rolled back, superseded, withdrawn, deleted.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use kube::api::DeleteParams;
use lab::{
    Lab,
    site::{CANARY, Detours, Environment, SERVICE, Setup},
};
use serde_json::json;

use super::{
    site::{environment, site},
    trail::{self, Collector},
    witness::{
        PROMOTION, ROLLBACK, commits, no_call_failed, nobody_meets, traffic_away, values_at, weights, written_by_serin,
    },
};
use crate::story::{SOON, eventually};

pub(super) async fn promotes(lab: Arc<Lab>) -> anyhow::Result<()> {
    let environment = environment(&lab, "promotes", json!({})).await?;
    environment.commit("1.1.0", None).await?;
    let (status, verdict) = tokio::try_join!(
        environment.until_phase("Promoted", "1.1.0", PROMOTION),
        environment.verdict("1.1.0")
    )?;
    ensure!(
        verdict.text()?.contains(r#""outcome":"promoted""#),
        "the pipeline was told something else"
    );
    is_promoted(&environment, "1.1.0").await?;
    ensure!(
        weights(&environment)? == [0, 10, 25, 50, 100, 75, 50, 0],
        "{:?}",
        weights(&environment)?
    );
    written_by_serin(&environment)?;
    let promotion = status.promotion.context("status has no promotion")?;
    ensure!(
        promotion.commit.is_some() && promotion.pushed_at.is_some(),
        "{promotion:?}"
    );
    no_call_failed(&environment, "in a promotion of a good revision")?;
    Ok(())
}

pub(super) async fn promotes_configuration(lab: Arc<Lab>) -> anyhow::Result<()> {
    let environment = environment(&lab, "configures", json!({})).await?;
    // The image stays: the pipeline names the revision, and brings an environment variable.
    environment.commit("1.1.0", None).await?;
    environment.until_phase("Promoted", "1.1.0", PROMOTION).await?;
    let edit = |text: &str| {
        let (stable, canary) = text.split_once("\ncanary:").unwrap_or((text, ""));
        let canary = canary.replacen("revision: \"1.1.0\"", "revision: \"1.1.0-hello\"", 1);
        let canary = canary.replacen("env: {}", "env: {GREETING: hello}", 1);
        format!("{stable}\ncanary:{canary}")
    };
    environment.edit("Say hello", edit).await?;
    environment.until_phase("Promoted", "1.1.0-hello", PROMOTION).await?;
    is_promoted(&environment, "1.1.0-hello").await?;
    let stable = serde_json::to_value(environment.deployment(SERVICE).await?)?;
    let env = stable
        .pointer("/spec/template/spec/containers/0/env")
        .context("no env")?;
    ensure!(
        env.to_string().contains(r#""name":"GREETING","value":"hello""#),
        "{env}"
    );
    returns_to_what_was_promoted_lately(&environment).await
}

/// The image without the variable is what stable ran before: it needs no canary again.
async fn returns_to_what_was_promoted_lately(environment: &Environment) -> anyhow::Result<()> {
    let before = weights(environment)?;
    let edit = |text: &str| {
        let (stable, canary) = text.split_once("\ncanary:").unwrap_or((text, ""));
        let canary = canary.replacen("revision: \"1.1.0-hello\"", "revision: \"1.1.0\"", 1);
        let canary = canary.replacen("env: {GREETING: hello}", "env: {}", 1);
        format!("{stable}\ncanary:{canary}")
    };
    environment.edit("Say nothing any more", edit).await?;
    environment.until_phase("Promoted", "1.1.0", PROMOTION).await?;
    environment.until_arms("1.1.0", "1.1.0", SOON).await?;
    let found = commits(environment, "promote", "1.1.0").await?;
    ensure!(
        found == 2,
        "{found} promotion commits of 1.1.0, which was promoted twice"
    );
    ensure!(
        weights(environment)? == before,
        "weights were written: {:?}",
        weights(environment)?
    );
    canary_is_idle(environment).await?;
    let events = environment.events().await?;
    ensure!(
        events.iter().any(|e| e.reason.as_deref() == Some("FastReturn")),
        "no event says so"
    );
    no_call_failed(environment, "although nobody met a canary")
}

/// Stable runs it, by one commit; Git rests; the canary is idle.
async fn is_promoted(environment: &Environment, revision: &str) -> anyhow::Result<()> {
    environment.until_arms(revision, revision, SOON).await?;
    let found = commits(environment, "promote", revision).await?;
    ensure!(found == 1, "{found} promotion commits of {revision}");
    traffic_away(environment)?;
    canary_is_idle(environment).await
}

async fn canary_is_idle(environment: &Environment) -> anyhow::Result<()> {
    eventually("the canary is scaled down", SOON, || async {
        let replicas = environment
            .deployment(CANARY)
            .await?
            .spec
            .and_then(|spec| spec.replicas);
        ensure!(replicas == Some(0), "{replicas:?} replicas");
        Ok(())
    })
    .await
}

pub(super) async fn rolls_back_on_errors(lab: Arc<Lab>) -> anyhow::Result<()> {
    let collector = Collector::start(&lab).await?;
    let site = site(&lab).await?;
    let setup = Setup {
        values: json!({}),
        own_serin: true,
    };
    let (chart, detours) = (collector.serin(), Detours::default());
    let environment = Environment::start_with(&site, "errors", setup, &chart, detours).await?;
    let before = environment.values().await?;
    let canary = environment.commit("1.2.0", None).await?;
    let (status, verdict) = tokio::try_join!(
        environment.until_phase("RolledBack", "1.2.0", ROLLBACK),
        environment.verdict("1.2.0")
    )?;
    let said = String::from_utf8_lossy(&verdict.stderr);
    ensure!(
        verdict.status.code() == Some(3) && said.contains("1.2.0 was rolled back: ") && said.contains("calls failed"),
        "{verdict:?}"
    );
    is_rolled_back(&environment, &before, "1.2.0").await?;
    let entry = status.history.first().context("status has no history")?;
    ensure!(
        entry.outcome == "RolledBack" && entry.requests > 0 && entry.canary_commit.as_ref() == Some(&canary),
        "{entry:?}"
    );
    let rollback = status.rollback.context("status has no rollback")?;
    let commit = rollback.commit.context("status has no rollback commit")?;
    let message = environment
        .site
        .config
        .run(&["log", "-1", "--format=%B", &commit])
        .await?;
    ensure!(message.contains(&format!("This reverts commit {canary}.")), "{message}");
    ensure!(
        message.contains("Serin-Reason: ") && message.contains("canary calls failed"),
        "{message}"
    );
    ensure!(
        values_at(&environment, &commit).await? == before,
        "the commit does not restore the file"
    );
    let trial = status.trial.context("status has no id of the trial")?;
    trail::is_found(
        &environment,
        &trial,
        &["Starting", "RollingBack", "RolledBack"],
        &commit,
    )
    .await?;
    collector.saw_the_rollback(&trial).await?;

    // It never starts again by itself.
    let again = environment.status().await?;
    ensure!(again.phase.as_deref() == Some("RolledBack"), "{:?}", again.phase);
    Ok(())
}

pub(super) async fn rolls_back_on_latency(lab: Arc<Lab>) -> anyhow::Result<()> {
    let environment = environment(&lab, "latency", json!({})).await?;
    let before = environment.values().await?;
    environment.commit("1.3.0", None).await?;
    let status = environment.until_phase("RolledBack", "1.3.0", ROLLBACK).await?;
    is_rolled_back(&environment, &before, "1.3.0").await?;
    let reason = status.rollback.and_then(|rollback| rollback.reason).unwrap_or_default();
    ensure!(reason.contains("took longer than 1000 ms"), "{reason}");
    Ok(())
}

/// One commit restores the file, the cluster follows, nobody meets the revision any more, the canary is idle.
async fn is_rolled_back(environment: &Environment, before: &str, revision: &str) -> anyhow::Result<()> {
    environment.until_arms("1.0.0", "1.0.0", SOON).await?;
    let found = commits(environment, "rollback", revision).await?;
    ensure!(found == 1, "{found} rollback commits of {revision}");
    ensure!(
        environment.values().await? == before,
        "Git does not say what it said before"
    );
    canary_is_idle(environment).await?;
    nobody_meets(environment, revision)
}

pub(super) async fn gives_way_to_a_newer_revision(lab: Arc<Lab>) -> anyhow::Result<()> {
    let environment = environment(&lab, "newer", json!({})).await?;
    environment.commit("1.1.0", None).await?;
    let shifting = |s: &serin::api::CanaryRolloutStatus| s.weight.is_some_and(|w| w.observed >= 10);
    environment.until("1.1.0 gets traffic", ROLLBACK, shifting).await?;
    environment.commit("1.1.1", None).await?;
    environment.until_phase("Promoted", "1.1.1", PROMOTION).await?;
    is_promoted(&environment, "1.1.1").await?;
    ensure!(
        commits(&environment, "promote", "1.1.0").await? == 0,
        "1.1.0 was promoted"
    );
    ensure!(
        commits(&environment, "rollback", "1.1.0").await? == 0,
        "1.1.0 was rolled back"
    );
    let weights = weights(&environment)?;
    ensure!(
        weights.ends_with(&[0, 10, 25, 50, 100, 75, 50, 0]),
        "1.1.1 did not start anew at weight 0: {weights:?}"
    );
    Ok(())
}

pub(super) async fn withdraws(lab: Arc<Lab>) -> anyhow::Result<()> {
    let environment = environment(&lab, "withdraws", json!({})).await?;
    let before = environment.values().await?;
    environment.commit("1.1.0", None).await?;
    let shifting = |s: &serin::api::CanaryRolloutStatus| s.weight.is_some_and(|w| w.observed >= 10);
    environment.until("1.1.0 gets traffic", ROLLBACK, shifting).await?;
    let head = environment.edit("Take 1.1.0 back", |_| before.clone()).await?;
    environment.until_phase("Withdrawn", "1.1.0", ROLLBACK).await?;
    traffic_away(&environment)?;
    canary_is_idle(&environment).await?;
    for action in ["promote", "rollback"] {
        ensure!(
            commits(&environment, action, "1.1.0").await? == 0,
            "there is a commit: {action}"
        );
    }
    ensure!(
        values_at(&environment, &head).await? == environment.values().await?,
        "the file was changed again"
    );
    Ok(())
}

pub(super) async fn is_deleted_mid_way(lab: Arc<Lab>) -> anyhow::Result<()> {
    let environment = environment(&lab, "deleted", json!({})).await?;
    environment.commit("1.1.0", None).await?;
    let shifting = |s: &serin::api::CanaryRolloutStatus| s.weight.is_some_and(|w| w.observed >= 25);
    environment.until("1.1.0 gets traffic", ROLLBACK, shifting).await?;
    delete(&environment).await?;
    traffic_away(&environment)?;
    canary_is_idle(&environment).await?;
    ensure!(
        commits(&environment, "rollback", "1.1.0").await? == 0,
        "deleting a rollout committed something"
    );
    no_call_failed(&environment, "although stable took everything back")
}

/// Deletes the rollout, and sees it go.
pub(super) async fn delete(environment: &Environment) -> anyhow::Result<()> {
    // Argo CD would bring it back at once.
    let application = environment.application();
    environment.site.argocd.pause_application(&application).await?;
    environment.rollouts().delete(SERVICE, &DeleteParams::default()).await?;
    eventually("the rollout is gone", Duration::from_secs(60), || async {
        let left = environment.rollouts().get_opt(SERVICE).await?;
        let says = left.map(|rollout| rollout.status.unwrap_or_default().message);
        ensure!(says.is_none(), "it is still there: {says:?}");
        Ok(())
    })
    .await
}

pub(super) async fn is_never_ready(lab: Arc<Lab>) -> anyhow::Result<()> {
    let values = json!({ "rollout": { "plan": { "progressDeadline": "8s" } } });
    let environment = environment(&lab, "unready", values).await?;
    let before = environment.values().await?;
    // Nobody pushed this image.
    environment.commit("9.9.9", None).await?;
    let status = environment.until_phase("RolledBack", "9.9.9", ROLLBACK).await?;
    environment.until_arms("1.0.0", "1.0.0", SOON).await?;
    ensure!(
        environment.values().await? == before,
        "Git does not say what it said before"
    );
    ensure!(
        commits(&environment, "rollback", "9.9.9").await? == 1,
        "not one rollback commit"
    );
    ensure!(
        weights(&environment)?.iter().all(|weight| *weight == 0),
        "{:?}",
        weights(&environment)?
    );
    let reason = status.rollback.and_then(|rollback| rollback.reason).unwrap_or_default();
    ensure!(reason.contains("not ready in time"), "{reason}");
    no_call_failed(&environment, "although the canary had no traffic")
}
