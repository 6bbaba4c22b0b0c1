//! What waits to be written: a write of any kind, and what is known of its push. It must not know when its turn comes.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Step, Write};
use crate::gitops::error::{Error, Result};
use crate::gitops::queue::Priority;
use crate::gitops::repository::Mirror;
use crate::gitops::spec::{Identity, RepoSpec};

/// A write that waits; all of a branch's with the same credentials go in one push.
pub(in crate::gitops) struct Job {
    pub(super) repo: RepoSpec,
    pub(super) work: Box<dyn Work>,
    pub(super) priority: Priority,
    /// The tip of a push of it whose end nobody knows yet, and why not.
    pub(super) unknown: Option<(String, Arc<Error>)>,
    /// Its call to the host hung while a rollback waited.
    pub(super) cut: Option<Cut>,
}

/// How often a job was cut, and when it was last: those that were cut together stay together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) times: u32,
    pub(super) at: Instant,
}

impl Job {
    /// A write to a repository, and where its end is told.
    pub(super) fn new<W: Write>(repo: &RepoSpec, write: &W) -> (Self, oneshot::Receiver<Result<W::Outcome>>) {
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting {
            write: write.clone(),
            answer: None,
            reply: Some(reply),
        };
        let job = Self {
            repo: repo.clone(),
            work: Box::new(waiting),
            priority: W::PRIORITY,
            unknown: None,
            cut: None,
        };
        (job, answer)
    }

    pub(super) fn cuts(&self) -> u32 {
        self.cut.map_or(0, |cut| cut.times)
    }

    /// One rollout's token must not push another's commit, nor a push that hangs take a rollback along.
    pub(super) fn may_go_with(&self, other: &Self) -> bool {
        self.repo.is_same_hand(&other.repo) && self.cut == other.cut
    }
}

/// A write, whatever its outcome is.
pub(super) trait Work: Send {
    fn compute<'a>(&'a mut self, mirror: &'a Mirror, head: &'a str, identity: &'a Identity) -> BoxFuture<'a, Computed>;
    /// Hands over what was computed last: it stands on the branch, or needs no commit.
    fn tell(&mut self);
    fn fail(&mut self, error: Error);
    fn is_wanted(&self) -> bool;
}

pub(super) enum Computed {
    Commit(String),
    Settled,
    Damaged,
}

struct Waiting<W: Write> {
    write: W,
    answer: Option<Result<W::Outcome>>,
    reply: Option<oneshot::Sender<Result<W::Outcome>>>,
}

impl<W: Write> Work for Waiting<W> {
    fn compute<'a>(&'a mut self, mirror: &'a Mirror, head: &'a str, identity: &'a Identity) -> BoxFuture<'a, Computed> {
        Box::pin(async move {
            let (answer, computed) = match self.write.compute(mirror, head, identity).await {
                Ok(Step::Settled(outcome)) => (Ok(outcome), Computed::Settled),
                Ok(Step::Commit { sha, done }) => (Ok(done), Computed::Commit(sha)),
                Err(error @ Error::Damaged { .. }) => (Err(error), Computed::Damaged),
                Err(error) => (Err(error), Computed::Settled),
            };
            self.answer = Some(answer);
            computed
        })
    }

    fn tell(&mut self) {
        if let (Some(reply), Some(answer)) = (self.reply.take(), self.answer.take()) {
            // Whoever gave up waiting finds the commit by its trailers.
            drop(reply.send(answer));
        }
    }

    fn fail(&mut self, error: Error) {
        self.answer = Some(Err(error));
        self.tell();
    }

    fn is_wanted(&self) -> bool {
        self.reply.as_ref().is_some_and(|reply| !reply.is_closed())
    }
}

pub(super) fn mark(jobs: &mut [Job], unknown: Option<&(String, Arc<Error>)>) {
    for job in jobs {
        job.unknown = unknown.cloned();
    }
}

/// Tells the jobs whose push had landed after all, although nobody knew.
pub(super) async fn landed_before(mirror: &Mirror, head: &str, jobs: &mut Vec<Job>) -> Result<()> {
    let mut looked: Option<(String, bool)> = None;
    for at in (0..jobs.len()).rev() {
        let Some((tip, _)) = jobs.get(at).and_then(|job| job.unknown.as_ref()) else {
            continue;
        };
        // Those that went together have the same tip.
        let has_landed = match &looked {
            Some((same, has_landed)) if same == tip => *has_landed,
            _ => mirror.is_ancestor(tip, head).await?,
        };
        looked = Some((tip.clone(), has_landed));
        if has_landed {
            jobs.remove(at).work.tell();
        }
    }
    Ok(())
}

pub(super) fn tell(jobs: &mut [Job]) {
    for job in jobs {
        job.work.tell();
    }
}
