//! Secrets of a config repository while a call of git needs them: who we are to the host, whom we believe to be the host, and
//! what commits are signed with. It must not know where secrets come from, nor what git is asked.
//!
//! # Guarantees
//! A secret is in no argument, address, log or error. A token goes through the environment of the one call; a key stands in a
//! folder of its own, in memory, which goes with the call. Where there is no memory-backed folder the call is not made.

use std::ffi::OsString;
use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::error::{Error, Result};
use super::spec::{Identity, RepoSpec};

/// How to prove who we are. It is never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// None of our own; the SSH agent of the surroundings, if there is one.
    #[default]
    None,
    /// For https: a user and its token or password.
    Token { username: String, token: String },
    /// For ssh: a key without a passphrase, and the keys of the hosts that may have it.
    Ssh { private_key: String, known_hosts: String },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Token { .. } => "Token(…)",
            Self::Ssh { .. } => "Ssh(…)",
        })
    }
}

/// A token for the API of a repository's host: to open pull requests, for who pushes with a key. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiToken(pub String);

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiToken(…)")
    }
}

/// With whose hand commits are written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hand {
    /// The author; none is whoever the process writes as.
    pub author: Option<Identity>,
    /// The committer; none is the author.
    pub committer: Option<Identity>,
    /// What commits are signed with; none leaves them unsigned.
    pub signing: Option<SigningKey>,
}

/// A private key that signs commits. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum SigningKey {
    /// An SSH key without a passphrase.
    Ssh { private_key: String },
    /// An armoured OpenPGP secret key.
    OpenPgp {
        secret_key: String,
        passphrase: Option<String>,
    },
}

impl SigningKey {
    /// Tells the two kinds apart.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(key: String, passphrase: Option<String>) -> Result<Self> {
        if key.contains("-----BEGIN PGP PRIVATE KEY BLOCK-----") {
            return Ok(Self::OpenPgp {
                secret_key: key,
                passphrase,
            });
        }
        if key.contains("PRIVATE KEY-----") {
            return Ok(Self::Ssh { private_key: key });
        }
        Err(Error::Invalid {
            what: "the signing key",
            value: "…".to_owned(),
            why: "it is neither an armoured OpenPGP secret key nor an SSH private key",
        })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ssh { .. } => "Ssh(…)",
            Self::OpenPgp { .. } => "OpenPgp(…)",
        })
    }
}

/// Names another folder for keys than /dev/shm; it too must be in memory.
const FOLDER: &str = "SERIN_KEYS_DIR";

/// A folder in memory with the keys of one call; it goes when this is dropped.
#[derive(Debug)]
pub(super) struct Keys {
    folder: tempfile::TempDir,
}

impl Keys {
    /// # Errors
    /// When there is no folder in memory, or it can't be written to.
    pub(super) fn new(doing: &str) -> Result<Self> {
        let base = std::env::var_os(FOLDER).map_or_else(|| PathBuf::from("/dev/shm"), PathBuf::from);
        Self::below(&base, doing)
    }

    fn below(base: &Path, doing: &str) -> Result<Self> {
        let disk = |source| Error::Disk {
            doing: doing.to_owned(),
            path: base.display().to_string(),
            source,
        };
        if !is_in_memory(base) {
            return Err(Error::NotInMemory {
                doing: doing.to_owned(),
                path: base.display().to_string(),
            });
        }
        let folder = tempfile::Builder::new()
            .prefix("serin-key")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(base)
            .map_err(disk)?;
        Ok(Self { folder })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Words of a program without the folder's name.
    pub(super) fn without_folder(&self, words: &str) -> String {
        words.replace(&format!("{}/", self.path().display()), "")
    }

    /// Writes one file that only this user can read.
    pub(super) fn write(&self, name: &str, text: &str, doing: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        write_private(&path, text, 0o600).map_err(|source| Error::Disk {
            doing: doing.to_owned(),
            path: path.display().to_string(),
            source,
        })?;
        Ok(path)
    }

    /// A key; ssh refuses one without a line break at its end, as Secrets often hold it.
    pub(super) fn write_key(&self, name: &str, key: &str, doing: &str) -> Result<PathBuf> {
        self.write(name, &format!("{}\n", key.trim_end()), doing)
    }
}

fn is_in_memory(folder: &Path) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    // The type's sign differs by platform; its 32 bits do not.
    rustix::fs::statfs(folder)
        .is_ok_and(|fs| [TMPFS, RAMFS].contains(&(u64::try_from(fs.f_type).unwrap_or(0) & 0xffff_ffff)))
}

pub(super) fn write_private(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(std::fs::Permissions::from_mode(mode))
}

/// What is added to git's environment.
type Env = Vec<(&'static str, OsString)>;

/// What a call to the host adds to git's environment, and the keys that must outlive the call.
pub(super) fn to_the_host(repo: &RepoSpec, doing: &str) -> Result<(Env, Option<Keys>)> {
    let batch = "ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=10 -o ServerAliveInterval=10";
    let mut env = Env::new();
    let mut keys = None;
    match &repo.credentials {
        Credentials::None => env.push(("GIT_SSH_COMMAND", batch.into())),
        Credentials::Token { username, token } => {
            env.push(("SERIN_ASKPASS_USERNAME", username.into()));
            env.push(("SERIN_ASKPASS_TOKEN", token.into()));
        }
        Credentials::Ssh {
            private_key,
            known_hosts,
        } => {
            let folder = keys.insert(Keys::new(doing)?);
            let key = folder.write_key("key", private_key, doing)?;
            let hosts = folder.write("known_hosts", known_hosts, doing)?;
            let (key, hosts) = (key.display(), hosts.display());
            let command = format!(
                "{batch} -F /dev/null -o IdentitiesOnly=yes -o IdentityAgent=none -i '{key}' -o UserKnownHostsFile='{hosts}' -o GlobalKnownHostsFile=/dev/null"
            );
            env.push(("GIT_SSH_COMMAND", command.into()));
        }
    }
    if let Some(authority) = &repo.ca {
        let folder = match keys {
            Some(folder) => folder,
            None => Keys::new(doing)?,
        };
        let path = folder.write("ca.crt", authority, doing)?;
        env.push(("GIT_SSL_CAINFO", path.into()));
        keys = Some(folder);
    }
    Ok((env, keys))
}

/// What must never be read in git's words.
pub(super) fn secrets(repo: &RepoSpec) -> Vec<&str> {
    fn lines(key: &str) -> impl Iterator<Item = &str> {
        key.lines().filter(|line| line.len() > 8 && !line.starts_with("-----"))
    }
    let mut secrets: Vec<&str> = match &repo.credentials {
        Credentials::None => Vec::new(),
        Credentials::Token { token, .. } => vec![token],
        Credentials::Ssh { private_key, .. } => lines(private_key).collect(),
    };
    match &repo.hand.signing {
        None => {}
        Some(SigningKey::Ssh { private_key }) => secrets.extend(lines(private_key)),
        Some(SigningKey::OpenPgp { secret_key, passphrase }) => {
            secrets.extend(lines(secret_key));
            secrets.extend(passphrase.as_deref());
        }
    }
    secrets.extend(repo.api_token.as_ref().map(|ApiToken(token)| token.as_str()));
    secrets.retain(|secret| !secret.is_empty());
    secrets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_never_printed() {
        let token = Credentials::Token {
            username: "user".into(),
            token: "hunter2".into(),
        };
        assert!(!format!("{token:?}").contains("hunter2"));
        assert!(!format!("{:?}", ApiToken("hunter2".into())).contains("hunter2"));
        let signing = SigningKey::OpenPgp {
            secret_key: "hunter2".into(),
            passphrase: Some("hunter2".into()),
        };
        assert!(!format!("{signing:?}").contains("hunter2"));
    }

    #[test]
    fn a_key_stands_in_memory_only_and_goes_with_the_call() {
        let keys = Keys::new("fetch").unwrap();
        let path = keys.write_key("key", "secret", "fetch").unwrap();
        assert!(is_in_memory(&path));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "secret\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(keys);
        assert!(!path.exists());
    }

    #[test]
    fn without_memory_no_key_is_written() {
        // The checkout is on a disk.
        let disk = Path::new(env!("CARGO_MANIFEST_DIR"));
        if is_in_memory(disk) {
            return;
        }
        let error = Keys::below(disk, "fetch").unwrap_err().to_string();
        assert!(error.contains("medium: Memory") && error.contains(FOLDER), "{error}");
    }
}
