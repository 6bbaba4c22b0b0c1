//! A sync window that argocd/README.md shows opens while a bad revision has traffic: what waits for it, what does not, and who ends the
//! wait.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use jiff::{SignedDuration, Timestamp};
use kube::api::{Api, DynamicObject};
use lab::{
    Lab, argocd, clock,
    site::{CANARY, Environment, revision},
};
use serde_json::{Value, json};
use serin::api::CanaryRolloutStatus;

use super::{
    site::environment,
    witness::{ROLLBACK, an_event_says, commits, delivery_blocked, history_tells, nobody_meets, traffic_away},
};
use crate::{
    story::{SOON, throughout},
    window::{self, Window},
};

const REASON: &str = "SyncWindow";
/// Long enough for Argo CD to sync if nothing kept it from that.
const A_WHILE: Duration = Duration::from_secs(8);
/// What is left of a window whose end is to be seen.
const REST: SignedDuration = SignedDuration::from_secs(4);

/// The environment, and what Argo CD has of it.
struct Frozen {
    environment: Environment,
    projects: Api<DynamicObject>,
    applications: Api<DynamicObject>,
    window: Window,
}

pub(super) async fn story(lab: Arc<Lab>) -> anyhow::Result<()> {
    let environment = environment(&lab, "frozen", json!({})).await?;
    let of = |kind| argocd::objects(&environment.client(), "argocd", kind);
    let frozen = Frozen {
        projects: of("AppProject"),
        applications: of("Application"),
        window: Window::of_the_readme(clock::now())?,
        environment,
    };
    let before = frozen.environment.values().await?;

    let environment = &frozen.environment;
    environment.commit("1.2.0", None).await?;
    frozen.is_rolled_back_and_held("1.2.0").await?;
    window::sync(&frozen.applications, &environment.application()).await?;
    frozen
        .is_delivered("1.2.0", &before, &json!({ "username": "ann" }))
        .await?;

    // A canary's commit waits as well, until the window's own end.
    environment.commit("1.2.1", None).await?;
    frozen.keeps_out("1.2.1").await?;
    let end = frozen.shut_for(REST).await?;
    let starts = |s: &CanaryRolloutStatus| s.revision.as_ref().is_some_and(|r| r.name == "1.2.1");
    // Argo CD is not told that a window is over: it is found at the next look at Git.
    environment
        .until("the canary starts by itself", ROLLBACK, starts)
        .await?;
    ensure!(clock::now() > end, "it started before the window was over");

    frozen.is_rolled_back_and_held("1.2.1").await?;
    let end = frozen.shut_for(REST).await?;
    frozen
        .is_delivered("1.2.1", &before, &json!({ "automated": true }))
        .await?;
    ensure!(clock::now() > end, "it was delivered before the window was over");
    let kinds = [
        ("Canary", "1.2.0"),
        ("Roll back", "1.2.0"),
        ("Canary", "1.2.1"),
        ("Roll back", "1.2.1"),
    ];
    history_tells(environment, &kinds).await
}

impl Frozen {
    /// A window opens, with all syncs shut out for that long but people's.
    async fn shut_for(&self, time: SignedDuration) -> anyhow::Result<Timestamp> {
        let end = clock::now().checked_add(time)?;
        let window = self.window.until(end, true)?;
        window::set(&self.projects, &self.environment.application(), &[window]).await?;
        Ok(end)
    }

    /// The bad revision gets traffic, then the window opens: the traffic goes away all the same, and status says what keeps the
    /// commit from the cluster and how to let it through.
    async fn is_rolled_back_and_held(&self, bad: &str) -> anyhow::Result<()> {
        let (environment, application) = (&self.environment, self.environment.application());
        let met = |s: &CanaryRolloutStatus| s.weight.is_some_and(|w| w.observed >= 10);
        environment.until("the canary gets traffic", ROLLBACK, met).await?;
        self.shut_for(SignedDuration::from_hours(1)).await?;
        let pushed = |s: &CanaryRolloutStatus| {
            s.phase.as_deref() == Some("RollingBack") && s.rollback.as_ref().is_some_and(|r| r.commit.is_some())
        };
        environment.until("the rollback is pushed", ROLLBACK, pushed).await?;
        traffic_away(environment)?;
        let way = ["(deny `", "wait until", &format!("`argocd app sync {application}`")];
        let named = |s: &CanaryRolloutStatus| {
            delivery_blocked(s)
                .is_some_and(|(reason, says)| reason == REASON && way.iter().all(|words| says.contains(words)))
        };
        environment
            .until("status names the window and the way through", ROLLBACK, named)
            .await?;
        an_event_says(environment, REASON).await?;
        throughout(
            "the commit is kept from the cluster, the traffic away",
            A_WHILE,
            || async {
                ensure!(pushed(&environment.status().await?), "the rollback is over");
                ensure!(
                    revision(&environment.deployment(CANARY).await?) == bad,
                    "the commit is applied"
                );
                let status = self.status().await?;
                let field = |pointer| status.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
                ensure!(field("/sync/status") == "OutOfSync", "{status}");
                ensure!(field("/operationState/phase") == "Succeeded", "{status}");
                traffic_away(environment).map(drop)
            },
        )
        .await
    }

    async fn keeps_out(&self, canary: &str) -> anyhow::Result<()> {
        throughout("the canary's commit is kept out", A_WHILE, || async {
            let runs = revision(&self.environment.deployment(CANARY).await?);
            ensure!(runs != canary, "it is applied");
            Ok(())
        })
        .await
    }

    /// The rollback's commit is in the cluster, by this initiator's sync, and everything rests.
    async fn is_delivered(&self, bad: &str, before: &str, by: &Value) -> anyhow::Result<()> {
        let environment = &self.environment;
        environment.until_phase("RolledBack", bad, ROLLBACK).await?;
        environment.until_arms("1.0.0", "1.0.0", SOON).await?;
        let free = |s: &CanaryRolloutStatus| delivery_blocked(s).is_none();
        environment.until("nothing keeps it away any more", SOON, free).await?;
        ensure!(
            environment.values().await? == before,
            "Git does not say what it said before"
        );
        ensure!(
            commits(environment, "rollback", bad).await? == 1,
            "not one rollback commit"
        );
        let operation = self.status().await?;
        let initiator = operation.pointer("/operationState/operation/initiatedBy");
        ensure!(initiator == Some(by), "it was synced by {initiator:?}");
        nobody_meets(environment, bad)
    }

    async fn status(&self) -> anyhow::Result<Value> {
        let application = self.applications.get(&self.environment.application()).await?;
        application
            .data
            .get("status")
            .cloned()
            .context("the Application has no status")
    }
}
