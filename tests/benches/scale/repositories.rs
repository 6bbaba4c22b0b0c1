//! The config repositories: one a namespace, with a commit for each canary that progresses. Made by `git fast-import`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::objects::{Arm, IN_NAMESPACE, Rollout};

/// All of them, on disk.
#[derive(Debug)]
pub(crate) struct Repositories {
    folder: PathBuf,
    commits: HashMap<Rollout, String>,
}

impl Repositories {
    pub(crate) fn make(folder: &Path, count: usize) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut made = Self {
            folder: folder.to_owned(),
            commits: HashMap::new(),
        };
        for first in (0..count).step_by(IN_NAMESPACE) {
            let rollouts: Vec<_> = (first..count.min(first + IN_NAMESPACE)).map(Rollout).collect();
            made.import(&rollouts)?;
        }
        Ok(made)
    }

    /// Where this rollout's commits go.
    pub(crate) fn url(&self, of: Rollout) -> String {
        format!("file://{}", self.place(of).display())
    }

    /// The commit that brought its canary; none for one at rest.
    pub(crate) fn commit(&self, of: Rollout) -> Option<&str> {
        self.commits.get(&of).map(String::as_str)
    }

    fn place(&self, of: Rollout) -> PathBuf {
        self.folder.join(format!("{}.git", of.namespace()))
    }

    fn import(&mut self, rollouts: &[Rollout]) -> anyhow::Result<()> {
        let Some(first) = rollouts.first() else { return Ok(()) };
        let place = self.place(*first);
        let place_text = place.to_string_lossy().into_owned();
        git(&self.folder, &["init", "-q", "--bare", "-b", "main", &place_text])?;
        let mut import = Command::new("git")
            .current_dir(&place)
            .args(["fast-import", "--quiet"])
            .stdin(Stdio::piped())
            .spawn()
            .context("running git fast-import")?;
        let text = stream(rollouts)?;
        import
            .stdin
            .take()
            .context("git fast-import has no input")?
            .write_all(text.as_bytes())?;
        ensure!(import.wait()?.success(), "git fast-import failed");
        for line in git(&place, &["log", "--format=%H %s", "main"])?.lines() {
            let Some((id, subject)) = line.split_once(' ') else {
                continue;
            };
            let name = subject.strip_prefix("Canary of ");
            if let Some(of) = name.and_then(|name| Rollout::of(&first.namespace(), name)) {
                self.commits.insert(of, id.to_owned());
            }
        }
        Ok(())
    }
}

fn stream(rollouts: &[Rollout]) -> anyhow::Result<String> {
    let mut out = String::new();
    let mut commit = |nth: usize, message: &str, files: &[(String, String)]| -> anyhow::Result<()> {
        let when = 1_700_000_000 + nth * 60;
        write!(
            out,
            "commit refs/heads/main\ncommitter Ann <ann@example.com> {when} +0000\ndata {}\n{message}\n",
            message.len()
        )?;
        for (path, text) in files {
            write!(out, "M 100644 inline {path}\ndata {}\n{text}\n", text.len())?;
        }
        Ok(())
    };
    let file = |of: Rollout| format!("{}/values.yaml", of.name());
    let all: Vec<_> = rollouts.iter().map(|of| (file(*of), values("1.0.0"))).collect();
    commit(0, "Begin", &all)?;
    for (nth, of) in rollouts.iter().filter(|of| of.is_progressing()).enumerate() {
        let revision = of.revision(Arm::Canary);
        let message = format!(
            "Canary of {0}\n\nSerin-Cluster: bench\nSerin-Rollout: {1}/{0}\nSerin-Revision: {revision}\nSerin-Action: canary\n",
            of.name(),
            of.namespace(),
        );
        commit(nth + 1, &message, &[(file(*of), values(revision))])?;
    }
    Ok(out)
}

fn values(canary: &str) -> String {
    let arm = |name: &str, tag: &str| {
        format!(
            "{name}:\n  image:\n    repository: registry.example.com/web\n    tag: \"{tag}\"\n  revision: \"{tag}\"\n  env: {{}}\n"
        )
    };
    format!(
        "# An environment.\nreplicas: 2\n{}{}",
        arm("stable", "1.0.0"),
        arm("canary", canary)
    )
}

fn git(dir: &Path, args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("git").current_dir(dir).args(args).output()?;
    ensure!(
        output.status.success(),
        "git {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
