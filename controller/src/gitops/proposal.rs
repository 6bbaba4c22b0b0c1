//! Branches for pull requests: where a commit goes whose branch refuses pushes, until somebody merges it. It must not know hosts'
//! own APIs, nor what is committed.
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
use super::repository::{Mirror, Push};
use super::trailers;

/// After so long the branch itself is tried again: its protection may be gone.
const TRY_AGAIN: Duration = Duration::from_secs(300);

/// The proposals of one branch that this process knows to stand, with the host's words that made them necessary.
#[derive(Debug, Default)]
pub(super) struct Proposals(Mutex<HashMap<String, (Instant, String)>>);

impl Proposals {
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// The host's words, if the proposal was made or confirmed a short time ago.
    fn standing(&self, name: &str, now: Instant) -> Option<String> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (since, _)| now.duration_since(*since) < TRY_AGAIN);
        all.get(name).map(|(_, words)| words.clone())
    }

    fn remember(&self, name: String, words: String, now: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(name, (now, words));
    }
}

impl Mirror {
    /// The error that says that a commit on `head` waits in a pull request, if it does; the host is not asked.
    pub(super) async fn waits_in(&self, proposals: &Proposals, head: &str, sha: &str) -> Result<Option<Error>> {
        if proposals.is_empty() {
            return Ok(None);
        }
        let name = self.proposal(head, sha).await?;
        let words = proposals.standing(&name, Instant::now());
        Ok(words.map(|words| self.proposed(name, words)))
    }

    /// Pushes a commit on `head` to a branch of its own, as the branch itself refused it in these words. The answer is what to
    /// say of it.
    pub(super) async fn propose(&self, proposals: &Proposals, head: &str, sha: &str, words: String) -> Result<Error> {
        let name = self.proposal(head, sha).await?;
        match self.push_to(sha, &name).await {
            // Rejected: the same change stands there already, computed on another head.
            Ok(Push::Done | Push::Rejected) => {
                proposals.remember(name.clone(), words.clone(), Instant::now());
                Ok(self.proposed(name, words))
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

    fn proposed(&self, proposal: String, words: String) -> Error {
        Error::Proposed {
            repository: self.repo().name(),
            branch: self.repo().branch.clone(),
            proposal,
            words,
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
