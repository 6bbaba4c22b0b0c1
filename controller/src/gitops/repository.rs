//! A bare mirror of one branch of a config repository, on disk: fetch, read, write objects, push. It must not know rollouts.
//!
//! # Guarantees
//! A fetch and a push move forward or fail: a history rewritten by force is reported, never followed and never forced.
//! A shallow history is refused. A damaged mirror is thrown away and fetched again.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use super::command::{Answer, Call, Git};
use super::error::{Error, Result};
use super::spec::{Identity, RepoSpec};

/// Where the mirror keeps the branch's head.
const HEAD: &str = "refs/serin/head";
const MAX_FILE: usize = 1024 * 1024;

/// A mirror; clones of it share the folder.
#[derive(Debug, Clone)]
pub struct Mirror {
    git: Git,
    dir: PathBuf,
    repo: RepoSpec,
}

/// A commit's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    pub sha: String,
    pub parents: Vec<String>,
    pub author: String,
    pub email: String,
    pub time: jiff::Timestamp,
    pub message: String,
}

impl Commit {
    pub fn subject(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }
}

/// Which commits of a history to list.
#[derive(Debug, Clone, Copy)]
pub(super) enum Walk<'a> {
    /// Those of the branch itself that change a file, newest first; a merge counts as one commit.
    Branch { file: &'a str },
    /// All that change something below a path, those that came by merges too, whose message holds a text.
    Saying { path: &'a str, text: &'a str },
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
        match self.try_fetch().await? {
            Some(head) => Ok(head),
            None => {
                tracing::warn!(
                    repository = self.repo.name(),
                    "the mirror was damaged and is fetched anew"
                );
                std::fs::remove_dir_all(&self.dir).map_err(|source| self.disk("remove a damaged mirror of", source))?;
                self.try_fetch()
                    .await?
                    .ok_or_else(|| self.failed("fetch", "its objects do not fit together"))
            }
        }
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
        if self.dir.join("shallow").exists() {
            // Nothing may ever be computed on what was fetched.
            std::fs::remove_dir_all(&self.dir).map_err(|source| self.disk("remove a shallow mirror of", source))?;
            return Err(Error::Shallow { repository, branch });
        }
        if !answer.status.success() {
            let words = &answer.stderr;
            return if words.contains("couldn't find remote ref") {
                Err(Error::NoBranch { repository, branch })
            } else if words.contains("non-fast-forward") {
                let cache = self.dir.display().to_string();
                Err(Error::Rewritten {
                    repository,
                    branch,
                    known: known.unwrap_or_default(),
                    cache,
                })
            } else if words.contains("shallow update not allowed") {
                Err(Error::Shallow { repository, branch })
            } else if is_damage(words) {
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
            "refs/serin/head.lock",
            "packed-refs.lock",
            "config.lock",
            "shallow.lock",
        ] {
            // There is none, as a rule.
            let _ = std::fs::remove_file(self.dir.join(lock));
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

    /// The full id of a commit, if the mirror has it.
    pub async fn resolve(&self, commit: &str) -> Result<Option<String>> {
        if commit.is_empty() || !commit.chars().all(|c| c.is_ascii_hexdigit()) {
            return Ok(None);
        }
        let name = format!("{commit}^{{commit}}");
        let answer = self
            .run(Call::new(
                "look for a commit in",
                ["rev-parse", "--verify", "--quiet", &name],
            ))
            .await?;
        let sha = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
        Ok(answer.status.success().then_some(sha))
    }

    /// Whether one commit is the other, or is in its history. Unknown commits are in no history.
    pub async fn is_ancestor(&self, ancestor: &str, descendant: &str) -> Result<bool> {
        let (Some(ancestor), Some(descendant)) = (self.resolve(ancestor).await?, self.resolve(descendant).await?)
        else {
            return Ok(false);
        };
        let answer = self
            .run(Call::new(
                "compare commits of",
                ["merge-base", "--is-ancestor", &ancestor, &descendant],
            ))
            .await?;
        match answer.status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(self.failed("compare commits of", &answer.stderr)),
        }
    }

    /// The text of a file at a commit; none if there is no such file.
    pub async fn read_file(&self, commit: &str, path: &str) -> Result<Option<String>> {
        let Some((mode, blob)) = self.entry(commit, path).await? else {
            return Ok(None);
        };
        if !mode.starts_with("100") {
            return Err(self.failed("read a file of", &format!("{path} is no plain file")));
        }
        let bytes = self
            .bytes(Call::new("read a file of", ["cat-file", "blob", &blob]))
            .await?;
        if bytes.len() > MAX_FILE {
            return Err(self.failed(
                "read a file of",
                &format!("{path} has {} bytes and is no values file", bytes.len()),
            ));
        }
        String::from_utf8(bytes)
            .map(Some)
            .map_err(|_| self.failed("read a file of", &format!("{path} is no text")))
    }

    async fn entry(&self, commit: &str, path: &str) -> Result<Option<(String, String)>> {
        let listing = self
            .text(Call::new("list files of", ["ls-tree", "-z", commit, "--", path]))
            .await?;
        let mut words = listing.split([' ', '\t', '\0']);
        Ok(match (words.next(), words.next(), words.next()) {
            (Some(mode), Some(_), Some(id)) => Some((mode.to_owned(), id.to_owned())),
            _ => None,
        })
    }

    /// Commits of the history of `from`, newest first.
    pub(super) async fn log(&self, from: &str, walk: Walk<'_>, limit: usize) -> Result<Vec<Commit>> {
        let limit = format!("--max-count={limit}");
        let text;
        let mut args = vec![
            "log",
            "-z",
            "--format=%H%x00%P%x00%an%x00%ae%x00%ct%x00%B",
            limit.as_str(),
        ];
        let path = match walk {
            Walk::Branch { file } => {
                args.push("--first-parent");
                file
            }
            Walk::Saying { path, text: saying } => {
                text = format!("--grep={saying}");
                args.extend(["--full-history", "--fixed-strings", text.as_str()]);
                path
            }
        };
        args.extend([from, "--"]);
        if !path.is_empty() {
            args.push(path);
        }
        let log = self.text(Call::new("read the history of", args)).await?;
        Ok(commits(&log))
    }

    /// A commit by its id.
    pub async fn commit(&self, sha: &str) -> Result<Option<Commit>> {
        let Some(sha) = self.resolve(sha).await? else {
            return Ok(None);
        };
        let format = "--format=%H%x00%P%x00%an%x00%ae%x00%ct%x00%B";
        let log = self
            .text(Call::new(
                "read a commit of",
                ["log", "-z", format, "--max-count=1", &sha],
            ))
            .await?;
        Ok(commits(&log).into_iter().next())
    }

    /// The paths in which two trees (or the trees of two commits) differ.
    pub(super) async fn changed_paths(&self, old: &str, new: &str) -> Result<Vec<String>> {
        let listing = self
            .text(Call::new(
                "compare trees of",
                ["diff-tree", "-r", "-z", "--name-only", old, new],
            ))
            .await?;
        Ok(listing
            .split('\0')
            .filter(|path| !path.is_empty())
            .map(str::to_owned)
            .collect())
    }

    pub(super) async fn tree_of(&self, commit: &str) -> Result<String> {
        let tree = format!("{commit}^{{tree}}");
        Ok(self
            .text(Call::new("read a tree of", ["rev-parse", "--verify", &tree]))
            .await?
            .trim()
            .to_owned())
    }

    /// The tree of a commit with one file's text changed; the file must be there already.
    pub(super) async fn tree_with(&self, commit: &str, path: &str, text: &str) -> Result<String> {
        let doing = "write a tree to the mirror of";
        let Some((mode, _)) = self.entry(commit, path).await? else {
            return Err(self.failed(doing, &format!("{path} is gone")));
        };
        let blob = self
            .text(Call::new(doing, ["hash-object", "-w", "--stdin"]).stdin(text))
            .await?;
        let index = tempfile::Builder::new()
            .prefix("index")
            .tempdir_in(&self.dir)
            .map_err(|source| self.disk(doing, source))?;
        let index = index.path().join("index");
        let env = |call: Call<'static>| call.env("GIT_INDEX_FILE", &index);
        self.text(env(Call::new(doing, ["read-tree", commit]))).await?;
        let info = format!("{mode} {}\t{path}\0", blob.trim());
        self.text(env(Call::new(doing, ["update-index", "-z", "--index-info"])).stdin(info))
            .await?;
        Ok(self
            .text(env(Call::new(doing, ["write-tree"])))
            .await?
            .trim()
            .to_owned())
    }

    /// Makes a commit object; no branch points to it yet.
    pub(super) async fn commit_tree(
        &self,
        tree: &str,
        parent: &str,
        message: &str,
        author: &Identity,
        committer: &Identity,
    ) -> Result<String> {
        let call = Call::new(
            "write a commit to the mirror of",
            ["commit-tree", tree, "-p", parent, "-F", "-"],
        );
        Ok(self
            .text(call.stdin(message).identity(author, committer))
            .await?
            .trim()
            .to_owned())
    }

    /// The tree of `onto` without what `commit` did (for a merge: against its first parent); none where they conflict.
    ///
    /// The parent's tree as a child of the bad commit, merged with `onto`: their merge base is the bad commit, so the merge
    /// is its revert. (`merge-tree --merge-base` would say it directly, and needs git 2.40.)
    pub(super) async fn revert(&self, commit: &Commit, onto: &str) -> Result<Option<String>> {
        let Some(parent) = commit.parents.first() else {
            return Ok(None);
        };
        let before = self.tree_of(parent).await?;
        let nobody = Identity::default();
        let undone = self
            .commit_tree(&before, &commit.sha, "undone", &nobody, &nobody)
            .await?;
        let doing = "compute a revert in the mirror of";
        let answer = self
            .run(Call::new(
                doing,
                ["merge-tree", "--write-tree", "--no-messages", "-z", onto, &undone],
            ))
            .await?;
        match answer.status.code() {
            Some(0) => Ok(String::from_utf8_lossy(&answer.stdout)
                .split('\0')
                .next()
                .map(|tree| tree.trim().to_owned())),
            Some(1) => Ok(None),
            _ => Err(self.failed(doing, &answer.stderr)),
        }
    }

    /// Pushes a commit onto the branch, forward or not at all.
    pub(super) async fn push(&self, sha: &str) -> Result<Push> {
        let refspec = format!("{sha}:refs/heads/{}", self.repo.branch);
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
            return Ok(Push::Unknown(self.failed("push to", &answer.stderr)));
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

    async fn run(&self, call: Call<'_>) -> Result<Answer> {
        self.git.run(&self.dir, &self.repo, call).await
    }

    async fn bytes(&self, call: Call<'_>) -> Result<Vec<u8>> {
        let doing = call.doing.to_owned();
        let answer = self.run(call).await?;
        if answer.status.success() {
            Ok(answer.stdout)
        } else {
            Err(self.failed(&doing, &answer.stderr))
        }
    }

    async fn text(&self, call: Call<'_>) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.bytes(call).await?).into_owned())
    }

    pub(super) fn failed(&self, doing: &str, words: &str) -> Error {
        Error::Failed {
            doing: doing.to_owned(),
            repository: self.repo.name(),
            words: self.words(words),
        }
    }

    /// Git's words in one line, the address without what may be secret in it.
    fn words(&self, words: &str) -> String {
        let lines: Vec<&str> = words
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with("hint:"))
            .collect();
        let words = lines.join("; ").replace(&self.repo.url, &self.repo.name());
        words.chars().take(600).collect()
    }

    fn disk(&self, doing: &str, source: std::io::Error) -> Error {
        Error::Disk {
            doing: format!("{doing} {}", self.repo.name()),
            path: self.dir.display().to_string(),
            source,
        }
    }
}

/// The answer to `log -z`, in which every commit ends with a NUL.
fn commits(log: &str) -> Vec<Commit> {
    let fields: Vec<&str> = log.split('\0').collect();
    fields.chunks(6).filter_map(commit).collect()
}

fn commit(fields: &[&str]) -> Option<Commit> {
    let [sha, parents, author, email, time, message] = fields else {
        return None;
    };
    Some(Commit {
        sha: sha.trim().to_owned(),
        parents: parents.split_whitespace().map(str::to_owned).collect(),
        author: (*author).to_owned(),
        email: (*email).to_owned(),
        time: time
            .parse()
            .ok()
            .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())?,
        message: message.trim_end().to_owned(),
    })
}

/// What a hook of the host said.
fn remote_lines(stderr: &str) -> String {
    let lines = stderr.lines().filter_map(|line| line.strip_prefix("remote:"));
    lines
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("\n")
}

fn is_damage(words: &str) -> bool {
    let signs = [
        "not a git repository",
        "bad object",
        "missing blob",
        "missing tree",
        "missing commit",
        "unable to read",
        "is corrupt",
        "is empty",
        "object file",
        "packfile",
        "did not send all necessary objects",
        "bad config",
        "unresolvable reference",
        "broken ref",
    ];
    signs.iter().any(|sign| words.contains(sign)) && !words.contains("remote: ")
}
