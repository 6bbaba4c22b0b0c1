//! What a mirror's objects say, and new objects in it: commits, trees, files. No branch is moved here, and nothing is asked
//! of the host. It must not know rollouts.

use std::collections::HashSet;

use super::command::Call;
use super::credentials::Hand;
use super::error::{Error, Result};
use super::repository::Mirror;
use super::spec::Identity;
use super::words::is_damage;

const MAX_FILE: usize = 1024 * 1024;
/// What of a commit is asked for; [`commits`] reads it.
const FORMAT: &str = "--format=%H%x00%P%x00%an%x00%ae%x00%ct%x00%B";

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
    /// Those of the branch itself that change one of these files, newest first; a merge counts as one commit.
    Branch { files: &'a [String] },
    /// All that change something below one of these paths, those that came by merges too, whose message holds a text.
    Saying { paths: &'a [String], text: &'a str },
}

/// What a tree says of one path.
struct Entry {
    mode: String,
    id: String,
    /// In bytes; folders have none.
    size: Option<usize>,
}

impl Mirror {
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
        match answer.status.code() {
            Some(0) => Ok(Some(String::from_utf8_lossy(&answer.stdout).trim().to_owned())),
            // An object that is there and cannot be read is no unknown commit.
            _ if is_damage(&answer.stderr) => Err(self.failed("look for a commit in", &answer.stderr)),
            _ => Ok(None),
        }
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
        let Some(entry) = self.entry(commit, path).await? else {
            return Ok(None);
        };
        let unusable = |why: String| Error::File {
            repository: self.repo().name(),
            file: path.to_owned(),
            why,
        };
        if !entry.mode.starts_with("100") {
            return Err(unusable(
                "it is no plain file; check git.path, and the file's name below it".to_owned(),
            ));
        }
        if entry.size.is_none_or(|size| size > MAX_FILE) {
            let size = entry.size.unwrap_or_default();
            return Err(unusable(format!(
                "it has {size} bytes, and Serin edits none with more than {MAX_FILE}; check git.path, and the file's name below it"
            )));
        }
        let bytes = self
            .bytes(Call::new("read a file of", ["cat-file", "blob", &entry.id]))
            .await?;
        String::from_utf8(bytes)
            .map(Some)
            .map_err(|_| unusable("it is no UTF-8 text; check the file's name below git.path".to_owned()))
    }

    /// The texts of some files as they were at each of these commits; none where one was missing, too large or no text.
    pub(super) async fn read_versions(&self, commits: &[&str], paths: &[String]) -> Result<Vec<Option<Vec<String>>>> {
        if commits.is_empty() {
            return Ok(Vec::new());
        }
        let doing = "read the versions of a file of";
        let of = |commit| paths.iter().map(move |path| format!("{commit}:{path}\n"));
        let asked: String = commits.iter().flat_map(of).collect();
        let answer = self
            .bytes(Call::new(doing, ["cat-file", "--batch"]).stdin(asked))
            .await?;
        let mut rest = answer.as_slice();
        let mut versions = Vec::with_capacity(commits.len());
        for _ in commits {
            let mut texts = Vec::with_capacity(paths.len());
            for _ in paths {
                let (text, after) = version(rest).ok_or_else(|| self.failed(doing, "git's answer ends too early"))?;
                texts.push(text);
                rest = after;
            }
            versions.push(texts.into_iter().collect());
        }
        Ok(versions)
    }

    /// The change between two commits in some files, as a unified diff.
    pub(super) async fn diff(&self, old: &str, new: &str, paths: &[String]) -> Result<String> {
        let options = [
            "diff-tree",
            "-p",
            "--no-color",
            "--no-ext-diff",
            "--full-index",
            old,
            new,
            "--",
        ];
        let args = options.into_iter().chain(paths.iter().map(String::as_str));
        self.text(Call::new("compare commits of", args)).await
    }

    async fn entry(&self, commit: &str, path: &str) -> Result<Option<Entry>> {
        let args = ["ls-tree", "-z", "-l", commit, "--", path];
        let listing = self.text(Call::new("list files of", args)).await?;
        let mut words = listing.split([' ', '\t', '\0']).filter(|word| !word.is_empty());
        Ok(match (words.next(), words.next(), words.next(), words.next()) {
            (Some(mode), Some(_), Some(id), Some(size)) => Some(Entry {
                mode: mode.to_owned(),
                id: id.to_owned(),
                size: size.parse().ok(),
            }),
            _ => None,
        })
    }

    /// Commits of the history of `from`, newest first.
    pub(super) async fn log(&self, from: &str, walk: Walk<'_>, limit: usize) -> Result<Vec<Commit>> {
        let doing = "read the history of";
        let count = format!("--max-count={limit}");
        let text;
        let mut args = vec!["log", "-z", FORMAT, count.as_str()];
        let paths = match walk {
            Walk::Branch { files } if files.len() > 1 => {
                let shas = self.of_any(from, files, limit).await?;
                if shas.is_empty() {
                    return Ok(Vec::new());
                }
                let call = Call::new(doing, ["log", "-z", FORMAT, "--no-walk=unsorted", "--stdin"]);
                return Ok(commits(&self.text(call.stdin(shas.join("\n"))).await?));
            }
            Walk::Branch { files } => {
                args.push("--first-parent");
                files
            }
            Walk::Saying { paths, text: saying } => {
                text = format!("--grep={saying}");
                args.extend(["--full-history", "--fixed-strings", text.as_str()]);
                paths
            }
        };
        args.extend([from, "--"]);
        // The top of the repository has no name.
        if paths.iter().all(|path| !path.is_empty()) {
            args.extend(paths.iter().map(String::as_str));
        }
        let log = self.text(Call::new(doing, args)).await?;
        Ok(commits(&log))
    }

    /// The branch's own commits that change one of several files, in its order. The commit-graph knows changed paths, and older
    /// gits ask it for one path at a time only.
    async fn of_any(&self, from: &str, files: &[String], limit: usize) -> Result<Vec<String>> {
        let doing = "read the history of";
        let mut changed = HashSet::new();
        for file in files {
            let args = ["rev-list", "--first-parent", from, "--", file];
            let list = self.text(Call::new(doing, args)).await?;
            changed.extend(list.lines().take(limit).map(str::to_owned));
        }
        let all = self
            .text(Call::new(doing, ["rev-list", "--first-parent", from]))
            .await?;
        let ours = all.lines().filter(|sha| changed.contains(*sha));
        Ok(ours.take(limit).map(str::to_owned).collect())
    }

    /// A commit by its id.
    pub async fn commit(&self, sha: &str) -> Result<Option<Commit>> {
        let Some(sha) = self.resolve(sha).await? else {
            return Ok(None);
        };
        let args = ["log", "-z", FORMAT, "--max-count=1", &sha];
        let log = self.text(Call::new("read a commit of", args)).await?;
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

    /// The tree of a commit with the texts of some files changed; they must be there already.
    pub(super) async fn tree_with(&self, commit: &str, texts: &[(String, String)]) -> Result<String> {
        let doing = "write a tree to the mirror of";
        let mut info = String::new();
        for (path, text) in texts {
            let Some(Entry { mode, .. }) = self.entry(commit, path).await? else {
                return Err(self.failed(doing, &format!("{path} is gone")));
            };
            let blob = self
                .text(Call::new(doing, ["hash-object", "-w", "--stdin"]).stdin(text.as_str()))
                .await?;
            info.push_str(&format!("{mode} {}\t{path}\0", blob.trim()));
        }
        let index = tempfile::Builder::new()
            .prefix("index")
            .tempdir_in(&self.dir)
            .map_err(|source| self.disk(doing, source))?;
        let index = index.path().join("index");
        let env = |call: Call<'static>| call.env("GIT_INDEX_FILE", &index);
        self.text(env(Call::new(doing, ["read-tree", commit]))).await?;
        self.text(env(Call::new(doing, ["update-index", "-z", "--index-info"])).stdin(info))
            .await?;
        Ok(self
            .text(env(Call::new(doing, ["write-tree"])))
            .await?
            .trim()
            .to_owned())
    }

    /// Makes a commit object, signed where the repository asks for it; no branch points to it yet.
    pub(super) async fn commit_tree(
        &self,
        tree: &str,
        parent: &str,
        message: &str,
        author: &Identity,
        committer: &Identity,
    ) -> Result<String> {
        let Hand { signing, .. } = &self.repo().hand;
        let committer = self.repo().hand.committer.as_ref().unwrap_or(committer);
        let call = commit_call(tree, parent, message).identity(author, committer);
        match signing {
            Some(key) => self.sign(key, call).await,
            None => Ok(self.text(call).await?.trim().to_owned()),
        }
    }

    /// A commit that only serves to compute something; it is never pushed.
    pub(super) async fn scratch_commit(&self, tree: &str, parent: &str) -> Result<String> {
        let nobody = Identity::default();
        let call = commit_call(tree, parent, "undone").identity(&nobody, &nobody);
        Ok(self.text(call).await?.trim().to_owned())
    }

    /// The tree of `onto` without what `commit` did (for a merge: against its first parent), or the paths that conflict.
    ///
    /// The parent's tree as a child of the bad commit, merged with `onto`: their merge base is the bad commit, so the merge
    /// is its revert. (`merge-tree --merge-base` would say it directly, and needs git 2.40.)
    pub(super) async fn revert(&self, commit: &Commit, onto: &str) -> Result<Result<String, Vec<String>>> {
        let Some(parent) = commit.parents.first() else {
            return Ok(Err(Vec::new()));
        };
        let before = self.tree_of(parent).await?;
        let undone = self.scratch_commit(&before, &commit.sha).await?;
        let doing = "compute a revert in the mirror of";
        let answer = self
            .run(Call::new(
                doing,
                [
                    "merge-tree",
                    "--write-tree",
                    "--name-only",
                    "--no-messages",
                    "-z",
                    onto,
                    &undone,
                ],
            ))
            .await?;
        let text = String::from_utf8_lossy(&answer.stdout);
        let mut words = text.split('\0').map(|word| word.trim().to_owned());
        let tree = words.next().unwrap_or_default();
        match answer.status.code() {
            Some(0) => Ok(Ok(tree)),
            Some(1) => Ok(Err(words.filter(|path| !path.is_empty()).collect())),
            _ => Err(self.failed(doing, &answer.stderr)),
        }
    }
}

fn commit_call(tree: &str, parent: &str, message: &str) -> Call<'static> {
    Call::new(
        "write a commit to the mirror of",
        ["commit-tree", tree, "-p", parent, "-F", "-"],
    )
    .stdin(message)
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

/// One entry of the answer to `cat-file --batch`, and what comes after it.
fn version(answer: &[u8]) -> Option<(Option<String>, &[u8])> {
    let end = answer.iter().position(|byte| *byte == b'\n')?;
    let head = String::from_utf8_lossy(answer.get(..end)?).into_owned();
    let rest = answer.get(end + 1..)?;
    let mut words = head.rsplit(' ');
    let (Some(size), Some(kind)) = (words.next().and_then(|size| size.parse::<usize>().ok()), words.next()) else {
        // "… missing"
        return Some((None, rest));
    };
    let bytes = rest.get(..size)?;
    let text = (kind == "blob" && size <= MAX_FILE).then(|| String::from_utf8(bytes.to_vec()).ok());
    Some((text.flatten(), rest.get(size + 1..)?))
}
