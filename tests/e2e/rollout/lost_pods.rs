//! Canary pods that go away in the middle of a step, or while a person is waited for: the weight follows those that are left.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use lab::{
    Lab,
    site::{CANARY, Environment, IMAGE},
};
use serde_json::json;
use serin::api::CanaryRolloutStatus;

use super::{
    site::{environment, site},
    witness::{PROMOTION, ROLLBACK, no_call_failed, traffic_away, weights, written_by_serin},
};
use crate::story::{SOON, eventually};

/// A revision of this story's own, as its image goes away and comes back.
const REVISION: &str = "1.1.7";

pub(super) async fn story(lab: Arc<Lab>) -> anyhow::Result<()> {
    site(&lab).await?.push_image(REVISION, &[])?;
    let plan = json!({ "steps": [
        { "weight": 50, "hold": "25s", "atMost": "180s", "approval": "Required" },
        { "weight": 100, "hold": "2s", "atMost": "90s" },
    ] });
    let values = json!({ "replicas": 4, "rollout": { "plan": plan } });
    let environment = environment(&lab, "lost-pods", values).await?;
    // A pod that ends anyway is none to lose.
    environment.until_idle().await?;
    environment.commit(REVISION, None).await?;
    until(&environment, "half is on the canary", "Progressing", (50, false)).await?;

    // In the step: down to what one pod carries, and up again when the other one is back and was seen.
    lose_one(&environment, REVISION).await?;
    let status = until(&environment, "one pod has its part", "Progressing", (25, true)).await?;
    ensure!(
        status.weight.is_some_and(|weight| weight.wanted == 25),
        "{:?}",
        status.weight
    );
    give_back(&environment).await?;
    until(&environment, "two pods have theirs", "Progressing", (50, false)).await?;
    let events = environment.events().await?;
    for reason in ["PodsLost", "PodsReturned"] {
        let is_told = events.iter().any(|event| event.reason.as_deref() == Some(reason));
        ensure!(is_told, "no event says {reason}");
    }

    // While a person is waited for: down, and not up again before that person's word.
    until(&environment, "an approval is waited for", "Paused", (50, false)).await?;
    lose_one(&environment, REVISION).await?;
    until(&environment, "one pod has its part", "Paused", (25, true)).await?;
    give_back(&environment).await?;
    environment.order("approve").await?;
    environment.until_phase("Promoted", REVISION, PROMOTION).await?;
    let written = weights(&environment)?;
    ensure!(written == [0, 50, 25, 50, 25, 100, 75, 50, 0], "{written:?}");
    traffic_away(&environment)?;
    written_by_serin(&environment)?;
    no_call_failed(&environment, "although the weight followed the pods")
}

/// Waits for a phase with this weight on the route, lowered for want of pods or not.
async fn until(
    environment: &Environment,
    what: &str,
    phase: &str,
    (observed, is_lowered): (i32, bool),
) -> anyhow::Result<CanaryRolloutStatus> {
    let status = if is_lowered { "True" } else { "False" };
    let holds = |s: &CanaryRolloutStatus| {
        let lost = s.conditions.iter().find(|condition| condition.type_ == "PodsLost");
        s.phase.as_deref() == Some(phase)
            && s.weight.is_some_and(|weight| weight.observed == observed)
            && lost.is_some_and(|condition| condition.status == status)
    };
    environment.until(what, ROLLBACK, holds).await
}

/// One canary pod is deleted, and the one in its place has no image.
pub(super) async fn lose_one(environment: &Environment, revision: &str) -> anyhow::Result<()> {
    environment.site.lab.images.remove(&format!("{IMAGE}:{revision}"));
    let namespace = environment.namespace();
    let list = [
        "get",
        "pods",
        "-n",
        &namespace,
        "-l",
        "serin.dev/track=canary",
        "-o",
        "name",
    ];
    let names = environment.site.kubectl(&list, b"").await?;
    let name = names.lines().next().context("there is no canary pod")?;
    let delete = ["delete", "-n", &namespace, name, "--wait=false"];
    environment.site.kubectl(&delete, b"").await?;
    Ok(())
}

/// The image is there again, and with it the pod.
async fn give_back(environment: &Environment) -> anyhow::Result<()> {
    environment.site.push_image(REVISION, &[])?;
    eventually("both canary pods are ready", SOON * 2, || async {
        let status = environment.deployment(CANARY).await?.status.unwrap_or_default();
        ensure!(status.ready_replicas == Some(2), "{:?} are", status.ready_replicas);
        Ok(())
    })
    .await
}
