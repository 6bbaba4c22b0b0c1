//! Signs a commit while it is made, with a key that stands in memory for this one call. It must not know where keys come from,
//! nor what is committed.
//!
//! # Guarantees
//! A commit is signed or not made: git ends with an error when its signer does. OpenPGP's agent ends with the call.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::command::{self, Call};
use super::credentials::{Keys, SigningKey};
use super::error::{Error, Result};
use super::repository::Mirror;

const DOING: &str = "sign a commit of";
/// For each call of GnuPG.
const DEADLINE: Duration = Duration::from_secs(20);

impl Mirror {
    /// Runs a call of `commit-tree` so that it signs with the key; the answer is the commit's id.
    pub(super) async fn sign(&self, key: &SigningKey, mut call: Call<'_>) -> Result<String> {
        let keys = Keys::new(DOING)?;
        let mut settings: Vec<OsString> = Vec::new();
        let mut set = |name: &str, value: &std::ffi::OsStr| {
            let mut setting = OsString::from(format!("{name}="));
            setting.push(value);
            settings.extend(["-c".into(), setting]);
        };
        let mut agent = None;
        match key {
            SigningKey::Ssh { private_key } => {
                let path = keys.write_key("key", private_key, DOING)?;
                set("gpg.format", "ssh".as_ref());
                set("user.signingKey", path.as_os_str());
            }
            SigningKey::OpenPgp { secret_key, passphrase } => {
                let passphrase = keys.write("passphrase", passphrase.as_deref().unwrap_or_default(), DOING)?;
                let options = format!(
                    "batch\nno-tty\npinentry-mode loopback\npassphrase-file {}\n",
                    passphrase.display()
                );
                keys.write("gpg.conf", &options, DOING)?;
                let ring = agent.insert(Ring(keys.path()));
                let fingerprint = ring
                    .import(secret_key)
                    .await
                    .map_err(|words| self.unsigned(&keys.without_folder(&words)))?;
                set("gpg.format", "openpgp".as_ref());
                set("user.signingKey", fingerprint.as_ref());
                call = call.env("GNUPGHOME", keys.path());
            }
        }
        call.args.splice(0..0, settings);
        call.args.push("-S".into());
        let answer = self.run(call).await;
        if let Some(ring) = agent {
            ring.end().await;
        }
        let answer = answer?;
        if answer.status.success() {
            Ok(String::from_utf8_lossy(&answer.stdout).trim().to_owned())
        } else if super::words::is_damage(&answer.stderr) {
            Err(self.failed(DOING, &answer.stderr))
        } else {
            Err(self.unsigned(&keys.without_folder(&answer.stderr)))
        }
    }

    fn unsigned(&self, words: &str) -> Error {
        Error::Signing {
            repository: self.repo().name(),
            words: self.words(words),
        }
    }
}

/// A key ring of GnuPG.
struct Ring<'a>(&'a Path);

impl Ring<'_> {
    /// The fingerprint of the secret key.
    async fn import(&self, secret_key: &str) -> Result<String, String> {
        let words = self.run("gpg", &["--status-fd", "1", "--import"], secret_key).await?;
        let imported = words.lines().find_map(|line| {
            let mut words = line.strip_prefix("[GNUPG:] IMPORT_OK ")?.split(' ');
            let (what, fingerprint) = (words.next()?.parse::<u32>().ok()?, words.next()?);
            // The bit says that a secret key came, too.
            (what & 16 != 0).then(|| fingerprint.to_owned())
        });
        imported.ok_or_else(|| "it holds no secret key that GnuPG can read".to_owned())
    }

    /// GnuPG leaves an agent behind, which has the key.
    async fn end(&self) {
        if let Err(words) = self.run("gpgconf", &["--kill", "gpg-agent"], "").await {
            tracing::warn!("GnuPG's agent could not be ended; it ends when it misses its folder: {words}");
        }
    }

    async fn run(&self, program: &str, args: &[&str], input: &str) -> Result<String, String> {
        let mut command = Command::new(command::located(program.into()));
        command
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("GNUPGHOME", self.0)
            .env("HOME", self.0)
            .env("LC_ALL", "C")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        match command::communicate(command, input.as_bytes(), DEADLINE).await {
            Err(error) => Err(format!("{program} cannot be started ({error}); install GnuPG")),
            Ok(None) => Err(format!("{program} did not end in {} s", DEADLINE.as_secs())),
            Ok(Some((status, stdout, stderr))) if status.success() => {
                drop(stderr);
                Ok(String::from_utf8_lossy(&stdout).into_owned())
            }
            Ok(Some((_, _, stderr))) => Err(String::from_utf8_lossy(&stderr).into_owned()),
        }
    }
}
