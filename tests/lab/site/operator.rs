//! A person's clone of the config repository: edits files, commits, pushes. It must not know what the files mean.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use super::{CONFIG, Site};
use crate::process::{Output, Program};

const DEADLINE: Duration = Duration::from_secs(60);
const TRIES: usize = 20;

/// A clone with a work tree. It is gone when this is dropped.
#[derive(Debug)]
pub struct Clone {
    folder: TempDir,
    git: PathBuf,
}

impl Clone {
    /// Clones the config repository.
    pub async fn new(site: &Site) -> anyhow::Result<Self> {
        let clone = Self {
            folder: tempfile::tempdir().context("making a folder for a clone")?,
            git: site.lab.tools.git.clone(),
        };
        let url = site.lab.git.url_with_token(CONFIG);
        clone.git(&["clone", "--quiet", &url, "."]).await?;
        Ok(clone)
    }

    /// Edits one file and pushes the commit; somebody else's push in between is no obstacle. Returns the commit's id.
    pub async fn edit(&self, path: &str, subject: &str, edit: impl Fn(&str) -> String) -> anyhow::Result<String> {
        let file = self.folder.path().join(path);
        for _ in 0..TRIES {
            self.git(&["fetch", "--quiet", "origin", "main"]).await?;
            self.git(&["reset", "--quiet", "--hard", "origin/main"]).await?;
            let before = fs::read_to_string(&file).unwrap_or_default();
            let after = edit(&before);
            ensure!(before != after, "the edit of {path} changes nothing: {before}");
            if let Some(parent) = file.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(&file, after)?;
            self.git(&["add", "--", path]).await?;
            let ann = [
                "-c",
                "user.name=Ann",
                "-c",
                "user.email=ann@example.com",
                "commit",
                "--quiet",
                "-m",
                subject,
            ];
            self.git(&ann).await?;
            if self.git(&["push", "--quiet", "origin", "HEAD:main"]).await.is_ok() {
                return Ok(self.git(&["rev-parse", "HEAD"]).await?.trim().to_owned());
            }
        }
        anyhow::bail!("pushing an edit of {path}: others were faster {TRIES} times")
    }

    async fn git(&self, args: &[&str]) -> anyhow::Result<String> {
        let program = Program::new(&self.git)
            .clean_env()
            .env("HOME", self.folder.path())
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .args(args.iter().copied())
            .dir(self.folder.path());
        let doing = || format!("git {}", args.first().unwrap_or(&""));
        program
            .output(DEADLINE)
            .await
            .and_then(Output::text)
            .with_context(doing)
    }
}
