//! A sync window that argocd/README.md shows opens while a bad revision has traffic: what waits for it, what does not, and who ends the
//! wait.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use jiff::{SignedDuration, Timestamp};
use kube::api::{Api, DynamicObject};
use lab::{
    Lab, clock,
    site::{CANARY, Environment, revision},
};
use serde_json::{Value, json};
use serin::api::CanaryRolloutStatus;

use super::{
    site::environment,
    witness::{ROLLBACK, commits, history_tells, nobody_meets, traffic_away},
};
use crate::{
    story::{SOON, eventually, throughout},
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
    let of = |kind| window::objects(environment.client(), "argocd", kind);
    let frozen = Frozen {
        projects: of("AppProject"),
        applications: of("Application"),
        window: Window::of_the_readme(clock::now())?,
        environment,
    };
    let before = frozen.environment.values().await?;

    frozen.is_rolled_back_and_held("1.2.0").await?;
    let environment = &frozen.environment;
    window::sync(&frozen.applications, &environment.application()).await?;
    frozen
        .is_delivered("1.2.0", &before, &json!({ "username": "ann" }))
        .await?;

    // A canary's commit waits as well, until the window's own end.
    environment.commit("1.2.1", None).await?;
    frozen.keeps_out("1.2.1").await?;
    let end = frozen.shut_for(REST).await?;
    let starts = |s: &CanaryRolloutStatus| s.revision.as_ref().is_some_and(|r| r.name == "1.2.1");
    environment.until("the canary starts by itself", SOON, starts).await?;
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
        if environment
            .status()
            .await?
            .revision
            .is_none_or(|revision| revision.name != bad)
        {
            environment.commit(bad, None).await?;
        }
        let met = |s: &CanaryRolloutStatus| s.weight.is_some_and(|w| w.observed >= 10);
        environment.until("the canary gets traffic", ROLLBACK, met).await?;
        self.shut_for(SignedDuration::from_hours(1)).await?;
        let pushed = |s: &CanaryRolloutStatus| {
            s.phase.as_deref() == Some("RollingBack") && s.rollback.as_ref().is_some_and(|r| r.commit.is_some())
        };
        environment.until("the rollback is pushed", ROLLBACK, pushed).await?;
        traffic_away(environment)?;
        let named = |s: &CanaryRolloutStatus| {
            let blocked = s.conditions.iter().find(|c| c.type_ == "DeliveryBlocked");
            blocked.is_some_and(|c| {
                let says = ["(deny `", "wait until", &format!("`argocd app sync {application}`")];
                c.status == "True" && c.reason == REASON && says.iter().all(|words| c.message.contains(words))
            })
        };
        environment
            .until("status names the window and the way through", ROLLBACK, named)
            .await?;
        eventually("an event names it, too", SOON, || async {
            let events = environment.events().await?;
            let is_told = events.iter().any(|event| event.reason.as_deref() == Some(REASON));
            ensure!(is_told, "there is none");
            Ok(())
        })
        .await?;
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
        let free = |s: &CanaryRolloutStatus| {
            let blocked = s.conditions.iter().find(|c| c.type_ == "DeliveryBlocked");
            blocked.is_some_and(|c| c.status == "False")
        };
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
