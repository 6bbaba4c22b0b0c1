//! Sends letters: a task of its own with a bounded queue, one lane for each receiver, retries with jittered backoff and `Retry-After`.
//! It must not know rollouts, nor what was told.
//!
//! # Guarantees
//! Nobody waits for it: a letter that finds no place is refused, stays in the outbox and is offered again. Letters to one receiver go
//! one after the other, in their order; a receiver that hangs holds up nobody else. Receivers that rollouts name take no turn of
//! those of the controller's configuration.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use reqwest::{Client, RequestBuilder, Url};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::letter::Letter;
use super::outbox::Done;
use super::{Book, Endpoints, alertmanager, email, pagerduty, slack, webhook};
use crate::api::{Channel, ThreadStatus};
pub(super) use crate::callout::Failure;
use crate::callout::{self, Guard, Secret, Secrets};
use crate::runtime::backoff::Backoff;
use crate::runtime::clock;

/// Letters that wait for one receiver; more stay in their outboxes.
const LANE: usize = 64;
/// The longest try, with all requests that it takes.
const TRY: Duration = Duration::from_secs(45);
/// Longer than this no receiver is left alone.
const LONGEST: Duration = Duration::from_secs(600);

/// A letter was taken.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    /// The message that is to be brought up to date from now on.
    pub(super) thread: Option<ThreadStatus>,
}

/// What one try has at hand.
pub(super) struct Means<'a> {
    pub(super) client: &'a Client,
    pub(super) guard: &'a Guard,
    pub(super) secret: &'a Secret,
    pub(super) now: Timestamp,
}

impl Means<'_> {
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Vec<u8>, Failure> {
        callout::send(request, self.now).await
    }

    /// Refuses an address that is written out and may not be called.
    pub(super) fn check(&self, url: &Url) -> Result<(), Failure> {
        self.guard
            .check(url)
            .map_err(|inside| Failure::Never(inside.to_string()))
    }
}

/// How often and how soon a letter is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Between two tries, unless the receiver wishes more.
    pub backoff: Backoff,
    /// How often in all.
    pub tries: u32,
    /// Between two messages to Slack, which takes about one a second.
    pub pace: Duration,
}

impl Default for Patience {
    /// Half an hour in all.
    fn default() -> Self {
        Self {
            backoff: Backoff {
                first: Duration::from_secs(1),
                longest: Duration::from_secs(120),
            },
            tries: 22,
            pace: Duration::from_secs(1),
        }
    }
}

impl Patience {
    /// How long to wait after so many failures; `jitter` is between 0 and 1.
    fn after(self, failures: u32, wish: Option<Duration>, jitter: f64) -> Duration {
        let own = self.backoff.jittered(failures, jitter);
        // What the receiver asks for is the least, not the whole.
        wish.map_or(own, |wish| {
            wish.min(LONGEST).saturating_add(own.min(self.backoff.first))
        })
    }
}

/// Who sends.
pub(super) struct Postman {
    pub(super) letters: mpsc::Receiver<Letter>,
    pub(super) round: Arc<Round>,
}

/// What all lanes share.
pub(super) struct Round {
    pub(super) book: Arc<Book>,
    pub(super) secrets: Secrets,
    pub(super) endpoints: Endpoints,
    pub(super) patience: Patience,
    /// For receivers of the controller's configuration, and for those of rollouts.
    pub(super) open: Way,
    pub(super) guarded: Way,
}

/// How some receivers are reached.
pub(super) struct Way {
    pub(super) client: Client,
    pub(super) guard: Guard,
    /// Tries at the same time.
    pub(super) turns: Semaphore,
}

/// A receiver of the controller's configuration, or one of one rollout.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Lane {
    rollout: Option<String>,
    receiver: String,
}

impl Lane {
    fn of(letter: &Letter) -> Self {
        Self {
            rollout: letter.is_tenants.then(|| letter.uid.clone()),
            receiver: letter.receiver.id.clone(),
        }
    }
}

impl Postman {
    /// Sends until it is told to stop. What is on its way then is told again by whoever leads next.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut lanes: HashMap<Lane, VecDeque<Letter>> = HashMap::new();
        let mut going: FuturesUnordered<BoxFuture<'static, Lane>> = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(lane) = going.next(), if !going.is_empty() => {
                    match lanes.get_mut(&lane).and_then(VecDeque::pop_front) {
                        Some(letter) => going.push(self.carry(lane, letter)),
                        None => drop(lanes.remove(&lane)),
                    }
                }
                letter = self.letters.recv() => {
                    let Some(letter) = letter else { return };
                    let lane = Lane::of(&letter);
                    match lanes.get_mut(&lane) {
                        Some(waiting) if waiting.len() >= LANE => self.round.book.refuse(&letter),
                        Some(waiting) => waiting.push_back(letter),
                        None => {
                            lanes.insert(lane.clone(), VecDeque::new());
                            going.push(self.carry(lane, letter));
                        }
                    }
                }
            }
        }
    }

    fn carry(&self, lane: Lane, letter: Letter) -> BoxFuture<'static, Lane> {
        let round = self.round.clone();
        Box::pin(async move {
            // A bug in one letter must not end the others.
            let delivered = AssertUnwindSafe(round.deliver(&letter)).catch_unwind().await;
            let outcome =
                delivered.unwrap_or_else(|_| Err("sending it panicked, which is a bug of Serin's".to_owned()));
            let (thread, failed) = match outcome {
                Ok(sent) => (sent.thread, None),
                Err(why) => (None, Some(why)),
            };
            let (id, receiver) = (letter.announcement.id, letter.receiver.id.clone());
            let (about, trial, event) = (letter.about(), letter.trial(), &letter.announcement.event);
            match &failed {
                None => tracing::info!(about, trial, receiver, event, "told"),
                Some(why) => tracing::warn!(about, trial, receiver, event, "not told: {why}"),
            }
            let is_slack = matches!(letter.receiver.channel, Channel::Slack(_));
            round.book.done(
                &letter,
                Done {
                    id,
                    receiver,
                    thread,
                    failed,
                },
            );
            if is_slack {
                tokio::time::sleep(round.patience.pace).await;
            }
            lane
        })
    }
}

impl Round {
    async fn deliver(&self, letter: &Letter) -> Result<Sent, String> {
        // What is told again and again is not tried again.
        let tries = if letter.announcement.id == 0 {
            1
        } else {
            self.patience.tries
        };
        let mut failures = 0;
        loop {
            let (why, wish) = match self.attempt(letter).await {
                Ok(sent) => return Ok(sent),
                Err(Failure::Never(why)) => return Err(why),
                Err(Failure::Later { why, after }) => (why, after),
            };
            failures += 1;
            if failures >= tries {
                return Err(format!("{why}; given up after {failures} tries"));
            }
            let wait = self.patience.after(failures, wish, rand::random());
            tracing::debug!(about = %letter.about(), trial = letter.trial(), receiver = letter.receiver.id, ?wait, "not told yet: {why}");
            tokio::time::sleep(wait).await;
        }
    }

    /// One try. Secrets are read anew for each: one that was exchanged is used at once.
    async fn attempt(&self, letter: &Letter) -> Result<Sent, Failure> {
        let way = if letter.is_tenants { &self.guarded } else { &self.open };
        let Ok(_turn) = way.turns.acquire().await else {
            return Err(Failure::Never("the process ends".to_owned()));
        };
        let attempt = async {
            let secret = self.secret(letter).await?;
            let client = match &letter.receiver.channel {
                // Where these are says the controller's configuration, and no rollout.
                Channel::PagerDuty(_) => &self.open.client,
                Channel::Slack(spec) if spec.channel.is_some() => &self.open.client,
                _ => &way.client,
            };
            let means = Means {
                client,
                guard: &way.guard,
                secret: &secret,
                now: clock::now(),
            };
            match &letter.receiver.channel {
                Channel::Slack(spec) => {
                    let thread = self.book.thread(letter);
                    slack::send(&means, &self.endpoints.slack, spec, letter, thread.as_ref()).await
                }
                Channel::PagerDuty(_) => pagerduty::send(&means, &self.endpoints.pager_duty, letter).await,
                Channel::Alertmanager(spec) => alertmanager::send(&means, spec, letter).await,
                Channel::Email(spec) => email::send(&means, spec, letter).await,
                Channel::Webhook(spec) => webhook::send(&means, spec, letter).await,
            }
        };
        tokio::time::timeout(TRY, attempt).await.unwrap_or_else(|_| {
            Err(Failure::Later {
                why: format!("no answer in {TRY:?}"),
                after: None,
            })
        })
    }

    async fn secret(&self, letter: &Letter) -> Result<Secret, Failure> {
        let reference = match &letter.receiver.channel {
            Channel::Slack(spec) => &spec.secret_ref,
            Channel::PagerDuty(spec) => &spec.secret_ref,
            Channel::Email(spec) => &spec.secret_ref,
            Channel::Webhook(spec) => &spec.secret_ref,
            Channel::Alertmanager(_) => return Ok(Secret::default()),
        };
        let namespace = letter.is_tenants.then(|| letter.namespace.clone());
        let read = (self.secrets)(namespace, reference.name.clone()).await;
        read.map_err(|error| Failure::Later {
            why: format!("{error:#}"),
            after: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_with_jitter_and_what_the_receiver_wishes_is_the_least() {
        let patience = Patience::default();
        let seconds = Duration::from_secs;
        assert_eq!(patience.after(1, None, 1.0), seconds(1));
        assert_eq!(patience.after(1, None, 0.0), Duration::from_millis(500));
        assert_eq!(patience.after(4, None, 1.0), seconds(8));
        assert_eq!(patience.after(40, None, 1.0), seconds(120));
        assert!(patience.after(1, Some(seconds(30)), 0.5) >= seconds(30));
        assert!(patience.after(1, Some(seconds(86_400)), 0.5) <= LONGEST + patience.backoff.first);
    }
}
