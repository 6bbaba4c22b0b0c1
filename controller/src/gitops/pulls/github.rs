//! Pull requests of GitHub (REST, version 2022-11-28), and of what speaks as it does. It must not know whose commit it is.

use anyhow::Context as _;
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Project, Proposal, PullRequest, ask, below, refused};

/// What of a pull request is read.
#[derive(Debug, Deserialize)]
struct Pull {
    html_url: String,
    state: State,
    #[serde(default)]
    merged_at: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Open,
    Closed,
}

impl From<Pull> for PullRequest {
    fn from(pull: Pull) -> Self {
        match pull.state {
            // A merged one shows in the branch, and is waited for like an open one.
            State::Closed if pull.merged_at.is_none() => Self::Closed(pull.html_url),
            State::Open | State::Closed => Self::Open(pull.html_url),
        }
    }
}

pub(super) fn headers(request: RequestBuilder) -> RequestBuilder {
    request
        .header("Accept", "application/vnd.github+json")
        .header("X-GitHub-Api-Version", "2022-11-28")
}

pub(super) async fn open(project: &Project, base: &str, proposal: &Proposal<'_>) -> anyhow::Result<PullRequest> {
    let (owner, name) = project
        .path
        .split_once('/')
        .filter(|(owner, name)| !owner.is_empty() && !name.is_empty() && !name.contains('/'))
        .with_context(|| format!("{} is no OWNER/NAME", project.path))?;
    let url = below(&project.api, ["repos", owner, name, "pulls"])?;
    if let Some(pull) = standing(project, &url, (owner, base), proposal).await? {
        return Ok(pull.into());
    }
    let body = json!({ "title": proposal.title, "head": proposal.branch, "base": base, "body": proposal.body });
    let (status, answer) = ask(headers(project.request(Method::POST, url.clone())).json(&body)).await?;
    match status {
        StatusCode::CREATED => Ok(serde_json::from_value::<Pull>(answer)
            .context("reading the pull request")?
            .into()),
        // Another process may have been faster.
        StatusCode::UNPROCESSABLE_ENTITY => match standing(project, &url, (owner, base), proposal).await? {
            Some(pull) => Ok(pull.into()),
            None => Err(refused("opening a pull request", status, &answer)),
        },
        _ => Err(refused("opening a pull request", status, &answer)),
    }
}

/// The pull request for the branch, the newest if there are several.
async fn standing(
    project: &Project,
    url: &Url,
    (owner, base): (&str, &str),
    proposal: &Proposal<'_>,
) -> anyhow::Result<Option<Pull>> {
    let head = format!("{owner}:{}", proposal.branch);
    let asked = [
        ("head", head.as_str()),
        ("base", base),
        ("state", "all"),
        ("per_page", "1"),
    ];
    let request = headers(project.request(Method::GET, url.clone())).query(&asked);
    let (status, answer) = ask(request).await?;
    if status != StatusCode::OK {
        return Err(refused("looking for a pull request", status, &answer));
    }
    let Value::Array(pulls) = answer else {
        anyhow::bail!("looking for a pull request: the host's answer is no list");
    };
    let first = pulls.into_iter().next();
    first
        .map(|pull| serde_json::from_value(pull).context("reading the pull request"))
        .transpose()
}
