//! Merge requests of GitLab (REST, version 4). It must not know whose commit it is.

use anyhow::Context as _;
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Project, Proposal, PullRequest, ask, below, refused};

/// What of a merge request is read.
#[derive(Debug, Deserialize)]
struct Merge {
    web_url: String,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Opened,
    Closed,
    Locked,
    Merged,
}

impl From<Merge> for PullRequest {
    fn from(merge: Merge) -> Self {
        match merge.state {
            State::Closed => Self::Closed(merge.web_url),
            // A merged one shows in the branch, and is waited for like an open one; one that is just being merged is locked.
            State::Opened | State::Locked | State::Merged => Self::Open(merge.web_url),
        }
    }
}

pub(super) async fn open(project: &Project, target: &str, proposal: &Proposal<'_>) -> anyhow::Result<PullRequest> {
    let url = below(&project.api, ["projects", project.path.as_str(), "merge_requests"])?;
    if let Some(merge) = standing(project, &url, target, proposal).await? {
        return Ok(merge.into());
    }
    let body = json!({
        "source_branch": proposal.branch,
        "target_branch": target,
        "title": proposal.title,
        "description": proposal.body,
        "remove_source_branch": true,
    });
    let (status, answer) = ask(project.request(Method::POST, url.clone()).json(&body)).await?;
    match status {
        StatusCode::CREATED => Ok(serde_json::from_value::<Merge>(answer)
            .context("reading the merge request")?
            .into()),
        // Another process may have been faster.
        StatusCode::CONFLICT => match standing(project, &url, target, proposal).await? {
            Some(merge) => Ok(merge.into()),
            None => Err(refused("opening a merge request", status, &answer)),
        },
        _ => Err(refused("opening a merge request", status, &answer)),
    }
}

/// The merge request for the branch, the newest if there are several.
async fn standing(
    project: &Project,
    url: &Url,
    target: &str,
    proposal: &Proposal<'_>,
) -> anyhow::Result<Option<Merge>> {
    let asked = [
        ("source_branch", proposal.branch),
        ("target_branch", target),
        ("per_page", "1"),
    ];
    let (status, answer) = ask(project.request(Method::GET, url.clone()).query(&asked)).await?;
    if status != StatusCode::OK {
        return Err(refused("looking for a merge request", status, &answer));
    }
    let Value::Array(merges) = answer else {
        anyhow::bail!("looking for a merge request: the host's answer is no list");
    };
    let first = merges.into_iter().next();
    first
        .map(|merge| serde_json::from_value(merge).context("reading the merge request"))
        .transpose()
}
