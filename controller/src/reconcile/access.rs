//! Who may have commits written where: the allow-list of the controller's configuration, and one rollout for each subtree. With
//! it, the hosts whose APIs whoever runs Serin names. Pure; it must not know a cluster, nor Git.
//!
//! Without an allow-list everything is allowed: Serin writes with the credentials of the rollout's own namespace, so that a
//! namespace reaches no more than its Secret does. The list is for those who share a Secret, and for a second lock.

use std::path::Path;

use anyhow::Context as _;
use kube::ResourceExt as _;
use serde::Deserialize;
use serin_core::rollout::FieldError;

use crate::api::{CanaryRollout, GitSpec, Layout, parse};
use crate::gitops::{self, Host, KeyPath};

/// The allow-list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// Something is allowed when any of these allows it; without a list everything is.
    allow: Option<Vec<Rule>>,
    /// Hosts of repositories whose APIs may be spoken to, beside those that everybody knows.
    #[serde(default)]
    hosts: Vec<Host>,
}

/// What some namespaces may have written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// Names; `*` is any part of one.
    namespaces: Vec<String>,
    /// An address; `*` is any part of one of its segments.
    repository: String,
    /// Names; `*` is any part of one, a slash too.
    #[serde(default = "all")]
    branches: Vec<String>,
    /// Folders or files, with all that is below them; `*` is any part of one segment.
    #[serde(default = "top")]
    paths: Vec<String>,
}

fn all() -> Vec<String> {
    vec!["*".to_owned()]
}

fn top() -> Vec<String> {
    vec![String::new()]
}

impl Access {
    /// Reads the list from a file.
    ///
    /// # Errors
    /// When the file cannot be read, or is no allow-list.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let reading = || format!("reading the allow-list {}", file.display());
        let text = std::fs::read_to_string(file).with_context(reading)?;
        serde_saphyr::from_str(&text).with_context(reading)
    }

    /// The hosts whose APIs may be spoken to.
    pub fn hosts(&self) -> Vec<Host> {
        self.hosts.clone()
    }

    /// Whether a namespace may have the commits of this rollout written; an error names the field that it may not have.
    pub(super) fn check(&self, namespace: &str, git: &GitSpec, layout: &Layout) -> Result<(), FieldError> {
        let Some(rules) = &self.allow else { return Ok(()) };
        let refused = |field: &str, what: &str| {
            Err(FieldError::new(
                field,
                format!(
                    "namespace {namespace} may not have commits written to {what}; whoever runs Serin adds it to `access` of Serin's chart"
                ),
            ))
        };
        let repository = repository(&git.repository);
        // A host may read `a/../b` as `b`, and the list would have been asked about something else.
        let is_plain = |path: &str| !path.contains('%') && !path.split('/').any(|part| matches!(part, "." | ".."));
        let rules: Vec<_> = rules
            .iter()
            .filter(|rule| rule.namespaces.iter().any(|pattern| matches(pattern, namespace)))
            .filter(|rule| {
                is_plain(&repository) && segments_match(&self::repository(&rule.repository), &repository, true)
            })
            .collect();
        if rules.is_empty() {
            return refused("spec.git.repository", &git.repository);
        }
        let rules: Vec<_> = rules
            .into_iter()
            .filter(|rule| rule.branches.iter().any(|pattern| matches(pattern, &git.branch)))
            .collect();
        if rules.is_empty() {
            return refused(
                "spec.git.branch",
                &format!("branch {} of {}", git.branch, git.repository),
            );
        }
        for file in files(git, layout) {
            let is_allowed = |rule: &&Rule| rule.paths.iter().any(|pattern| segments_match(pattern, &file, false));
            if !is_plain(&file) || !rules.iter().any(is_allowed) {
                return refused("spec.git.path", &format!("{file} of {}", git.repository));
            }
        }
        Ok(())
    }
}

/// Whether a name fits a pattern in which `*` is any text.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            ends.filter_map(|at| rest.get(at..)).any(|rest| matches(after, rest))
        }),
    }
}

/// The same segment by segment; of a path all that is below the pattern fits too.
fn segments_match(pattern: &str, path: &str, whole: bool) -> bool {
    let segments = |text: &str| -> Vec<String> {
        let parts = text.split('/').filter(|part| !part.is_empty() && *part != ".");
        parts.map(str::to_owned).collect()
    };
    let (pattern, path) = (segments(pattern), segments(path));
    let fits = pattern.iter().zip(&path).all(|(pattern, name)| matches(pattern, name));
    fits && pattern.len() <= path.len() && (!whole || pattern.len() == path.len())
}

/// A repository whatever way leads to it: `host/path`.
fn repository(url: &str) -> String {
    let (host, path) = gitops::place(url);
    format!("{host}/{path}")
}

/// The files that hold the arms, from the top of the repository.
fn files(git: &GitSpec, layout: &Layout) -> Vec<String> {
    let below: Vec<&str> = match layout {
        Layout::Helm(helm) => vec![&helm.file],
        Layout::Kustomize(kustomize) => vec![&kustomize.stable, &kustomize.canary],
    };
    let folder = git.path.trim_start_matches("./").trim_matches('/');
    let at = |file: &str| match folder {
        "" | "." => file.to_owned(),
        _ => format!("{folder}/{file}"),
    };
    below.into_iter().map(at).collect()
}

/// A file in a config repository, the same whatever way leads to it: two rollouts that share none share no subtree.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct File {
    repository: String,
    branch: String,
    path: String,
}

/// The files of a rollout's arms.
pub(super) fn files_of(git: &GitSpec, layout: &Layout) -> Vec<File> {
    let repository = repository(&git.repository);
    let file = |path| File {
        repository: repository.clone(),
        branch: git.branch.clone(),
        path,
    };
    files(git, layout).into_iter().map(file).collect()
}

/// The keys of an arm's file that belong to the arms; none is all of it.
fn keys(layout: &Layout) -> Vec<KeyPath> {
    match layout {
        Layout::Helm(helm) => vec![KeyPath::parse(&helm.stable), KeyPath::parse(&helm.canary)],
        Layout::Kustomize(_) => vec![],
    }
}

/// An error when another rollout has the same subtree, and had it first: the older one keeps it.
pub(super) fn taken<'a>(
    access: &Access,
    rollout: &CanaryRollout,
    layout: &Layout,
    others: impl IntoIterator<Item = &'a CanaryRollout>,
) -> Result<(), FieldError> {
    let git = &rollout.spec.git;
    let mine = files(git, layout);
    let (age, repository) = (age(rollout), repository(&git.repository));
    for other in others {
        let theirs = &other.spec.git;
        if theirs.branch != git.branch || self::age(other) >= age || other.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let Ok(parsed) = parse(&other.spec) else { continue };
        let shared = files(theirs, &parsed.layout)
            .into_iter()
            .find(|file| mine.contains(file));
        let Some(file) = shared.filter(|_| self::repository(&theirs.repository) == repository) else {
            continue;
        };
        let (ours, their_keys) = (keys(layout), keys(&parsed.layout));
        let apart = |a: &KeyPath, b: &KeyPath| !a.keys().starts_with(b.keys()) && !b.keys().starts_with(a.keys());
        let are_apart = !ours.is_empty()
            && !their_keys.is_empty()
            && ours
                .iter()
                .all(|mine| their_keys.iter().all(|other| apart(mine, other)));
        let namespace = other.namespace().unwrap_or_default();
        // What may not write there cannot keep others away.
        if are_apart || access.check(&namespace, theirs, &parsed.layout).is_err() {
            continue;
        }
        return Err(FieldError::new(
            "spec.git.path",
            format!(
                "the rollout {namespace}/{} has the same subtree of {file}, and is older; give this one a subtree of its own, or delete one of them",
                other.name_any()
            ),
        ));
    }
    Ok(())
}

/// Older is less; of two that were made in the same second, the first by name.
fn age(rollout: &CanaryRollout) -> (Option<jiff::Timestamp>, Option<String>, String) {
    let created = rollout.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (created, rollout.namespace(), rollout.name_any())
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
