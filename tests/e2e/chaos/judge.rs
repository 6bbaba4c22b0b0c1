//! What the API server's audit log, Git and the clients' records say of the invariants. It asks Serin nothing.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context as _, ensure};
use jiff::{SignedDuration, Timestamp};
use lab::{
    audit::{Asked, WeightWrite},
    site::{CANARY, Environment, SERVICE, Site},
};

use super::crew::Revision;
use crate::rollout::witness::{commits, terms, written_by_serin};

/// Commits tell their time in whole seconds.
const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// That the invariants held in this environment; says what was looked at.
pub(super) async fn judge(environment: &Environment, revisions: &[Revision]) -> anyhow::Result<String> {
    written_by_serin(environment)?;
    let terms = terms(environment)?;
    let serin = environment.serin.as_ref().context("it has no Serin of its own")?;
    let writes: Vec<Asked> = environment
        .asked_by(&serin.account())?
        .into_iter()
        .filter(Asked::is_write)
        .collect();
    let strange = writes.iter().find(|write| !is_its_own(write));
    ensure!(strange.is_none(), "it wrote what is not its own: {strange:?}");

    let weights = environment.weights()?;
    let calls = environment.calls()?;
    let ends = revisions.iter().skip(1).map(|next| next.from).chain([Timestamp::MAX]);
    for (revision, to) in revisions.iter().zip(ends) {
        let name = &revision.name;
        let (rollbacks, promotions) = (
            commits(environment, "rollback", name).await?,
            commits(environment, "promote", name).await?,
        );
        let wanted = if revision.is_bad {
            ("RolledBack", 1, 0)
        } else {
            ("Promoted", 0, 1)
        };
        ensure!(
            (revision.phase.as_str(), rollbacks, promotions) == wanted,
            "{name}: {}, {rollbacks} rollback and {promotions} promotion commits; {wanted:?} is right",
            revision.phase
        );
        let answered = committed(environment, name, if revision.is_bad { "rollback" } else { "promote" }).await?;
        let mine: Vec<&WeightWrite> = weights.iter().filter(|w| revision.from <= w.at && w.at < to).collect();
        steps_are_kept(revision, &mine, answered).with_context(|| format!("{name}: {mine:?}"))?;
        if revision.is_bad {
            let gone = mine
                .iter()
                .rev()
                .find(|w| w.percent() == 0)
                .map_or(revision.from, |w| w.at);
            let late = calls
                .iter()
                .find(|call| call.start > gone + SECOND && call.revision.as_deref() == Some(name));
            ensure!(late.is_none(), "a call met {name} after {gone}: {late:?}");
        }
    }
    let bad: BTreeSet<&str> = revisions.iter().filter(|r| r.is_bad).map(|r| r.name.as_str()).collect();
    let failed: Vec<_> = calls
        .iter()
        .filter(|call| call.is_failure() && !call.revision.as_deref().is_some_and(|name| bad.contains(name)))
        .collect();
    ensure!(
        failed.is_empty(),
        "{} calls failed that met no bad revision: {:?}",
        failed.len(),
        failed.iter().take(5).collect::<Vec<_>>()
    );
    Ok(format!(
        "{} revisions, {} of them bad; {} weights and {} other writes by {} lives of Serin; {} calls",
        revisions.len(),
        bad.len(),
        weights.len(),
        writes.len(),
        terms.len(),
        calls.len()
    ))
}

/// No step is left out, a bad revision passes none, and from the answer's commit on the weight goes where it has to.
fn steps_are_kept(revision: &Revision, weights: &[&WeightWrite], answered: Timestamp) -> anyhow::Result<()> {
    let mut before = 0;
    for write in weights {
        let now = write.percent();
        let is_answered = write.at > answered + SECOND;
        let may = match (before, now) {
            // Down to nothing is always right until a promotion stands in Git.
            (_, 0) => true,
            (0, 25) | (25, 100) => !is_answered && (!revision.is_bad || now == 25),
            (100, 75) | (75, 50) => !revision.is_bad && write.at + SECOND > answered,
            // On a machine that is too busy one of the two pods may be away for a tick; and a weight is taken back while stable is
            // not ready.
            (100, 50) | (75 | 50, 100) => !revision.is_bad,
            _ => now == before,
        };
        ensure!(
            may,
            "{before} % → {now} % at {}, and the answer was committed at {answered}",
            write.at
        );
        before = now;
    }
    ensure!(before == 0, "{before} % are left");
    let at_answer = weights
        .iter()
        .take_while(|w| w.at <= answered + SECOND)
        .last()
        .map_or(0, |w| w.percent());
    ensure!(
        !revision.is_bad || at_answer == 0,
        "{at_answer} % when the rollback was committed"
    );
    Ok(())
}

/// When the commit was made.
async fn committed(environment: &Environment, revision: &str, action: &str) -> anyhow::Result<Timestamp> {
    let all = ["--all-match", "--fixed-strings"];
    let grep = [
        format!("--grep=Serin-Rollout: {}/{SERVICE}", environment.namespace()),
        format!("--grep=Serin-Revision: {revision}"),
        format!("--grep=Serin-Action: {action}"),
    ];
    let mut arguments = vec!["log", "-1", "--format=%ct", "main"];
    arguments.extend(all);
    arguments.extend(grep.iter().map(String::as_str));
    let seconds = environment.site.config.run(&arguments).await?;
    Ok(Timestamp::from_second(seconds.trim().parse().context("no commit")?)?)
}

/// What invariant 7 lets Serin write.
fn is_its_own(write: &Asked) -> bool {
    let services = [format!("{SERVICE}-stable"), format!("{SERVICE}-canary")];
    match (write.resource.as_str(), write.verb.as_str()) {
        ("grpcroutes", "create" | "patch" | "delete")
        | ("canaryrollouts", "patch")
        | ("canaryrollouts/status", "update") => write.name == SERVICE || write.name.is_empty(),
        ("services", "create" | "patch") => services.contains(&write.name) || write.name.is_empty(),
        ("deployments/scale", "patch") => write.name == CANARY,
        ("events", "create") => true,
        ("leases", "create" | "update" | "patch") => ["", "serin", "serin-members"].contains(&write.name.as_str()),
        ("applications", "patch") => write.namespace == "argocd" && write.name == write_application(write),
        _ => false,
    }
}

/// The account's namespace is the Application's name.
fn write_application(write: &Asked) -> &str {
    write.user.split(':').nth(2).unwrap_or_default()
}

/// That nobody's commit was lost: every tip that the branch ever had is in its history, and so is every stranger's commit.
pub(super) async fn history(site: &Arc<Site>, strangers: &[String]) -> anyhow::Result<()> {
    let all = site.config.run(&["rev-list", "main"]).await?;
    let all: BTreeSet<&str> = all.lines().collect();
    let tips = site.config.run(&["reflog", "show", "--format=%H", "main"]).await?;
    ensure!(tips.lines().count() > 1, "no push was remembered");
    let lost = tips
        .lines()
        .chain(strangers.iter().map(String::as_str))
        .find(|id| !all.contains(id));
    ensure!(
        lost.is_none(),
        "{lost:?} was once on the branch, and is no longer in its history"
    );
    Ok(())
}
