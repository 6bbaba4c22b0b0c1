//! Verdicts that hold up: bad revisions of every kind are found, good ones are left alone, and what can't be told is not guessed.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use lab::{Lab, site::Environment};
use serde_json::{Value, json};
use serin::api::{CanaryRolloutStatus, EvidenceStatus};

use super::{
    refused::patch,
    report::report,
    site::environment,
    witness::{PROMOTION, ROLLBACK, census, commits, nobody_meets, weights},
};
use crate::story::SOON;

/// Margins that a few hundred calls can break, and time for it.
fn strict(rate: u32, weights: &[u32]) -> Value {
    let step = |weight: &u32| json!({ "weight": weight, "hold": "2s", "atMost": "90s" });
    let steps: Vec<_> = weights.iter().map(step).collect();
    json!({
        "load": { "rate": rate },
        "rollout": {
            "plan": { "steps": steps },
            "analysis": { "successRate": { "objective": "99%", "tolerance": "0.2%", "passTolerance": "5%" } },
        },
    })
}

fn set(values: &mut Value, at: &str, name: &str, value: Value) -> anyhow::Result<()> {
    let object = values.pointer_mut(at).and_then(Value::as_object_mut);
    object
        .with_context(|| format!("no {at}"))?
        .insert(name.to_owned(), value);
    Ok(())
}

fn evidence<'a>(status: &'a CanaryRolloutStatus, metric: &str) -> anyhow::Result<&'a EvidenceStatus> {
    let found = status.evidence.iter().find(|one| one.metric == metric);
    found.with_context(|| format!("no evidence of {metric}: {:?}", status.evidence))
}

/// The revision is rolled back for a reason that says this; returns how many calls clients made on it.
async fn is_found(environment: &Environment, what: &str, revision: &str, says: &str) -> anyhow::Result<usize> {
    let status = environment.until_phase("RolledBack", revision, ROLLBACK).await?;
    let reason = status.rollback.and_then(|rollback| rollback.reason).unwrap_or_default();
    ensure!(reason.contains(says), "rolled back for another reason: {reason}");
    let found = commits(environment, "rollback", revision).await?;
    ensure!(found == 1, "{found} rollback commits of {revision}");
    nobody_meets(environment, revision)?;
    report(environment, what, revision, &reason).await
}

/// Half of the calls fail, then one in twenty, then all of one kind that Linkerd takes for success.
pub(super) async fn finds_failures(lab: Arc<Lab>) -> anyhow::Result<()> {
    let environment = environment(&lab, "failures", strict(100, &[10, 25, 50, 100])).await?;
    environment.commit("1.2.1", None).await?;
    let half = is_found(&environment, "fails 50 %", "1.2.1", "canary calls failed").await?;
    ensure!(
        half < 300,
        "{half} calls were spent on a revision that fails every second one"
    );
    environment.commit("1.2.3", None).await?;
    is_found(
        &environment,
        "answers UNIMPLEMENTED, 20 %",
        "1.2.3",
        "canary calls failed",
    )
    .await?;
    let failed = environment
        .calls()?
        .iter()
        .filter(|call| call.code == "UNIMPLEMENTED")
        .count();
    ensure!(
        failed > 0,
        "no call met UNIMPLEMENTED: {}",
        census(&environment.calls()?)
    );
    environment.commit("1.2.2", None).await?;
    is_found(&environment, "fails 5 %", "1.2.2", "canary calls failed").await?;
    Ok(())
}

/// Waits until Prometheus has seen something of stable: a rollout of yesterday's service starts with hours of it.
async fn has_a_past(environment: &Environment, calls: usize) -> anyhow::Result<()> {
    crate::story::eventually("stable has a past", Duration::from_mins(3), || async {
        let made = environment.calls()?.len();
        ensure!(made >= calls, "{made} calls");
        Ok(())
    })
    .await
}

/// One call in a hundred fails. With the margins of production, since wider ones would let it pass: a canary at 1 % breaks no
/// objective of 99 %, and only beside a stable that fails nothing is it seen to be worse.
pub(super) async fn finds_one_in_a_hundred(lab: Arc<Lab>) -> anyhow::Result<()> {
    let step = |weight: u32| json!({ "weight": weight, "hold": "10s", "atMost": "2m" });
    let values = json!({
        "load": { "rate": 150 },
        "rollout": {
            "plan": { "steps": [step(50), step(100)] },
            "analysis": { "successRate": { "objective": "99%", "tolerance": "0.2%", "passTolerance": "0.5%" } },
        },
    });
    let environment = environment(&lab, "one-percent", values).await?;
    environment.commit("1.2.7", None).await?;
    let met = is_found(&environment, "fails 1 %", "1.2.7", "canary calls failed").await?;
    ensure!(weights(&environment)? == [0, 50, 0], "{:?}", weights(&environment)?);
    // The limit is 1,690 calls at this weight beside a stable at 99.9 %, and less beside one that fails nothing.
    ensure!(met < 6_000, "{met} calls were spent on it");
    Ok(())
}

/// Stable takes 340 ms, the canary half as long again, and the next one three times as long; no objective says that this is too
/// much. Shorter times would drown in what two busy cores add.
pub(super) async fn finds_slowness(lab: Arc<Lab>) -> anyhow::Result<()> {
    let values = json!({
        "stable": { "env": { "FAULT_LATENCY": "340ms" } },
        "rollout": { "analysis": {
            "baseline": "20s", "latencyAgainstStable": "Judged", "latency": [{ "share": "95%", "within": "4000ms" }],
        } },
    });
    let environment = environment(&lab, "slow", values).await?;
    has_a_past(&environment, 800).await?;
    for (what, revision) in [("slow by × 1.5", "1.3.2"), ("slow by × 3", "1.3.1")] {
        environment.commit(revision, None).await?;
        is_found(&environment, what, revision, "took longer than").await?;
        let status = environment.status().await?;
        let first = status.evidence.first().context("no evidence")?;
        ensure!(first.metric.ends_with("-against-stable"), "{first:?}");
    }
    Ok(())
}

/// The revision stands 20 % and breaks at 50 %, with one pod still: the third step's traffic is too much for it.
pub(super) async fn finds_late_failures(lab: Arc<Lab>) -> anyhow::Result<()> {
    let environment = environment(&lab, "late", strict(100, &[10, 20, 50, 100])).await?;
    environment.commit("1.2.4", None).await?;
    let foresees = |s: &CanaryRolloutStatus| {
        let steps = s
            .forecast
            .as_ref()
            .map(|forecast| forecast.steps.as_slice())
            .unwrap_or_default();
        steps
            .first()
            .is_some_and(|step| step.calls.is_some() && step.time.is_some())
    };
    environment.until("a forecast", ROLLBACK, foresees).await?;
    is_found(
        &environment,
        "fails from the third step on",
        "1.2.4",
        "canary calls failed",
    )
    .await?;
    ensure!(
        weights(&environment)? == [0, 10, 20, 50, 0],
        "{:?}",
        weights(&environment)?
    );
    Ok(())
}

/// One of two pods is bad, and the reason says which.
pub(super) async fn finds_a_bad_pod(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mut values = strict(100, &[25, 100]);
    set(&mut values, "/rollout/plan", "capacity", json!("Full"))?;
    let environment = environment(&lab, "one-pod", values).await?;
    // The first pod of the revision is the bad one, for good: it has to be one of the two that are tried.
    environment.until_idle().await?;
    environment.commit("1.2.5", None).await?;
    is_found(&environment, "fails in one pod", "1.2.5", " alone: ").await?;
    let status = environment.status().await?;
    let pods = &evidence(&status, "success-rate")?.pods;
    ensure!(
        pods.first()
            .is_some_and(|worst| worst.pod.starts_with("user-service-canary-") && worst.bad * 4 > worst.total),
        "the bad pod is not told apart: {pods:?}"
    );
    Ok(())
}

/// Where stories keep what pods of both arms look at.
fn shared(lab: &Lab, name: &str) -> PathBuf {
    lab.dir().join(name)
}

/// A good revision while what both arms stand on is down: first for a moment, then until the verdict is to hold.
pub(super) async fn blames_nobody(lab: Arc<Lab>) -> anyhow::Result<()> {
    let down = shared(&lab, "dependency-is-down");
    let fault = json!({ "FAULT_ERROR_RATE": "0.5", "FAULT_WHILE": down });
    // What is made up for after an outage takes its time.
    let steps = [10, 25, 50, 100].map(|weight: u32| json!({ "weight": weight, "hold": "2s", "atMost": "5m" }));
    let values = json!({
        "stable": { "env": fault },
        "canary": { "env": fault },
        "load": { "rate": 60 },
        "rollout": { "plan": { "steps": steps } },
    });
    let environment = environment(&lab, "outage", values).await?;
    environment.commit("1.1.0", None).await?;
    let at = |weight: i32| move |s: &CanaryRolloutStatus| s.weight.is_some_and(|w| w.observed == weight);
    environment.until("10 % on the canary", ROLLBACK, at(10)).await?;
    outage(&environment, &down, |seen| seen > 60).await?;
    environment.until("25 % on the canary", PROMOTION, at(25)).await?;
    std::fs::write(&down, "").context("beginning the outage")?;
    let holds = |s: &CanaryRolloutStatus| s.verdict.as_deref() == Some("hold");
    let held = async {
        let held = environment
            .until("the verdict is to hold", Duration::from_mins(3), holds)
            .await?;
        let said = evidence(&held, "success-rate")?.sentence.clone();
        ensure!(said.contains("stable breaks the objective as well"), "{said}");
        // Clients may not have written all their calls down yet.
        let counted = || report(&environment, "leaks into stable", "1.1.0", &said);
        crate::story::eventually("the calls until then are counted", SOON, counted).await
    };
    let held = held.await;
    std::fs::remove_file(&down).context("ending the outage")?;
    held?;
    environment.until_phase("Promoted", "1.1.0", PROMOTION).await?;
    let rollbacks = commits(&environment, "rollback", "1.1.0").await?;
    ensure!(rollbacks == 0, "a good revision was rolled back");
    let said = "stable failed alike, and every step was passed";
    report(&environment, "good, a burst of failures in both arms", "1.1.0", said).await?;
    ensure!(
        weights(&environment)?.starts_with(&[0, 10, 25, 50, 100]),
        "{:?}",
        weights(&environment)?
    );
    Ok(())
}

/// Both arms fail until clients have seen so many failures.
async fn outage(environment: &Environment, file: &Path, enough: impl Fn(usize) -> bool) -> anyhow::Result<()> {
    std::fs::write(file, "").context("beginning an outage")?;
    let met = crate::story::eventually("clients met the outage", Duration::from_mins(3), || async {
        let failed = environment.calls()?.iter().filter(|call| call.is_failure()).count();
        ensure!(enough(failed), "{failed} failures");
        Ok(())
    });
    let met = met.await;
    std::fs::remove_file(file).context("ending an outage")?;
    met
}

/// Clients go away in the middle of a trial: nothing is proven, nothing is blamed, nothing goes on.
pub(super) async fn waits_for_traffic(lab: Arc<Lab>) -> anyhow::Result<()> {
    let plan = json!({
        "steps": [{ "weight": 10, "hold": "2s", "atMost": "12s" }, { "weight": 100, "hold": "2s", "atMost": "60s" }],
        "onInconclusive": "Advance", "minRequests": 200,
    });
    let environment = environment(&lab, "no-traffic", json!({ "rollout": { "plan": plan } })).await?;
    environment.commit("1.1.0", None).await?;
    let shifting = |s: &CanaryRolloutStatus| s.weight.is_some_and(|w| w.observed == 10);
    environment.until("1.1.0 gets traffic", ROLLBACK, shifting).await?;
    // Argo CD would bring them back at once.
    environment
        .site
        .argocd
        .pause_application(&environment.application())
        .await?;
    let deployments: Api<Deployment> = Api::namespaced(environment.client(), &environment.namespace());
    let none = Patch::Merge(json!({ "spec": { "replicas": 0 } }));
    deployments.patch("user-load", &PatchParams::default(), &none).await?;
    let paused = |s: &CanaryRolloutStatus| s.phase.as_deref() == Some("Paused");
    let status = environment
        .until("it waits for a person", Duration::from_mins(3), paused)
        .await?;
    let said = status.message.unwrap_or_default();
    ensure!(said.contains("without a verdict"), "{said}");
    ensure!(
        status.verdict.as_deref() == Some("inconclusive"),
        "{:?}",
        status.verdict
    );
    ensure!(weights(&environment)? == [0, 10], "{:?}", weights(&environment)?);
    for action in ["promote", "rollback"] {
        ensure!(
            commits(&environment, action, "1.1.0").await? == 0,
            "there is a commit: {action}"
        );
    }
    report(&environment, "good, without traffic", "1.1.0", &said).await?;
    Ok(())
}

fn unreadable(status: &CanaryRolloutStatus) -> Option<&str> {
    let condition = status.conditions.iter().find(|c| c.type_ == "MetricsReadable")?;
    (condition.status == "False").then_some(condition.message.as_str())
}

/// Metrics of the user's own. What can't be read is said before a start; what can no longer be read pauses the trial, and the other
/// metrics go on and find what Linkerd takes for success.
pub(super) async fn judges_by_users_metrics(lab: Arc<Lab>) -> anyhow::Result<()> {
    let selector = |more: &str| {
        format!(
            "response_total{{direction=\"inbound\",namespace=\"{{{{namespace}}}}\",pod=~\"{{{{pods}}}}\",srv_port!=\"4191\"{more}}}"
        )
    };
    let metrics = |bad: &str, value: &str| {
        json!([
            { "name": "aborted", "bad": bad, "total": format!("sum({})", selector("")), "passTolerance": "5%" },
            { "name": "proxies", "query": value, "min": 1, "breaches": 5 },
        ])
    };
    let aborted = selector(",grpc_status=\"10\"");
    let no_counter = "scrape_duration_seconds{pod=~\"{{pods}}\"}";
    let mut values = strict(100, &[25, 100]);
    set(
        &mut values,
        "/rollout/analysis",
        "metrics",
        metrics(no_counter, "vector(1)"),
    )?;
    let environment = environment(&lab, "own-metrics", values).await?;
    has_a_past(&environment, 500).await?;
    environment.commit("1.2.6", None).await?;
    says_unreadable(
        &environment,
        "spec.analysis.metrics[0].bad: scrape_duration_seconds of ",
    )
    .await?;
    // From here on the story edits the rollout itself.
    environment
        .site
        .argocd
        .pause_application(&environment.application())
        .await?;
    // Stable has two pods, and one number is meant.
    let several = metrics(&aborted, "proxy_build_info{pod=~\"{{pods}}\"}");
    patch(&environment, &json!({ "analysis": { "metrics": several } })).await?;
    says_unreadable(&environment, "spec.analysis.metrics[1].query: it gives 2 series").await?;
    ensure!(
        weights(&environment)?.iter().all(|weight| *weight == 0),
        "a weight was written before the metrics could be read"
    );

    // One number until the canary answers calls, and two from then on.
    let answered =
        "response_total{direction=\"inbound\",namespace=\"{{namespace}}\",pod=~\"{{canary}}-.*\",srv_port!=\"4191\"}";
    let later = format!("vector(1) or on(kind) label_replace(sum({answered}) > 0, \"kind\", \"canary\", \"\", \"\")");
    patch(
        &environment,
        &json!({ "analysis": { "metrics": metrics(&aborted, &later) } }),
    )
    .await?;
    let failed = |s: &CanaryRolloutStatus| s.verdict.as_deref() == Some("fail");
    let status = environment.until("the canary fails", ROLLBACK, failed).await?;
    let own = evidence(&status, "aborted")?;
    ensure!(
        own.bad > 0 && own.sentence.contains("were bad by aborted") && own.towards_fail == 100,
        "{own:?}"
    );
    ensure!(own.range.is_some() && own.other_range.is_some(), "{own:?}");
    let paused = environment.events().await?.into_iter().find(|event| {
        let note = event.note.as_deref().unwrap_or_default();
        event.reason.as_deref() == Some("Paused") && note.contains("waits at 25 %: spec.analysis.metrics[1].query: ")
    });
    ensure!(
        paused.is_some(),
        "it did not pause when a metric could no longer be read"
    );
    environment
        .until("its traffic is gone", ROLLBACK, |s| {
            s.weight.is_some_and(|w| w.observed == 0)
        })
        .await?;
    nobody_meets(&environment, "1.2.6")
}

/// The condition names the field and says what is wrong with it.
async fn says_unreadable(environment: &Environment, words: &str) -> anyhow::Result<()> {
    let says = |s: &CanaryRolloutStatus| unreadable(s).is_some_and(|said| said.starts_with(words));
    environment.until(&format!("it says {words}"), ROLLBACK, says).await?;
    Ok(())
}
