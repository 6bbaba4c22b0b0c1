//! A bare mirror of one branch of a config repository, on disk: fetch, repair, push. It must not know rollouts.
//!
//! # Guarantees
//! A fetch and a push move forward or fail: a history rewritten by force is reported, never followed and never forced.
//! A shallow history is refused. A damaged mirror is thrown away and fetched again, and is not trusted before it is seen to
//! contain what the damaged one had.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use super::command::{Answer, Call, Git};
use super::error::{Error, ErrorKind, Result};
use super::fault::Fault;
use super::spec::RepoSpec;
use super::words::{is_damage, is_full, remote_lines};
use crate::metrics::DONE;

/// Where the mirror keeps the branch's head.
const HEAD: &str = "refs/serin/head";

/// Beside the objects: the head that a damaged mirror had, until the new one is seen to contain it.
const KNOWN: &str = "serin-known";
/// Beside the objects: something in them could not be read.
const DAMAGED: &str = "serin-damaged";

/// A mirror; clones of it share the folder.
#[derive(Debug, Clone)]
pub struct Mirror {
    git: Git,
    pub(super) dir: PathBuf,
    repo: RepoSpec,
}

/// What became of a push.
#[derive(Debug)]
pub(super) enum Push {
    Done,
    /// Somebody was faster.
    Rejected,
    /// Nobody knows; the branch must be looked at.
    Unknown(Error),
}

impl Push {
    /// What became of it, in a metric's label.
    pub(super) fn word(pushed: &Result<Self>) -> &'static str {
        match pushed {
            Ok(Self::Done) => DONE,
            Ok(Self::Rejected) => "Rejected",
            Ok(Self::Unknown(_)) => "Unknown",
            Err(error) => error.reason(),
        }
    }
}

impl Mirror {
    /// The mirror of a branch below a cache folder; nothing is done yet.
    pub fn new(git: Git, cache: &Path, repo: RepoSpec) -> Result<Self> {
        repo.check()?;
        let mut hasher = DefaultHasher::new();
        (&repo.url, &repo.branch).hash(&mut hasher);
        let last = repo
            .url
            .trim_end_matches('/')
            .rsplit(['/', ':'])
            .next()
            .unwrap_or_default();
        let last: String = last
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
            .take(40)
            .collect();
        let dir = cache.join(format!("{last}-{:016x}.git", hasher.finish()));
        Ok(Self { git, dir, repo })
    }

    pub fn repo(&self) -> &RepoSpec {
        &self.repo
    }

    /// Brings the mirror up to date and returns the branch's head. One call at a time for a mirror.
    pub async fn fetch(&self) -> Result<String> {
        if !self.dir.join(DAMAGED).exists()
            && let Some(head) = self.try_fetch().await?
        {
            return self.with_known(head).await;
        }
        let repository = self.repo.name();
        tracing::warn!(repository, "the mirror was damaged and is fetched anew");
        self.clear(None)
            .map_err(|source| self.disk("fetch a damaged mirror anew of", source))?;
        let head = self.try_fetch().await?;
        let head = head.ok_or_else(|| self.failed("fetch", "its objects do not fit together"))?;
        self.with_known(head).await
    }

    /// Removes all but the memory of what was the head when the mirror was last whole; what stands there is read without git, as
    /// anything may be broken. Where that memory cannot be kept, or this ends half-way, the mirror is still a damaged one.
    fn clear(&self, head: Option<&str>) -> std::io::Result<()> {
        let (memory, newest) = (self.dir.join(KNOWN), self.dir.join(HEAD));
        let commit = |path: &Path| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let sha = text.trim().to_owned();
            (sha.len() >= 40 && sha.chars().all(|c| c.is_ascii_hexdigit())).then_some(sha)
        };
        if commit(&memory).is_none() {
            if let Some(head) = head {
                std::fs::write(&memory, head)?;
            } else if commit(&newest).is_some() {
                // Moved, not written: that needs no room on a full disk.
                std::fs::rename(&newest, &memory)?;
            }
        }
        // Without its HEAD it is no mirror any more, whatever is left of it.
        let mut entries: Vec<_> = std::fs::read_dir(&self.dir)?.collect::<Result<_, _>>()?;
        entries.sort_by_key(|entry| (entry.file_name() != "HEAD", entry.file_name() == DAMAGED));
        for entry in entries.iter().filter(|entry| entry.file_name() != KNOWN) {
            if entry.file_type()?.is_dir() {
                std::fs::remove_dir_all(entry.path())?;
            } else {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// The head, if it contains what was the head before a repair: a repair must not hide a rewritten history.
    async fn with_known(&self, head: String) -> Result<String> {
        let memory = self.dir.join(KNOWN);
        let known = match std::fs::read_to_string(&memory) {
            Ok(known) => known,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(head),
            Err(source) => return Err(self.disk("compare with what was known of", source)),
        };
        if !self.is_ancestor(known.trim(), &head).await? {
            return Err(self.rewritten(&known, self.remove_it()));
        }
        // One that stays says the same again at the next fetch.
        let _ = std::fs::remove_file(&memory);
        Ok(head)
    }

    /// Whether every commit of a history is there and can be read; an error says that not.
    pub(super) async fn check_history(&self, head: &str) -> Result<()> {
        // The commit-graph knows commits that cannot be read any more.
        let args = ["-c", "core.commitGraph=false", "rev-list", "--count", head];
        self.text(Call::new("check the history of", args)).await.map(drop)
    }

    /// The error that says that a commit is gone which was on the branch once, and how somebody accepts it.
    pub(super) fn rewritten(&self, known: &str, accept: String) -> Error {
        Error::Rewritten {
            repository: self.repo.name(),
            branch: self.repo.branch.clone(),
            known: known.to_owned(),
            accept,
        }
    }

    fn remove_it(&self) -> String {
        format!("remove {}", self.dir.display())
    }

    /// None: the mirror itself is damaged.
    async fn try_fetch(&self) -> Result<Option<String>> {
        if !self.dir.join("HEAD").exists() {
            std::fs::create_dir_all(&self.dir).map_err(|source| self.disk("make a mirror of", source))?;
            self.text(Call::new("make a mirror of", ["init", "--bare", "--quiet"]))
                .await?;
        }
        self.remove_stale_locks();
        let known = self.known_head().await?;
        let refspec = format!("refs/heads/{}:{HEAD}", self.repo.branch);
        let options = [
            "fetch",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            "--no-recurse-submodules",
        ];
        let args = options.into_iter().chain(["--", &self.repo.url, &refspec]);
        let answer = self.run(Call::new("fetch", args).remote()).await?;
        let (repository, branch) = (self.repo.name(), self.repo.branch.clone());
        // Git leaves the branch where it was and calls that a success.
        if answer.stderr.contains("shallow roots are not allowed") {
            return Err(Error::Shallow { repository, branch });
        }
        if self.dir.join("shallow").exists() {
            // Nothing may ever be computed on what was fetched.
            if known.is_none() {
                // Nobody relied on it.
                let _ = std::fs::remove_file(self.dir.join(HEAD));
            }
            self.clear(known.as_deref())
                .map_err(|source| self.disk("remove a shallow mirror of", source))?;
            return Err(Error::Shallow { repository, branch });
        }
        if !answer.status.success() {
            let words = &answer.stderr;
            return if words.contains("couldn't find remote ref") {
                Err(Error::NoBranch { repository, branch })
            } else if words.contains("non-fast-forward") {
                Err(self.rewritten(&known.unwrap_or_default(), self.remove_it()))
            } else if words.contains("shallow update not allowed") {
                Err(Error::Shallow { repository, branch })
            } else if is_damage(words) && !is_full(words) {
                Ok(None)
            } else {
                Err(self.failed("fetch", words))
            };
        }
        let Some(head) = self.known_head().await? else {
            return Ok(None);
        };
        let whole = self
            .run(Call::new("check", ["cat-file", "-e", &format!("{head}^{{tree}}")]))
            .await?;
        Ok(whole.status.success().then_some(head))
    }

    /// A git that was killed leaves locks behind; whoever calls this is the only one who fetches.
    fn remove_stale_locks(&self) {
        for lock in [
            "HEAD.lock",
            "refs/serin/head.lock",
            "packed-refs.lock",
            "config.lock",
            "shallow.lock",
            "objects/info/commit-graph.lock",
        ] {
            // There is none, as a rule.
            let _ = std::fs::remove_file(self.dir.join(lock));
        }
        // Only fetches and housekeeping write packs, never at once, and a pack that was not finished fills the disk. What keeps a
        // pack from being packed again is the mark of a fetch that was killed.
        let packs = std::fs::read_dir(self.dir.join("objects/pack")).into_iter().flatten();
        for pack in packs.flatten() {
            let name = pack.file_name().to_string_lossy().into_owned();
            if name.starts_with("tmp_") || name.starts_with(".tmp-") || name.rsplit('.').next() == Some("keep") {
                let _ = std::fs::remove_file(pack.path());
            }
        }
    }

    /// The head as of the last fetch or push.
    pub async fn known_head(&self) -> Result<Option<String>> {
        if !self.dir.join("HEAD").exists() {
            return Ok(None);
        }
        let answer = self
            .run(Call::new(
                "read the head of",
                ["rev-parse", "--verify", "--quiet", HEAD],
            ))
            .await?;
        let sha = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
        Ok((answer.status.success() && !sha.is_empty()).then_some(sha))
    }

    /// Pushes a commit onto the branch, forward or not at all.
    pub(super) async fn push(&self, sha: &str) -> Result<Push> {
        self.push_to(sha, &self.repo.branch).await
    }

    /// The same for another branch.
    pub(super) async fn push_to(&self, sha: &str, branch: &str) -> Result<Push> {
        let refspec = format!("{sha}:refs/heads/{branch}");
        let args = [
            "push",
            "--porcelain",
            "--no-verify",
            "--no-signed",
            "--no-follow-tags",
            "--",
            &self.repo.url,
            &refspec,
        ];
        let answer = match self.run(Call::new("push to", args).remote()).await {
            Ok(answer) => answer,
            Err(error @ Error::TimedOut { .. }) => return Ok(Push::Unknown(error)),
            Err(error) => return Err(error),
        };
        let stdout = String::from_utf8_lossy(&answer.stdout).into_owned();
        if answer.status.success() {
            Ok(Push::Done)
        } else {
            self.rejection(&stdout, &answer)
        }
    }

    fn rejection(&self, porcelain: &str, answer: &Answer) -> Result<Push> {
        let Some(line) = porcelain.lines().find(|line| line.starts_with('!')) else {
            return match self.failed("push to", &answer.stderr) {
                damaged @ Error::Damaged { .. } => Err(damaged),
                // Nothing was asked for yet when the host turned us away.
                turned_away @ Error::Remote { .. } if turned_away.kind() == ErrorKind::Input => Err(turned_away),
                error => Ok(Push::Unknown(error)),
            };
        };
        let summary = line.rsplit('\t').next().unwrap_or(line);
        // The host compares the old value once more when it moves the branch: that is a race as well.
        let lost_race = [
            "cannot lock ref",
            "failed to update ref",
            "incorrect old value",
            "fetch first",
            "non-fast-forward",
            "stale info",
        ];
        if !summary.starts_with("[remote rejected]") || lost_race.iter().any(|words| summary.contains(words)) {
            return Ok(Push::Rejected);
        }
        let words = self.words(&format!("{summary}\n{}", remote_lines(&answer.stderr)));
        Err(Error::Refused {
            repository: self.repo.name(),
            branch: self.repo.branch.clone(),
            words,
        })
    }

    pub(super) async fn run(&self, call: Call<'_>) -> Result<Answer> {
        self.git.run(&self.dir, &self.repo, call).await
    }

    pub(super) async fn bytes(&self, call: Call<'_>) -> Result<Vec<u8>> {
        let doing = call.doing.to_owned();
        let answer = self.run(call).await?;
        if answer.status.success() {
            Ok(answer.stdout)
        } else {
            Err(self.failed(&doing, &answer.stderr))
        }
    }

    pub(super) async fn text(&self, call: Call<'_>) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.bytes(call).await?).into_owned())
    }

    /// The error for what git said. Damage is remembered: the next fetch begins anew.
    pub(super) fn failed(&self, doing: &str, words: &str) -> Error {
        if is_full(words) {
            // Nothing is wrong with what is there: a mirror that is fetched anew would not fit either.
            return self.disk(doing, std::io::ErrorKind::StorageFull.into());
        }
        if is_damage(words) {
            // A disk that cannot be written says so at the next fetch.
            let _ = std::fs::write(self.dir.join(DAMAGED), "");
            return Error::Damaged {
                repository: self.repo.name(),
                words: self.words(words),
            };
        }
        let (doing, repository, said) = (doing.to_owned(), self.repo.name(), self.words(words));
        match Fault::of(words) {
            Some(fault) => Error::Remote {
                doing,
                repository,
                fault,
                words: said,
            },
            None => Error::Failed {
                doing,
                repository,
                words: said,
            },
        }
    }

    /// Git's words in one line, the address without what may be secret in it.
    pub(super) fn words(&self, words: &str) -> String {
        let lines: Vec<&str> = words
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with("hint:"))
            .collect();
        let words = lines.join("; ").replace(&self.repo.url, &self.repo.name());
        words.chars().take(600).collect()
    }

    pub(super) fn disk(&self, doing: &str, source: std::io::Error) -> Error {
        Error::Disk {
            doing: format!("{doing} {}", self.repo.name()),
            path: self.dir.display().to_string(),
            source,
        }
    }
}
