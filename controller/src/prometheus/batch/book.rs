//! Who asks, who is expected to ask, and what was answered. No I/O; must not know how a question is asked.
//!
//! # Expected flow
//! A rollout's look says which tick its target needs next ([`Book::expect`]). The first who asks for ticks up to an instant opens a
//! round, which takes in all who are expected to ask for ticks up to the same one, however many they missed. Those find their ticks
//! answered when they come, or wait for them.
//!
//! # Guarantees
//! - An ask is in at most one round at a time, and every round ends with a word to everybody who waits for it.
//! - What was answered is kept while it is of use to somebody: the ticks that it is counted to, never the samples. A look that came
//!   to nothing, and is made again with more ticks, has those asked for only that were not answered.
//! - An error is told to those who wait for it, or once to the next who asks; then it is asked again.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serin_core::analysis::Tick;
use tokio::sync::oneshot;

use super::plan::{Limit, Weighed, length};
use crate::prometheus::Turn;
use crate::prometheus::client::SampleError;
use crate::prometheus::sampler::TOGETHER;
use crate::prometheus::target::{Span, Target};

/// An answer is kept for so long after the end of its last tick: a look that came to nothing is made again before.
const KEPT: SignedDuration = SignedDuration::from_mins(2);
/// Who was expected and did not ask so many times has nothing to ask any more.
const MISSED: u8 = 2;
/// As is who needs a tick that began so long ago.
const FORGOTTEN: SignedDuration = SignedDuration::from_mins(15);

/// What came of an ask.
pub(super) type Outcome = Result<Arc<[Tick]>, Arc<SampleError>>;

/// What one rollout asks: the same ask always has the same answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in super::super) struct Ask {
    pub(super) target: Arc<Target>,
    pub(super) ticks: Arc<[Span]>,
}

impl Ask {
    /// These ticks of a target, which are in order.
    pub(in super::super) fn new(target: &Arc<Target>, ticks: &[Span]) -> Self {
        Self {
            target: Arc::clone(target),
            ticks: ticks.into(),
        }
    }

    /// With whom it can be asked.
    pub(super) fn key(&self) -> Key {
        Key {
            end: self.ticks.last().map_or(Timestamp::UNIX_EPOCH, |(_, end)| *end),
            scrape_interval: self.target.scrape_interval,
        }
    }

    /// When its first tick begins.
    pub(super) fn start(&self) -> Timestamp {
        self.ticks.first().map_or(Timestamp::UNIX_EPOCH, |(start, _)| *start)
    }

    /// How far back samples speak for its ticks, from the end of the last one.
    pub(super) fn window(&self) -> SignedDuration {
        let ticks = self.key().end.duration_since(self.start());
        ticks.saturating_add(self.target.lookback())
    }
}

/// What asks have in common that are asked in one round: up to when, and when that can be asked for. Not since when: after a start
/// each has missed as many ticks as it happens to, and what a question for some of all Deployments brings is nearly what one for all
/// of them does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) end: Timestamp,
    scrape_interval: SignedDuration,
}

/// What somebody who asks gets.
pub(super) enum Joined {
    /// It was answered already.
    Answered(Outcome),
    /// It will be: by a round that is under way, or by the one that has to be opened first.
    Waits {
        answer: oneshot::Receiver<Outcome>,
        opens: bool,
    },
}

/// How an ask went, for the rounds to come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// What it weighed.
    pub(super) bytes: usize,
    /// The window that was asked for.
    pub(super) window: SignedDuration,
    /// Whether it was answered in a small part of the time.
    pub(super) was_quick: bool,
}

/// All of one server.
#[derive(Debug, Default)]
pub(super) struct Book {
    known: HashMap<Arc<Target>, Known>,
    seats: HashMap<Ask, Seat>,
    gathering: HashMap<Key, Vec<Ask>>,
    turns: HashMap<Key, Arc<tokio::sync::Mutex<()>>>,
    pub(super) limit: Limit,
}

/// A target that was looked at lately.
#[derive(Debug)]
struct Known {
    interval: SignedDuration,
    /// When the tick begins that it needs next.
    next: Timestamp,
    /// How often it was expected in vain, and the end of the last tick that it was expected for.
    missed: u8,
    expected: Timestamp,
    /// What it weighed, and the length of the window that it was for.
    bytes: Option<(usize, SignedDuration)>,
    is_apart: bool,
    is_pressing: bool,
    /// Whether it is being asked for, whatever the ticks: in one round at a time.
    is_asked: bool,
    /// What was answered lately.
    kept: Vec<Kept>,
}

/// Ticks that were answered together.
#[derive(Debug)]
struct Kept {
    of: Arc<[Span]>,
    ticks: Arc<[Tick]>,
}

impl Known {
    /// The first of these ticks, as far as they were answered, and the others.
    fn split<'t>(&self, mut ticks: &'t [Span]) -> (Vec<Tick>, &'t [Span]) {
        let mut there = Vec::new();
        while let Some(kept) = self.kept.iter().find(|kept| ticks.starts_with(&kept.of)) {
            there.extend_from_slice(&kept.ticks);
            ticks = ticks.get(kept.of.len()..).unwrap_or_default();
        }
        (there, ticks)
    }
}

#[derive(Debug)]
enum Seat {
    Waits(Vec<oneshot::Sender<Outcome>>),
    Answered(Outcome),
}

impl Book {
    /// A target is on trial, and needs the tick that begins then next.
    pub(super) fn expect(&mut self, target: Target, interval: SignedDuration, next: Timestamp, turn: Turn) {
        let known = self.known.entry(Arc::new(target)).or_insert(Known {
            interval,
            next,
            missed: 0,
            expected: Timestamp::MIN,
            bytes: None,
            is_apart: false,
            is_pressing: false,
            is_asked: false,
            kept: Vec::new(),
        });
        (known.interval, known.next, known.missed) = (interval, next, 0);
        known.is_pressing = turn == Turn::First;
    }

    /// The ticks of an ask that were answered already, with others or before, and what is left to ask.
    pub(super) fn split(&self, ask: Ask) -> (Vec<Tick>, Option<Ask>) {
        let Some(known) = self.known.get(&ask.target) else {
            return (Vec::new(), Some(ask));
        };
        let (there, left) = known.split(&ask.ticks);
        let left = (!left.is_empty()).then(|| Ask::new(&ask.target, left));
        (there, left)
    }

    /// Somebody asks.
    pub(super) fn join(&mut self, ask: &Ask) -> Joined {
        let mut known = self.known.get_mut(&ask.target);
        if let Some(known) = &mut known {
            known.missed = 0;
        }
        let (sender, answer) = oneshot::channel();
        match self.seats.get_mut(ask) {
            Some(Seat::Answered(Ok(ticks))) => return Joined::Answered(Ok(Arc::clone(ticks))),
            Some(Seat::Answered(Err(error))) => {
                let error = Arc::clone(error);
                self.seats.remove(ask);
                return Joined::Answered(Err(error));
            }
            Some(Seat::Waits(waiting)) => {
                waiting.push(sender);
                return Joined::Waits { answer, opens: false };
            }
            None => {}
        }
        if let Some(known) = known {
            known.is_asked = true;
        }
        self.seats.insert(ask.clone(), Seat::Waits(vec![sender]));
        let gathered = self.gathering.entry(ask.key()).or_default();
        gathered.push(ask.clone());
        Joined::Waits {
            answer,
            opens: gathered.len() == 1,
        }
    }

    /// The turns of the rounds of one key: while one is under way, those who come late gather for the next.
    pub(super) fn turn(&mut self, key: Key) -> Arc<tokio::sync::Mutex<()>> {
        self.turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(self.turns.entry(key).or_default())
    }

    /// Ends the gathering for a round: who asked, and behind them who is expected to.
    pub(super) fn close(&mut self, key: Key) -> Vec<Ask> {
        let mut asks = self.gathering.remove(&key).unwrap_or_default();
        let kept_since = key.end.checked_sub(KEPT).unwrap_or(Timestamp::MIN);
        self.seats.retain(|ask, seat| match seat {
            Seat::Waits(_) => true,
            Seat::Answered(_) => ask.key().end > kept_since,
        });
        let needed_since = key.end.checked_sub(FORGOTTEN).unwrap_or(Timestamp::MIN);
        self.known
            .retain(|_, known| known.missed < MISSED && known.next > needed_since);
        for (target, known) in &mut self.known {
            known
                .kept
                .retain(|kept| kept.of.last().is_some_and(|(_, end)| *end > kept_since));
            let is_its = target.scrape_interval == key.scrape_interval
                && !known.is_asked
                && key.end.duration_since(known.next) <= TOGETHER;
            let Some(ticks) = is_its
                .then(|| ticks_of((known.next, key.end), known.interval))
                .flatten()
            else {
                continue;
            };
            let (_, left) = known.split(&ticks);
            if left.is_empty() {
                continue;
            }
            let ask = Ask::new(target, left);
            if !self.seats.contains_key(&ask) {
                known.missed += u8::from(known.expected != key.end);
                (known.expected, known.is_asked) = (key.end, true);
                self.seats.insert(ask.clone(), Seat::Waits(Vec::new()));
                asks.push(ask);
            }
        }
        asks
    }

    /// What a plan has to know of an ask, for whose window up to `window` is asked for.
    pub(super) fn weighed<'a>(&self, ask: &'a Ask, window: SignedDuration) -> Weighed<'a> {
        let known = self.known.get(&ask.target);
        let bytes = known.and_then(|known| known.bytes).map(|(bytes, of)| {
            // A window twice as long has up to twice as many samples.
            let times = |secs: i64| usize::try_from(secs).unwrap_or_default().max(1);
            let more = bytes.saturating_mul(times(window.as_secs())) / times(of.as_secs());
            more.max(bytes)
        });
        Weighed {
            namespace: &ask.target.namespace,
            bytes,
            length: length(window),
            is_apart: known.is_some_and(|known| known.is_apart),
            is_pressing: known.is_some_and(|known| known.is_pressing),
        }
    }

    /// An ask was answered, or failed: tells all who wait.
    pub(super) fn answer(&mut self, ask: &Ask, outcome: &Outcome, size: Option<Size>) {
        if let Some(known) = self.known.get_mut(&ask.target) {
            known.is_asked = false;
            if let Some(size) = size {
                known.bytes = Some((size.bytes, size.window));
                known.is_apart &= !size.was_quick;
            }
            if let Ok(ticks) = outcome
                && !ask.ticks.is_empty()
            {
                known.kept.push(Kept {
                    of: Arc::clone(&ask.ticks),
                    ticks: Arc::clone(ticks),
                });
                if known.next == ask.start() {
                    known.next = ask.key().end;
                }
            }
        }
        let Some(Seat::Waits(waiting)) = self.seats.get_mut(ask) else {
            return;
        };
        let waiting = std::mem::take(waiting);
        if outcome.is_ok() || waiting.is_empty() {
            self.seats.insert(ask.clone(), Seat::Answered(outcome.clone()));
        } else {
            self.seats.remove(ask);
        }
        for one in waiting {
            // Who has gone does not need it any more.
            let _ = one.send(outcome.clone());
        }
    }

    /// A target failed where others did not.
    pub(super) fn set_apart(&mut self, ask: &Ask) {
        if let Some(known) = self.known.get_mut(&ask.target) {
            known.is_apart = true;
        }
    }

    /// A round has ended before it came to these: who waits is let go, and the next who asks is asked for anew.
    pub(super) fn let_go<'a>(&mut self, asks: impl Iterator<Item = &'a Ask>) {
        for ask in asks {
            if let Some(known) = self.known.get_mut(&ask.target) {
                known.is_asked = false;
            }
            if matches!(self.seats.get(ask), Some(Seat::Waits(_))) {
                self.seats.remove(ask);
            }
        }
    }
}

/// The ticks of a window, if it is made of whole ones.
fn ticks_of((mut start, last): Span, interval: SignedDuration) -> Option<Vec<Span>> {
    let mut ticks = Vec::new();
    while start < last && interval.is_positive() {
        let end = start.checked_add(interval).ok()?;
        ticks.push((start, end));
        start = end;
    }
    (start == last && !ticks.is_empty()).then_some(ticks)
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
