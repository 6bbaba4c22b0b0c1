//! Runs the git program: plumbing only, without the user's configuration, without a terminal, within a deadline, in a
//! process group of its own that ends with it. It must not know what is asked of git.

use std::ffi::OsString;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::credentials::{self, write_private};
use super::error::{Error, Result};
use super::spec::{Identity, RepoSpec};

/// More output than this means that something is wrong; a values file has at most one MiB.
const MAX_OUTPUT: u64 = 64 * 1024 * 1024;

/// Git asks this for a name or a password; the answers are in the environment of the one call that needs them.
const ASKPASS: &str = "#!/bin/sh\ncase \"$1\" in\n  Username*) printf '%s\\n' \"$SERIN_ASKPASS_USERNAME\" ;;\n  *) printf '%s\\n' \"$SERIN_ASKPASS_TOKEN\" ;;\nesac\n";

/// What of our own environment git may see.
const PASSED_ON: [&str; 16] = [
    "PATH",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "GIT_EXEC_PATH",
    "LD_LIBRARY_PATH",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];

/// The git program with a home of its own.
#[derive(Debug, Clone)]
pub struct Git {
    program: PathBuf,
    home: PathBuf,
    local_deadline: Duration,
    remote_deadline: Duration,
}

/// One call.
#[derive(Debug, Default)]
pub(super) struct Call<'a> {
    /// For errors: what is being done, as in "cannot fetch …".
    pub(super) doing: &'a str,
    pub(super) args: Vec<OsString>,
    pub(super) stdin: Vec<u8>,
    pub(super) env: Vec<(&'static str, OsString)>,
    /// Whether the call talks to the host, and so gets the credentials and the longer deadline.
    pub(super) remote: bool,
    /// Instead of the usual deadline.
    pub(super) deadline: Option<Duration>,
}

impl<'a> Call<'a> {
    pub(super) fn new<I, S>(doing: &'a str, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<OsString>,
    {
        Self {
            doing,
            args: args.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    pub(super) fn remote(mut self) -> Self {
        self.remote = true;
        self
    }

    pub(super) fn within(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    pub(super) fn stdin(mut self, stdin: impl Into<Vec<u8>>) -> Self {
        self.stdin = stdin.into();
        self
    }

    pub(super) fn env(mut self, key: &'static str, value: impl Into<OsString>) -> Self {
        self.env.push((key, value.into()));
        self
    }

    pub(super) fn identity(self, author: &Identity, committer: &Identity) -> Self {
        self.env("GIT_AUTHOR_NAME", &author.name)
            .env("GIT_AUTHOR_EMAIL", &author.email)
            .env("GIT_COMMITTER_NAME", &committer.name)
            .env("GIT_COMMITTER_EMAIL", &committer.email)
    }
}

/// What git answered; its words are without secrets.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
}

impl Git {
    /// `home` is a folder that only Serin uses; it is made with what git needs in it.
    pub fn new(program: impl Into<PathBuf>, home: impl Into<PathBuf>) -> Self {
        Self {
            program: located(program.into()),
            home: home.into(),
            local_deadline: Duration::from_secs(60),
            remote_deadline: Duration::from_secs(60),
        }
    }

    /// How long a call to the host may take.
    #[must_use]
    pub fn with_remote_deadline(mut self, deadline: Duration) -> Self {
        self.remote_deadline = deadline;
        self
    }

    /// Runs git in a bare repository; an exit code other than 0 is no error here.
    pub(super) async fn run(&self, dir: &Path, repo: &RepoSpec, call: Call<'_>) -> Result<Answer> {
        let askpass = self.prepare()?;
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .envs(PASSED_ON.iter().filter_map(|key| Some((key, std::env::var_os(key)?))));
        command
            .env("HOME", &self.home)
            .env("XDG_CONFIG_HOME", &self.home)
            .env("LC_ALL", "C")
            .env("GIT_DIR", dir)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_LITERAL_PATHSPECS", "1")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_ALLOW_PROTOCOL", "https:http:ssh:file")
            .env("GIT_ASKPASS", &askpass);
        // Held until the call is over: keys stand in memory for this time only.
        let keys = if call.remote {
            let (env, keys) = credentials::to_the_host(repo, call.doing)?;
            command.envs(env);
            keys
        } else {
            None
        };
        command
            .args([
                "-c",
                "gc.auto=0",
                "-c",
                "maintenance.auto=false",
                "-c",
                "credential.helper=",
                "-c",
                "core.hooksPath=/dev/null",
            ])
            .args([
                "-c",
                "core.autocrlf=false",
                "-c",
                "http.followRedirects=initial",
                "-c",
                "protocol.version=2",
            ])
            .args(&call.args)
            .envs(call.env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let usual = if call.remote {
            self.remote_deadline
        } else {
            self.local_deadline
        };
        let deadline = call.deadline.unwrap_or(usual);
        let (status, stdout, stderr) = communicate(command, &call.stdin, deadline)
            .await
            .map_err(|source| Error::Start {
                doing: call.doing.to_owned(),
                source,
            })?
            .ok_or_else(|| Error::TimedOut {
                doing: call.doing.to_owned(),
                repository: repo.name(),
                seconds: deadline.as_secs(),
            })?;
        let mut stderr = redact(&String::from_utf8_lossy(&stderr), repo);
        if let Some(keys) = keys {
            // Another folder each time: words that change with every try would be news each time.
            stderr = keys.without_folder(&stderr);
        }
        Ok(Answer { status, stdout, stderr })
    }

    /// Makes the home, with the script that answers git's questions.
    fn prepare(&self) -> Result<PathBuf> {
        let askpass = self.home.join("askpass");
        if askpass.exists() {
            return Ok(askpass);
        }
        let disk = |source| Error::Disk {
            doing: "make a home for git".into(),
            path: self.home.display().to_string(),
            source,
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.home)
            .map_err(disk)?;
        // Written beside and renamed: a script that is still open for writing cannot be run, and calls run side by side.
        let script = tempfile::Builder::new()
            .prefix("askpass")
            .tempfile_in(&self.home)
            .map_err(disk)?
            .into_temp_path();
        write_private(&script, ASKPASS, 0o700).map_err(disk)?;
        script.persist(&askpass).map_err(|error| disk(error.error))?;
        Ok(askpass)
    }
}

/// The program's place on the `PATH`; its name where it is on none.
///
/// A child with an environment of its own is spawned (`posix_spawn`) only where the standard library need not look for its program;
/// else this whole process is forked first, which takes as long as git itself when ten thousand rollouts are in memory.
pub(super) fn located(program: PathBuf) -> PathBuf {
    if program.components().count() > 1 {
        return program;
    }
    let is_program = |place: &PathBuf| {
        let about = place.metadata();
        about.is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(&program));
    places.find(is_program).unwrap_or(program)
}

/// A child with its helpers (git-remote-https, ssh): dropping it ends all of them.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // After `wait` the child has no id any more, so no foreign group is ever hit.
        let id = self
            .0
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(rustix::process::Pid::from_raw);
        if let Some(id) = id {
            // Already gone is what we want.
            let _ = rustix::process::kill_process_group(id, rustix::process::Signal::KILL);
        }
    }
}

/// Runs a program to its end, in a process group of its own; none when the deadline came first, and all of the group is ended.
pub(super) async fn communicate(
    mut command: Command,
    input: &[u8],
    deadline: Duration,
) -> std::io::Result<Option<(ExitStatus, Vec<u8>, Vec<u8>)>> {
    let child = command.process_group(0).kill_on_drop(true).spawn()?;
    tokio::time::timeout(deadline, converse(Group(child), input))
        .await
        .ok()
        .transpose()
}

async fn converse(mut group: Group, input: &[u8]) -> std::io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
    let child = &mut group.0;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A child that does not read its input says why itself.
            let _ = stdin.write_all(input).await;
        }
        Ok(())
    };
    let listen = async {
        if let Some(stdout) = stdout {
            stdout.take(MAX_OUTPUT).read_to_end(&mut out).await?;
        }
        Ok(())
    };
    let hear = async {
        if let Some(stderr) = stderr {
            stderr.take(MAX_OUTPUT).read_to_end(&mut err).await?;
        }
        std::io::Result::Ok(())
    };
    tokio::try_join!(feed, listen, hear)?;
    let status = group.0.wait().await?;
    Ok((status, out, err))
}

/// Takes secrets out of git's words, and the words to what a person reads.
fn redact(words: &str, repo: &RepoSpec) -> String {
    let mut words = words.to_owned();
    for secret in credentials::secrets(repo) {
        words = words.replace(secret, "***");
    }
    words.chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::credentials::{Credentials, Hand};
    use super::super::tests::executable;
    use super::*;

    fn repo() -> RepoSpec {
        RepoSpec {
            url: "file:///nowhere".into(),
            branch: "main".into(),
            credentials: Credentials::None,
            api_token: None,
            ca: None,
            hand: Hand::default(),
        }
    }

    fn script(folder: &Path, body: &str) -> PathBuf {
        let path = folder.join("git");
        executable(&path, &format!("#!/bin/sh\n{body}\n"));
        path
    }

    #[test]
    fn a_program_is_looked_for_where_the_path_leads_and_a_place_is_left_alone() {
        let sh = located("sh".into());
        assert!(sh.is_absolute() && sh.ends_with("sh"), "{}", sh.display());
        for left_alone in ["./git", "/nowhere/git", "no-such-program-of-any-path"] {
            assert_eq!(located(left_alone.into()), Path::new(left_alone));
        }
    }

    #[tokio::test]
    async fn a_call_that_hangs_is_stopped_with_its_helpers() {
        let folder = tempfile::tempdir().unwrap();
        let helper = folder.path().join("helper");
        // Written to a name of its own and moved, so that a reader never sees an empty file.
        let program = script(
            folder.path(),
            &format!(
                "sleep 600 & echo $! > {0}.part; mv {0}.part {0}; wait",
                helper.display()
            ),
        );
        let git = Git::new(program, folder.path().join("home")).with_remote_deadline(Duration::from_millis(500));
        let error = git
            .run(folder.path(), &repo(), Call::new("fetch", ["x"]).remote())
            .await
            .unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
        let pid = std::fs::read_to_string(&helper).unwrap().trim().to_owned();
        let gone = async {
            let alive = || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(" Z "));
            while alive() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), gone)
            .await
            .expect("the helper still runs");
    }

    #[tokio::test]
    async fn secrets_are_in_no_argument_and_in_no_word() {
        let folder = tempfile::tempdir().unwrap();
        let program = script(
            folder.path(),
            "echo \"$@\"; echo \"fatal: $SERIN_ASKPASS_TOKEN wrong\" >&2; \"$GIT_ASKPASS\" Password",
        );
        let git = Git::new(program, folder.path().join("home"));
        let repo = RepoSpec {
            credentials: Credentials::Token {
                username: "u".into(),
                token: "hunter2".into(),
            },
            ..repo()
        };
        let answer = git
            .run(folder.path(), &repo, Call::new("fetch", ["x"]).remote())
            .await
            .unwrap();
        let stdout = String::from_utf8(answer.stdout).unwrap();
        let (args, password) = stdout.split_once('\n').unwrap();
        assert!(!args.contains("hunter2") && password.trim() == "hunter2", "{stdout}");
        assert_eq!(answer.stderr, "fatal: *** wrong\n");
        let local = git.run(folder.path(), &repo, Call::new("read", ["x"])).await.unwrap();
        assert!(!String::from_utf8(local.stdout).unwrap().contains("hunter2"));
    }
}
