//! A mirror as new as its host: those who ask at once share one fetch, and its failure too. It must not know what is looked for.

use std::sync::Arc;

use tokio::time::Instant;

use super::error::{Error, Result};
use super::repository::Mirror;
use super::spec::RepoSpec;
use super::{GitOps, housekeeping};
use crate::metrics::GitOperation;

/// What a mirror is brought up to date for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Look,
    /// One is about to be made: nothing may be in its way.
    Commit,
}

/// The last fetches of a branch: when they began, and what came of them.
#[derive(Debug, Default)]
pub(super) struct Line {
    found: Option<(Instant, String)>,
    failed: Option<(Instant, RepoSpec, Arc<Error>)>,
}

impl GitOps {
    /// The mirror, as new as this call.
    pub(super) async fn fetched(&self, repo: &RepoSpec) -> Result<(Mirror, String)> {
        self.fetched_for(repo, Need::Look).await
    }

    pub(super) async fn fetched_for(&self, repo: &RepoSpec, need: Need) -> Result<(Mirror, String)> {
        let mirror = Mirror::new(self.git.clone(), &self.cache, repo.clone())?;
        let asked = Instant::now();
        let branch = self.branch(repo);
        let mut last = match need {
            Need::Look => branch.house.visit(self.housekeeping.patience).await,
            Need::Commit => branch.house.enter().await,
        };
        // Whoever waited here while somebody else's fetch began and ended has its answer.
        if let Some((began, head)) = &last.found
            && *began > asked
        {
            return Ok((mirror, head.clone()));
        }
        // A host that is gone is not asked by each of those who wait, unless they come by another hand.
        if let Some((began, theirs, error)) = &last.failed
            && *began > asked
            && theirs.is_same_hand(repo)
        {
            return Err(Error::Shared(error.clone()));
        }
        let began = Instant::now();
        let is_first = last.found.is_none();
        match self.counted(GitOperation::Fetch, self.fetch(&mirror, is_first)).await {
            Ok(head) => {
                if last.found.as_ref().is_none_or(|(_, known)| *known != head)
                    && let Err(error) = mirror.keep_graph(&head).await
                {
                    tracing::warn!(repository = repo.name(), %error, "walks along this history take longer");
                }
                last.found = Some((began, head.clone()));
                drop(last);
                housekeeping::keep(&branch, &mirror, self.housekeeping);
                Ok((mirror, head))
            }
            Err(error) => {
                let error = Arc::new(error);
                last.failed = Some((began, repo.clone(), error.clone()));
                Err(Error::Shared(error))
            }
        }
    }

    async fn fetch(&self, mirror: &Mirror, is_first: bool) -> Result<String> {
        let head = mirror.fetch().await?;
        // Once a process: what an earlier one left may have been damaged meanwhile.
        if is_first && let Err(Error::Damaged { .. }) = mirror.check_history(&head).await {
            return mirror.fetch().await;
        }
        Ok(head)
    }
}
