//! Who is told what happens to a rollout: Slack, PagerDuty, Alertmanager, e-mail and signed webhooks, one file each. Knows `api`, and
//! neither the cluster nor another adapter.
//!
//! # Expected flow
//! [`news()`] says what happened between two statuses; [`next`] adds it to the outbox, which is a part of the new status and is written
//! with it; [`Notifier::offer`] gives what stands in the outbox to a task of its own; what became of it comes back by
//! [`Notifier::done`], and is taken out of the outbox with the next status.
//!
//! # Guarantees
//! Nothing here is ever waited for by a decision. No secret is in a log, an event, an error or a status.

mod alertmanager;
mod channel;
mod config;
mod email;
mod letter;
mod news;
mod outbox;
mod pagerduty;
mod post;
mod slack;
#[cfg(test)]
mod tests;
mod webhook;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use reqwest::Client;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

pub use channel::is_told_of_problems_again;
pub use config::{Config, Endpoints};
pub use letter::Letter;
pub use news::{Moment, Problem, news, problems, standing};
pub use outbox::{Done, MOST, next};
pub use post::Patience;

use crate::api::{NotifyStatus, ThreadStatus};
use crate::callout::{self, Guard, Secrets};
use post::{Postman, Round, Way};

/// Letters that wait to be sorted.
const QUEUE: usize = 256;
/// Tries at the same time, for receivers of the controller's configuration and for those of rollouts.
const TURNS: usize = 32;
/// How often a problem that goes on is told to who wants that.
const AGAIN: Duration = Duration::from_secs(60);

/// Called with a rollout's namespace and name when something became of its letters.
pub type Wake = Arc<dyn Fn(&str, &str) + Send + Sync>;

/// The configuration, and the clients that keep to it.
#[derive(Debug)]
pub struct Setup {
    /// The configuration.
    pub config: Config,
    open: Client,
    guarded: Client,
}

impl Setup {
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(config: Config) -> anyhow::Result<Self> {
        let doing = "making an HTTP client for notifications";
        Ok(Self {
            open: callout::builder().build().context(doing)?,
            guarded: config.guard().client().context(doing)?,
            config,
        })
    }

    /// The client for addresses that rollouts name, and what it keeps to.
    pub fn guarded(&self) -> (Client, Guard) {
        (self.guarded.clone(), self.config.guard())
    }
}

/// Takes letters, and says what became of them.
#[derive(Debug)]
pub struct Notifier {
    letters: mpsc::Sender<Letter>,
    book: Arc<Book>,
}

/// What is on its way, and what became of it. It is lost with the process; the outbox is not.
pub(crate) struct Book {
    pages: Mutex<Pages>,
    wake: Wake,
}

impl fmt::Debug for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Book").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Pages {
    /// By rollout.
    rollouts: HashMap<String, Page>,
}

#[derive(Default)]
struct Page {
    going: HashSet<(i64, String)>,
    done: Vec<Done>,
    threads: Vec<ThreadStatus>,
    /// When problems that go on were told last.
    again: HashMap<(Problem, String), Instant>,
}

impl Notifier {
    /// A notifier, and the task that sends until it is told to stop.
    pub fn new(
        setup: &Setup,
        secrets: Secrets,
        wake: Wake,
        patience: Patience,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let Setup { config, open, guarded } = setup;
        let (letters, queue) = mpsc::channel(QUEUE);
        let book = Arc::new(Book {
            pages: Mutex::default(),
            wake,
        });
        let way = |client, guard| Way {
            client,
            guard,
            turns: Semaphore::new(TURNS),
        };
        let round = Round {
            book: book.clone(),
            secrets,
            endpoints: config.endpoints.clone(),
            patience,
            open: way(open.clone(), Guard::open()),
            guarded: way(guarded.clone(), config.guard()),
        };
        let postman = Postman {
            letters: queue,
            round: Arc::new(round),
        };
        (Self { letters, book }, postman.run(stop))
    }

    /// What became of a rollout's letters; it is kept until [`Self::recorded`].
    pub fn done(&self, uid: &str) -> Vec<Done> {
        let mut pages = self.book.lock();
        pages
            .rollouts
            .get_mut(uid)
            .map(|page| page.done.clone())
            .unwrap_or_default()
    }

    /// These stand in status.
    pub fn recorded(&self, uid: &str, done: &[Done]) {
        if let Some(page) = self.book.lock().rollouts.get_mut(uid) {
            page.done.retain(|one| !done.contains(one));
        }
    }

    /// Sends what stands in the outbox and is not on its way. `letter` makes the letter to a receiver, if it is still to be told.
    pub fn offer(
        &self,
        uid: &str,
        outbox: &NotifyStatus,
        letter: impl Fn(&crate::api::AnnouncementStatus, &str) -> Option<Letter>,
    ) {
        let mut pages = self.book.lock();
        let page = pages.rollouts.entry(uid.to_owned()).or_default();
        for thread in &outbox.threads {
            page.remember(thread.clone(), outbox.threads.len());
        }
        // What became of an announcement that is waited for no more is nobody's business.
        let is_waited_for = |done: &Done| {
            let mut pending = outbox.pending.iter();
            pending.any(|one| one.id == done.id && one.receivers.contains(&done.receiver))
        };
        page.done.retain(is_waited_for);
        for announcement in &outbox.pending {
            for receiver in &announcement.receivers {
                let is_done = |done: &Done| done.id == announcement.id && done.receiver == *receiver;
                let going = (announcement.id, receiver.clone());
                if page.going.contains(&going) || page.done.iter().any(is_done) {
                    continue;
                }
                let Some(letter) = letter(announcement, receiver) else {
                    continue;
                };
                // A queue that is full now has room later: the outbox is offered again.
                if self.letters.try_send(letter).is_err() {
                    return;
                }
                page.going.insert(going);
            }
        }
    }

    /// Tells again of a problem that goes on, if it is time to.
    pub fn again(&self, problem: Problem, letter: Letter) {
        let mut pages = self.book.lock();
        let page = pages.rollouts.entry(letter.uid.clone()).or_default();
        let key = (problem, letter.receiver.id.clone());
        let is_due = page.again.get(&key).is_none_or(|last| last.elapsed() >= AGAIN);
        if is_due && self.letters.try_send(letter).is_ok() {
            page.again.insert(key, Instant::now());
        }
    }

    /// Forgets a rollout that is gone. What is on its way is sent.
    pub fn forget(&self, uid: &str) {
        self.book.lock().rollouts.remove(uid);
    }
}

impl Page {
    /// One that was learnt from an answer is newer than what status says.
    fn remember(&mut self, thread: ThreadStatus, most: usize) {
        if !self
            .threads
            .iter()
            .any(|known| known.is_of(&thread.receiver, thread.trial))
        {
            self.threads.push(thread);
        }
        let extra = self.threads.len().saturating_sub(most.max(16));
        self.threads.drain(..extra);
    }
}

impl Book {
    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is no room for it now.
    fn refuse(&self, letter: &Letter) {
        if let Some(page) = self.lock().rollouts.get_mut(&letter.uid) {
            page.going.remove(&(letter.announcement.id, letter.receiver.id.clone()));
        }
    }

    fn done(&self, letter: &Letter, done: Done) {
        if done.id == 0 {
            return;
        }
        {
            let mut pages = self.lock();
            // A rollout that was forgotten has no outbox.
            let Some(page) = pages.rollouts.get_mut(&letter.uid) else {
                return;
            };
            page.going.remove(&(done.id, done.receiver.clone()));
            if let Some(thread) = &done.thread {
                thread.clone().replace_in(&mut page.threads);
            }
            page.done.push(done);
        }
        (self.wake)(&letter.namespace, &letter.rollout);
    }

    /// The message of the letter's trial at its receiver.
    fn thread(&self, letter: &Letter) -> Option<ThreadStatus> {
        let pages = self.lock();
        let page = pages.rollouts.get(&letter.uid)?;
        let trial = letter.announcement.trial?;
        let mut threads = page.threads.iter();
        threads.find(|known| known.is_of(&letter.receiver.id, trial)).cloned()
    }
}
