//! Which announcements are due: the part of status that says what was told and what was not. Pure.
//!
//! # Guarantees
//! An announcement is written to status together with the transition that it tells of, so that there is one for each, whatever
//! crashes. It stays there for each receiver until that one has it, so that each is told at least once. It is told twice if the
//! process dies between the receiver's answer and the status that records it, or if the receiver's answer is lost; its number is the
//! same then.
//!
//! # Caveats
//! Of more than [`MOST`] that wait, steps go first and then the oldest; and what a receiver refuses, or does not take for half an hour,
//! is given up. Both are said in an event, unless the process dies between the status that records it and the event.

use jiff::Timestamp;

use super::channel;
use super::news::keep_in_mind;
use crate::api::{AnnouncementStatus, NotifyOn, NotifyStatus, Receiver, ThreadStatus};

/// The most announcements that wait in one status: it has to stay small.
pub const MOST: usize = 20;
/// The most messages that are brought up to date for one rollout.
const THREADS: usize = 8;

/// What became of one announcement at one receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The announcement's number.
    pub id: i64,
    /// The receiver's id.
    pub receiver: String,
    /// The message that is to be brought up to date from now on.
    pub thread: Option<ThreadStatus>,
    /// Why it was given up; none: the receiver has it.
    pub failed: Option<String>,
}

/// The outbox after a decision, and how many announcements were dropped because too many waited.
pub fn next(
    before: Option<&NotifyStatus>,
    news: Vec<AnnouncementStatus>,
    receivers: &[Receiver],
    done: &[Done],
    trial: Option<Timestamp>,
) -> (Option<NotifyStatus>, usize) {
    let mut status = before.cloned().unwrap_or_default();
    for done in done {
        settle(&mut status, done);
    }
    // Who is no longer to be told is not waited for.
    for announcement in &mut status.pending {
        let is_there = |id: &String| receivers.iter().any(|receiver| receiver.id == *id);
        announcement.receivers.retain(is_there);
    }
    status.pending.retain(|announcement| !announcement.receivers.is_empty());
    for mut announcement in news {
        keep_in_mind(&mut status, &announcement);
        let Some(event) = NotifyOn::named(&announcement.event) else {
            continue;
        };
        let told = receivers
            .iter()
            .filter(|receiver| channel::wants(receiver, event, &announcement));
        announcement.receivers = told.map(|receiver| receiver.id.clone()).collect();
        if announcement.receivers.is_empty() {
            continue;
        }
        status.count += 1;
        announcement.id = status.count;
        status.pending.push(announcement);
    }
    let waiting = status.pending.len();
    while status.pending.len() > MOST {
        let step = status.pending.iter().position(|one| one.event == NotifyOn::Step.name());
        status.pending.remove(step.unwrap_or(0));
    }
    let dropped = waiting - status.pending.len();
    let pending = &status.pending;
    status.threads.retain(|thread| {
        let is_spoken_of = |one: &AnnouncementStatus| one.trial == Some(thread.trial);
        trial == Some(thread.trial) || pending.iter().any(is_spoken_of)
    });
    let extra = status.threads.len().saturating_sub(THREADS);
    status.threads.drain(..extra);
    ((status != NotifyStatus::default()).then_some(status), dropped)
}

fn settle(status: &mut NotifyStatus, done: &Done) {
    let Some(announcement) = status.pending.iter_mut().find(|one| one.id == done.id) else {
        return;
    };
    announcement.receivers.retain(|receiver| *receiver != done.receiver);
    if let Some(thread) = &done.thread {
        thread.clone().replace_in(&mut status.threads);
    }
}
