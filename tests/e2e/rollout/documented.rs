//! A good rollout and a bad one as docs/operating.md leads through them, then what docs/troubleshooting.md says for the time when Serin is
//! gone: each command that stands there is given, and does what is said of it.

mod commands;
mod pods;

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use lab::{Lab, site::Environment};
use serde_json::json;
use serin::api::CanaryRolloutStatus;
use user_client::load::record::Call;

use self::commands::{ENDED, Shell};
use super::{
    site::{environment, site},
    witness::{PROMOTION, ROLLBACK, commits},
};
use crate::story::{SOON, eventually, throughout};

/// Revisions of this story's own: rolled back by hand while Serin is down, and under way while it is uninstalled.
const BY_HAND: &str = "1.1.21";
const LEFT_BEHIND: &str = "1.1.22";

pub(super) async fn story(lab: Arc<Lab>) -> anyhow::Result<()> {
    for revision in [BY_HAND, LEFT_BEHIND] {
        site(&lab).await?.push_image(revision, &[])?;
    }
    // It goes on when it is told to.
    let step = |weight: i32| json!({ "weight": weight, "hold": "10m" });
    let approved = |weight: i32| json!({ "weight": weight, "hold": "1s", "atMost": "90s", "approval": "Required" });
    let plan = json!({ "steps": [step(25), approved(50), step(75), step(100)] });
    let environment = environment(&lab, "documented", json!({ "rollout": { "plan": plan } })).await?;
    let shell = Shell::open(&environment, BY_HAND).await?;
    at_rest(&shell).await?;
    pods::are_reached(&shell).await?;
    pods::tell_of_the_life_before(&shell, &environment).await?;
    environment.commit("1.1.0", None).await?;
    let wait = "serin wait user-service -n user-service-prod --for=finished --timeout 1h";
    let (told, ()) = tokio::try_join!(shell.give(wait, 0), good(&shell, &environment))?;
    ensure!(told.contains(r#""outcome":"promoted""#), "{told}");
    bad(&shell, &environment).await?;
    in_argocd(&shell, &environment).await?;
    without_serin(&shell, &environment).await?;
    uninstalled(&shell, &environment).await?;
    shell.was_given_all()
}

/// What can be asked at any time, and who may do what.
async fn at_rest(shell: &Shell<'_>) -> anyhow::Result<()> {
    eventually("the present traffic is seen", SOON, async || {
        let told = shell.give("serin explain NAME", 0).await?;
        let at = told.contains("At the present traffic, ") && told.contains(" calls a second");
        ensure!(at, "{told}");
        Ok(())
    })
    .await?;
    eventually("all proxies are scraped", SOON, async || {
        let check = "serin check user-service -n user-service-prod";
        shell.give(check, 0).await.map(drop)
    })
    .await?;
    for (command, says) in [
        ("serin status -A", "user-service-documented"),
        ("serin completion bash", "promote"),
        ("kubectl describe canaryrollout NAME", "Conditions:"),
        ("kubectl describe pod", "user-service-"),
        ("kubectl describe pod POD -n user-service-prod", "Containers:"),
        (
            "kubectl get pods -n user-service-prod -l app.kubernetes.io/name=user-service",
            "Running",
        ),
        (
            "kubectl get pods -n user-service-prod -o jsonpath='{range .items[*]}{.metadata.name}: {.spec.initContainers[*].name} {.spec.containers[*].name}{\"\\n\"}{end}'",
            "user-service",
        ),
        // Whether there are any depends on what happened, and on where the lab's pods are.
        (
            "kubectl get events -n user-service-prod --field-selector type=Warning --sort-by .lastTimestamp",
            "",
        ),
        (
            "kubectl get endpointslices -n user-service-prod -l kubernetes.io/service-name=user-service",
            "",
        ),
        ("kubectl get lease -n serin-system", "serin"),
        ("kubectl get leases -n serin-system", "serin"),
        (
            "kubectl create rolebinding operators -n user-service-prod --clusterrole=serin-operator --group=platform-team",
            "operators created",
        ),
        (
            "kubectl create role stop -n user-service-prod --resource=canaryrollouts.serin.dev --verb=get,list,watch,patch,pause,abort",
            "stop created",
        ),
    ] {
        let told = shell.give(command, 0).await?;
        ensure!(told.contains(says), "{command}: {told}");
    }
    shell.give("serin man FOLDER", 0).await?;
    shell.sh("test -s manuals/serin-status.1").await.map(drop)
}

/// The live view on a terminal of 80 columns: coloured, and without `NO_COLOR` not at all, and then it says the same.
async fn on_a_terminal(shell: &Shell<'_>) -> anyhow::Result<()> {
    let watch = "stty rows 100 cols 80; exec timeout --foreground 8 serin status user-service -w";
    for (variable, coloured) in [("NO_COLOR=", true), ("NO_COLOR=0", false)] {
        let seen = shell
            .sh(&format!(
                "{variable} TERM=xterm-256color script -qec '{watch}' /dev/null || test $? = {ENDED}"
            ))
            .await?;
        // Between words the cursor may be moved instead of a space being written.
        for word in ["Progressing", "Plan", "Arms", "Evidence", "success-rate", "pause"] {
            ensure!(seen.contains(word), "{variable}: there is no {word}: {seen:?}");
        }
        ensure!(is_coloured(&seen) == coloured, "{variable}: {seen:?}");
    }
    Ok(())
}

/// Whether a colour is chosen in what a terminal is sent: by one of ECMA-48's numbers for that, other than those of the terminal's own.
fn is_coloured(sent: &str) -> bool {
    let styles = sent.split("\u{1b}[").filter_map(|part| Some(part.split_once('m')?.0));
    let styles = styles.filter(|style| style.bytes().all(|byte| byte.is_ascii_digit() || byte == b';'));
    let mut numbers = styles.flat_map(|style| style.split(';').map(str::parse::<u8>));
    numbers.any(|number| matches!(number, Ok(30..=38 | 40..=48 | 90..=107)))
}

/// Step by step, as an operator wants it.
async fn good(shell: &Shell<'_>, environment: &Environment) -> anyhow::Result<()> {
    until_weight(environment, "Progressing", 25).await?;
    let watched = shell.give("serin status NAME -w", ENDED).await?;
    ensure!(watched.contains(" Progressing 1.1.0, step 1/4: "), "{watched}");
    on_a_terminal(shell).await?;
    shell.give("serin pause NAME", 0).await?;
    shell.give("serin resume NAME", 0).await?;
    shell.give("kubectl serin pause …", 0).await?;
    shell.give("serin resume", 0).await?;
    until_weight(environment, "Progressing", 25).await?;
    // Until the weight was seen there is nothing of the step to skip, and the answer says so.
    eventually("the step is skipped", SOON, async || {
        shell.give("serin promote NAME", 0).await.map(drop)
    })
    .await?;
    until_weight(environment, "Paused", 50).await?;
    shell.give("serin approve", 0).await?;
    until_weight(environment, "Progressing", 75).await?;
    shell.give("serin promote --full NAME", 0).await?;
    until_weight(environment, "Progressing", 100).await?;
    shell.give("serin promote --full NAME", 0).await?;
    environment.until_phase("Promoted", "1.1.0", PROMOTION).await?;
    Ok(())
}

/// A person saw more than the numbers did.
async fn bad(shell: &Shell<'_>, environment: &Environment) -> anyhow::Result<()> {
    environment.commit("1.1.1", None).await?;
    until_weight(environment, "Progressing", 25).await?;
    let told = shell
        .give("serin status user-service -n user-service-prod -w | cat", 0)
        .await?;
    ensure!(told.contains("Progressing 1.1.1"), "{told}");
    let abort = "serin abort user-service -n user-service-prod --reason \"support is called\"";
    let told = shell.give(abort, 0).await?;
    ensure!(told.contains("rolling back"), "{told}");
    environment.until_phase("RolledBack", "1.1.1", ROLLBACK).await?;
    let told = shell.give("serin history user-service -n user-service-prod", 0).await?;
    ensure!(told.contains("aborted by an operator: support is called"), "{told}");
    let told = shell.give("serin status user-service -n user-service-prod", 0).await?;
    ensure!(told.contains("Rollback of 1.1.1, commit "), "{told}");
    one_search_finds_it(shell).await?;

    environment.commit("1.1.1", None).await?;
    let held = |s: &CanaryRolloutStatus| {
        s.message
            .as_deref()
            .is_some_and(|said| said.contains("was rolled back before"))
    };
    environment.until("it does not start by itself", ROLLBACK, held).await?;
    shell.give("serin retry NAME", 0).await?;
    until_weight(environment, "Progressing", 25).await?;
    shell.give("serin abort", 0).await?;
    environment.until_phase("RolledBack", "1.1.1", ROLLBACK).await.map(drop)
}

/// The trial's id, wherever it stands.
async fn one_search_finds_it(shell: &Shell<'_>) -> anyhow::Result<()> {
    shell
        .give(
            "trial=$(kubectl get canaryrollout user-service -n user-service-prod -o jsonpath='{.status.trial}')",
            0,
        )
        .await?;
    let events = "kubectl get events -n user-service-prod -o jsonpath=\"{range .items[?(@.metadata.annotations.serin\\.dev/trial=='$trial')]}{.reason}: {.message}{'\\n'}{end}\"";
    let told = shell.give(events, 0).await?;
    ensure!(told.contains("RollingBack: 1.1.1 is rolled back: "), "{told}");
    let told = shell
        .give("kubectl logs -n serin-system deployment/serin | grep \"$trial\"", 0)
        .await?;
    ensure!(told.contains("weight set"), "{told}");
    shell
        .sh("git fetch --quiet origin main && git update-ref HEAD FETCH_HEAD")
        .await?;
    let told = shell.give("git log --grep \"Serin-Trial: $trial\"", 0).await?;
    ensure!(
        told.matches("\ncommit ").count() == 0 && told.contains("Serin-Action: rollback"),
        "{told}"
    );
    Ok(())
}

/// What Argo CD's own command line says of all that, where there is one.
async fn in_argocd(shell: &Shell<'_>, environment: &Environment) -> anyhow::Result<()> {
    if environment.site.argocd.real().is_none() {
        return Ok(());
    }
    for (command, says) in [
        ("argocd app get user-service-staging --refresh", "Synced"),
        ("argocd app sync user-service-staging", "Succeeded"),
    ] {
        let told = shell.give(command, 0).await?;
        ensure!(told.contains(says), "{command}: {told}");
    }
    let rollback = environment
        .status()
        .await?
        .rollback
        .and_then(|rollback| rollback.commit);
    let rollback = rollback.context("status has no rollback commit")?;
    let told = shell.give("argocd app history user-service-staging", 0).await?;
    ensure!(
        told.contains(rollback.get(..7).unwrap_or(&rollback)),
        "{rollback}: {told}"
    );
    // No sync waits for anything here.
    shell
        .give("argocd app terminate-op user-service-staging", NO_OPERATION)
        .await
        .map(drop)
}

/// What Argo CD's command line ends with when its server refuses.
const NO_OPERATION: i32 = 20;

/// Break glass: the canary's traffic is taken away by hand, and its revision is rolled back.
async fn without_serin(shell: &Shell<'_>, environment: &Environment) -> anyhow::Result<()> {
    environment.commit(BY_HAND, None).await?;
    until_weight(environment, "Progressing", 25).await?;
    scale_serin(environment, 0).await?;
    let told = shell
        .give("kubectl get grpcroute user-service -n user-service-prod -o yaml", 0)
        .await?;
    ensure!(told.contains("weight: 25"), "{told}");
    shell.give(TRAFFIC_AWAY, 0).await?;
    shell
        .give(
            "serin revision rollback --repository https://git.example.com/platform/config.git --path deploy/environments/prod \
             --cluster prod --rollout user-service-prod/user-service --revision 1.2.0 --reason \"by hand: Serin is down\"",
            0,
        )
        .await?;
    shell
        .sh(&format!(
            "kubectl annotate application {} -n argocd argocd.argoproj.io/refresh=normal --overwrite",
            environment.application()
        ))
        .await?;
    environment.until_arms("1.1.0", "1.1.0", SOON * 2).await?;
    scale_serin(environment, 1).await?;
    let rests = |s: &CanaryRolloutStatus| {
        matches!(s.phase.as_deref(), Some("RolledBack" | "Withdrawn" | "Idle"))
            && s.weight.is_some_and(|w| w.observed == 0)
    };
    environment.until("Serin finds it rolled back", ROLLBACK, rests).await?;
    let found = commits(environment, "rollback", BY_HAND).await?;
    ensure!(found == 1, "{found} rollback commits of {BY_HAND}");
    Ok(())
}

const TRAFFIC_AWAY: &str = "kubectl patch grpcroute user-service -n user-service-prod --type json \
     -p '[{\"op\": \"replace\", \"path\": \"/spec/rules/0/backendRefs/1/weight\", \"value\": 0}]'";

/// Serin is gone before the rollout is.
async fn uninstalled(shell: &Shell<'_>, environment: &Environment) -> anyhow::Result<()> {
    environment.commit(LEFT_BEHIND, None).await?;
    until_weight(environment, "Progressing", 25).await?;
    scale_serin(environment, 0).await?;
    // It stands in Git, and Argo CD would bring it back.
    environment
        .site
        .argocd
        .pause_application(&environment.application())
        .await?;
    shell.give(TRAFFIC_AWAY, 0).await?;
    shell
        .give(
            "kubectl patch canaryrollout user-service -n user-service-prod --type merge -p '{\"metadata\": {\"finalizers\": null}}'",
            0,
        )
        .await?;
    shell
        .give("kubectl delete canaryrollout user-service -n user-service-prod", 0)
        .await?;
    eventually("the route goes with its rollout", SOON * 2, async || {
        let left = shell.sh("kubectl get grpcroute -o name").await?;
        ensure!(left.trim().is_empty(), "{left}");
        Ok(())
    })
    .await?;
    let since = lab::clock::now();
    throughout("clients reach stable", Duration::from_secs(5), async || {
        let calls = environment.calls()?;
        let mut late = calls.iter().filter(|call| call.start > since);
        ensure!(!late.any(Call::is_failure), "a call failed");
        Ok(())
    })
    .await
}

async fn until_weight(environment: &Environment, phase: &str, weight: i32) -> anyhow::Result<()> {
    let is =
        |s: &CanaryRolloutStatus| s.phase.as_deref() == Some(phase) && s.weight.is_some_and(|w| w.observed == weight);
    environment
        .until(&format!("{phase} at {weight} %"), ROLLBACK, is)
        .await
        .map(drop)
}

/// Its Deployment has so many pods.
async fn scale_serin(environment: &Environment, replicas: u8) -> anyhow::Result<()> {
    let serin = environment.serin.as_ref().context("it has no Serin of its own")?;
    let (namespace, name) = (environment.namespace(), format!("deployment/{}", serin.release()));
    let scale = ["scale", &name, "-n", &namespace, &format!("--replicas={replicas}")];
    environment.site.kubectl(&scale, b"").await?;
    if replicas > 0 {
        return serin.ready().await;
    }
    eventually("Serin is gone", SOON, async || {
        ensure!(serin.pods().await?.is_empty(), "its pod is there");
        Ok(())
    })
    .await
}
