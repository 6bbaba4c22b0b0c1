//! What a branch's history says about a rollout's two arms, commit by commit. Reads only.

use std::collections::VecDeque;
use std::sync::Arc;

use super::error::{Error, Result};
use super::layout::{Arm, Arms, BadFile};
use super::objects::{Commit, Walk};
use super::repository::Mirror;
use super::spec::Subject;
use super::trailers::{self, Action, Trailers};

/// Further back than this nobody looks for the commit of a canary that runs now.
const MAX_COMMITS: usize = 1000;
/// Most canaries came with one of the last few commits of their file.
const AT_ONCE: usize = 8;

impl Arms {
    /// The arms at a commit; an error names the file and what is wrong with it.
    pub(super) async fn at(mirror: &Mirror, commit: &str, subject: &Subject) -> Result<Self> {
        let (files, repository) = (subject.files(), mirror.repo().name());
        let mut texts = Vec::with_capacity(files.len());
        for file in &files {
            let Some(text) = mirror.read_file(commit, file).await? else {
                return Err(Error::NoFile {
                    repository,
                    file: file.clone(),
                    commit: commit.to_owned(),
                });
            };
            texts.push(text);
        }
        subject
            .layout
            .read(texts)
            .map_err(|bad| bad_values(mirror, subject, bad))
    }

    /// The same for the past, where a file that is missing or broken is nobody's fault any more.
    pub(super) async fn once(mirror: &Mirror, commit: &str, subject: &Subject) -> Result<Option<Self>> {
        match Self::at(mirror, commit, subject).await {
            Ok(arms) => Ok(Some(arms)),
            Err(Error::NoFile { .. } | Error::File { .. } | Error::Values { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// An error where the canary differs from stable and has no name: what it is can be neither found nor answered.
    pub(super) fn check_name(&self, mirror: &Mirror, subject: &Subject) -> Result<()> {
        match self.nameless(&subject.layout) {
            Some(bad) => Err(bad_values(mirror, subject, bad)),
            None => Ok(()),
        }
    }

    /// The tree of a commit with these arms instead, and nothing else changed.
    pub(super) async fn tree_with(
        &self,
        mirror: &Mirror,
        commit: &str,
        subject: &Subject,
        (stable, canary): (Option<&Arm>, Option<&Arm>),
    ) -> Result<String> {
        let says = |arm: Option<&'_ Arm>| arm.map(|arm| arm.says.clone());
        let texts = self
            .with(&subject.layout, says(stable).as_ref(), says(canary).as_ref())
            .map_err(|bad| bad_values(mirror, subject, bad))?;
        let files = subject.files();
        let changed = texts
            .into_iter()
            .filter_map(|(nth, text)| Some((files.get(nth)?.clone(), text)));
        mirror.tree_with(commit, &changed.collect::<Vec<_>>()).await
    }
}

/// The error for a file that cannot be used.
pub(super) fn bad_values(mirror: &Mirror, subject: &Subject, BadFile { nth, source }: BadFile) -> Error {
    Error::Values {
        repository: mirror.repo().name(),
        file: subject.files().get(nth).cloned().unwrap_or_default(),
        source,
    }
}

/// An error unless a tree differs from a commit's in the arms' files, and in nothing else.
pub(super) async fn only_arms(mirror: &Mirror, head: &str, tree: &str, subject: &Subject, what: &str) -> Result<()> {
    let (changed, files) = (mirror.changed_paths(head, tree).await?, subject.files());
    if !changed.is_empty() && changed.iter().all(|path| files.contains(path)) {
        return Ok(());
    }
    Err(Error::Unsafe {
        repository: mirror.repo().name(),
        why: format!("{what} changes other files"),
    })
}

/// One commit of the branch with what it changed.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) commit: Commit,
    /// As they were last readable; none where the file begins.
    pub(super) before: Option<Arc<Arms>>,
    /// None where the commit left the file unreadable.
    pub(super) after: Option<Arc<Arms>>,
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

/// The commits of the branch that touch the arms' files, newest first.
#[derive(Debug)]
pub(super) struct History<'a> {
    mirror: &'a Mirror,
    subject: &'a Subject,
    commits: std::vec::IntoIter<Commit>,
    /// What was read already, newest first.
    read: VecDeque<(Commit, Option<Arc<Arms>>)>,
}

impl<'a> History<'a> {
    pub(super) async fn of(mirror: &'a Mirror, from: &str, subject: &'a Subject) -> Result<Self> {
        let files = subject.files();
        let commits = mirror
            .log(from, Walk::Branch { files: &files }, MAX_COMMITS)
            .await?
            .into_iter();
        Ok(Self {
            mirror,
            subject,
            commits,
            read: VecDeque::new(),
        })
    }

    /// The next older commit, together with the arms before and after it.
    ///
    /// The list holds every commit of the branch that changes the file, so what was there before one is what the next older
    /// one left. A commit that breaks the file, and the one that mends it, are seen as if the file had been whole between.
    pub(super) async fn next(&mut self) -> Result<Option<Change>> {
        if self.read.is_empty() {
            self.read_on().await?;
        }
        let Some((commit, after)) = self.read.pop_front() else {
            return Ok(None);
        };
        let mut oldest = self.read.back().map_or(&commit, |(commit, _)| commit).clone();
        while self.read.iter().all(|(_, arms)| arms.is_none()) {
            if !self.read_on().await? {
                // Beyond the end of the list the file is missing, or the list was cut off there.
                let before = match oldest.parents.first() {
                    Some(parent) => Arms::once(self.mirror, parent, self.subject).await?.map(Arc::new),
                    None => None,
                };
                return Ok(Some(Change { commit, before, after }));
            }
            if let Some((commit, _)) = self.read.back() {
                oldest = commit.clone();
            }
        }
        let before = self.read.iter().find_map(|(_, arms)| arms.clone());
        Ok(Some(Change { commit, before, after }))
    }

    /// Reads some more commits, in one call of git; false at the end of the list.
    async fn read_on(&mut self) -> Result<bool> {
        let some: Vec<Commit> = self.commits.by_ref().take(AT_ONCE).collect();
        let shas: Vec<&str> = some.iter().map(|commit| commit.sha.as_str()).collect();
        let texts = self.mirror.read_versions(&shas, &self.subject.files()).await?;
        let is_more = !some.is_empty();
        for (commit, texts) in some.into_iter().zip(texts) {
            let arms = texts.and_then(|texts| self.subject.layout.read(texts).ok());
            self.read.push_back((commit, arms.map(Arc::new)));
        }
        Ok(is_more)
    }
}

/// How a branch came from its last rest state to where it stands.
#[derive(Debug, Default)]
pub(super) struct SinceRest {
    /// The canary commits, newest first.
    pub(super) commits: Vec<Commit>,
    /// Whether the walk came to a rest state; else the file begins (or was moved here) with a canary in it.
    pub(super) found_rest: bool,
}

/// The canary commits since the branch last rested.
pub(super) async fn since_rest(mirror: &Mirror, from: &str, subject: &Subject) -> Result<SinceRest> {
    let mut history = History::of(mirror, from, subject).await?;
    let mut since = SinceRest::default();
    while let Some(change) = history.next().await? {
        let rests = |arms: &Option<Arc<Arms>>| arms.as_ref().is_some_and(|arms| arms.at_rest());
        if rests(&change.after) {
            since.found_rest = true;
            break;
        }
        let from_rest = rests(&change.before);
        if change.brings_canary() {
            since.commits.push(change.commit);
        }
        if from_rest {
            since.found_rest = true;
            break;
        }
    }
    Ok(since)
}
