//! Brings a computed commit onto the branch: forward or not at all, computed again from each new head.
//!
//! # Guarantees
//! Never a forced push. A push whose end nobody knows is followed by a look at the branch before anything is tried again.
//! The fence (is this process still the leader?) is asked right before each push.

use std::future::Future;
use std::time::Duration;

use rand::Rng as _;

use super::create::{self, CreateRequest, Created};
use super::error::{Error, Result};
use super::promote::{self, PromoteOutcome, PromoteRequest};
use super::queue::Priority;
use super::repository::{Mirror, Push};
use super::rollback::{self, RollbackOutcome, RollbackRequest};
use super::spec::{Identity, RepoSpec, Subject};
use super::{GitOps, Preview};

/// As many writers may race on one branch as there are rollouts; each lost race means that somebody else's push landed.
const MAX_TRIES: u32 = 40;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// What a computation on a head came to.
#[derive(Debug)]
pub(super) enum Step<T> {
    /// Nothing needs to be pushed.
    Settled(T),
    /// This commit must land; then that is the outcome.
    Commit { sha: String, done: T },
}

/// Something to be brought onto a branch.
pub(super) trait Write: Sync {
    type Outcome: Send;
    const PRIORITY: Priority;
    fn compute(
        &self,
        mirror: &Mirror,
        head: &str,
        identity: &Identity,
    ) -> impl Future<Output = Result<Step<Self::Outcome>>> + Send;
}

impl Write for RollbackRequest {
    type Outcome = RollbackOutcome;
    const PRIORITY: Priority = Priority::Rollback;
    fn compute(
        &self,
        mirror: &Mirror,
        head: &str,
        identity: &Identity,
    ) -> impl Future<Output = Result<Step<RollbackOutcome>>> + Send {
        rollback::compute(mirror, head, self, identity)
    }
}

impl Write for PromoteRequest {
    type Outcome = PromoteOutcome;
    const PRIORITY: Priority = Priority::Other;
    fn compute(
        &self,
        mirror: &Mirror,
        head: &str,
        identity: &Identity,
    ) -> impl Future<Output = Result<Step<PromoteOutcome>>> + Send {
        promote::compute(mirror, head, self, identity)
    }
}

impl Write for CreateRequest {
    type Outcome = Created;
    const PRIORITY: Priority = Priority::Other;
    fn compute(
        &self,
        mirror: &Mirror,
        head: &str,
        identity: &Identity,
    ) -> impl Future<Output = Result<Step<Created>>> + Send {
        create::compute(mirror, head, self, identity)
    }
}

impl GitOps {
    /// Computes a write on the branch's head and pushes nothing.
    pub(super) async fn preview<W: Write>(
        &self,
        repo: &RepoSpec,
        subject: &Subject,
        write: &W,
    ) -> Result<Preview<W::Outcome>> {
        let (mirror, head) = self.fetched(repo).await?;
        Ok(match write.compute(&mirror, &head, &self.identity).await? {
            Step::Settled(outcome) => Preview { outcome, diff: None },
            Step::Commit { sha, done } => Preview {
                outcome: done,
                diff: Some(mirror.diff(&head, &sha, &subject.file_path()).await?),
            },
        })
    }

    pub(super) async fn write<W: Write>(&self, repo: &RepoSpec, write: &W) -> Result<W::Outcome> {
        let limit = self.write_deadline;
        let all = async {
            let _turn = self.branch(repo).queue.turn(W::PRIORITY).await;
            self.write_in_turn(repo, write).await
        };
        tokio::time::timeout(limit, all).await.unwrap_or_else(|_| {
            Err(Error::TimedOut {
                doing: "the whole write".into(),
                repository: repo.name(),
                seconds: limit.as_secs(),
            })
        })
    }

    async fn write_in_turn<W: Write>(&self, repo: &RepoSpec, write: &W) -> Result<W::Outcome> {
        let mut unknown: Option<(String, W::Outcome, Error)> = None;
        for tries in 0..MAX_TRIES {
            let (mirror, head) = self.fetched(repo).await?;
            if let Some((sha, done, error)) = unknown.take() {
                if mirror.is_ancestor(&sha, &head).await? {
                    return Ok(done);
                }
                if tries >= 3 {
                    return Err(error);
                }
            }
            let (sha, done) = match write.compute(&mirror, &head, &self.identity).await {
                Ok(Step::Settled(outcome)) => return Ok(outcome),
                Ok(Step::Commit { sha, done }) => (sha, done),
                // The next fetch repairs the mirror.
                Err(Error::Damaged { .. }) if tries < 2 => continue,
                Err(error) => return Err(error),
            };
            if let Some(fence) = &self.fence
                && !fence().await
            {
                return Err(Error::NotLeader {
                    repository: repo.name(),
                });
            }
            match mirror.push(&sha).await? {
                Push::Done => return Ok(done),
                Push::Rejected => tracing::debug!(repository = repo.name(), tries, "somebody else pushed first"),
                Push::Unknown(error) => {
                    tracing::warn!(repository = repo.name(), %error, "the end of a push is unknown; looking at the branch");
                    unknown = Some((sha, done, error));
                }
            }
            tokio::time::sleep(pause(tries)).await;
        }
        Err(Error::Contended {
            repository: repo.name(),
            branch: repo.branch.clone(),
            tries: MAX_TRIES,
        })
    }
}

/// Longer after each try, and never the same for two that collide.
fn pause(tries: u32) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(1 << tries.min(5)).min(LONGEST_PAUSE);
    longest.mul_f64(rand::rng().random_range(0.2..1.0))
}
