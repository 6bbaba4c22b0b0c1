//! `serin wait`: waits for the end of a revision, for pipelines. What has happened is told by status alone; this reads it over
//! a watch, and decides nothing.

use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use futures::{Stream, TryStreamExt as _};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use serde_json::json;

use super::rollout::{InCluster, in_cluster};
use super::{TIMED_OUT, duration};
use crate::api::{CanaryRollout, CanaryRolloutStatus, HistoryEntry};
use crate::runtime::client;

/// What to wait for.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes:
  0    what was waited for has happened
  1    it could not be told: no such rollout, it was deleted, or the cluster cannot be asked
  2    the command line makes no sense
  3    the revision was rolled back
  4    the revision was promoted
  5    the revision ended in another way: withdrawn in Git, or superseded by a newer one
  124  the time was over first")]
pub struct Args {
    /// The rollout.
    name: String,
    /// The namespace; the kubeconfig's own when absent.
    #[arg(long, short)]
    namespace: Option<String>,
    /// What to wait for; `finished` is any end.
    #[arg(long = "for", value_enum, default_value = "promoted")]
    wanted: Wanted,
    /// Name of the revision; without it the one on trial, or else the next one, or the one that ended last when none is to be
    /// judged.
    #[arg(long, value_name = "NAME")]
    revision: Option<String>,
    /// The commit that brought the revision, as `serin revision create` printed it: tells two revisions of the same name apart.
    #[arg(long, value_name = "COMMIT")]
    commit: Option<String>,
    /// The most time to wait.
    #[arg(long, default_value = "1h", value_parser = duration, value_name = "DURATION")]
    timeout: Duration,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Wanted {
    /// The revision runs as stable.
    Promoted,
    /// The revision is out of Git and of the cluster.
    RolledBack,
    /// The revision has come to any end.
    Finished,
}

/// How a revision ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Promoted,
    RolledBack,
    Withdrawn,
    Superseded,
}

impl Outcome {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "Promoted" => Some(Self::Promoted),
            "RolledBack" => Some(Self::RolledBack),
            "Withdrawn" => Some(Self::Withdrawn),
            "Superseded" => Some(Self::Superseded),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled-back",
            Self::Withdrawn => "withdrawn",
            Self::Superseded => "superseded",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Promoted => "was promoted",
            Self::RolledBack => "was rolled back",
            Self::Withdrawn => "was withdrawn",
            Self::Superseded => "was superseded",
        }
    }

    fn code(self, wanted: Wanted) -> u8 {
        match (wanted, self) {
            (Wanted::Finished, _) | (Wanted::Promoted, Self::Promoted) | (Wanted::RolledBack, Self::RolledBack) => 0,
            (_, Self::RolledBack) => 3,
            (_, Self::Promoted) => 4,
            (_, Self::Withdrawn | Self::Superseded) => 5,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct End {
    revision: String,
    outcome: Outcome,
    reason: String,
    /// The promotion's or the rollback's.
    commit: Option<String>,
}

/// The revision that is waited for.
#[derive(Debug)]
struct Waiting {
    wanted: Wanted,
    revision: Option<String>,
    commit: Option<String>,
}

impl Waiting {
    fn is_it(&self, name: &str, commit: Option<&str>) -> bool {
        let of = |given: &Option<String>, is: &dyn Fn(&str) -> bool| given.as_deref().is_none_or(is);
        of(&self.revision, &|given| given == name)
            // Before the commit is known it may be any.
            && of(&self.commit, &|given| commit.is_some_and(|commit| commit.starts_with(given)))
    }

    /// The end of the revision, if status tells one.
    fn look(&mut self, status: &CanaryRolloutStatus) -> Option<End> {
        let phase = status.phase.as_deref().unwrap_or_default();
        let present = status.revision.as_ref();
        let present = present.filter(|revision| self.is_it(&revision.name, revision.commit.as_deref()));
        let newest = status
            .history
            .iter()
            .find(|entry| self.is_it(&entry.revision, entry.canary_commit.as_deref()));
        match (present, phase) {
            (Some(revision), "RollingBack") if self.wanted == Wanted::Promoted => {
                let rollback = status.rollback.as_ref();
                return Some(End {
                    revision: revision.name.clone(),
                    outcome: Outcome::RolledBack,
                    reason: rollback.and_then(|r| r.reason.clone()).unwrap_or_default(),
                    commit: rollback.and_then(|r| r.commit.clone()),
                });
            }
            (Some(revision), "Starting" | "Progressing" | "Paused" | "Promoting" | "RollingBack") => {
                // From now on it is this one, whatever comes after it.
                self.revision.get_or_insert_with(|| revision.name.clone());
                return None;
            }
            (Some(revision), "Promoted" | "RolledBack" | "Withdrawn") => {
                let of_this = newest.filter(|entry| entry.revision == revision.name && entry.outcome == phase)?;
                return end(of_this);
            }
            _ => {}
        }
        // What ended before something newer came; without a name it may be long ago and of no interest.
        let is_named = self.revision.is_some() || self.commit.is_some();
        newest.filter(|_| is_named).and_then(end)
    }
}

fn end(entry: &HistoryEntry) -> Option<End> {
    Some(End {
        revision: entry.revision.clone(),
        outcome: Outcome::parse(&entry.outcome)?,
        reason: entry.reason.clone(),
        commit: entry.commit.clone(),
    })
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = client::connect().await?;
    wait(client, args).await.map(ExitCode::from)
}

async fn wait(client: Client, args: Args) -> anyhow::Result<u8> {
    // What is not there, or may not be read, is told at once and not when the time is over.
    let InCluster { namespace, api, .. } = in_cluster(client, &args.name, args.namespace.as_deref()).await?;
    let (name, wanted) = (format!("{namespace}/{}", args.name), args.wanted);
    let config = watcher::Config::default().fields(&format!("metadata.name={}", args.name));
    let mut waiting = Waiting {
        wanted,
        revision: args.revision,
        commit: args.commit,
    };
    let mut last = String::new();
    let follow = follow(&name, &mut waiting, &mut last, watcher(api, config).default_backoff());
    match tokio::time::timeout(args.timeout, follow).await {
        Ok(end) => {
            let end = end?;
            let by = end.commit.as_deref().map(|commit| format!(" (commit {commit})"));
            let (revision, words) = (&end.revision, end.outcome.words());
            eprintln!("{name}: {revision} {words}: {}{}", end.reason, by.unwrap_or_default());
            let line = json!({
                "rollout": name,
                "revision": revision,
                "outcome": end.outcome.name(),
                "reason": end.reason,
                "commit": end.commit,
            });
            println!("{line}");
            Ok(end.outcome.code(wanted))
        }
        Err(_) => {
            let revision = waiting.revision.as_deref().unwrap_or("a revision");
            eprintln!(
                "{name}: {:?} were over before {revision} came to its end; the last word: {last}",
                args.timeout
            );
            Ok(TIMED_OUT)
        }
    }
}

/// Follows a rollout until the revision has ended. A watch that breaks is begun again.
async fn follow(
    name: &str,
    waiting: &mut Waiting,
    last: &mut String,
    events: impl Stream<Item = watcher::Result<watcher::Event<CanaryRollout>>>,
) -> anyhow::Result<End> {
    let mut events = pin!(events.map_err(|error| eprintln!("{name}: {error}; trying again")));
    loop {
        let rollout = match events.try_next().await {
            Ok(Some(watcher::Event::Apply(rollout) | watcher::Event::InitApply(rollout))) => rollout,
            Ok(Some(watcher::Event::Delete(_))) => anyhow::bail!("the rollout {name} was deleted"),
            Ok(Some(watcher::Event::Init | watcher::Event::InitDone)) | Err(()) => continue,
            Ok(None) => anyhow::bail!("the watch of {name} ended"),
        };
        let status = rollout.status.clone().unwrap_or_default();
        if let Some(end) = waiting.look(&status) {
            return Ok(end);
        }
        let phase = status.phase.as_deref().unwrap_or("not looked at yet");
        let now = format!("{phase}: {}", status.message.as_deref().unwrap_or_default());
        if *last != now {
            eprintln!("{}: {now}", rollout.name_any());
            *last = now;
        }
    }
}

#[cfg(test)]
mod tests;
