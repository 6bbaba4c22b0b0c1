//! Branches for pull requests: where a commit goes whose branch refuses pushes, until somebody merges it. It must not know
//! what is committed.
//!
//! # Guarantees
//! The same change has the same branch, however often it is computed and on whatever head: nothing is proposed twice, and no
//! branch is ever moved. That it landed is seen like any other answer, by its trailers or by its content.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::command::Call;
use super::error::{Error, Result};
use super::pulls::{Hosts, Proposal, PullRequest};
use super::repository::{Mirror, Push};
use super::trailers;

/// After so long the branch itself is tried again: its protection may be gone.
const TRY_AGAIN: Duration = Duration::from_secs(300);
/// A pull request that could not be opened is tried again sooner.
const OPEN_AGAIN: Duration = Duration::from_secs(60);

/// The proposals of one branch that this process knows to stand.
#[derive(Debug, Default)]
pub(super) struct Proposals(Mutex<HashMap<String, Standing>>);

#[derive(Debug, Clone)]
struct Standing {
    since: Instant,
    /// The host's, that made it necessary.
    words: String,
    request: PullRequest,
}

impl Standing {
    fn is_known(&self, now: Instant) -> bool {
        let again = match self.request {
            PullRequest::NotOpened(_) => OPEN_AGAIN,
            PullRequest::ByHand | PullRequest::Open(_) | PullRequest::Closed(_) => TRY_AGAIN,
        };
        now.duration_since(self.since) < again
    }
}

impl Proposals {
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// The proposal, if it was made or confirmed a short time ago.
    fn standing(&self, name: &str, now: Instant) -> Option<Standing> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, standing| standing.is_known(now));
        all.get(name).cloned()
    }

    fn remember(&self, name: String, standing: Standing) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(name, standing);
    }
}

impl Mirror {
    /// The error that says that a commit on `head` waits in a pull request, if it does; the host is not asked.
    pub(super) async fn waits_in(&self, proposals: &Proposals, head: &str, sha: &str) -> Result<Option<Error>> {
        if proposals.is_empty() {
            return Ok(None);
        }
        let name = self.proposal(head, sha).await?;
        let standing = proposals.standing(&name, Instant::now());
        Ok(standing.map(|Standing { words, request, .. }| self.proposed(name, words, request)))
    }

    /// Pushes a commit on `head` to a branch of its own, as the branch itself refused it in these words, and opens a pull request
    /// where the host's API is known. The answer is what to say of it.
    pub(super) async fn propose(
        &self,
        (proposals, hosts): (&Proposals, &Hosts),
        head: &str,
        sha: &str,
        words: String,
    ) -> Result<Error> {
        let name = self.proposal(head, sha).await?;
        match self.push_to(sha, &name).await {
            // Rejected: the same change stands there already, computed on another head.
            Ok(Push::Done | Push::Rejected) => {
                let request = self.request(hosts, &name, sha).await?;
                let standing = Standing {
                    since: Instant::now(),
                    words: words.clone(),
                    request: request.clone(),
                };
                proposals.remember(name.clone(), standing);
                Ok(self.proposed(name, words, request))
            }
            // Who may push no branch at all hears what was said of the one that counts.
            Err(Error::Refused { .. }) => Ok(Error::Refused {
                repository: self.repo().name(),
                branch: self.repo().branch.clone(),
                words,
            }),
            Ok(Push::Unknown(error)) | Err(error) => Err(error),
        }
    }

    /// The pull request for a branch: it says what the commit says.
    async fn request(&self, hosts: &Hosts, branch: &str, sha: &str) -> Result<PullRequest> {
        let Some(commit) = self.commit(sha).await? else {
            return Ok(PullRequest::ByHand);
        };
        let (title, body) = commit.message.split_once('\n').unwrap_or((&commit.message, ""));
        let proposal = Proposal {
            branch,
            title,
            body: body.trim(),
        };
        Ok(hosts.open(self.repo(), &proposal).await)
    }

    fn proposed(&self, proposal: String, words: String, request: PullRequest) -> Error {
        Error::Proposed {
            repository: self.repo().name(),
            branch: self.repo().branch.clone(),
            proposal,
            words,
            request: Box::new(request),
        }
    }

    /// The name of the branch for a change: what it does to which rollout, and a sign of its content.
    async fn proposal(&self, head: &str, sha: &str) -> Result<String> {
        let doing = "name a branch for a pull request in";
        let change = self.text(Call::new(doing, ["diff-tree", "-r", head, sha])).await?;
        let sign = self
            .text(Call::new(doing, ["hash-object", "--stdin"]).stdin(change))
            .await?;
        let commit = self.commit(sha).await?;
        let said = commit.and_then(|commit| trailers::read(&commit.message).pop());
        let what = said.map_or_else(
            || "change".to_owned(),
            |said| format!("{}-{}-{}", said.action.as_str(), said.rollout, said.revision),
        );
        let plain: String = what
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .take(120)
            .collect();
        Ok(format!("serin/{plain}-{}", sign.get(..8).unwrap_or("0")))
    }
}
