//! Questions that take their time (to the config repository, to Prometheus about the past), answered beside the reconciles:
//! a slow repository delays nobody's traffic.
//!
//! An answer is kept as long as the core goes on asking for it; every job may run twice, and after a restart it does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube::runtime::reflector::ObjectRef;
use serin_core::analysis::Baseline;
use serin_core::rollout::{Answer, FieldError, GitView, Origin, PromotionOutcome, Revision, RollbackOutcome};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::repository::BadSecret;
use super::turns::Turns;
use crate::api::CanaryRollout;
use crate::delivery::Blocked;
use crate::gitops;
use crate::prometheus::SampleError;
use crate::runtime::backoff::Backoff;

/// Nothing is known to keep a commit from the cluster.
pub(super) const ON_ITS_WAY: &str = "OnItsWay";

/// The rollout that asks.
pub(super) type Key = ObjectRef<CanaryRollout>;

/// A host that is gone is asked twice a minute, and has its commit within half a minute of its return.
const PATIENCE: Backoff = Backoff {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(30),
};

/// Answers so far, and a way to wake the rollouts that wait for them.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    files: Arc<Mutex<HashMap<Key, File>>>,
    wake: mpsc::UnboundedSender<Key>,
    patience: Backoff,
    turns: Turns,
}

#[derive(Debug, Default)]
struct File {
    origin: Slot<Origin>,
    rollback: Slot<RollbackOutcome>,
    promotion: Slot<PromotionOutcome>,
    baseline: Slot<Baseline>,
    /// The field that keeps the baseline from being had.
    unusable: Option<FieldError>,
    /// Its answer is what warns; what stands in the way is a failure, and asked again.
    preflight: Slot<Vec<String>>,
    causes: Slot<String>,
    /// Its answer is that a commit is applied; what stands in the way is a failure, and asked again.
    delivery: Slot<()>,
}

#[derive(Debug, Default)]
enum Slot<T> {
    #[default]
    Empty,
    Running {
        about: Revision,
        /// Why the try before failed: it is still so until this one ends.
        last: Option<Failure>,
    },
    Answered {
        about: Revision,
        answer: T,
    },
    Failed {
        about: Revision,
        last: Failure,
        failures: u32,
        again: Instant,
    },
}

/// Why a try failed: in words, and the word for it in a condition.
#[derive(Debug, Clone)]
struct Failure {
    why: String,
    reason: &'static str,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    Origin,
    Rollback,
    Promotion,
    Baseline,
    Preflight,
    Causes,
    Delivery,
}

/// An answer of any kind.
pub(super) enum Reply {
    Origin(Origin),
    Rollback(RollbackOutcome),
    Promotion(PromotionOutcome),
    Baseline(Baseline),
    Preflight(Vec<String>),
    Causes(String),
    Delivery(()),
}

impl Desk {
    /// A desk, and the stream of rollouts that have news.
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Key>) {
        Self::with(PATIENCE)
    }

    fn with(patience: Backoff) -> (Self, mpsc::UnboundedReceiver<Key>) {
        let (wake, news) = mpsc::unbounded_channel();
        (
            Self {
                files: Arc::default(),
                wake,
                patience,
                turns: Turns::default(),
            },
            news,
        )
    }

    /// Another desk, without answers; its jobs are counted here, and it wakes rollouts in the same way.
    pub(super) fn another(&self, turns: Turns) -> Self {
        Self {
            files: Arc::default(),
            wake: self.wake.clone(),
            patience: self.patience,
            turns,
        }
    }

    /// Has a rollout looked at.
    pub(super) fn wake(&self, key: Key) {
        // Nobody listens any more when the process ends.
        drop(self.wake.send(key));
    }

    /// The answers so far.
    pub(super) fn view(&self, key: &Key) -> GitView {
        self.read(key, |file| GitView {
            origin: file.origin.view(),
            rollback: file.rollback.view(),
            promotion: file.promotion.view(),
            reason: [file.origin.reason(), file.rollback.reason(), file.promotion.reason()]
                .into_iter()
                .flatten()
                .next(),
        })
    }

    /// What stable did before the trial, if that was answered.
    pub(super) fn baseline(&self, key: &Key) -> Option<Answer<Baseline>> {
        self.read(key, |file| file.baseline.answer())
    }

    /// The metric of the user's own that keeps the trial from its start.
    pub(super) fn unusable(&self, key: &Key) -> Option<FieldError> {
        self.read(key, |file| file.unusable.clone())
    }

    /// Whether a trial would work, if that was answered.
    pub(super) fn preflight(&self, key: &Key) -> Option<Answer<Vec<String>>> {
        self.read(key, |file| file.preflight.answer())
    }

    /// Why a commit is not in the cluster, if that was looked for: the word for it, and a sentence.
    pub(super) fn delivery(&self, key: &Key) -> Option<(&'static str, String)> {
        self.read(key, |file| match file.delivery.view()? {
            Answer::Is(_) => None,
            Answer::Failed(why) => Some((file.delivery.reason()?, why)),
        })
    }

    /// Whether the commit of this revision that was waited for is applied, as Argo CD or Flux say it.
    pub(super) fn is_delivered(&self, key: &Key, revision: &Revision) -> bool {
        self.file(
            key,
            |file| matches!(&file.delivery, Slot::Answered { about, .. } if about == revision),
        )
    }

    /// Nobody waits for a commit to be applied.
    pub(super) fn forget_delivery(&self, key: &Key) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = files.get_mut(key) {
            file.delivery.forget();
        }
    }

    /// Why traffic does not follow, if that was answered.
    pub(super) fn causes(&self, key: &Key) -> Option<Answer<String>> {
        self.read(key, |file| file.causes.answer())
    }

    /// Forgets the answers that are no longer asked for.
    pub(super) fn keep_only(&self, key: &Key, asked: &[Question]) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        // Most rollouts are at rest, and ask nothing.
        let Some(file) = files.get_mut(key) else { return };
        let is_empty = {
            if !asked.contains(&Question::Origin) {
                file.origin.forget();
            }
            if !asked.contains(&Question::Rollback) {
                file.rollback.forget();
            }
            if !asked.contains(&Question::Promotion) {
                file.promotion.forget();
            }
            if !asked.contains(&Question::Baseline) {
                file.baseline.forget();
                file.unusable = None;
            }
            if !asked.contains(&Question::Preflight) {
                file.preflight.forget();
            }
            if !asked.contains(&Question::Causes) {
                file.causes.forget();
            }
            file.is_empty()
        };
        if is_empty {
            files.remove(key);
        }
    }

    /// Asks, unless the same is being asked or was answered already.
    pub(super) fn ask<F>(&self, key: &Key, question: Question, about: &Revision, job: impl FnOnce() -> F)
    where
        F: Future<Output = anyhow::Result<Reply>> + Send + 'static,
    {
        let failures = self.file(key, |file| match question {
            Question::Origin => file.origin.start(about),
            Question::Rollback => file.rollback.start(about),
            Question::Promotion => file.promotion.start(about),
            Question::Baseline => file.baseline.start(about),
            Question::Preflight => file.preflight.start(about),
            Question::Causes => file.causes.start(about),
            Question::Delivery => file.delivery.start(about),
        });
        let Some(failures) = failures else { return };
        let (desk, key, about, job) = (self.clone(), key.clone(), about.clone(), job());
        let turn = self.turns.begin();
        tokio::spawn(async move {
            // A task of its own: what panics is a failure, and asked again.
            let job = AbortOnDropHandle::new(tokio::spawn(job));
            let reply = tokio::select! {
                () = desk.turns.cut() => return,
                reply = job => reply,
            };
            let reply = match reply {
                Ok(reply) => reply,
                Err(panic) => Err(anyhow::Error::new(panic).context("answering, which is a bug of Serin's")),
            };
            let wait = desk.file(&key, |file| {
                let wait = desk.patience.after(failures.saturating_add(1));
                file.finish(question, &about, reply, (failures, wait))
            });
            drop(turn);
            drop(desk.wake.send(key.clone()));
            if let Some(wait) = wait {
                tokio::select! {
                    () = desk.turns.cut() => return,
                    () = tokio::time::sleep(wait) => {}
                }
                drop(desk.wake.send(key));
            }
        });
    }

    fn read<R>(&self, key: &Key, work: impl FnOnce(&File) -> R) -> R {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        match files.get(key) {
            Some(file) => work(file),
            None => work(&File::default()),
        }
    }

    fn file<R>(&self, key: &Key, work: impl FnOnce(&mut File) -> R) -> R {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        work(files.entry(key.clone()).or_default())
    }

    /// Forgets a rollout that is gone.
    pub(super) fn forget(&self, key: &Key) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

impl File {
    /// Whether nothing is asked and nothing was answered.
    fn is_empty(&self) -> bool {
        let Self {
            origin,
            rollback,
            promotion,
            baseline,
            unusable,
            preflight,
            causes,
            delivery,
        } = self;
        let slots = [
            origin.is_empty(),
            rollback.is_empty(),
            promotion.is_empty(),
            baseline.is_empty(),
            preflight.is_empty(),
            causes.is_empty(),
            delivery.is_empty(),
        ];
        unusable.is_none() && slots.iter().all(|is_empty| *is_empty)
    }

    fn finish(
        &mut self,
        question: Question,
        about: &Revision,
        reply: anyhow::Result<Reply>,
        (failures, wait): (u32, Duration),
    ) -> Option<Duration> {
        if question == Question::Baseline {
            let error = reply.as_ref().err().and_then(|error| error.downcast_ref());
            self.unusable = match error {
                Some(SampleError::Unusable { field, problem }) => Some(FieldError::new(field, problem)),
                _ => None,
            };
        }
        match reply {
            Ok(Reply::Origin(answer)) => self.origin.settle(about, answer),
            Ok(Reply::Rollback(answer)) => self.rollback.settle(about, answer),
            Ok(Reply::Promotion(answer)) => self.promotion.settle(about, answer),
            Ok(Reply::Baseline(answer)) => self.baseline.settle(about, answer),
            Ok(Reply::Preflight(answer)) => self.preflight.settle(about, answer),
            Ok(Reply::Causes(answer)) => self.causes.settle(about, answer),
            Ok(Reply::Delivery(answer)) => self.delivery.settle(about, answer),
            Err(error) => {
                let is_delivery = question == Question::Delivery;
                let last = Failure {
                    why: format!("{error:#}"),
                    reason: match error.downcast_ref::<Blocked>() {
                        Some(blocked) => blocked.reason,
                        None if is_delivery => ON_ITS_WAY,
                        None => reason(&error),
                    },
                };
                if last.reason == ON_ITS_WAY {
                    tracing::debug!(revision = %about, "not applied yet: {}", last.why);
                } else {
                    tracing::warn!(revision = %about, ?question, reason = last.reason, "not answered: {}", last.why);
                }
                match question {
                    Question::Origin => self.origin.fail(about, last, failures, wait),
                    Question::Rollback => self.rollback.fail(about, last, failures, wait),
                    Question::Promotion => self.promotion.fail(about, last, failures, wait),
                    Question::Baseline => self.baseline.fail(about, last, failures, wait),
                    Question::Preflight => self.preflight.fail(about, last, failures, wait),
                    Question::Causes => self.causes.fail(about, last, failures, wait),
                    Question::Delivery => self.delivery.fail(about, last, failures, wait),
                }
                return Some(wait);
            }
        }
        None
    }
}

/// The word for a failure in a condition.
fn reason(error: &anyhow::Error) -> &'static str {
    let git = error.chain().find_map(|cause| cause.downcast_ref::<gitops::Error>());
    match git {
        Some(git) => git.reason(),
        None if error.downcast_ref::<BadSecret>().is_some() => "BadSecret",
        None => "GitFailed",
    }
}

impl<T: Clone> Slot<T> {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    fn view(&self) -> Option<Answer<(Revision, T)>> {
        match self {
            Self::Empty | Self::Running { last: None, .. } => None,
            Self::Answered { about, answer } => Some(Answer::Is((about.clone(), answer.clone()))),
            Self::Running { last: Some(last), .. } | Self::Failed { last, .. } => {
                Some(Answer::Failed(last.why.clone()))
            }
        }
    }

    /// The answer alone, whatever it is about.
    fn answer(&self) -> Option<Answer<T>> {
        Some(match self.view()? {
            Answer::Is((_, answer)) => Answer::Is(answer),
            Answer::Failed(why) => Answer::Failed(why),
        })
    }

    /// The word for the last failure.
    fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Running { last: Some(last), .. } | Self::Failed { last, .. } => Some(last.reason),
            Self::Empty | Self::Running { last: None, .. } | Self::Answered { .. } => None,
        }
    }

    /// A running job is left to end; its answer is dropped when nobody asks for it then.
    fn forget(&mut self) {
        if !matches!(self, Self::Running { .. }) {
            *self = Self::Empty;
        }
    }

    /// Whether a job is to be started, and after how many failures.
    fn start(&mut self, about: &Revision) -> Option<u32> {
        let (failures, last) = match self {
            Self::Running { about: same, .. } | Self::Answered { about: same, .. } if same == about => return None,
            // One job at a time: the next look asks again when this one has ended.
            Self::Running { .. } => return None,
            Self::Failed {
                about: same,
                again,
                failures,
                last,
            } if same == about => {
                if *again > Instant::now() {
                    return None;
                }
                (*failures, Some(last.clone()))
            }
            Self::Empty | Self::Answered { .. } | Self::Failed { .. } => (0, None),
        };
        *self = Self::Running {
            about: about.clone(),
            last,
        };
        Some(failures)
    }

    fn settle(&mut self, about: &Revision, answer: T) {
        *self = Self::Answered {
            about: about.clone(),
            answer,
        };
    }

    fn fail(&mut self, about: &Revision, last: Failure, failures: u32, wait: Duration) {
        let again = Instant::now() + wait;
        *self = Self::Failed {
            about: about.clone(),
            last,
            failures: failures.saturating_add(1),
            again,
        };
    }
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
