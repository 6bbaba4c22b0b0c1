//! One bare repository on the server's side: seeding it, asking it, and making it refuse pushes. It must not know HTTP.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;

use crate::process::Program;

const DEADLINE: Duration = Duration::from_mins(1);

/// Always there; runs the test's own script, if one is set.
const HOOK: &str = "#!/bin/sh\n[ -f lab-pre-receive ] || exit 0\nexec sh lab-pre-receive\n";

/// A bare repository.
#[derive(Debug, Clone)]
pub struct Repository {
    git: Program,
    path: PathBuf,
}

impl Repository {
    pub(super) async fn create(git: Program, path: PathBuf, seed: &Path, scratch: &Path) -> anyhow::Result<Self> {
        let run = async |program: &Program| program.output(DEADLINE).await?.text();
        run(&git
            .clone()
            .args(["init", "--quiet", "--bare", "--initial-branch=main"])
            .arg(&path))
        .await?;
        let repository = Self { git, path };
        for (key, value) in [
            ("http.receivepack", "true"),
            ("receive.denyNonFastForwards", "true"),
            ("receive.denyDeletes", "true"),
            // Nothing goes on in the background.
            ("receive.autogc", "false"),
            ("gc.auto", "0"),
            ("maintenance.auto", "false"),
        ] {
            repository.run(&["config", key, value]).await?;
        }
        repository.install_hook().context("installing the pre-receive hook")?;
        // A work tree is not needed: the seed itself is one, with the index elsewhere.
        let index = tempfile::NamedTempFile::new_in(scratch)?.into_temp_path();
        fs::remove_file(&index)?;
        let seeding = repository
            .program(&["--work-tree"])
            .arg(seed)
            .env("GIT_INDEX_FILE", index.as_os_str())
            .env("GIT_AUTHOR_NAME", "Platform team")
            .env("GIT_AUTHOR_EMAIL", "platform@example.com")
            .env("GIT_COMMITTER_NAME", "Platform team")
            .env("GIT_COMMITTER_EMAIL", "platform@example.com");
        run(&seeding.clone().args(["add", "--all", "."])).await?;
        run(&seeding.args([
            "-c",
            "core.bare=false",
            "commit",
            "--quiet",
            "--allow-empty",
            "--message=Begin",
        ]))
        .await?;
        let _ = fs::remove_file(&index);
        Ok(repository)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs git in the repository, on the server's side, and returns what it prints.
    pub async fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = self.program(args).output(DEADLINE).await?;
        output.text().with_context(|| format!("git {}", args.join(" ")))
    }

    /// The newest commit of the branch.
    pub async fn head(&self, branch: &str) -> anyhow::Result<String> {
        Ok(self
            .run(&["rev-parse", "--verify", &format!("refs/heads/{branch}")])
            .await?
            .trim()
            .to_owned())
    }

    /// A file's text as it is on the branch.
    pub async fn file(&self, branch: &str, path: &str) -> anyhow::Result<String> {
        self.run(&["cat-file", "blob", &format!("refs/heads/{branch}:{path}")])
            .await
    }

    /// From now on every push has to pass this shell script: `<old> <new> <ref>` lines on its input, the repository as its
    /// folder; what it prints is shown to who pushes, and an exit code that is not 0 refuses the push.
    pub fn set_pre_receive(&self, script: &str) -> io::Result<()> {
        let new = self.path.join("lab-pre-receive.new");
        fs::write(&new, script)?;
        fs::rename(new, self.path.join("lab-pre-receive"))
    }

    /// Takes the script away.
    pub fn clear_pre_receive(&self) -> io::Result<()> {
        match fs::remove_file(self.path.join("lab-pre-receive")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn program(&self, args: &[&str]) -> Program {
        self.git
            .clone()
            .arg("--git-dir")
            .arg(&self.path)
            .args(args.iter().copied())
    }

    fn install_hook(&self) -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let hooks = self.path.join("hooks");
        fs::create_dir_all(&hooks)?;
        let hook = hooks.join("pre-receive");
        fs::write(&hook, HOOK)?;
        fs::set_permissions(hook, fs::Permissions::from_mode(0o755))
    }
}
