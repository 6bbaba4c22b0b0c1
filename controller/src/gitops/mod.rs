//! The config repository: find a canary's commit, roll it back, promote it, push; and the write of `serin revision create`.
//!
//! It must not know Kubernetes, nor why something is rolled back: whoever calls maps resources to [`RepoSpec`] and
//! [`Subject`] and outcomes to conditions. All of it works on bare mirrors through the git program; no work tree exists.

mod command;
mod create;
mod credentials;
mod error;
mod fault;
mod fetch;
mod fields;
mod find;
#[doc(hidden)]
pub mod fuzz;
mod graph;
mod history;
mod housekeeping;
mod kustomize;
mod later;
mod layout;
mod lists;
mod objects;
mod promote;
mod proposal;
mod pulls;
mod queue;
mod repository;
mod rollback;
mod signing;
mod spec;
mod trailers;
mod values;
mod words;
mod writer;
mod yaml;

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::metrics::{DONE, GitOperation, Metrics};

pub use command::Git;
pub use create::{CreateRequest, Created};
pub use credentials::{ApiToken, Credentials, Hand, SigningKey};
pub use error::{Error, ErrorKind, ROLLBACK_BLOCKED, Result};
pub use fault::Fault;
pub use find::{Answer, CanaryCommit, LogEntry};
pub use housekeeping::Housekeeping;
pub use layout::Layout;
pub use objects::Commit;
pub use promote::{PromoteOutcome, PromoteRequest};
pub use pulls::{AppKey, Host, HostKind, Hosts, PullRequest};
pub use queue::Pace;
pub use repository::Mirror;
pub use rollback::{RollbackOutcome, RollbackRequest};
pub use spec::{Identity, RepoSpec, Subject, place};
pub use trailers::{Action, Message, Trailers};
pub use values::Values;
pub use yaml::{KeyPath, Yaml, YamlError};

/// Asked right before each push: may this process still write?
pub type Fence = Arc<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>;

/// What Git says about a rollout at the branch's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestState {
    pub head: String,
    /// Whether the canary's subtree equals stable's.
    pub at_rest: bool,
    pub stable_revision: Option<String>,
    pub canary_revision: Option<String>,
}

/// What Git says about one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// Whether the canary's subtree equals stable's.
    pub at_rest: bool,
    /// The commit that brought it, if the branch has one.
    pub brought_by: Option<CanaryCommit>,
    /// Every promotion and rollback of the rollout, newest first.
    pub answers: Vec<Answer>,
}

/// What a write would come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview<T> {
    /// Its outcome; a commit that it names is in the mirror only.
    pub outcome: T,
    /// The change of the arms' files as a unified diff; none where nothing would be committed.
    pub diff: Option<String>,
}

/// All repositories of one process. Clones share mirrors, locks and queues.
#[derive(Clone)]
pub struct GitOps {
    git: Git,
    cache: PathBuf,
    identity: Identity,
    fence: Option<Fence>,
    write_deadline: Duration,
    pace: Pace,
    patience: Duration,
    ready: Duration,
    hosts: Hosts,
    housekeeping: Housekeeping,
    metrics: Metrics,
    branches: Arc<queue::PerPair<Arc<Branch>>>,
    /// By host and path, whatever way leads there.
    pushes: Arc<queue::PerPair<Arc<queue::Pushes>>>,
}

impl fmt::Debug for GitOps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitOps")
            .field("cache", &self.cache)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// What one branch has of its own, so that a host that hangs holds up no other.
#[derive(Debug, Default)]
struct Branch {
    queue: queue::Queue<writer::Job>,
    progress: queue::Progress,
    on_the_line: queue::OnTheLine,
    proposals: proposal::Proposals,
    /// Whoever fetches is in it.
    house: housekeeping::House<fetch::Line>,
}

impl GitOps {
    /// Mirrors are kept below `cache` and survive restarts.
    pub fn new(cache: impl AsRef<Path>, identity: Identity) -> Self {
        let cache = cache.as_ref().to_owned();
        Self {
            git: Git::new("git", cache.join("home")),
            cache,
            identity,
            fence: None,
            write_deadline: Duration::from_secs(150),
            pace: Pace::default(),
            patience: Duration::from_secs(3),
            ready: Duration::from_secs(10),
            hosts: Hosts::default(),
            housekeeping: Housekeeping::default(),
            metrics: Metrics::default(),
            branches: Arc::default(),
            pushes: Arc::default(),
        }
    }

    /// Uses this git program, with its own deadlines.
    #[must_use]
    pub fn with_git(mut self, git: Git) -> Self {
        self.git = git;
        self
    }

    #[must_use]
    pub fn with_fence(mut self, fence: Fence) -> Self {
        self.fence = Some(fence);
        self
    }

    /// How long a write waits for its end while nothing at all lands on its branch.
    #[must_use]
    pub fn with_write_deadline(mut self, deadline: Duration) -> Self {
        self.write_deadline = deadline;
        self
    }

    /// How often promotions and canaries are pushed.
    #[must_use]
    pub fn with_pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// How long a rollback waits for a promotion under way before that is cut. For another rollback's call to the host it
    /// waits four times as long.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How long commits that are ready wait for others that are still computed for the same push.
    #[must_use]
    pub fn with_ready(mut self, ready: Duration) -> Self {
        self.ready = ready;
        self
    }

    /// The hosts whose APIs may be spoken to.
    #[must_use]
    pub fn with_hosts(mut self, hosts: Hosts) -> Self {
        self.hosts = hosts;
        self
    }

    /// When mirrors are tidied up.
    #[must_use]
    pub fn with_housekeeping(mut self, housekeeping: Housekeeping) -> Self {
        self.housekeeping = housekeeping;
        self
    }

    /// Counts what is done there.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = metrics;
        self
    }

    /// How many writes wait for all branches together: rollbacks, and others.
    pub fn waiting(&self) -> [usize; 2] {
        self.branches.fold([0, 0], |[rollbacks, others], branch| {
            let [more_rollbacks, more_others] = branch.queue.depth();
            [rollbacks + more_rollbacks, others + more_others]
        })
    }

    /// The credentials of a GitHub App at this moment.
    pub async fn log_in(&self, repo: &RepoSpec, key: &AppKey, now: jiff::Timestamp) -> Result<Credentials> {
        self.hosts.log_in(repo, key, now).await
    }

    fn branch(&self, repo: &RepoSpec) -> Arc<Branch> {
        self.branches.of(&repo.url, &repo.branch)
    }

    /// Those of all branches of a repository: the host counts them together.
    fn pushes(&self, repo: &RepoSpec) -> Arc<queue::Pushes> {
        let (host, path) = place(&repo.url);
        self.pushes.of(&host, &path)
    }

    /// The branch's head, after a fetch.
    pub async fn head(&self, repo: &RepoSpec) -> Result<String> {
        Ok(self.fetched(repo).await?.1)
    }

    /// The commit that brought a canary revision; without a revision, the canary that stands in the head.
    pub async fn find_canary(
        &self,
        repo: &RepoSpec,
        subject: &Subject,
        revision: Option<&str>,
    ) -> Result<Option<CanaryCommit>> {
        subject.check()?;
        let (mirror, head) = self.fetched(repo).await?;
        find::canary(&mirror, &head, subject, revision).await
    }

    /// All that Git says about a revision, at one head and after one fetch: where it comes from, whether Git is at rest, and
    /// what was answered to earlier revisions.
    pub async fn look(&self, repo: &RepoSpec, subject: &Subject, revision: &str) -> Result<Sight> {
        subject.check()?;
        let (mirror, head) = self.fetched(repo).await?;
        let arms = layout::Arms::at(&mirror, &head, subject).await?;
        arms.check_name(&mirror, subject)?;
        Ok(Sight {
            at_rest: arms.at_rest(),
            brought_by: find::canary(&mirror, &head, subject, Some(revision)).await?,
            answers: find::answers(&mirror, &head, subject).await?,
        })
    }

    /// Whether Git is at rest, and which revisions stand in it.
    pub async fn rest_state(&self, repo: &RepoSpec, subject: &Subject) -> Result<RestState> {
        subject.check()?;
        let (mirror, head) = self.fetched_for(repo, fetch::Need::Commit).await?;
        let arms = layout::Arms::at(&mirror, &head, subject).await?;
        Ok(RestState {
            head,
            at_rest: arms.at_rest(),
            stable_revision: arms.stable.revision.clone(),
            canary_revision: arms.canary.revision.clone(),
        })
    }

    /// The full id of a commit of the branch, and the name that it gives the canary: its `revision`, or its image's tag.
    pub async fn canary_of(
        &self,
        repo: &RepoSpec,
        subject: &Subject,
        commit: &str,
    ) -> Result<Option<(String, String)>> {
        subject.check()?;
        let (mirror, head) = self.fetched_for(repo, fetch::Need::Commit).await?;
        let Some(sha) = mirror.resolve(commit).await? else {
            return Ok(None);
        };
        if !mirror.is_ancestor(&sha, &head).await? {
            return Ok(None);
        }
        let arms = layout::Arms::once(&mirror, &sha, subject).await?;
        Ok(arms.and_then(|arms| arms.canary.revision).map(|name| (sha, name)))
    }

    /// Every promotion and rollback of this rollout that Git remembers, newest first.
    pub async fn answered(&self, repo: &RepoSpec, subject: &Subject) -> Result<Vec<Answer>> {
        subject.check()?;
        let (mirror, head) = self.fetched(repo).await?;
        find::answers(&mirror, &head, subject).await
    }

    /// Whether the commit that a cluster says it runs contains ours.
    pub async fn applied(&self, repo: &RepoSpec, ours: &str, synced: &str) -> Result<bool> {
        if ours == synced {
            return Ok(true);
        }
        let mirror = Mirror::new(self.git.clone(), &self.cache, repo.clone())?;
        let is_known = mirror.known_head().await?.is_some() && mirror.resolve(synced).await?.is_some();
        let mirror = if is_known { mirror } else { self.fetched(repo).await?.0 };
        mirror.is_ancestor(ours, synced).await
    }

    /// When a commit was made, as it says itself; none where the mirror does not have it.
    pub async fn committed_at(&self, repo: &RepoSpec, sha: &str) -> Result<Option<jiff::Timestamp>> {
        let mirror = Mirror::new(self.git.clone(), &self.cache, repo.clone())?;
        Ok(mirror.commit(sha).await?.map(|commit| commit.time))
    }

    /// Every commit with Serin's trailers of this rollout, canaries too, newest first.
    pub async fn log(&self, repo: &RepoSpec, subject: &Subject, limit: usize) -> Result<Vec<LogEntry>> {
        subject.check()?;
        let (mirror, head) = self.fetched(repo).await?;
        find::log(&mirror, &head, subject, limit).await
    }

    /// What [`Self::roll_back`] would do now; nothing is pushed.
    pub async fn preview_rollback(
        &self,
        repo: &RepoSpec,
        request: &RollbackRequest,
    ) -> Result<Preview<RollbackOutcome>> {
        request.subject.check()?;
        self.preview(repo, &request.subject, request).await
    }

    /// What [`Self::promote`] would do now; nothing is pushed.
    pub async fn preview_promotion(
        &self,
        repo: &RepoSpec,
        request: &PromoteRequest,
    ) -> Result<Preview<PromoteOutcome>> {
        request.subject.check()?;
        self.preview(repo, &request.subject, request).await
    }

    /// What [`Self::create_canary`] would do now; nothing is pushed.
    pub async fn preview_canary(&self, repo: &RepoSpec, request: &CreateRequest) -> Result<Preview<Created>> {
        request.check()?;
        self.preview(repo, &request.subject, request).await
    }

    /// Returns the rollout to its rest state with one commit.
    pub async fn roll_back(&self, repo: &RepoSpec, request: &RollbackRequest) -> Result<RollbackOutcome> {
        request.subject.check()?;
        self.counted(GitOperation::RollBack, self.write(repo, request)).await
    }

    /// Makes the canary's subtree stable's with one commit.
    pub async fn promote(&self, repo: &RepoSpec, request: &PromoteRequest) -> Result<PromoteOutcome> {
        request.subject.check()?;
        self.counted(GitOperation::Promote, self.write(repo, request)).await
    }

    /// Commits a canary revision.
    pub async fn create_canary(&self, repo: &RepoSpec, request: &CreateRequest) -> Result<Created> {
        request.check()?;
        self.counted(GitOperation::Create, self.write(repo, request)).await
    }

    async fn counted<T>(&self, operation: GitOperation, work: impl Future<Output = Result<T>>) -> Result<T> {
        let outcome = |done: &Result<T>| done.as_ref().map_or_else(Error::reason, |_| DONE);
        self.metrics.git_during(operation, work, outcome).await
    }
}
