//! One question for many rollouts: the proxies' samples of all targets of one server that need the same ticks come from a handful
//! of queries. Must not know rollouts, nor how samples are counted.
//!
//! # Expected flow
//! `book` gathers who asks, and adds who is expected to; `plan` makes groups of them; `question` writes the queries of a group, and
//! `sorting` gives each target its own series of the answers, from which its ticks are counted before the next target's.
//!
//! # Guarantees
//! - A target's ticks are those that it would have got alone.
//! - What was answered is not asked for again: a look that came to nothing, and is made again, finds its ticks.
//! - Whose ticks are pressing is asked for before the others, who begin a moment later if the answer takes long.
//! - A question that fails for several is asked again in parts, so that one target's fault is one target's error. Who failed alone
//!   is asked for by itself from then on, and nobody waits for it, until it is answered as quickly as others.
//! - A round ends in twice the time of a query, whatever the server does.
//! - Samples are held for the groups that are under way and for no longer; each answer is read while it comes.
//!
//! # Caveats
//! All targets of a server share its troubles. Servers share nothing.

mod book;
mod plan;
mod question;
mod round;
mod sorting;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serin_core::analysis::Tick;
use tokio::sync::Semaphore;
use tracing::Instrument as _;

pub(super) use book::Ask;

use super::Turn;
use super::client::{Client, SampleError};
use super::target::Target;
use crate::runtime::telemetry::TRACE;
use book::{Book, Joined, Key};
use plan::AT_ONCE;

/// Who asks a little later than the first one is taken along.
const GATHER: Duration = Duration::from_millis(20);
/// And who comes while others are asked for already waits until they are answered, but no longer than this.
const TURN: Duration = Duration::from_millis(500);

/// The batches of one server. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Batches(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    book: Mutex<Book>,
    room: Room,
}

/// Room for groups that are asked for at once, in parts of which a small one takes one.
#[derive(Debug)]
struct Room {
    together: Semaphore,
    /// Of those that were at fault before: they wait for each other only.
    apart: Semaphore,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            book: Mutex::default(),
            room: Room {
                together: Semaphore::new(AT_ONCE.into()),
                apart: Semaphore::new(AT_ONCE.into()),
            },
        }
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        // Nothing in it is half done when a panic lets go of it.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batches {
    /// A target is on trial, and needs the tick that begins then next.
    pub(super) fn expect(&self, target: Target, interval: SignedDuration, next: Timestamp, turn: Turn) {
        self.0.book().expect(target, interval, next, turn);
    }

    /// The ticks that are asked for, but for what the target does not share with others.
    pub(super) async fn ask(&self, client: &Client, ask: Ask) -> Result<Arc<[Tick]>, SampleError> {
        let span = tracing::info_span!(
            target: TRACE,
            "query",
            otel.kind = "client",
            db.system.name = "prometheus",
            db.query.summary = "the proxies' samples, with those of other rollouts",
        );
        let (mut there, left) = self.0.book().split(ask);
        let Some(ask) = left else { return Ok(there.into()) };
        let more = async {
            let joined = self.0.book().join(&ask);
            match joined {
                Joined::Answered(outcome) => outcome,
                Joined::Waits { answer, opens } => {
                    if opens {
                        tokio::spawn(round(Arc::clone(&self.0), client.clone(), ask.key()));
                    }
                    // A round ends before.
                    let longest = client.timeout() * 3;
                    match tokio::time::timeout(longest, answer).await {
                        Ok(answer) => answer.unwrap_or_else(|_| Err(Arc::new(SampleError::Panicked))),
                        Err(_) => Err(Arc::new(client.timed_out(longest))),
                    }
                }
            }
        }
        .instrument(span)
        .await
        .map_err(SampleError::Shared)?;
        if there.is_empty() {
            return Ok(more);
        }
        there.extend_from_slice(&more);
        Ok(there.into())
    }
}

/// Gathers who asks for the same, and asks for all of them.
async fn round(shared: Arc<Shared>, client: Client, key: Key) {
    tokio::time::sleep(GATHER).await;
    let turn = shared.book().turn(key);
    let turn = tokio::time::timeout(TURN, turn.lock_owned()).await;
    let asks = shared.book().close(key);
    round::Round::new(&shared, &client, key, asks).run().await;
    drop(turn);
}

#[cfg(test)]
mod alike_tests;
#[cfg(test)]
mod tests;
