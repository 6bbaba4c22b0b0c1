//! Bare mirrors of config repositories: fetch, resolve, export. It must not know what is in them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use tokio::{sync::Mutex, time::Instant};

use crate::process::Program;

const DEADLINE: Duration = Duration::from_mins(1);
/// The remote's HEAD in the mirror.
const HEAD: &str = "refs/mirror/head";

/// All mirrors, one a URL.
#[derive(Debug)]
pub(super) struct Mirrors {
    git: PathBuf,
    dir: PathBuf,
    known: Mutex<BTreeMap<String, Arc<Mirror>>>,
}

/// Who fetches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) username: String,
    pub(super) password: String,
}

/// One mirror.
#[derive(Debug)]
pub(super) struct Mirror {
    git: PathBuf,
    dir: PathBuf,
    url: String,
    /// When the last fetch that succeeded began.
    fetched: Mutex<Option<Instant>>,
}

impl Mirrors {
    pub(super) fn new(git: PathBuf, dir: PathBuf) -> Self {
        Self {
            git,
            dir,
            known: Mutex::default(),
        }
    }

    pub(super) async fn get(&self, url: &str) -> Arc<Mirror> {
        let mut known = self.known.lock().await;
        let number = known.len();
        let new = || {
            let dir = self.dir.join(format!("mirror-{number}.git"));
            Arc::new(Mirror {
                git: self.git.clone(),
                dir,
                url: url.to_owned(),
                fetched: Mutex::default(),
            })
        };
        known.entry(url.to_owned()).or_insert_with(new).clone()
    }
}

impl Mirror {
    /// Brings the mirror to a state that the remote had after `since`. Those who ask at once share one fetch.
    pub(super) async fn fetch(&self, since: Instant, credentials: Option<&Credentials>) -> anyhow::Result<()> {
        let mut fetched = self.fetched.lock().await;
        if fetched.is_some_and(|at| at >= since) {
            return Ok(());
        }
        let began = Instant::now();
        if !self.dir.join("HEAD").exists() {
            let init = self.program(&["init", "--quiet", "--bare"]).arg(&self.dir);
            init.output(DEADLINE).await?.text().context("making a mirror")?;
            self.run(&["config", "gc.auto", "0"]).await?;
        }
        let mut program = self
            .in_mirror(&["fetch", "--quiet", "--prune", "--no-tags", "--force", "--"])
            .arg(&self.url)
            .args([
                format!("+HEAD:{HEAD}"),
                "+refs/heads/*:refs/heads/*".to_owned(),
                "+refs/tags/*:refs/tags/*".to_owned(),
            ]);
        if let Some(Credentials { username, password }) = credentials {
            // Not in the arguments, which everybody on the machine can read.
            let basic = BASE64_STANDARD.encode(format!("{username}:{password}"));
            program = program
                .env("GIT_CONFIG_COUNT", "1")
                .env("GIT_CONFIG_KEY_0", "http.extraHeader")
                .env("GIT_CONFIG_VALUE_0", format!("Authorization: Basic {basic}"));
        }
        program
            .output(DEADLINE)
            .await?
            .text()
            .with_context(|| format!("fetching {}", self.url))?;
        *fetched = Some(began);
        Ok(())
    }

    /// The commit that a branch, a tag, an id or nothing (the remote's HEAD) stands for.
    pub(super) async fn resolve(&self, revision: &str) -> anyhow::Result<String> {
        let candidates = match revision {
            "" | "HEAD" => vec![HEAD.to_owned()],
            name => vec![
                format!("refs/heads/{name}"),
                format!("refs/tags/{name}"),
                name.to_owned(),
            ],
        };
        for candidate in candidates {
            let wanted = format!("{candidate}^{{commit}}");
            let args = ["rev-parse", "--quiet", "--verify", "--end-of-options", &wanted];
            if let Ok(id) = self.run(&args).await {
                return Ok(id.trim().to_owned());
            }
        }
        bail!("{} has no branch, tag or commit `{revision}`", self.url)
    }

    /// The ids of files and folders in a commit; none for what is not there.
    pub(super) async fn ids(&self, commit: &str, paths: &[String]) -> anyhow::Result<Vec<Option<String>>> {
        let ask: String = paths.iter().map(|path| format!("{commit}:{path}\n")).collect();
        let output = self.in_mirror(&["cat-file", "--batch-check=%(objectname)"]);
        let text = output.output_with_input(ask.as_bytes(), DEADLINE).await?.text()?;
        Ok(text
            .lines()
            .map(|line| (!line.ends_with(" missing")).then(|| line.to_owned()))
            .collect())
    }

    /// Writes all files of a commit into a folder.
    pub(super) async fn export(&self, commit: &str, into: &Path) -> anyhow::Result<()> {
        let index = tempfile::NamedTempFile::new_in(&self.dir)?.into_temp_path();
        fs::remove_file(&index)?;
        let git = |args: &[&str]| {
            let tree = Program::new(&self.git)
                .arg("--git-dir")
                .arg(&self.dir)
                .arg("--work-tree")
                .arg(into);
            alone(tree.args(args).env("GIT_INDEX_FILE", index.as_os_str()))
        };
        let all = async {
            git(&["read-tree", commit]).output(DEADLINE).await?.text()?;
            git(&["checkout-index", "--all", "--force"])
                .dir(into)
                .output(DEADLINE)
                .await?
                .text()
        };
        let result = all
            .await
            .with_context(|| format!("exporting commit {commit} of {}", self.url));
        let _ = fs::remove_file(&index);
        result.map(|_| ())
    }

    async fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        self.in_mirror(args).output(DEADLINE).await?.text()
    }

    fn in_mirror(&self, args: &[&str]) -> Program {
        alone(Program::new(&self.git).arg("--git-dir").arg(&self.dir).args(args))
    }

    fn program(&self, args: &[&str]) -> Program {
        alone(Program::new(&self.git).args(args))
    }
}

/// Neither the user's configuration nor a question on the terminal.
fn alone(program: Program) -> Program {
    program
        .clean_env()
        .env("HOME", "/nonexistent")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C")
}
