//! Serin beside Argo CD with automated sync and self-heal, the real one where `ARGOCD_BIN` names it: each brings its own to the cluster,
//! and neither takes the other's doing for drift, at rest or during a rollout.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment, autoscaling::v2::HorizontalPodAutoscaler, networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, Patch, PatchParams},
};
use lab::{
    Lab,
    argocd::{self, Real, Record},
    site::{CANARY, Environment, SERVICE},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use serin::api::CanaryRolloutStatus;

use super::{
    site::environment,
    witness::{PROMOTION, ROLLBACK, commits, history_tells, no_other_call_failed, nobody_meets, traffic_away},
};
use crate::story::{SOON, eventually};

/// Argo CD waits longer before each time that it heals the same commit again.
const HEALED: Duration = Duration::from_mins(2);
/// What Git says of the Deployments.
const HISTORY: i32 = 5;

/// The environment, what Argo CD has of it, and what it says.
struct Kept {
    environment: Environment,
    applications: Api<DynamicObject>,
    autoscalers: Api<HorizontalPodAutoscaler>,
    record: Record,
}

pub(super) async fn story(lab: Arc<Lab>) -> anyhow::Result<()> {
    // Stable has an autoscaler as in production, so that nothing in Git says how many pods it has.
    let values = json!({
        "autoscaling": { "enabled": true, "minReplicas": 1, "maxReplicas": 4 },
        "rollout": { "plan": { "steps": [
            { "weight": 10, "hold": "2s", "atMost": "90s" },
            { "weight": 50, "hold": "2s", "atMost": "90s", "approval": "Required" },
            { "weight": 100, "hold": "2s", "atMost": "90s" },
        ] } },
    });
    let environment = environment(&lab, "in-sync", values).await?;
    let applications = argocd::objects(&environment.client(), "argocd", "Application");
    let kept = Kept {
        record: Record::begin(applications.clone(), &environment.application()),
        autoscalers: Api::namespaced(environment.client(), &environment.namespace()),
        applications,
        environment,
    };
    kept.is_scaled(2).await?;
    kept.rests("1.0.0").await?;
    kept.heals_at_rest().await?;
    kept.rolls_back("1.2.0").await?;
    kept.promotes("1.1.0").await?;
    let mut kinds = vec![
        ("Canary", "1.2.0"),
        ("Roll back", "1.2.0"),
        ("Canary", "1.1.0"),
        ("Promote", "1.1.0"),
    ];
    // The stand-in has no server that anybody could ask.
    if let Some(argocd) = kept.environment.site.argocd.real() {
        kept.obeys_its_buttons(argocd, "1.1.1").await?;
        kinds.extend([("Canary", "1.1.1"), ("Roll back", "1.1.1")]);
    }
    history_tells(&kept.environment, &kinds).await?;
    let versions = kept.record.judge()?;
    ensure!(versions > 8, "the record of all that has {versions} versions only");
    no_other_call_failed(&kept.environment, "1.2.0", "beside Argo CD")
}

impl Kept {
    /// What stable's autoscaler would do, and what the controllers of autoscalers and budgets would say, which do not run in the lab.
    async fn is_scaled(&self, replicas: i32) -> anyhow::Result<()> {
        self.scale(SERVICE, replicas).await?;
        let (client, namespace) = (self.environment.client(), self.environment.namespace());
        let condition = |kind: &str, reason: &str| {
            json!({ "type": kind, "status": "True", "reason": reason, "message": "",
                "lastTransitionTime": lab::clock::now().to_string() })
        };
        let autoscaler = json!({ "currentReplicas": replicas, "desiredReplicas": replicas,
            "conditions": [condition("AbleToScale", "ReadyForNewScale")] });
        says(&self.autoscalers, &autoscaler).await?;
        let budget = json!({ "observedGeneration": 1, "currentHealthy": replicas, "desiredHealthy": 1, "disruptionsAllowed": 1,
            "expectedPods": replicas, "conditions": [condition("DisruptionAllowed", "SufficientPods")] });
        says(&Api::<PodDisruptionBudget>::namespaced(client, &namespace), &budget).await
    }

    /// Argo CD compares all with Git once more, and finds this revision everywhere and nothing amiss.
    async fn rests(&self, revision: &str) -> anyhow::Result<()> {
        self.environment.until_arms(revision, revision, SOON).await?;
        self.is_compared().await?;
        self.is_in_sync("Healthy").await?;
        let pods = replicas(&self.environment.deployment(SERVICE).await?);
        ensure!(
            pods == Some(2),
            "stable has {pods:?} replicas, which nothing in Git says"
        );
        ensure!(
            self.floor().await? == Some(1),
            "the autoscaler's minimum is {:?}",
            self.floor().await?
        );
        Ok(())
    }

    /// What stands in Git is changed and taken away, and comes back.
    async fn heals_at_rest(&self) -> anyhow::Result<()> {
        let policies: Api<NetworkPolicy> = Api::namespaced(self.environment.client(), &self.environment.namespace());
        self.record.disturb();
        policies.delete(SERVICE, &DeleteParams::default()).await?;
        self.edit(SERVICE, &json!({ "revisionHistoryLimit": 1 })).await?;
        eventually("the drift is healed", HEALED, async || {
            ensure!(policies.get_opt(SERVICE).await?.is_some(), "the policy is gone");
            self.is_mended(SERVICE).await
        })
        .await?;
        self.is_compared().await?;
        self.is_in_sync("Healthy").await?;
        self.record.calm();
        Ok(())
    }

    async fn rolls_back(&self, bad: &str) -> anyhow::Result<()> {
        let environment = &self.environment;
        let before = environment.values().await?;
        environment.commit(bad, None).await?;
        environment.until_phase("RolledBack", bad, ROLLBACK).await?;
        ensure!(
            environment.values().await? == before && commits(environment, "rollback", bad).await? == 1,
            "Git does not say what it said before, by one commit"
        );
        self.rests("1.0.0").await?;
        nobody_meets(environment, bad)
    }

    /// With drift in the middle, of the canary's Deployment, whose replicas are Serin's.
    async fn promotes(&self, good: &str) -> anyhow::Result<()> {
        let environment = &self.environment;
        self.asks_at_half(good).await?;
        self.is_compared().await?;
        self.is_in_sync("Suspended").await?;
        let pods = replicas(&environment.deployment(CANARY).await?);
        ensure!(pods.is_some_and(|pods| pods > 0), "the canary has {pods:?} replicas");
        ensure!(
            self.floor().await? == Some(2),
            "stable may be scaled down to {:?}",
            self.floor().await?
        );

        self.record.disturb();
        self.edit(CANARY, &json!({ "revisionHistoryLimit": 1 })).await?;
        eventually("the drift is healed", HEALED, async || self.is_mended(CANARY).await).await?;
        self.is_compared().await?;
        self.is_in_sync("Suspended").await?;
        self.record.calm();
        let now = replicas(&environment.deployment(CANARY).await?);
        ensure!(
            now == pods,
            "the canary had {pods:?} replicas before it was healed, and has {now:?}"
        );

        environment.order("approve").await?;
        environment.until_phase("Promoted", good, PROMOTION).await?;
        self.rests(good).await?;
        ensure!(
            commits(environment, "promote", good).await? == 1,
            "not one promotion commit"
        );
        traffic_away(environment).map(drop)
    }

    /// The revision has half of the calls, and waits for a person.
    async fn asks_at_half(&self, good: &str) -> anyhow::Result<()> {
        self.environment.commit(good, None).await?;
        let asks = |s: &CanaryRolloutStatus| {
            s.phase.as_deref() == Some("Paused")
                && s.weight.is_some_and(|weight| weight.observed == 50)
                && s.revision.as_ref().is_some_and(|revision| revision.name == good)
        };
        let doing = "it asks somebody at 50 %";
        self.environment.until(doing, PROMOTION, asks).await.map(drop)
    }

    /// Argo CD's server gives commands once it may, by the binding of argocd/README.md.
    async fn obeys_its_buttons(&self, argocd: &Real, good: &str) -> anyhow::Result<()> {
        let (environment, application) = (&self.environment, self.environment.application());
        self.asks_at_half(good).await?;
        let of = ["--kind", "CanaryRollout", "--resource-name", SERVICE];
        let list = [&["app", "actions", "list", &application], &of[..]].concat();
        let listed = argocd.give(&list).await?;
        for (button, works) in [("abort", true), ("promote", true), ("pause", false), ("retry", false)] {
            let line = listed
                .lines()
                .find(|line| line.split_whitespace().any(|word| word == button));
            let is_disabled = line.is_some_and(|line| line.contains("true"));
            ensure!(line.is_some() && is_disabled != works, "{button}: {listed}");
        }
        let abort = [&["app", "actions", "run", &application, "abort"], &of[..]].concat();
        let refused = argocd.give(&abort).await;
        ensure!(refused.is_err(), "it may do what nobody allowed: {refused:?}");
        let binding = ["create", "clusterrolebinding", "argocd-steers-rollouts"];
        let to = ["--clusterrole=serin-operator", "--serviceaccount=argocd:argocd-server"];
        environment.site.kubectl(&[&binding[..], &to[..]].concat(), b"").await?;
        eventually("the button is obeyed", SOON, async || {
            argocd.give(&abort).await.map(drop)
        })
        .await?;
        let status = environment.until_phase("RolledBack", good, ROLLBACK).await?;
        let command = status.last_command.context("status has no command")?;
        ensure!(
            command.verb == "abort" && command.by.as_deref() == Some("system:serviceaccount:argocd:argocd-server"),
            "{command:?}"
        );
        self.rests("1.1.0").await
    }

    /// The autoscaler's minimum.
    async fn floor(&self) -> anyhow::Result<Option<i32>> {
        let autoscaler = self.autoscalers.get(SERVICE).await.context("reading the autoscaler")?;
        Ok(autoscaler.spec.and_then(|spec| spec.min_replicas))
    }

    async fn scale(&self, deployment: &str, replicas: i32) -> anyhow::Result<()> {
        self.edit(deployment, &json!({ "replicas": replicas })).await
    }

    /// Edits a Deployment's spec as somebody with kubectl does.
    async fn edit(&self, deployment: &str, spec: &Value) -> anyhow::Result<()> {
        let api: Api<Deployment> = Api::namespaced(self.environment.client(), &self.environment.namespace());
        let how = PatchParams {
            field_manager: Some("somebody".to_owned()),
            ..PatchParams::default()
        };
        api.patch(deployment, &how, &Patch::Merge(json!({ "spec": spec })))
            .await
            .with_context(|| format!("editing the Deployment {deployment}"))?;
        Ok(())
    }

    async fn is_mended(&self, deployment: &str) -> anyhow::Result<()> {
        let spec = self.environment.deployment(deployment).await?.spec;
        let kept = spec.and_then(|spec| spec.revision_history_limit);
        ensure!(kept == Some(HISTORY), "{deployment} keeps {kept:?} revisions");
        Ok(())
    }

    /// Asks for a comparison in which nothing comes from a cache, and waits until it is made.
    async fn is_compared(&self) -> anyhow::Result<()> {
        let name = self.environment.application();
        let patch = json!({ "metadata": { "annotations": { argocd::REFRESH: "hard" } } });
        self.applications
            .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        eventually("the comparison is made", SOON, async || {
            let annotations = self.applications.get(&name).await?.metadata.annotations;
            let asked = annotations.is_some_and(|annotations| annotations.contains_key(argocd::REFRESH));
            ensure!(!asked, "it is still asked for");
            Ok(())
        })
        .await
    }

    /// The Application is in sync, nothing goes on, and its health is this.
    async fn is_in_sync(&self, health: &str) -> anyhow::Result<()> {
        let name = self.environment.application();
        eventually(&format!("{name} is in sync and {health}"), SOON, async || {
            let data = self.applications.get(&name).await?.data;
            let text = |pointer: &str| data.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let is = [
                text("/status/sync/status"),
                text("/status/operationState/phase"),
                text("/status/health/status"),
            ];
            let is_idle = data.get("operation").is_none_or(Value::is_null);
            ensure!(
                is_idle && is == ["Synced", "Succeeded", health],
                "{is:?}, {:?}",
                data.pointer("/status/conditions")
            );
            Ok(())
        })
        .await
    }
}

/// Writes the status of an object of the service's name.
async fn says<K>(api: &Api<K>, status: &Value) -> anyhow::Result<()>
where
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    let patch = Patch::Merge(json!({ "status": status }));
    let said = api.patch_status(SERVICE, &PatchParams::default(), &patch).await;
    said.map(drop).context("saying what a controller would say")
}

fn replicas(deployment: &Deployment) -> Option<i32> {
    deployment.spec.as_ref().and_then(|spec| spec.replicas)
}
