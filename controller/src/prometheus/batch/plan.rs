//! Which targets are asked for in one question, and how a question that failed is asked again in parts. Pure; must not know a server
//! or a clock.
//!
//! # Guarantees
//! - Whatever fails, a question is asked again in parts a bounded number of times; parts that succeed allow more of them, so that
//!   those at fault are found however many others there are.
//! - Depth comes before breadth: unless more than half are at fault, something is always found that is not.

use std::time::Duration;

use jiff::SignedDuration;

/// What would take more memory than this is given up, and asked for in parts.
const MOST_HELD: usize = 32 << 20;
/// One target alone has no parts, and may be a Deployment of a thousand pods.
const MOST_HELD_ALONE: usize = 64 << 20;
/// Targets that are expected to weigh more than this together are asked for in several questions.
const LARGEST: usize = MOST_HELD / 2 * 3;
/// Groups that are asked for at once: each is a handful of queries, and its samples are held in memory. A large one counts for several.
pub(super) const AT_ONCE: u8 = 3;
/// What a target is taken for of which nothing is known yet: ten pods with their buckets. A first question that is too large costs
/// more than one too many.
const UNKNOWN: usize = 384 << 10;
/// No more than this many in one question, however small: the question itself has a length.
const MOST: usize = 1_500;
/// A question that failed is asked again in so many parts.
const PARTS: usize = 8;
/// So many parts may be asked before one has succeeded: enough to come from the most targets down to two.
const CREDIT: usize = 4 * PARTS;
/// And so many more for each that has.
const EARNED: usize = 2;

/// A target, as a plan sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weighed<'a> {
    /// Its namespace.
    pub(super) namespace: &'a str,
    /// Its [`weight`], as far as it is known.
    pub(super) bytes: Option<usize>,
    /// The [`length`] of its window: only those of one length are asked for together.
    pub(super) length: u32,
    /// Whether it is asked for by itself.
    pub(super) is_apart: bool,
    /// Whether it goes before others.
    pub(super) is_pressing: bool,
}

/// What is asked in one question: places of targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// The targets.
    pub(super) places: Vec<usize>,
    /// Whether it is one that was at fault before: it waits with its like, and nobody waits for it.
    pub(super) is_apart: bool,
    /// Whether others wait for it a moment.
    pub(super) is_pressing: bool,
    /// What its targets are expected to weigh.
    bytes: usize,
    /// The question that failed, of which this is a part.
    part_of: Option<usize>,
}

/// What the questions of the past say of how many targets go into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit(usize);

impl Default for Limit {
    fn default() -> Self {
        Self(MOST)
    }
}

/// How one round of questions goes.
#[derive(Debug)]
pub(super) struct Plan {
    limit: Limit,
    credit: usize,
    failed: Vec<Failed>,
    some_succeeded: bool,
    at_fault: Vec<usize>,
    slowest: Duration,
}

/// A question that failed.
#[derive(Debug)]
struct Failed {
    targets: usize,
    was_too_much: bool,
    parts_to_succeed: usize,
}

/// Why a question failed, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Nobody was there to answer: no part of it would be answered either.
    NobodyThere,
    /// It took too long, or its answer was too large.
    TooMuch,
    /// Anything else.
    Other,
}

impl Plan {
    /// The plan of a round.
    pub(super) fn new(limit: Limit) -> Self {
        Self {
            limit,
            credit: CREDIT,
            failed: Vec::new(),
            some_succeeded: false,
            at_fault: Vec::new(),
            slowest: Duration::ZERO,
        }
    }

    /// The questions to begin with, the last one first: namespace by namespace, as a question for some of all namespaces' Deployments
    /// selects more than what is meant. Those that are pressing are never asked for with others, who would make their answer longer,
    /// nor are those that missed a few ticks with those that missed many.
    pub(super) fn groups(&self, targets: &[Weighed<'_>]) -> Vec<Group> {
        let known: Vec<_> = targets.iter().filter_map(|one| one.bytes).collect();
        let usual = known.iter().sum::<usize>().checked_div(known.len()).unwrap_or(UNKNOWN);
        let mut together: Vec<_> = targets.iter().enumerate().filter(|(_, one)| !one.is_apart).collect();
        together.sort_by_key(|(_, one)| (one.is_pressing, one.length, one.namespace));
        let (mut groups, mut bytes, mut length) = (Vec::<Group>::new(), 0, 0);
        for (place, one) in together {
            let its = one.bytes.unwrap_or(usual);
            bytes += its;
            match groups.last_mut() {
                Some(last)
                    if bytes <= LARGEST
                        && last.places.len() < self.limit.0
                        && (last.is_pressing, length) == (one.is_pressing, one.length) =>
                {
                    last.places.push(place);
                    last.bytes = bytes;
                }
                _ => {
                    (bytes, length) = (its, one.length);
                    groups.push(Group {
                        is_pressing: one.is_pressing,
                        bytes,
                        ..Group::of(vec![place], false)
                    });
                }
            }
        }
        let apart = targets.iter().enumerate().filter(|(_, one)| one.is_apart);
        groups.extend(apart.map(|(place, one)| Group {
            bytes: one.bytes.unwrap_or(usual),
            ..Group::of(vec![place], true)
        }));
        groups
    }

    /// A question was answered.
    pub(super) fn succeeded(&mut self, group: &Group, took: Duration) {
        self.some_succeeded = true;
        self.credit += EARNED;
        self.slowest = self.slowest.max(took);
        if let Some(whole) = group.part_of.and_then(|i| self.failed.get_mut(i)) {
            whole.parts_to_succeed = whole.parts_to_succeed.saturating_sub(1);
        }
    }

    /// A question failed. What to ask instead: nothing when that would be in vain.
    pub(super) fn failed(&mut self, group: &Group, why: Why) -> Vec<Group> {
        let targets = group.places.len();
        if targets == 1 {
            self.at_fault.extend(&group.places);
        }
        let length = targets.div_ceil(PARTS).max(1);
        let parts = targets.div_ceil(length);
        if targets == 1 || why == Why::NobodyThere || parts > self.credit {
            return Vec::new();
        }
        self.credit -= parts;
        let part_of = Some(self.failed.len());
        self.failed.push(Failed {
            targets,
            was_too_much: why == Why::TooMuch,
            parts_to_succeed: parts,
        });
        let part = |places: &[usize]| Group {
            part_of,
            is_pressing: group.is_pressing,
            bytes: group.bytes / parts,
            ..Group::of(places.to_vec(), false)
        };
        group.places.chunks(length).map(part).collect()
    }

    /// Whether everything failed so far.
    pub(super) fn is_in_doubt(&self) -> bool {
        !self.some_succeeded && !self.failed.is_empty()
    }

    /// Those who failed alone while others did not: they are asked for by themselves from now on.
    pub(super) fn at_fault(&self) -> &[usize] {
        if self.some_succeeded { &self.at_fault } else { &[] }
    }

    /// How many go into one question from now on. Fewer, if one was too much and none of its parts was; more again, if all went in
    /// far less than the time that there was.
    pub(super) fn limit(&self, time: Duration) -> Limit {
        let too_many = self.failed.iter().filter(|f| f.was_too_much && f.parts_to_succeed == 0);
        if let Some(least) = too_many.map(|f| f.targets).min() {
            return Limit((least / PARTS).max(1));
        }
        let is_easy = self.some_succeeded && self.slowest < time / 4 && self.failed.is_empty();
        if is_easy {
            Limit((self.limit.0 * 2).min(MOST))
        } else {
            self.limit
        }
    }
}

/// How much memory the samples of so many targets may take.
pub(super) fn most_held(targets: usize) -> usize {
    if targets > 1 { MOST_HELD } else { MOST_HELD_ALONE }
}

/// What a target weighs in a question: the bytes that it adds to the largest answer. Most of them are labels that are not held; where many
/// samples are, their memory counts for more, so that a question of the [`LARGEST`] weight holds no more than [`MOST_HELD`].
pub(super) fn weight(answer: usize, held: usize) -> usize {
    answer.max(held.saturating_mul(3) / 2)
}

/// Windows of one length differ by less than a factor of two.
pub(super) fn length(window: SignedDuration) -> u32 {
    u64::try_from(window.as_secs())
        .unwrap_or_default()
        .checked_ilog2()
        .unwrap_or_default()
}

impl Group {
    /// For how many of [`AT_ONCE`] it counts: one that is as large as can be for all of them.
    pub(super) fn takes(&self) -> u8 {
        let share = self.bytes.saturating_mul(AT_ONCE.into()).div_ceil(LARGEST);
        u8::try_from(share).map_or(AT_ONCE, |share| share.clamp(1, AT_ONCE))
    }

    fn of(places: Vec<usize>, is_apart: bool) -> Self {
        Self {
            places,
            is_apart,
            is_pressing: false,
            bytes: 0,
            part_of: None,
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
