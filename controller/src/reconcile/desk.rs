//! Questions that take their time (to the config repository, to Prometheus about the past), answered beside the reconciles:
//! a slow repository delays nobody's traffic.
//!
//! An answer is kept as long as the core goes on asking for it; every job may run twice, and after a restart it does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube::runtime::reflector::ObjectRef;
use serin_core::analysis::Baseline;
use serin_core::rollout::{Answer, GitView, Origin, PromotionOutcome, Revision, RollbackOutcome};
use tokio::sync::mpsc;

use crate::api::CanaryRollout;

/// The rollout that asks.
pub(super) type Key = ObjectRef<CanaryRollout>;

/// The first wait after a failure; doubled up to [`MAX_BACKOFF`].
const MIN_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// Answers so far, and a way to wake the rollouts that wait for them.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    files: Arc<Mutex<HashMap<Key, File>>>,
    wake: mpsc::UnboundedSender<Key>,
}

#[derive(Debug, Default)]
struct File {
    origin: Slot<Origin>,
    rollback: Slot<RollbackOutcome>,
    promotion: Slot<PromotionOutcome>,
    baseline: Slot<Baseline>,
}

#[derive(Debug, Default)]
enum Slot<T> {
    #[default]
    Empty,
    Running {
        about: Revision,
    },
    Answered {
        about: Revision,
        answer: T,
    },
    Failed {
        about: Revision,
        why: String,
        failures: u32,
        again: Instant,
    },
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    Origin,
    Rollback,
    Promotion,
    Baseline,
}

/// An answer of any kind.
pub(super) enum Reply {
    Origin(Origin),
    Rollback(RollbackOutcome),
    Promotion(PromotionOutcome),
    Baseline(Baseline),
}

impl Desk {
    /// A desk, and the stream of rollouts that have news.
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Key>) {
        let (wake, news) = mpsc::unbounded_channel();
        (
            Self {
                files: Arc::default(),
                wake,
            },
            news,
        )
    }

    /// The answers so far.
    pub(super) fn view(&self, key: &Key) -> GitView {
        self.with(key, |file| GitView {
            origin: file.origin.view(),
            rollback: file.rollback.view(),
            promotion: file.promotion.view(),
        })
    }

    /// What stable did before the trial, if that was answered.
    pub(super) fn baseline(&self, key: &Key) -> Option<Answer<Baseline>> {
        self.with(key, |file| match file.baseline.view()? {
            Answer::Is((_, baseline)) => Some(Answer::Is(baseline)),
            Answer::Failed(why) => Some(Answer::Failed(why)),
        })
    }

    /// Forgets the answers that are no longer asked for.
    pub(super) fn keep_only(&self, key: &Key, asked: &[Question]) {
        self.with(key, |file| {
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
            }
        });
    }

    /// Asks, unless the same is being asked or was answered already.
    pub(super) fn ask<F>(&self, key: &Key, question: Question, about: &Revision, job: impl FnOnce() -> F)
    where
        F: Future<Output = anyhow::Result<Reply>> + Send + 'static,
    {
        let failures = self.with(key, |file| match question {
            Question::Origin => file.origin.start(about),
            Question::Rollback => file.rollback.start(about),
            Question::Promotion => file.promotion.start(about),
            Question::Baseline => file.baseline.start(about),
        });
        let Some(failures) = failures else { return };
        let (desk, key, about, job) = (self.clone(), key.clone(), about.clone(), job());
        tokio::spawn(async move {
            let reply = job.await;
            let wait = desk.with(&key, |file| file.finish(question, &about, reply, failures));
            drop(desk.wake.send(key.clone()));
            if let Some(wait) = wait {
                tokio::time::sleep(wait).await;
                drop(desk.wake.send(key));
            }
        });
    }

    fn with<R>(&self, key: &Key, work: impl FnOnce(&mut File) -> R) -> R {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        work(files.entry(key.clone()).or_default())
    }

    /// Forgets a rollout that is gone.
    pub(super) fn forget(&self, key: &Key) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

impl File {
    fn finish(
        &mut self,
        question: Question,
        about: &Revision,
        reply: anyhow::Result<Reply>,
        failures: u32,
    ) -> Option<Duration> {
        match reply {
            Ok(Reply::Origin(answer)) => self.origin.settle(about, answer),
            Ok(Reply::Rollback(answer)) => self.rollback.settle(about, answer),
            Ok(Reply::Promotion(answer)) => self.promotion.settle(about, answer),
            Ok(Reply::Baseline(answer)) => self.baseline.settle(about, answer),
            Err(error) => {
                let why = format!("{error:#}");
                tracing::warn!(revision = %about, ?question, "not answered: {why}");
                let wait = MIN_BACKOFF.saturating_mul(1 << failures.min(5)).min(MAX_BACKOFF);
                match question {
                    Question::Origin => self.origin.fail(about, why, failures, wait),
                    Question::Rollback => self.rollback.fail(about, why, failures, wait),
                    Question::Promotion => self.promotion.fail(about, why, failures, wait),
                    Question::Baseline => self.baseline.fail(about, why, failures, wait),
                }
                return Some(wait);
            }
        }
        None
    }
}

impl<T: Clone> Slot<T> {
    fn view(&self) -> Option<Answer<(Revision, T)>> {
        match self {
            Self::Empty | Self::Running { .. } => None,
            Self::Answered { about, answer } => Some(Answer::Is((about.clone(), answer.clone()))),
            Self::Failed { why, .. } => Some(Answer::Failed(why.clone())),
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
        let failures = match self {
            Self::Running { about: same } | Self::Answered { about: same, .. } if same == about => return None,
            // One job at a time: the next look asks again when this one has ended.
            Self::Running { .. } => return None,
            Self::Failed {
                about: same,
                again,
                failures,
                ..
            } if same == about => {
                if *again > Instant::now() {
                    return None;
                }
                *failures
            }
            Self::Empty | Self::Answered { .. } | Self::Failed { .. } => 0,
        };
        *self = Self::Running { about: about.clone() };
        Some(failures)
    }

    fn settle(&mut self, about: &Revision, answer: T) {
        *self = Self::Answered {
            about: about.clone(),
            answer,
        };
    }

    fn fail(&mut self, about: &Revision, why: String, failures: u32, wait: Duration) {
        let again = Instant::now() + wait;
        *self = Self::Failed {
            about: about.clone(),
            why,
            failures: failures.saturating_add(1),
            again,
        };
    }
}
