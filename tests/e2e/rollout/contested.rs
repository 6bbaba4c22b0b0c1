//! Somebody else writes the weights.

use std::sync::Arc;

use anyhow::ensure;
use lab::{
    Lab,
    site::{Environment, SERVICE},
};
use serde_json::json;
use serin::api::CanaryRolloutStatus;

use super::{
    site::environment,
    witness::{ROLLBACK, commits},
};
use crate::story::{SOON, eventually};

/// Gives the canary half of the calls, as kubectl does for a person.
async fn meddle(environment: &Environment) -> anyhow::Result<()> {
    let weights = [(0, 50), (1, 50)].map(|(index, weight)| {
        json!({ "op": "replace", "path": format!("/spec/rules/0/backendRefs/{index}/weight"), "value": weight })
    });
    let (namespace, patch) = (environment.namespace(), json!(weights).to_string());
    let arguments = [
        "patch",
        "-n",
        &namespace,
        "grpcroute",
        SERVICE,
        "--field-manager=meddler",
        "--type=json",
        "-p",
        &patch,
    ];
    environment.site.kubectl(&arguments, b"").await?;
    Ok(())
}

/// Serin has answered the n-th meddling.
async fn is_answered(environment: &Environment, times: usize, weight: i64) -> anyhow::Result<()> {
    eventually("the weight is lowered", SOON, || async {
        let written: Vec<_> = environment
            .weights()?
            .iter()
            .map(lab::audit::WeightWrite::percent)
            .collect();
        let meddled = written.iter().filter(|percent| **percent == 50).count();
        ensure!(meddled == times && written.last() == Some(&weight), "{written:?}");
        Ok(())
    })
    .await
}

/// Once is corrected; twice names who it was and waits.
pub(super) async fn weights(lab: Arc<Lab>) -> anyhow::Result<()> {
    let steps = json!([{ "weight": 10, "hold": "120s" }, { "weight": 100, "hold": "2s" }]);
    let environment = environment(&lab, "contested", json!({ "rollout": { "plan": { "steps": steps } } })).await?;
    environment.commit("1.1.0", None).await?;
    let at_ten = |s: &CanaryRolloutStatus| {
        s.phase.as_deref() == Some("Progressing") && s.weight.is_some_and(|w| w.observed == 10)
    };
    environment.until("1.1.0 has its weight", ROLLBACK, at_ten).await?;
    meddle(&environment).await?;
    is_answered(&environment, 1, 10).await?;
    environment.until("the trial goes on", SOON, at_ten).await?;
    meddle(&environment).await?;
    let named = |s: &CanaryRolloutStatus| {
        let said = s
            .conditions
            .iter()
            .any(|c| c.type_ == "WeightContested" && c.status == "True" && c.message.starts_with("meddler "));
        s.phase.as_deref() == Some("Paused") && said
    };
    environment.until("who writes is named", SOON, named).await?;
    is_answered(&environment, 2, 10).await?;
    // While it waits, what is raised is lowered as before.
    meddle(&environment).await?;
    is_answered(&environment, 3, 10).await?;
    environment.order("abort").await?;
    environment.until_phase("RolledBack", "1.1.0", ROLLBACK).await?;
    ensure!(
        commits(&environment, "rollback", "1.1.0").await? == 1,
        "not one rollback commit"
    );
    // After a fail it never stops setting 0.
    meddle(&environment).await?;
    is_answered(&environment, 4, 0).await
}
