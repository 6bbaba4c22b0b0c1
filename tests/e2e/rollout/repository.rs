//! Rollouts whose config repository does not let Serin in, or takes changes by pull requests only.

use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use lab::{Lab, git_server::Access, site::Environment};
use serde_json::json;
use serin::api::CanaryRolloutStatus;

use super::{
    site::environment,
    witness::{ROLLBACK, commits, nobody_meets, traffic_away},
};

/// Whether Git is waited for, for this reason.
fn waits_for(reason: &str) -> impl Fn(&CanaryRolloutStatus) -> bool {
    move |status| {
        let is = |c: &&serin::api::Condition| c.type_ == "GitPending";
        status
            .conditions
            .iter()
            .find(is)
            .is_some_and(|c| c.status == "True" && c.reason == reason)
    }
}

fn message(status: &CanaryRolloutStatus) -> String {
    let condition = status.conditions.iter().find(|c| c.type_ == "GitPending");
    condition.map(|c| c.message.to_string()).unwrap_or_default()
}

async fn put_token(environment: &Environment, token: &str) -> anyhow::Result<()> {
    let secrets: Api<Secret> = Api::namespaced(environment.client(), &environment.namespace());
    let patch = Patch::Merge(json!({ "stringData": { "password": token } }));
    secrets
        .patch("config-repo", &PatchParams::default(), &patch)
        .await
        .context("changing the token in the Secret")?;
    Ok(())
}

/// How many events of a reason there are; none holds this.
async fn told(environment: &Environment, reason: &str, secret: &str) -> anyhow::Result<usize> {
    let events = environment.events().await?;
    let mut count = 0;
    for event in &events {
        let note = event.note.as_deref().unwrap_or_default();
        ensure!(!note.contains(secret), "an event holds the token: {note}");
        count += usize::from(event.reason.as_deref() == Some(reason));
    }
    Ok(count)
}

pub(super) async fn rotates_a_token(lab: Arc<Lab>) -> anyhow::Result<()> {
    let environment = environment(&lab, "token", json!({})).await?;
    environment.commit("1.2.0", None).await?;
    let begun = |s: &CanaryRolloutStatus| s.weight.is_some_and(|w| w.observed > 0);
    environment.until("traffic on the canary", ROLLBACK, begun).await?;
    put_token(&environment, "an-old-token").await?;
    let status = environment
        .until("the token is refused", ROLLBACK, waits_for("AuthenticationFailed"))
        .await?;
    ensure!(
        message(&status).contains("git.secretRef") && !message(&status).contains("an-old-token"),
        "the condition says what to do, and no secret: {}",
        message(&status)
    );
    // Without Git, the traffic is safe.
    traffic_away(&environment)?;
    ensure!(
        commits(&environment, "rollback", "1.2.0").await? == 0,
        "pushed without a token"
    );
    environment.site.lab.git.allow("a-new-token", Access::ReadWrite);
    put_token(&environment, "a-new-token").await?;
    environment.until_phase("RolledBack", "1.2.0", ROLLBACK).await?;
    ensure!(
        commits(&environment, "rollback", "1.2.0").await? == 1,
        "not one rollback commit"
    );
    for reason in ["AuthenticationFailed", "GitAnswered"] {
        let count = told(&environment, reason, "-token").await?;
        ensure!(count == 1, "{count} events {reason}");
    }
    nobody_meets(&environment, "1.2.0")
}

pub(super) async fn lands_by_a_pull_request(lab: Arc<Lab>) -> anyhow::Result<()> {
    let environment = environment(&lab, "protected", json!({})).await?;
    let config = &environment.site.config;
    environment.commit("1.2.0", None).await?;
    let begun = |s: &CanaryRolloutStatus| s.weight.is_some_and(|w| w.observed > 0);
    environment.until("traffic on the canary", ROLLBACK, begun).await?;
    // Other stories push to the same branch.
    config.set_pre_receive(&format!(
        "while read -r old new ref; do if [ \"$ref\" = refs/heads/main ] && git diff --name-only \"$old\" \"$new\" | grep -q '^{}/'; then echo 'changes come by pull requests only' >&2; exit 1; fi; done; exit 0",
        environment.folder()
    ))?;
    let refused = environment
        .until("the push is refused", ROLLBACK, waits_for("PullRequestNeeded"))
        .await;
    config.clear_pre_receive()?;
    let message = message(&refused?);
    traffic_away(&environment)?;
    ensure!(message.contains("changes come by pull requests only"), "{message}");
    let branch = message
        .split_whitespace()
        .map(|word| word.trim_end_matches(':'))
        .find(|word| word.starts_with("serin/"))
        .with_context(|| format!("no branch is named: {message}"))?;
    ensure!(commits(&environment, "rollback", "1.2.0").await? == 0, "pushed to main");
    merge(&environment, branch).await?;
    environment.until_phase("RolledBack", "1.2.0", ROLLBACK).await?;
    ensure!(
        commits(&environment, "rollback", "1.2.0").await? == 1,
        "not one rollback commit"
    );
    nobody_meets(&environment, "1.2.0")
}

/// What a host does when somebody presses the button.
async fn merge(environment: &Environment, branch: &str) -> anyhow::Result<()> {
    let config = &environment.site.config;
    for _ in 0..10 {
        let main = config.head("main").await?;
        let tree = config.run(&["merge-tree", "--write-tree", &main, branch]).await?;
        let commit = config
            .run(&[
                "-c",
                "user.name=Ann",
                "-c",
                "user.email=ann@example.com",
                "commit-tree",
                tree.trim(),
                "-p",
                &main,
                "-p",
                branch,
                "-m",
                "Merge pull request #7",
            ])
            .await?;
        if config
            .run(&["update-ref", "refs/heads/main", commit.trim(), &main])
            .await
            .is_ok()
        {
            return Ok(());
        }
    }
    bail!("main moved on too often to merge {branch}")
}
