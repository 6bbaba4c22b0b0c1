//! Brings computed commits onto the branch: forward or not at all, computed again from each new head; those that wait together
//! go in one push.
//!
//! # Guarantees
//! Never a forced push. A push whose end nobody knows is followed by a look at the branch before anything is tried again.
//! Nobody is told of a commit before it stands on the branch. The fence (is this process still the leader?) is asked right
//! before each push. Commits that are ready do not wait long for others. A rollback waits a short time only behind a push that
//! hangs, and only if it is for the same branch: the push is cut and goes behind it, and what became of it is looked up.

mod job;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use tokio::time::Instant;

pub(super) use self::job::Job;
use self::job::{Computed, Cut, landed_before, mark, tell};
use super::create::{self, CreateRequest, Created};
use super::error::{Error, ErrorKind, Result};
use super::fetch::Need;
use super::promote::{self, PromoteOutcome, PromoteRequest};
use super::queue::{Priority, Pushes};
use super::repository::{Mirror, Push};
use super::rollback::{self, RollbackOutcome, RollbackRequest};
use super::spec::{Identity, RepoSpec, Subject};
use super::{Branch, GitOps, Preview};
use crate::metrics::GitOperation;

/// As many writers may race on one branch as there are rollouts; each lost race means that somebody else's push landed.
const MAX_TRIES: u32 = 40;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// Another rollback is not cut as soon as a promotion is: its push may be slow only, and it is as urgent.
const FOR_A_ROLLBACK: u32 = 4;

/// What a computation on a head came to.
#[derive(Debug)]
pub(super) enum Step<T> {
    /// Nothing needs to be pushed.
    Settled(T),
    /// This commit must land; then that is the outcome.
    Commit { sha: String, done: T },
}

/// Something to be brought onto a branch.
pub(super) trait Write: Clone + Send + Sync + 'static {
    type Outcome: Send + 'static;
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

/// While somebody works on a branch's queue; when that ends early, those who wait are not left alone.
struct Driver(Option<Arc<Branch>>);

impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(branch) = &self.0 {
            branch.queue.abandon();
        }
    }
}

impl GitOps {
    /// Who stands in commits to a repository.
    fn author<'a>(&'a self, repo: &'a RepoSpec) -> &'a Identity {
        repo.hand.author.as_ref().unwrap_or(&self.identity)
    }

    /// Computes a write on the branch's head and pushes nothing.
    pub(super) async fn preview<W: Write>(
        &self,
        repo: &RepoSpec,
        subject: &Subject,
        write: &W,
    ) -> Result<Preview<W::Outcome>> {
        let (mirror, head) = self.fetched(repo).await?;
        Ok(match write.compute(&mirror, &head, self.author(repo)).await? {
            Step::Settled(outcome) => Preview { outcome, diff: None },
            Step::Commit { sha, done } => Preview {
                outcome: done,
                diff: Some(mirror.diff(&head, &sha, &subject.files()).await?),
            },
        })
    }

    /// Queues a write and waits for its end. The work is a task of its own, so that one who gives up holds up nobody.
    ///
    /// The deadline counts from the last landing on the branch: with many that wait, each has all of it.
    pub(super) async fn write<W: Write>(&self, repo: &RepoSpec, write: &W) -> Result<W::Outcome> {
        repo.check()?;
        let (limit, branch) = (self.write_deadline, self.branch(repo));
        let (job, answer) = Job::new(repo, write);
        if branch.queue.push(W::PRIORITY, job) {
            tokio::spawn(self.clone().drive(branch.clone(), self.pushes(repo)));
        }
        let (begun, mut answer) = (Instant::now(), std::pin::pin!(answer));
        loop {
            let until = branch.progress.since(begun) + limit;
            match tokio::time::timeout_at(until, &mut answer).await {
                Ok(Ok(answer)) => return answer,
                Ok(Err(_)) => {
                    return Err(Error::Interrupted {
                        repository: repo.name(),
                    });
                }
                Err(_) if branch.progress.since(begun) + limit > until => {}
                Err(_) => {
                    return Err(Error::TimedOut {
                        doing: "the whole write".into(),
                        repository: repo.name(),
                        seconds: limit.as_secs(),
                    });
                }
            }
        }
    }

    async fn drive(self, branch: Arc<Branch>, pushes: Arc<Pushes>) {
        let mut driver = Driver(Some(branch.clone()));
        loop {
            if branch.queue.may_wait() {
                let until = pushes.next(self.pace, Instant::now());
                tokio::select! {
                    () = tokio::time::sleep_until(until) => {}
                    () = branch.queue.rollback(|_| true) => {}
                }
            }
            let jobs = branch.queue.take(Job::may_go_with);
            if jobs.is_empty() {
                driver.0 = None;
                return;
            }
            self.settle(&branch, jobs).await;
        }
    }

    async fn settle(&self, branch: &Branch, mut jobs: Vec<Job>) {
        let Err(error) = self.land_or_give_way(branch, &mut jobs).await else {
            return;
        };
        if let [job] = jobs.as_mut_slice() {
            job.work.fail(error);
            return;
        }
        let is_refused = error.kind() == ErrorKind::Refused;
        let error = Arc::new(error);
        for mut job in jobs {
            // What the host does not let one of them write must not hold up the others.
            if is_refused {
                let mut alone = vec![job];
                let result = self.land_or_give_way(branch, &mut alone).await;
                if let (Err(error), Some(job)) = (result, alone.first_mut()) {
                    job.work.fail(error);
                }
            } else {
                job.work.fail(Error::Shared(error.clone()));
            }
        }
    }

    /// Lands jobs; those that hang while a rollback waits go back to the queue behind it. A rollback has longer each time, until
    /// the deadline of the call comes first: where every push is slow, all land.
    ///
    /// Cutting a call is like a process that dies in it: git is ended with its helpers, the mirror repairs itself, and what
    /// became of a push is looked up on the branch before its commit is made again.
    async fn land_or_give_way(&self, branch: &Branch, jobs: &mut Vec<Job>) -> Result<()> {
        let has_rollback = jobs.iter().any(|job| job.priority == Priority::Rollback);
        let cuts = jobs.iter().map(Job::cuts).max().unwrap_or_default();
        let for_a_rollback = self.patience * FOR_A_ROLLBACK.saturating_mul(1 << cuts.min(8));
        let way = async {
            // What was cut more often waits: else two that hang would cut each other, and one that does not hang.
            branch.queue.rollback(|job| !has_rollback || job.cuts() <= cuts).await;
            if has_rollback {
                branch.on_the_line.longer_than(for_a_rollback).await;
            } else {
                tokio::time::sleep(self.patience).await;
            }
        };
        let landed = tokio::select! {
            landed = self.land(branch, jobs) => Some(landed),
            () = way => None,
        };
        if let Some(landed) = landed {
            return landed;
        }
        let all = jobs.drain(..);
        if let Some(job) = all.as_slice().first() {
            tracing::warn!(
                repository = job.repo.name(),
                "a push or a fetch hangs, and a rollback waits: it is stopped and made again after the rollback"
            );
        }
        let cut = Some(Cut {
            times: cuts.saturating_add(1),
            at: Instant::now(),
        });
        let (rollbacks, others): (Vec<_>, Vec<_>) = all.partition(|job| job.priority == Priority::Rollback);
        for mut job in rollbacks {
            job.cut = cut;
            branch.queue.put_behind(job);
        }
        for mut job in others.into_iter().rev() {
            job.cut = cut;
            branch.queue.put_back(Priority::Other, job);
        }
        Ok(())
    }

    /// Brings all of these onto the branch with one push, each computed on the one before it.
    ///
    /// What one of them comes to may rest on the commit of another, so nothing is told before the push has landed.
    async fn land(&self, branch: &Branch, jobs: &mut Vec<Job>) -> Result<()> {
        for tries in 0..MAX_TRIES {
            let Some(repo) = jobs.first().map(|job| job.repo.clone()) else {
                return Ok(());
            };
            let (mirror, head) = branch.on_the_line.during(self.fetched_for(&repo, Need::Commit)).await?;
            landed_before(&mirror, &head, jobs).await?;
            if tries >= 3
                && let Some((_, error)) = jobs.iter_mut().find_map(|job| job.unknown.take())
            {
                return Err(Error::Shared(error));
            }
            jobs.retain(|job| job.work.is_wanted());
            let (begun, mut tip, mut is_damaged) = (Instant::now(), head.clone(), false);
            let mut computed = 0;
            for job in jobs.iter_mut() {
                match job.work.compute(&mirror, &tip, self.author(&repo)).await {
                    Computed::Commit(sha) => tip = sha,
                    Computed::Settled => {}
                    Computed::Damaged => is_damaged = true,
                }
                computed += 1;
                if begun.elapsed() >= self.ready {
                    break;
                }
            }
            // The others go on as soon as these have landed.
            for job in jobs.split_off(computed).into_iter().rev() {
                branch.queue.put_back(job.priority, job);
            }
            if is_damaged && tries < 2 {
                // The next fetch repairs the mirror.
                continue;
            }
            if tip == head {
                branch.progress.mark(Instant::now());
                tell(jobs);
                return Ok(());
            }
            let is_alone = jobs.len() == 1;
            if is_alone && let Some(waits) = mirror.waits_in(&branch.proposals, &head, &tip).await? {
                return Err(waits);
            }
            if let Some(fence) = &self.fence
                && !fence().await
            {
                return Err(Error::NotLeader {
                    repository: repo.name(),
                });
            }
            // From here on nobody knows, until the host answers or the branch was looked at.
            let interrupted = Arc::new(Error::Interrupted {
                repository: repo.name(),
            });
            mark(jobs, Some(&(tip.clone(), interrupted)));
            let push = branch.on_the_line.during(mirror.push(&tip));
            let pushed = self.metrics.git_during(GitOperation::Push, push, Push::word).await;
            match pushed {
                Ok(Push::Done) => {
                    self.pushes(&repo).count(Instant::now());
                    branch.progress.mark(Instant::now());
                    tell(jobs);
                    return Ok(());
                }
                Ok(Push::Rejected) => {
                    mark(jobs, None);
                    tracing::debug!(repository = repo.name(), tries, "somebody else pushed first");
                }
                Ok(Push::Unknown(error)) => {
                    tracing::warn!(repository = repo.name(), %error, "the end of a push is unknown; looking at the branch");
                    mark(jobs, Some(&(tip, Arc::new(error))));
                }
                Err(Error::Damaged { .. }) if tries < 2 => mark(jobs, None),
                // What several came to together is for each of them alone.
                Err(Error::Refused { words, .. }) if is_alone => {
                    self.pushes(&repo).count(Instant::now());
                    let known = (&branch.proposals, &self.hosts);
                    return Err(branch
                        .on_the_line
                        .during(mirror.propose(known, &head, &tip, words))
                        .await?);
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(pause(tries)).await;
        }
        let (repository, branch) = jobs
            .first()
            .map(|job| (job.repo.name(), job.repo.branch.clone()))
            .unwrap_or_default();
        Err(Error::Contended {
            repository,
            branch,
            tries: MAX_TRIES,
        })
    }
}

/// Longer after each try, and never the same for two that collide.
fn pause(tries: u32) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(1 << tries.min(5)).min(LONGEST_PAUSE);
    longest.mul_f64(rand::rng().random_range(0.2..1.0))
}
