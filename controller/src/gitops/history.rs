//! What a branch's history says about a rollout's two arms, commit by commit. Reads only.

use super::error::{Error, Result};
use super::repository::{Commit, Mirror, Walk};
use super::spec::Subject;
use super::trailers::{self, Action, Trailers};
use super::values::Values;
use super::yaml::Yaml;

/// Further back than this nobody looks for the commit of a canary that runs now.
const MAX_COMMITS: usize = 1000;

/// The two arms as a values file says them at one commit.
#[derive(Debug)]
pub(super) struct Arms {
    pub(super) values: Values,
    pub(super) stable: Yaml,
    pub(super) canary: Yaml,
}

impl Arms {
    /// Whether Git is at rest: the canary's subtree equals stable's.
    pub(super) fn at_rest(&self) -> bool {
        self.stable == self.canary
    }

    /// The arms at a commit; an error names the file and what is wrong with it.
    pub(super) async fn at(mirror: &Mirror, commit: &str, subject: &Subject) -> Result<Self> {
        let file = subject.file_path();
        let repository = mirror.repo().name();
        let Some(text) = mirror.read_file(commit, &file).await? else {
            return Err(Error::NoFile {
                repository,
                file,
                commit: commit.to_owned(),
            });
        };
        let read = || {
            let values = Values::parse(text)?;
            let stable = values.subtree(&subject.stable_key())?.clone();
            let canary = values.subtree(&subject.canary_key())?.clone();
            Ok(Self { values, stable, canary })
        };
        read().map_err(|source| Error::Values {
            repository,
            file,
            source,
        })
    }

    /// The same for the past, where a file that is missing or broken is nobody's fault any more.
    pub(super) async fn once(mirror: &Mirror, commit: &str, subject: &Subject) -> Result<Option<Self>> {
        match Self::at(mirror, commit, subject).await {
            Ok(arms) => Ok(Some(arms)),
            Err(Error::NoFile { .. } | Error::Values { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The revision that an arm's subtree names: its `revision`, else the tag of its image.
pub(super) fn revision_of(arm: &Yaml) -> Option<&str> {
    arm.get("revision")
        .and_then(Yaml::as_scalar)
        .or_else(|| arm.get("image")?.get("tag")?.as_scalar())
}

/// One commit of the branch with what it changed.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) commit: Commit,
    pub(super) before: Option<Arms>,
    pub(super) after: Option<Arms>,
}

impl Change {
    /// Whether the commit brought a canary: it changed the canary's subtree to something else than stable's.
    ///
    /// A commit that made the file, or one without a parent, brought none: undoing it would delete the file.
    pub(super) fn brings_canary(&self) -> bool {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => !after.at_rest() && before.canary != after.canary,
            _ => false,
        }
    }

    /// Whether the commit is one of Serin's answers, which is no canary whatever it changes.
    pub(super) fn is_answer(&self, subject: &Subject) -> bool {
        trailers::read(&self.commit.message)
            .iter()
            .any(|trailers| trailers.speaks_of(subject) && trailers.action != Action::Canary)
    }

    pub(super) fn canary_trailers(&self, subject: &Subject) -> Option<Trailers> {
        trailers::read(&self.commit.message)
            .into_iter()
            .find(|trailers| trailers.speaks_of(subject) && trailers.action == Action::Canary)
    }
}

/// The commits of the branch that touch the rollout's file, newest first.
#[derive(Debug)]
pub(super) struct History<'a> {
    mirror: &'a Mirror,
    subject: &'a Subject,
    commits: std::vec::IntoIter<Commit>,
}

impl<'a> History<'a> {
    pub(super) async fn of(mirror: &'a Mirror, from: &str, subject: &'a Subject) -> Result<Self> {
        let file = subject.file_path();
        let commits = mirror
            .log(from, Walk::Branch { file: &file }, MAX_COMMITS)
            .await?
            .into_iter();
        Ok(Self {
            mirror,
            subject,
            commits,
        })
    }

    /// The next older commit, together with the arms before and after it.
    pub(super) async fn next(&mut self) -> Result<Option<Change>> {
        let Some(commit) = self.commits.next() else {
            return Ok(None);
        };
        let after = Arms::once(self.mirror, &commit.sha, self.subject).await?;
        let before = match commit.parents.first() {
            Some(parent) => Arms::once(self.mirror, parent, self.subject).await?,
            None => None,
        };
        Ok(Some(Change { commit, before, after }))
    }
}

/// The canary commits since the branch last rested, newest first.
pub(super) async fn since_rest(mirror: &Mirror, from: &str, subject: &Subject) -> Result<Vec<Commit>> {
    let mut history = History::of(mirror, from, subject).await?;
    let mut commits = Vec::new();
    while let Some(change) = history.next().await? {
        if change.after.as_ref().is_some_and(Arms::at_rest) {
            break;
        }
        let from_rest = change.before.as_ref().is_none_or(Arms::at_rest);
        if change.brings_canary() {
            commits.push(change.commit);
        }
        if from_rest {
            break;
        }
    }
    Ok(commits)
}
