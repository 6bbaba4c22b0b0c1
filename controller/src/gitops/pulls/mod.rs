//! Pull requests by the hosts' own APIs: opened once for a branch that holds a commit, and looked at afterwards; and the login of
//! a GitHub App. It must not know what is committed.
//!
//! # Guarantees
//! A token goes to the API that the controller's configuration names for the very host of the repository, and nowhere else: no
//! address of an API comes from a rollout or its Secret, and no redirect is followed. One branch has one request: one that people
//! closed is not opened again.

mod app;
mod github;
mod gitlab;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Client, Method, StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;

pub use app::AppKey;

use super::credentials::Credentials;
use super::error::{Error, Result};
use super::spec::{RepoSpec, place};

/// The longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// More than this is no answer to any of our questions.
const MAX_ANSWER: usize = 1024 * 1024;

/// Which API a host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum HostKind {
    GitHub,
    GitLab,
}

/// A host of repositories, and where its API is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// As it stands in repositories' addresses, with its port if that is not the scheme's own.
    pub host: String,
    pub kind: HostKind,
    /// As in `https://git.example.com/api/v4` or `https://github.example.com/api/v3`.
    pub api: String,
}

/// The hosts whose APIs are spoken to. Clones share what was fetched.
#[derive(Debug, Clone)]
pub struct Hosts {
    all: Vec<Host>,
    tokens: Arc<Mutex<app::Tokens>>,
}

impl Default for Hosts {
    /// The two that everybody knows.
    fn default() -> Self {
        let host = |host: &str, kind, api: &str| Host {
            host: host.to_owned(),
            kind,
            api: api.to_owned(),
        };
        Self {
            all: vec![
                host("github.com", HostKind::GitHub, "https://api.github.com"),
                host("gitlab.com", HostKind::GitLab, "https://gitlab.com/api/v4"),
            ],
            tokens: Arc::default(),
        }
    }
}

/// What a branch with a commit waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullRequest {
    /// Nobody can open one but people: the host's API is not known, or there is no token for it.
    ByHand,
    /// The host did not open one, for this reason.
    NotOpened(String),
    /// It stands open at this address.
    Open(String),
    /// People closed it and did not merge it.
    Closed(String),
}

impl PullRequest {
    /// What is to be done now.
    pub(super) fn advice(&self) -> String {
        match self {
            Self::ByHand => "open a pull request for it and merge it".to_owned(),
            Self::NotOpened(why) => format!("no pull request could be opened ({why}): open one and merge it"),
            Self::Open(address) => format!("merge the pull request {address}"),
            Self::Closed(address) => {
                format!(
                    "the pull request {address} was closed: open it again and merge it, or do in another way what it does"
                )
            }
        }
    }
}

/// What a pull request says.
pub(super) struct Proposal<'a> {
    /// The branch that holds the commit.
    pub(super) branch: &'a str,
    pub(super) title: &'a str,
    pub(super) body: &'a str,
}

/// A repository as the API of its host knows it.
struct Project {
    client: Client,
    api: Url,
    token: String,
    /// Below the host: owner and name, or groups and name.
    path: String,
}

impl Hosts {
    /// These and the two that everybody knows.
    ///
    /// # Errors
    /// When an API's address is none, or would take tokens over an open line.
    pub fn with(hosts: Vec<Host>) -> anyhow::Result<Self> {
        for Host { host, api, .. } in &hosts {
            let url = Url::parse(api).map_err(|error| anyhow::anyhow!("the API {api} of {host}: {error}"))?;
            let is_near = url
                .host_str()
                .is_some_and(|name| matches!(name, "127.0.0.1" | "[::1]" | "localhost"));
            anyhow::ensure!(
                url.scheme() == "https" || (url.scheme() == "http" && is_near),
                "the API {api} of {host} must begin with https://: tokens are sent to it"
            );
            anyhow::ensure!(
                url.query().is_none() && url.username().is_empty() && url.password().is_none(),
                "the API {api} of {host} must be an address and nothing else"
            );
        }
        let mut all = hosts;
        for known in Self::default().all {
            if all.iter().all(|host| host.host != known.host) {
                all.push(known);
            }
        }
        Ok(Self {
            all,
            tokens: Arc::default(),
        })
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> &[Host] {
        &self.all
    }

    /// The host of a repository, if its API is known, and the repository's path there.
    fn of(&self, url: &str) -> Option<(&Host, String)> {
        let (name, path) = place(url);
        let host = self.all.iter().find(|host| host.host.eq_ignore_ascii_case(&name))?;
        Some((host, path))
    }

    /// Sees to it that a pull request for the branch is open, unless one was closed.
    pub(super) async fn open(&self, repo: &RepoSpec, proposal: &Proposal<'_>) -> PullRequest {
        let (Some((host, path)), Some(token)) = (self.of(&repo.url), repo.token_for_api()) else {
            return PullRequest::ByHand;
        };
        let opened = async {
            let project = Project {
                client: client(repo)?,
                api: address(host)?,
                token: token.to_owned(),
                path,
            };
            match host.kind {
                HostKind::GitHub => github::open(&project, &repo.branch, proposal).await,
                HostKind::GitLab => gitlab::open(&project, &repo.branch, proposal).await,
            }
        };
        match opened.await {
            Ok(request) => request,
            Err(error) => PullRequest::NotOpened(format!("{error:#}").replace(token, "***")),
        }
    }

    /// The credentials of a GitHub App's installation at this moment.
    ///
    /// # Errors
    /// When the repository's host is no GitHub that the configuration names, the key can't be read, or the host refuses.
    pub async fn log_in(&self, repo: &RepoSpec, key: &AppKey, now: jiff::Timestamp) -> Result<Credentials> {
        let Some((host, _)) = self.of(&repo.url).filter(|(host, _)| host.kind == HostKind::GitHub) else {
            return Err(Error::Invalid {
                what: "the repository",
                value: repo.name(),
                why: "its Secret is for a GitHub App, and its host is no GitHub that the controller knows; whoever runs Serin adds it to `hosts` of Serin's chart",
            });
        };
        let kept = self
            .tokens
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&host.api, key, now);
        let token = match kept {
            Some(token) => token,
            None => {
                let failed = |error: anyhow::Error| Error::Failed {
                    doing: "log in as a GitHub App to".to_owned(),
                    repository: repo.name(),
                    words: format!("{error:#}"),
                };
                let api = address(host).map_err(failed)?;
                let token = app::exchange(&client(repo).map_err(failed)?, &api, key, now).await;
                let token = token.map_err(failed)?;
                let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
                tokens.keep(&host.api, key, &token, now);
                token
            }
        };
        Ok(Credentials::Token {
            username: "x-access-token".to_owned(),
            token,
        })
    }
}

fn address(host: &Host) -> anyhow::Result<Url> {
    Ok(Url::parse(&host.api)?)
}

/// A client that believes whom git believes, too.
fn client(repo: &RepoSpec) -> anyhow::Result<Client> {
    let mut builder = Client::builder()
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("serin/", env!("CARGO_PKG_VERSION")));
    if let Some(authority) = &repo.ca {
        builder = builder.tls_certs_merge(reqwest::Certificate::from_pem_bundle(authority.as_bytes())?);
    }
    Ok(builder.build()?)
}

/// The address of something below an API; each segment is one, whatever stands in it.
fn below<'a>(api: &Url, segments: impl IntoIterator<Item = &'a str>) -> anyhow::Result<Url> {
    let mut url = api.clone();
    url.path_segments_mut()
        .map_err(|()| anyhow::anyhow!("{api} is no address of an API"))?
        .pop_if_empty()
        .extend(segments);
    Ok(url)
}

/// Sends a request and reads the answer as JSON, whatever its status is.
async fn ask(request: reqwest::RequestBuilder) -> anyhow::Result<(StatusCode, Value)> {
    let mut response = request.send().await.map_err(|error| {
        // The address is said by whoever asks; what lies below it says why.
        let mut words = error.without_url().to_string();
        if words.is_empty() {
            words.push_str("no answer");
        }
        anyhow::anyhow!(words)
    })?;
    let (status, mut body) = (response.status(), Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        body.extend_from_slice(&chunk);
        anyhow::ensure!(body.len() <= MAX_ANSWER, "the answer is too long");
    }
    // Some answer an error with a page.
    Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
}

/// The error for an answer that is none.
fn refused(what: &str, status: StatusCode, answer: &Value) -> anyhow::Error {
    let words = match answer.get("message").or_else(|| answer.get("error")) {
        Some(Value::String(words)) => words.clone(),
        Some(words) => words.to_string(),
        None => String::new(),
    };
    let more = answer.get("errors").map(Value::to_string).unwrap_or_default();
    let words: String = format!("{words} {more}").trim().chars().take(300).collect();
    let hint = match status.as_u16() {
        401 => "; the host does not accept the token for its API",
        403 | 404 => "; the token may lack the right to open pull requests",
        429 => "; the host is asked too often",
        _ => "",
    };
    anyhow::anyhow!(
        "{what}: HTTP {}{}{words}{hint}",
        status.as_u16(),
        if words.is_empty() { "" } else { ", " }
    )
}

impl Project {
    fn request(&self, method: Method, url: Url) -> reqwest::RequestBuilder {
        self.client.request(method, url).bearer_auth(&self.token)
    }
}
