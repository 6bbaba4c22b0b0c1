//! Rollouts that others bring to the cluster than Argo CD with a chart: they look at Git when Serin tells them to, and at no other
//! time.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use lab::{
    Lab,
    site::{Delivery, Detours, Environment, GIT_REPOSITORY, KUSTOMIZATION, SERVICE, Setup, Way},
};
use serde_json::{Value, json};

use super::{
    site::{environment, site},
    witness::{PROMOTION, ROLLBACK, commits, no_call_failed, nobody_meets, traffic_away, values_at},
};
use crate::story::SOON;

/// How often Serin has written to these objects.
fn told(environment: &Environment, resource: &str) -> anyhow::Result<usize> {
    let serin = environment.serin.as_ref().context("it has no Serin of its own")?;
    let asked = environment.asked_by(&serin.account())?;
    let writes = asked
        .iter()
        .filter(|asked| asked.resource == resource && asked.is_write());
    Ok(writes.count())
}

/// That a commit is part of what another one holds.
async fn is_in(environment: &Environment, commit: &str, head: &str) -> anyhow::Result<()> {
    let args = ["merge-base", "--is-ancestor", commit, head];
    let doing = || format!("{head} does not hold {commit}");
    environment.site.config.run(&args).await.map(drop).with_context(doing)
}

pub(super) async fn hydrated(lab: Arc<Lab>) -> anyhow::Result<()> {
    let environment = environment(&lab, "hydrated", json!({})).await?;
    let delivery = Delivery::take_over(&environment, Way::Hydrated).await?;
    environment.commit("1.1.0", None).await?;
    delivery.tell().await?;
    let status = environment.until_phase("Promoted", "1.1.0", PROMOTION).await?;
    environment.until_arms("1.1.0", "1.1.0", SOON).await?;
    ensure!(
        commits(&environment, "promote", "1.1.0").await? == 1,
        "not one promotion commit"
    );
    traffic_away(&environment)?;
    ensure!(told(&environment, "applications")? > 0, "Argo CD was not told");
    // The promotion stands where the manifests are made of, and what was made of it is what runs.
    let config = &environment.site.config;
    let written = config.run(&["log", "--format=%B", delivery.branch()]).await?;
    ensure!(
        !written.contains("Serin-"),
        "Serin wrote to the branch of the manifests: {written}"
    );
    let promotion = status
        .promotion
        .and_then(|promotion| promotion.commit)
        .context("status has no promotion commit")?;
    let made: Value = serde_json::from_str(&config.file(delivery.branch(), "hydrator.metadata").await?)?;
    let dry = made.get("drySha").and_then(Value::as_str).context("no drySha")?;
    is_in(&environment, &promotion, dry).await?;
    no_call_failed(&environment, "in a promotion of a good revision")
}

pub(super) async fn by_flux(lab: Arc<Lab>) -> anyhow::Result<()> {
    let flux =
        json!({ "kustomization": KUSTOMIZATION, "gitRepository": GIT_REPOSITORY, "namespace": "user-service-flux" });
    let setup = Setup {
        values: json!({ "rollout": { "argocd": { "application": "" }, "flux": flux } }),
        own_serin: true,
    };
    let serin = json!({ "flux": { "namespace": "user-service-flux" } });
    let environment = Environment::start_with(&site(&lab).await?, "flux", setup, &serin, Detours::default()).await?;
    let spec = environment.rollout().await?.spec;
    ensure!(spec.argocd.is_none() && spec.flux.is_some(), "{SERVICE} is not Flux's");
    let delivery = Delivery::take_over(&environment, Way::Flux).await?;
    let before = environment.values().await?;
    environment.commit("1.2.0", None).await?;
    delivery.tell().await?;
    let status = environment.until_phase("RolledBack", "1.2.0", ROLLBACK).await?;
    environment.until_arms("1.0.0", "1.0.0", SOON).await?;
    ensure!(
        commits(&environment, "rollback", "1.2.0").await? == 1,
        "not one rollback commit"
    );
    for resource in ["gitrepositories", "kustomizations"] {
        ensure!(told(&environment, resource)? > 0, "Flux was not told by its {resource}");
    }
    let rollback = status
        .rollback
        .and_then(|rollback| rollback.commit)
        .context("status has no rollback commit")?;
    ensure!(
        values_at(&environment, &rollback).await? == before && environment.values().await? == before,
        "Git does not say what it said before"
    );
    nobody_meets(&environment, "1.2.0")
}
