//! Where a rollout stands in the config repository and who writes there, as flags say it. It must not know what is done there.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use crate::gitops::{ApiToken, Credentials, Hand, Layout, RepoSpec, SigningKey, Subject};

/// Where a rollout stands in the config repository.
#[derive(Args, Debug, Clone)]
pub(super) struct Place {
    /// Address of the config repository: https://…, ssh://…, git@host:path.
    #[arg(long, value_name = "URL")]
    repository: String,
    /// Branch to read and to commit to.
    #[arg(long, default_value = "main")]
    branch: String,
    /// Folder of the environment in the repository.
    #[arg(long, value_name = "DIR")]
    path: String,
    /// How the arms stand there.
    #[arg(long, value_enum, default_value = "helm")]
    layout: LayoutKind,
    /// Helm: values file below the folder, values.yaml when absent.
    #[arg(long, value_name = "FILE")]
    file: Option<String>,
    /// Helm: key of the canary's subtree, `canary` when absent. Kustomize: the canary's file below the folder,
    /// canary/kustomization.yaml when absent.
    #[arg(long, value_name = "KEY|FILE")]
    canary: Option<String>,
    /// Helm: key of stable's subtree, `stable` when absent. Kustomize: stable's file below the folder,
    /// stable/kustomization.yaml when absent.
    #[arg(long, value_name = "KEY|FILE")]
    stable: Option<String>,
    /// Kustomize: the name in `images`, or the container, that names a revision; needed where there are several.
    #[arg(long, value_name = "NAME")]
    image: Option<String>,
    /// Id of the cluster whose Serin judges the rollout.
    #[arg(long, value_name = "ID")]
    cluster: String,
    /// The rollout.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    rollout: String,
    /// User for https; its token is read from the environment variable `SERIN_GIT_TOKEN`.
    #[arg(
        long,
        env = "SERIN_GIT_USERNAME",
        value_name = "USER",
        default_value = "serin",
        hide_env_values = true
    )]
    git_username: String,
    /// File with the SSH key (without a passphrase) that logs in. A token for the host's API, which opens pull requests where the
    /// branch is protected, is read from the environment variable `SERIN_API_TOKEN`.
    #[arg(long, value_name = "FILE", requires = "known_hosts")]
    ssh_key: Option<PathBuf>,
    /// File with the keys of the hosts that may be logged in to, as ssh-keyscan prints them.
    #[arg(long, value_name = "FILE", requires = "ssh_key")]
    known_hosts: Option<PathBuf>,
    /// File with the certificates (PEM) of those who may sign an https host's, instead of the system's.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// File with the key that signs commits: an SSH key without a passphrase, or an armoured OpenPGP secret key, whose passphrase
    /// is read from the environment variable `SERIN_SIGNING_PASSPHRASE`.
    #[arg(long, value_name = "FILE")]
    signing_key: Option<PathBuf>,
}

/// What is secret. Not flags: an argument is there for every user of the machine to see.
#[derive(Default)]
pub(super) struct Secrets {
    pub(super) token: Option<String>,
    pub(super) passphrase: Option<String>,
    /// For the API of the repository's host.
    pub(super) api_token: Option<String>,
}

impl Secrets {
    pub(super) fn of_environment() -> Self {
        let get = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            token: get("SERIN_GIT_TOKEN"),
            passphrase: get("SERIN_SIGNING_PASSPHRASE"),
            api_token: get("SERIN_API_TOKEN"),
        }
    }
}

/// How the arms of a rollout stand in its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LayoutKind {
    /// Two subtrees of a values file.
    Helm,
    /// A kustomization of each arm's overlay, or a patch of each arm's Deployment.
    Kustomize,
}

impl Place {
    pub(super) fn resolve(self, secrets: Secrets) -> Result<(RepoSpec, Subject)> {
        let (namespace, name) = self
            .rollout
            .split_once('/')
            .context("--rollout must be NAMESPACE/NAME")?;
        let or = |given: Option<String>, default: &str| given.unwrap_or_else(|| default.to_owned());
        let layout = match self.layout {
            LayoutKind::Helm if self.image.is_some() => anyhow::bail!("--image goes with --layout kustomize only"),
            LayoutKind::Helm => Layout::Helm {
                file: or(self.file, "values.yaml"),
                stable: or(self.stable, "stable"),
                canary: or(self.canary, "canary"),
            },
            LayoutKind::Kustomize if self.file.is_some() => {
                anyhow::bail!("--file goes with --layout helm only; name the arms' files with --stable and --canary")
            }
            LayoutKind::Kustomize => Layout::Kustomize {
                stable: or(self.stable, "stable/kustomization.yaml"),
                canary: or(self.canary, "canary/kustomization.yaml"),
                image: self.image,
            },
        };
        let subject = Subject {
            cluster: self.cluster,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            path: self.path,
            layout,
        };
        let credentials = match (self.ssh_key, self.known_hosts, secrets.token) {
            (Some(key), Some(hosts), _) => Credentials::Ssh {
                private_key: read("--ssh-key", &key)?,
                known_hosts: read("--known-hosts", &hosts)?,
            },
            (_, _, Some(token)) => Credentials::Token {
                username: self.git_username,
                token,
            },
            (_, _, None) => Credentials::None,
        };
        let signing = match self.signing_key {
            None => None,
            Some(file) => {
                let key = SigningKey::parse(read("--signing-key", &file)?, secrets.passphrase);
                Some(key.with_context(|| format!("--signing-key {}", file.display()))?)
            }
        };
        let repo = RepoSpec {
            url: self.repository,
            branch: self.branch,
            credentials,
            api_token: secrets.api_token.map(ApiToken),
            ca: self.ca.map(|file| read("--ca", &file)).transpose()?,
            hand: Hand {
                signing,
                ..Hand::default()
            },
        };
        Ok((repo, subject))
    }
}

fn read(flag: &str, file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("reading the file {} of {flag}", file.display()))
}
