//! `serin revision`: what pipelines and people call to bring, answer and list canary revisions. It maps flags to requests of the
//! Git room and outcomes to words, no more: the commits are the controller's own.

use std::path::Path;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::table::table as columns;
use crate::gitops::{
    CreateRequest, GitOps, Identity, LogEntry, Pace, PromoteOutcome, PromoteRequest, RepoSpec, RollbackOutcome,
    RollbackRequest, Subject,
};

mod place;

use place::{Place, Secrets};

/// Flags of `serin revision create`.
#[derive(Args, Debug, Clone)]
pub struct RevisionCreate {
    #[command(flatten)]
    place: Place,
    /// Tag of the canary's image; with Kustomize a digest (sha256:…) too.
    #[arg(long, value_name = "TAG")]
    image_tag: String,
    /// Repository of the canary's image, if it changes.
    #[arg(long, value_name = "REPOSITORY")]
    image_repository: Option<String>,
    /// Name of the revision.
    #[arg(long, value_name = "NAME")]
    revision: String,
    /// A further value below the canary's subtree, as in env.KEY=VALUE, and with Kustomize only that; may be given several
    /// times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Author of the commit.
    #[arg(long, value_name = "NAME <MAIL>")]
    author: Option<String>,
    /// Subject line of the commit.
    #[arg(long, value_name = "SUBJECT")]
    message: Option<String>,
    /// Print the change as a diff and push nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Which revision is answered.
#[derive(Args, Debug, Clone)]
#[group(required = true, multiple = true)]
pub struct Which {
    /// Name of the revision.
    #[arg(long, value_name = "NAME")]
    revision: Option<String>,
    /// The commit that brought it, or the beginning of its id: for one that has no name, or one of several with the same.
    #[arg(long, value_name = "COMMIT")]
    commit: Option<String>,
}

impl Which {
    /// The revision's name and its commit.
    async fn find(self, git: &GitOps, repo: &RepoSpec, subject: &Subject) -> Result<(String, Option<String>)> {
        let Some(commit) = self.commit else {
            return Ok((self.revision.unwrap_or_default(), None));
        };
        let (sha, name) = git
            .canary_of(repo, subject, &commit)
            .await?
            .with_context(|| format!("--commit {commit} is no commit of {} that holds a canary", repo.branch))?;
        Ok((self.revision.unwrap_or(name), Some(sha)))
    }
}

/// Flags of `serin revision rollback`.
#[derive(Args, Debug, Clone)]
pub struct RevisionRollback {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    which: Which,
    /// Why, in one line; it stands in the commit.
    #[arg(long, default_value = "rolled back by hand")]
    reason: String,
    /// The promotion's commit, if it was promoted: then both arms are restored.
    #[arg(long, value_name = "COMMIT")]
    promotion: Option<String>,
    /// Who rolls back; the author of the commit.
    #[arg(long, value_name = "NAME <MAIL>")]
    author: Option<String>,
    /// Print the change as a diff and push nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Flags of `serin revision promote`.
#[derive(Args, Debug, Clone)]
pub struct RevisionPromote {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    which: Which,
    /// The revision that stable must still have; without it, stable must be as it was when the canary came.
    #[arg(long, value_name = "NAME")]
    baseline: Option<String>,
    /// Who promotes; the author of the commit.
    #[arg(long, value_name = "NAME <MAIL>")]
    author: Option<String>,
    /// Print the change as a diff and push nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Flags of `serin revision log`.
#[derive(Args, Debug, Clone)]
pub struct RevisionLog {
    #[command(flatten)]
    place: Place,
    /// So many commits at most.
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: usize,
    /// How they are written.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Output,
}

/// How commits are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table for people.
    Table,
    /// A list as JSON.
    Json,
}

/// Commits the revision and prints the commit as JSON; nothing is left behind on this machine.
pub async fn create(args: RevisionCreate) -> Result<()> {
    let (repo, request, dry_run) = create_request(args, Secrets::of_environment())?;
    let (folder, identity) = (folder()?, request.author.clone().unwrap_or_default());
    let git = GitOps::new(folder.path(), identity).with_pace(Pace::AT_ONCE);
    let doing = || {
        format!(
            "cannot commit revision {} of {}",
            request.revision,
            request.subject.rollout()
        )
    };
    if dry_run {
        let preview = git.preview_canary(&repo, &request).await.with_context(doing)?;
        print!("{}", preview.diff.unwrap_or_default());
        return Ok(());
    }
    let created = git.create_canary(&repo, &request).await.with_context(doing)?;
    println!(
        "{}",
        json!({ "commit": created.sha, "branch": repo.branch, "revision": request.revision })
    );
    Ok(())
}

/// Rolls a revision back with the controller's own commit.
pub async fn rollback(args: RevisionRollback) -> Result<()> {
    let (repo, subject) = args.place.resolve(Secrets::of_environment())?;
    let folder = folder()?;
    let git = git(folder.path(), args.author.as_deref())?;
    let (revision, canary_commit) = args.which.find(&git, &repo, &subject).await?;
    let request = RollbackRequest {
        trial: None,
        subject,
        revision,
        canary_commit,
        promotion: args.promotion,
        reason: args.reason,
        keep_successor: true,
    };
    let doing = || {
        format!(
            "cannot roll back revision {} of {}",
            request.revision,
            request.subject.rollout()
        )
    };
    let (outcome, diff) = if args.dry_run {
        let preview = git.preview_rollback(&repo, &request).await.with_context(doing)?;
        (preview.outcome, preview.diff)
    } else {
        (git.roll_back(&repo, &request).await.with_context(doing)?, None)
    };
    if let Some(diff) = diff {
        print!("{diff}");
        return Ok(());
    }
    match outcome {
        RollbackOutcome::Committed { sha, .. } => print_commit("committed", &sha, &repo, &request.revision),
        RollbackOutcome::AlreadyCommitted { sha, .. } => print_commit("there already", &sha, &repo, &request.revision),
        RollbackOutcome::AlreadyAtRest => eprintln!("nothing to commit: the canary equals stable already"),
        RollbackOutcome::Withdrawn => anyhow::bail!(
            "nothing was committed: {} does not hold a canary commit of revision {} any more; see `serin revision log`",
            repo.branch,
            request.revision
        ),
        RollbackOutcome::Superseded { by } => anyhow::bail!(
            "nothing was committed: the canary is {} now; roll that one back to undo both",
            by.as_deref().unwrap_or("another one")
        ),
    }
    Ok(())
}

/// Promotes a revision with the controller's own commit.
pub async fn promote(args: RevisionPromote) -> Result<()> {
    let (repo, subject) = args.place.resolve(Secrets::of_environment())?;
    let folder = folder()?;
    let git = git(folder.path(), args.author.as_deref())?;
    let (revision, canary_commit) = args.which.find(&git, &repo, &subject).await?;
    let request = PromoteRequest {
        trial: None,
        subject,
        revision,
        canary_commit,
        baseline: args.baseline,
    };
    let doing = || {
        format!(
            "cannot promote revision {} of {}",
            request.revision,
            request.subject.rollout()
        )
    };
    let (outcome, diff) = if args.dry_run {
        let preview = git.preview_promotion(&repo, &request).await.with_context(doing)?;
        (preview.outcome, preview.diff)
    } else {
        (git.promote(&repo, &request).await.with_context(doing)?, None)
    };
    if let Some(diff) = diff {
        print!("{diff}");
        return Ok(());
    }
    match outcome {
        PromoteOutcome::Committed { sha } => print_commit("committed", &sha, &repo, &request.revision),
        PromoteOutcome::AlreadyCommitted { sha } => print_commit("there already", &sha, &repo, &request.revision),
        PromoteOutcome::AlreadyThere => eprintln!("nothing to commit: stable equals the canary already"),
        PromoteOutcome::StableChanged { found } => anyhow::bail!(
            "nothing was committed: stable is {} now and is not overwritten; name it with --baseline if the canary is still wanted",
            found.as_deref().unwrap_or("another revision")
        ),
        PromoteOutcome::CanaryChanged { found } => anyhow::bail!(
            "nothing was committed: the canary is {}, not {}; see `serin revision log`",
            found.as_deref().unwrap_or("nameless"),
            request.revision
        ),
        PromoteOutcome::RolledBack { sha } => anyhow::bail!(
            "nothing was committed: revision {} was rolled back by {sha}; bring it again with `serin revision create`",
            request.revision
        ),
    }
    Ok(())
}

/// Prints the rollout's commits, newest first.
pub async fn log(args: RevisionLog) -> Result<()> {
    let (repo, subject) = args.place.resolve(Secrets::of_environment())?;
    let folder = folder()?;
    let entries = git(folder.path(), None)?
        .log(&repo, &subject, args.limit)
        .await
        .with_context(|| format!("cannot list the commits of {}", subject.rollout()))?;
    match args.output {
        Output::Table => print!("{}", table(&entries)),
        Output::Json => println!("{}", serde_json::to_string_pretty(&as_json(&entries))?),
    }
    Ok(())
}

fn as_json(entries: &[LogEntry]) -> serde_json::Value {
    let entry = |entry: &LogEntry| {
        json!({
            "commit": entry.sha,
            "action": entry.action.as_str(),
            "revision": entry.revision,
            "author": entry.author,
            "time": entry.time.to_string(),
            "subject": entry.subject,
            "reason": entry.reason,
            "answers": entry.names,
        })
    };
    entries.iter().map(entry).collect()
}

fn table(entries: &[LogEntry]) -> String {
    if entries.is_empty() {
        return "No commits of this rollout found.\n".to_owned();
    }
    let heading = ["COMMIT", "TIME", "ACTION", "REVISION", "AUTHOR", "REASON"].map(str::to_owned);
    let rows = entries.iter().map(|entry| {
        [
            entry.sha.get(..12).unwrap_or(&entry.sha).to_owned(),
            entry.time.to_string(),
            entry.action.as_str().to_owned(),
            entry.revision.clone(),
            entry.author.clone(),
            entry.reason.clone().unwrap_or_default(),
        ]
    });
    columns(&std::iter::once(heading).chain(rows).collect::<Vec<_>>())
}

fn print_commit(what: &str, sha: &str, repo: &RepoSpec, revision: &str) {
    println!(
        "{}",
        json!({ "commit": sha, "branch": repo.branch, "revision": revision, "result": what })
    );
}

fn folder() -> Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix("serin-")
        .tempdir()
        .context("cannot make a temporary folder; check that TMPDIR can be written")
}

fn git(folder: &Path, author: Option<&str>) -> Result<GitOps> {
    let identity = author.map(Identity::parse).transpose()?.unwrap_or_default();
    Ok(GitOps::new(folder, identity).with_pace(Pace::AT_ONCE))
}

fn create_request(args: RevisionCreate, secrets: Secrets) -> Result<(RepoSpec, CreateRequest, bool)> {
    let (repo, subject) = args.place.resolve(secrets)?;
    let request = CreateRequest {
        subject,
        revision: args.revision,
        image_tag: args.image_tag,
        image_repository: args.image_repository,
        set: args.set,
        author: args.author.as_deref().map(Identity::parse).transpose()?,
        message: args.message,
    };
    Ok((repo, request, args.dry_run))
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".into()),
    }
}

#[cfg(test)]
mod tests;
