//! Child processes that never outlive the lab: each runs in a process group of its own under `setpriv --pdeathsig KILL`, so
//! that the system ends it when the lab is gone, however the lab ended. It must not know what the programs do.
//!
//! The death signal is tied to the *thread* that spawned the child, and a runtime's threads come and go. So one thread that
//! lives as long as the process spawns them all. A small shell stands between setpriv and the program; it drops variables
//! whose names are no shell words.

mod listening;
mod spawner;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::LazyLock,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::AsyncWriteExt as _,
    process::{ChildStderr, ChildStdin, ChildStdout},
    sync::watch,
    time::timeout,
};

/// The lab may have died before the death signal was arranged for; then another process has become the parent.
const STILL_OURS: &str = r#"[ "$PPID" = "$0" ] && exec "$@""#;

/// How nice programs are that are not urgent. All calls go through proxies in the lab's own process, and those hold deadlines.
const YIELDING: &str = "10";

/// By its path: a name is looked up in the child's own `PATH`, for which the standard library forks. The lab is large, and the copy
/// of its page tables took a third of its time.
static SETPRIV: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|dir| dir.join("setpriv"));
    found
        .find(|file| file.is_file())
        .unwrap_or_else(|| PathBuf::from("setpriv"))
});

/// A program to be run, with all that it needs.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    args: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
    clean_env: bool,
    dir: Option<PathBuf>,
    log: Option<PathBuf>,
    network: Option<String>,
    urgent: bool,
}

impl Program {
    /// A program by its path, or by its name on PATH.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            clean_env: false,
            dir: None,
            log: None,
            network: None,
            urgent: false,
        }
    }

    /// A program with its first arguments, as tools.json has some.
    pub fn role(role: &[String]) -> Self {
        let (path, args) = role
            .split_first()
            .map_or((String::new(), &[][..]), |(path, args)| (path.clone(), args));
        Self::new(path).args(args)
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// It is a program in Go: memory is there, cores are few.
    #[must_use]
    pub fn lazy_gc(self) -> Self {
        self.env("GOGC", "400")
    }

    /// The program sees only PATH and what [`Self::env`] sets.
    #[must_use]
    pub fn clean_env(mut self) -> Self {
        self.clean_env = true;
        self
    }

    /// Runs in this folder.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Appends standard output and standard error to this file; without one they are dropped.
    #[must_use]
    pub fn log(mut self, path: impl Into<PathBuf>) -> Self {
        self.log = Some(path.into());
        self
    }

    /// Runs in this network namespace, by its name; in the lab's own without one.
    #[must_use]
    pub fn in_network(mut self, namespace: Option<String>) -> Self {
        self.network = namespace;
        self
    }

    /// Runs before all that is not urgent when there are too few cores: for what answers calls that have a deadline.
    #[must_use]
    pub fn urgent(mut self) -> Self {
        self.urgent = true;
        self
    }

    /// Another command in the same folder, environment and network; its output goes nowhere unless it is asked for.
    #[must_use]
    pub fn with_command(&self, path: impl Into<PathBuf>, args: &[String]) -> Self {
        let Self {
            path: _,
            args: _,
            env,
            clean_env,
            dir,
            log: _,
            network,
            urgent,
        } = self;
        Self {
            env: env.clone(),
            clean_env: *clean_env,
            dir: dir.clone(),
            network: network.clone(),
            urgent: *urgent,
            ..Self::new(path)
        }
        .args(args)
    }

    /// Starts the program in the background.
    pub async fn spawn(&self) -> anyhow::Result<Child> {
        let mut command = self.command()?;
        let (out, err) = self.log_files()?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        Ok(self.start(command).await?.0)
    }

    /// Starts the program with its standard input and output in the caller's hands; standard error goes to the log.
    pub async fn spawn_piped(&self) -> anyhow::Result<(Child, ChildStdin, ChildStdout)> {
        let mut command = self.command()?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(self.log_files()?.1);
        let (child, pipes) = self.start(command).await?;
        let stdin = pipes.0.context("the child has no standard input")?;
        let stdout = pipes.1.context("the child has no standard output")?;
        Ok((child, stdin, stdout))
    }

    /// Runs the program to its end, within the deadline, and collects what it prints.
    pub async fn output(&self, deadline: Duration) -> anyhow::Result<Output> {
        self.output_with_input(&[], deadline).await
    }

    /// As [`Self::output`], with this on standard input.
    pub async fn output_with_input(&self, input: &[u8], deadline: Duration) -> anyhow::Result<Output> {
        let mut command = self.command()?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let (child, (stdin, stdout, stderr)) = self.start(command).await?;
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A program that does not read its input is no error.
                let _ = stdin.write_all(input).await;
            }
        };
        let all = async { tokio::join!(feed, read(stdout), read(stderr), child.wait()) };
        let ((), stdout, stderr, status) = timeout(deadline, all)
            .await
            .map_err(|_| anyhow!("running {self}: not done after {deadline:?}"))?;
        Ok(Output {
            status,
            stdout: stdout?,
            stderr: stderr?,
        })
    }

    fn command(&self) -> anyhow::Result<tokio::process::Command> {
        // setpriv would only say so in the log.
        if self.path.components().count() > 1 && !self.path.is_file() {
            bail!("starting {}: there is no such file", self.path.display());
        }
        let mut command = tokio::process::Command::new(&*SETPRIV);
        command
            .args(["--pdeathsig", "KILL", "--", "sh", "-c", STILL_OURS])
            .arg(std::process::id().to_string());
        if let Some(namespace) = &self.network {
            command.args(["ip", "netns", "exec", namespace]);
        }
        if !self.urgent {
            command.args(["nice", "-n", YIELDING]);
        }
        command.arg(&self.path).args(&self.args).process_group(0);
        if self.clean_env {
            command.env_clear();
            if let Some(path) = std::env::var_os("PATH") {
                command.env("PATH", path);
            }
        }
        command.envs(&self.env);
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        Ok(command)
    }

    fn log_files(&self) -> anyhow::Result<(Stdio, Stdio)> {
        let Some(path) = &self.log else {
            return Ok((Stdio::null(), Stdio::null()));
        };
        let open = || -> std::io::Result<(Stdio, Stdio)> {
            if let Some(dir) = path.parent() {
                fs::create_dir_all(dir)?;
            }
            let file = fs::OpenOptions::new().create(true).append(true).open(path)?;
            Ok((file.try_clone()?.into(), file.into()))
        };
        open().with_context(|| format!("opening the log {}", path.display()))
    }

    async fn start(&self, command: tokio::process::Command) -> anyhow::Result<(Child, Pipes)> {
        let mut process = spawner::spawn(command)
            .await
            .with_context(|| format!("starting {self}"))?;
        let pipes = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        let pid = process.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let pid = pid.with_context(|| format!("starting {self}: it has no process id"))?;
        let (sender, exited) = watch::channel(None);
        tokio::spawn(async move {
            let status = process.wait().await;
            // What it left behind in its group ends with it.
            let _ = kill_process_group(pid, Signal::KILL);
            let _ = sender.send(Some(status.unwrap_or_default()));
        });
        Ok((
            Child {
                name: self.to_string(),
                pid,
                exited,
                log: self.log.clone(),
            },
            pipes,
        ))
    }
}

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.path.file_name().unwrap_or_default().to_string_lossy())?;
        match self.args.first() {
            Some(first) if !first.to_string_lossy().starts_with('-') => write!(f, " {}", first.to_string_lossy()),
            _ => Ok(()),
        }
    }
}

/// What a program printed, and how it ended.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text, if the program succeeded; else an error that has standard error.
    pub fn text(self) -> anyhow::Result<String> {
        if !self.status.success() {
            let stderr = String::from_utf8_lossy(&self.stderr);
            bail!("{}: {}", self.status, stderr.trim());
        }
        Ok(String::from_utf8_lossy(&self.stdout).into_owned())
    }
}

/// A running program. It is killed when this is dropped.
#[derive(Debug)]
pub struct Child {
    name: String,
    pid: Pid,
    exited: watch::Receiver<Option<ExitStatus>>,
    log: Option<PathBuf>,
}

impl Child {
    /// The process id, which is the process group's id too.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// How the process ended, if it did.
    pub fn exited(&self) -> Option<ExitStatus> {
        *self.exited.borrow()
    }

    /// Waits for the process to end.
    pub async fn wait(&self) -> ExitStatus {
        let mut exited = self.exited.clone();
        let status = exited.wait_for(Option::is_some).await.ok().and_then(|status| *status);
        // The watcher ends without a word only together with the runtime.
        status.unwrap_or_default()
    }

    /// Sends the group a signal, if the process is still there.
    pub fn signal(&self, signal: Signal) {
        if self.exited().is_none() {
            // The process may end at this very moment, which is what is wanted anyway.
            let _ = kill_process_group(self.pid, signal);
        }
    }

    /// SIGTERM, and SIGKILL when the process is not gone after `grace`.
    pub async fn stop(&self, grace: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        match timeout(grace, self.wait()).await {
            Ok(status) => status,
            Err(_) => self.kill().await,
        }
    }

    /// SIGKILL, and waits until the process is gone.
    pub async fn kill(&self) -> ExitStatus {
        self.signal(Signal::KILL);
        self.wait().await
    }

    /// Where its output goes, for messages.
    pub fn log_path(&self) -> std::path::Display<'_> {
        self.log.as_deref().unwrap_or(Path::new("(no log)")).display()
    }

    /// An error that tells how the process ended and has the last lines of its log.
    pub fn obituary(&self) -> anyhow::Error {
        let mut text = format!("{} ended by itself", self.name);
        if let Some(status) = self.exited() {
            let _ = write!(text, " ({status})");
        }
        if let Some(log) = &self.log {
            let _ = write!(text, "; the end of {}:\n{}", log.display(), tail(log, 10));
        }
        anyhow!(text)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// The last lines of a file; nothing when it cannot be read.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<_> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..)
        .unwrap_or_default()
        .join("\n")
}

type Pipes = (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>);

async fn read(pipe: Option<impl tokio::io::AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        tokio::io::AsyncReadExt::read_to_end(&mut pipe, &mut bytes).await?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
