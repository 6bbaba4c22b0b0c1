//! What those say who are not Serin: the API server's audit log, the clients' records, Git.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use jiff::{SignedDuration, Timestamp};
use lab::{
    argocd,
    site::{CLUSTER, Environment},
};
use serde_json::Value;
use serin::api::CanaryRolloutStatus;
use user_client::load::record::Call;

use crate::story::{SOON, eventually};

/// The weights that were written, in percent, without repetitions.
pub(super) fn weights(environment: &Environment) -> anyhow::Result<Vec<i64>> {
    Ok(environment
        .weights()?
        .iter()
        .map(lab::audit::WeightWrite::percent)
        .collect())
}

/// When the canary's traffic was taken away for the last time.
pub(super) fn traffic_away(environment: &Environment) -> anyhow::Result<Timestamp> {
    let weights = environment.weights()?;
    let last = weights.last().context("no weight was written")?;
    ensure!(last.percent() == 0, "the canary's weight is {} %", last.percent());
    Ok(last.at)
}

/// All weights were written by Serin's own account, and no call that was due later than a second after weight 0 met the
/// revision.
pub(super) fn nobody_meets(environment: &Environment, revision: &str) -> anyhow::Result<()> {
    let gone = traffic_away(environment)?;
    let late = gone.checked_add(SignedDuration::from_secs(1))?;
    let calls = environment.calls()?;
    let met = calls
        .iter()
        .filter(|c| c.revision.as_deref() == Some(revision))
        .collect::<Vec<_>>();
    ensure!(!met.is_empty(), "no call ever met {revision}: {}", census(&calls));
    let first_late = met.iter().find(|call| call.start > late);
    ensure!(
        first_late.is_none(),
        "a call met {revision} although its traffic was gone at {gone}: {first_late:?}"
    );
    written_by_serin(environment)
}

pub(crate) fn written_by_serin(environment: &Environment) -> anyhow::Result<()> {
    let (namespace, name) = (environment.namespace(), &environment.name);
    let account = format!("system:serviceaccount:{namespace}:serin-{name}");
    let stranger = environment.weights()?.into_iter().find(|write| write.user != account);
    ensure!(
        stranger.is_none(),
        "a weight was not written by {account}: {stranger:?}"
    );
    Ok(())
}

/// The processes of Serin that wrote, in their order; an error if one wrote after another had begun to. The lease itself is
/// everybody's.
pub(crate) fn terms(environment: &Environment) -> anyhow::Result<Vec<String>> {
    let serin = environment.serin.as_ref().context("it has no Serin of its own")?;
    let mut terms: Vec<String> = Vec::new();
    for write in environment.asked_by(&serin.account())? {
        if !write.is_write() || write.resource == "leases" || terms.last() == Some(&write.agent) {
            continue;
        }
        ensure!(
            !terms.contains(&write.agent),
            "{} had led before {:?}, and writes again: {write:?}",
            write.agent,
            terms.last()
        );
        terms.push(write.agent);
    }
    Ok(terms)
}

/// How many commits of an action the branch has for a revision of this environment.
pub(crate) async fn commits(environment: &Environment, action: &str, revision: &str) -> anyhow::Result<usize> {
    let rollout = format!("Serin-Rollout: {}/user-service", environment.namespace());
    let wanted = [
        format!("Serin-Cluster: {CLUSTER}"),
        rollout,
        format!("Serin-Revision: {revision}"),
        format!("Serin-Action: {action}"),
    ];
    let log = environment
        .site
        .config
        .run(&["log", "-z", "--format=%B", "main"])
        .await?;
    Ok(log
        .split('\0')
        .filter(|message| wanted.iter().all(|line| message.lines().any(|said| said == line)))
        .count())
}

/// The reason why a commit is kept from the cluster, and what status says of it.
pub(super) fn delivery_blocked(status: &CanaryRolloutStatus) -> Option<(&str, &str)> {
    let blocked = status.conditions.iter().find(|c| c.type_ == "DeliveryBlocked");
    let is_so = blocked.filter(|c| c.status == "True");
    is_so.map(|c| (c.reason.as_str(), c.message.as_str()))
}

/// That an event has this reason.
pub(super) async fn an_event_says(environment: &Environment, reason: &str) -> anyhow::Result<()> {
    eventually(&format!("an event says {reason}"), SOON, || async {
        let events = environment.events().await?;
        let is_told = events.iter().any(|event| event.reason.as_deref() == Some(reason));
        ensure!(is_told, "there is none");
        Ok(())
    })
    .await
}

/// That what Argo CD applied last of this environment, as `argocd app history` lists it, are commits of these kinds for these
/// revisions, oldest first, and that their subjects tell them apart.
pub(super) async fn history_tells(environment: &Environment, wanted: &[(&str, &str)]) -> anyhow::Result<()> {
    let applications = argocd::objects(&environment.client(), "argocd", "Application");
    let application = applications.get(&environment.application()).await?;
    let history = application.data.pointer("/status/history").and_then(Value::as_array);
    let mut subjects: Vec<String> = Vec::new();
    for entry in history.context("the Application has no history")? {
        let revision = entry.get("revision").and_then(Value::as_str).context("no revision")?;
        // Others commit to the branch as well: what it said of this environment counts.
        let args = ["log", "-1", "--format=%s", revision, "--", &environment.folder()];
        let subject = environment.site.config.run(&args).await?.trim().to_owned();
        // Drift is healed by one more sync of the same commit.
        if subjects.last() != Some(&subject) {
            subjects.push(subject);
        }
    }
    let tells = |(subject, (kind, revision)): (&String, &(&str, &str))| {
        subject.starts_with(&format!("{kind} ")) && subject.contains(revision)
    };
    let last = subjects.len().saturating_sub(wanted.len());
    let last = subjects.get(last..).unwrap_or_default();
    ensure!(
        last.len() == wanted.len() && last.iter().zip(wanted).all(tells),
        "wanted {wanted:?} at the end of {subjects:#?}"
    );
    Ok(())
}

/// The environment's values file as it was at a commit.
pub(super) async fn values_at(environment: &Environment, commit: &str) -> anyhow::Result<String> {
    let path = format!("{commit}:{}/values.yaml", environment.folder());
    environment.site.config.run(&["cat-file", "blob", &path]).await
}

/// That no call of the clients has failed, whoever answered it.
pub(super) fn no_call_failed(environment: &Environment, when: &str) -> anyhow::Result<()> {
    no_other_call_failed(environment, "", when)
}

/// That no call of the clients has failed but those that met this revision.
pub(super) fn no_other_call_failed(environment: &Environment, bad: &str, when: &str) -> anyhow::Result<()> {
    let mut failed = environment.calls()?;
    failed.retain(|call| call.is_failure() && call.revision.as_deref() != Some(bad));
    ensure!(
        failed.is_empty(),
        "{} calls failed {when}; the first of them: {:#?}",
        failed.len(),
        failed.iter().take(5).collect::<Vec<_>>()
    );
    Ok(())
}

/// Calls by revision and code, for an error's text.
pub(super) fn census(calls: &[Call]) -> String {
    let mut counts = std::collections::BTreeMap::new();
    for call in calls {
        *counts
            .entry((call.revision.as_deref().unwrap_or("nobody"), call.code.as_str()))
            .or_insert(0) += 1;
    }
    format!("{counts:?}")
}

/// Long enough for a whole promotion on a machine that does much else.
pub(super) const PROMOTION: Duration = Duration::from_mins(6);
/// Long enough for a rollback, from the commit of the bad revision on.
pub(crate) const ROLLBACK: Duration = Duration::from_mins(6);
