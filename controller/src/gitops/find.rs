//! Finds the commit that brought a canary, and what has been answered to earlier ones. Reads only.

use super::error::Result;
use super::history::{Change, History};
use super::layout::Arm;
use super::objects::Walk;
use super::repository::Mirror;
use super::spec::Subject;
use super::trailers::{self, Action};

/// Answers older than so many commits of the rollout are forgotten.
const MAX_ANSWERS: usize = 2000;

/// The commit that brought a canary revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanaryCommit {
    pub sha: String,
    pub author: String,
    pub email: String,
    pub time: jiff::Timestamp,
    pub subject: String,
    /// The revision that it names, in its trailers or in the values.
    pub revision: Option<String>,
    /// Whether its trailers say so too; else it was found by its content alone.
    pub by_trailer: bool,
}

/// An answer of Serin to a revision, as Git remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub revision: String,
    /// [`Action::Promote`] or [`Action::Rollback`].
    pub action: Action,
    pub sha: String,
    /// The canary commits that it answers.
    pub names: Vec<String>,
    pub time: jiff::Timestamp,
}

/// The newest commit of the branch that brought this canary; without a revision, the canary of the head.
///
/// A name does not tell two canaries apart that differ in their configuration alone: where the head's canary has the name
/// that is asked for, the commit that brought what stands there is the one. Trailers alone prove nothing: the commit's content must have brought the revision. Commits without trailers (a squash, a
/// merge, a person's edit) are found by their content.
pub(super) async fn canary(
    mirror: &Mirror,
    head: &str,
    subject: &Subject,
    revision: Option<&str>,
) -> Result<Option<CanaryCommit>> {
    let mut history = History::of(mirror, head, subject).await?;
    let mut present: Option<Arm> = None;
    let mut by_content = true;
    while let Some(change) = history.next().await? {
        if present.is_none() {
            present = change.after.as_ref().map(|arms| arms.canary.clone());
            let named = present.as_ref().and_then(|arm| arm.revision.as_deref());
            by_content = revision.is_none_or(|revision| named == Some(revision));
        }
        let wanted = revision.or_else(|| present.as_ref().and_then(|arm| arm.revision.as_deref()));
        let brings_present = by_content && before_is_other(&change, present.as_ref());
        let is_candidate = change.brings_canary() && !change.is_answer(subject);
        if is_candidate && (brings_present || wanted.is_some_and(|wanted| brings(&change, wanted))) {
            return Ok(Some(describe(change, subject, revision)));
        }
        // Older commits brought something else, or the same name only.
        by_content &= !brings_present;
    }
    Ok(None)
}

/// Whether the canary was another one before the commit.
fn before_is_other(change: &Change, present: Option<&Arm>) -> bool {
    change.after.is_some() && change.before.as_ref().map(|arms| &arms.canary) != present
}

/// Whether the commit's canary is of the revision, and its parent's was not.
fn brings(change: &Change, revision: &str) -> bool {
    let after = change.after.as_ref().and_then(|arms| arms.canary.revision.as_deref());
    let before = change.before.as_ref().and_then(|arms| arms.canary.revision.as_deref());
    after == Some(revision) && before != Some(revision)
}

fn describe(change: Change, subject: &Subject, revision: Option<&str>) -> CanaryCommit {
    let named = change.after.as_ref().and_then(|arms| arms.canary.revision.clone());
    let trailers = change.canary_trailers(subject);
    let by_trailer = trailers
        .as_ref()
        .is_some_and(|trailers| revision.is_none_or(|revision| trailers.revision == revision));
    let line = change.commit.subject().to_owned();
    CanaryCommit {
        sha: change.commit.sha,
        author: change.commit.author,
        email: change.commit.email,
        time: change.commit.time,
        subject: line,
        revision: named,
        by_trailer,
    }
}

/// A commit that speaks of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    pub sha: String,
    pub action: Action,
    pub revision: String,
    pub author: String,
    pub time: jiff::Timestamp,
    /// The commit's subject line.
    pub subject: String,
    /// Why it was rolled back.
    pub reason: Option<String>,
    /// The commits that it answers.
    pub names: Vec<String>,
}

/// The commits that speak of this rollout, newest first.
pub(super) async fn log(mirror: &Mirror, head: &str, subject: &Subject, limit: usize) -> Result<Vec<LogEntry>> {
    let text = format!("Serin-Rollout: {}", subject.rollout());
    let folder = |file: String| {
        file.rsplit_once('/')
            .map_or(String::new(), |(folder, _)| folder.to_owned())
    };
    let mut paths: Vec<_> = subject.files().into_iter().map(folder).collect();
    paths.dedup();
    // One folder that holds all is found quicker than each of them; what others say is left out below.
    let above = subject.path.trim_start_matches("./").trim_matches('/');
    if paths.len() > 1 && !matches!(above, "" | ".") {
        paths = vec![above.to_owned()];
    }
    let walk = Walk::Saying {
        paths: &paths,
        text: &text,
    };
    let commits = mirror.log(head, walk, limit).await?;
    let entries = commits.into_iter().flat_map(|commit| {
        let names = trailers::named(&commit.message);
        let line = commit.subject().to_owned();
        let sets = trailers::read(&commit.message).into_iter();
        sets.filter(|set| set.speaks_of(subject))
            .map(|set| LogEntry {
                sha: commit.sha.clone(),
                action: set.action,
                revision: set.revision,
                author: commit.author.clone(),
                time: commit.time,
                subject: line.clone(),
                reason: set.reason,
                names: names.clone(),
            })
            .collect::<Vec<_>>()
    });
    Ok(entries.collect())
}

/// All answers to revisions of this rollout, newest first.
pub(super) async fn answers(mirror: &Mirror, head: &str, subject: &Subject) -> Result<Vec<Answer>> {
    let entries = log(mirror, head, subject, MAX_ANSWERS).await?.into_iter();
    let answers = entries.filter(|entry| entry.action != Action::Canary);
    Ok(answers
        .map(|entry| Answer {
            revision: entry.revision,
            action: entry.action,
            sha: entry.sha,
            names: entry.names,
            time: entry.time,
        })
        .collect())
}

/// The answer of one kind that names a canary's commit.
pub(super) fn answer_to<'a>(answers: &'a [Answer], action: Action, canary: &str) -> Option<&'a Answer> {
    answers
        .iter()
        .find(|answer| answer.action == action && answer.names.iter().any(|name| name == canary))
}
