//! The work in parts that replicas share: to which part a branch of a repository belongs, who should have which part ([`plan`]),
//! and the Leases that say who has it ([`keeper`]). It must not know rollouts, or what is done in a part.
//!
//! # Guarantees
//! A branch of a repository belongs to one shard, and a shard is one replica's at a time: its writes are fenced by the shard's own
//! Lease. Replicas that count shards differently never work at the same time: each writes its Lease with its count first, and then reads
//! which count is in force and whether a Lease of another count is held. Of two, one sees the other.
//!
//! # Assumptions
//! A version of Serin that does not know shards counts as one that has one of them, and reads no count.

mod keeper;
mod plan;
mod sight;
mod writes;

use std::fmt;
use std::num::NonZeroU8;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::lease::{Holder, Leadership};

pub use keeper::Keeper;

/// The largest number of shards: so many names of Leases stand in the chart's Role, so that a change of the number changes no right.
pub const MOST: u8 = 16;

/// One part of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(u8);

impl Shard {
    /// The one that always is.
    pub const FIRST: Self = Self(0);

    /// From 0.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The name of its Lease. The first has the one of a version that knew no shards.
    fn lease(self, name: &str) -> String {
        match self.0 {
            0 => name.to_owned(),
            number => format!("{name}-{number}"),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many shards there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(NonZeroU8);

/// A number of shards that cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no number of shards; give one from 1 to {MOST}")]
pub struct BadCount(String);

impl FromStr for Count {
    type Err = BadCount;

    fn from_str(text: &str) -> Result<Self, BadCount> {
        let count = text.parse().ok().filter(|count: &NonZeroU8| count.get() <= MOST);
        count.map(Self).ok_or_else(|| BadCount(text.to_owned()))
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Count {
    /// All work is one replica's.
    pub const ONE: Self = Self(NonZeroU8::MIN);

    /// All shards.
    pub fn shards(self) -> impl Iterator<Item = Shard> + Clone {
        (0..self.0.get()).map(Shard)
    }

    /// The number itself.
    pub fn get(self) -> usize {
        usize::from(self.0.get())
    }

    /// The shard of whatever these words name. With one shard more, no more move than come to it.
    pub fn shard_of(self, words: &[&str]) -> Shard {
        let best = self.shards().max_by_key(|shard| score(&[&[shard.0]], words));
        best.unwrap_or(Shard::FIRST)
    }
}

/// What a shard and a name weigh together: the highest of several wins (rendezvous hashing). It must never change: replicas of two
/// versions have to agree.
fn score(salt: &[&[u8]], words: &[&str]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let bytes = words.iter().map(|word| word.as_bytes());
    let hash = salt.iter().copied().chain(bytes).fold(OFFSET, |hash, part| {
        // What ends a word stands in none.
        let part = part.iter().copied().chain([0xff]);
        part.fold(hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
    });
    // The last bytes of a name have to reach the highest bits too.
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// What a process has of one shard, from time to time.
#[derive(Debug, Clone)]
pub struct Term {
    /// Which.
    pub shard: Shard,
    /// Whether it is this process's.
    pub leadership: Leadership,
    /// A look at its Lease; none where there are no Leases.
    pub holder: Option<Holder>,
    over: mpsc::UnboundedSender<Shard>,
}

impl Term {
    /// Nothing of this shard is being done here any more: another replica may have it.
    pub fn over(&self) {
        if self.over.send(self.shard).is_err() {
            tracing::debug!(shard = %self.shard, "nobody looks after the leases any more; the process ends");
        }
    }
}

/// Who has which shard, for those who tell of it.
#[derive(Debug, Clone)]
pub struct Sharing {
    count: Count,
    terms: Arc<[Leadership]>,
    holders: watch::Receiver<Holders>,
}

/// Who holds each shard's Lease, as far as they were read.
pub type Holders = Arc<[Option<String>]>;

impl Sharing {
    /// All of one shard is always this process's: for a controller that runs without Leases.
    pub fn unchallenged() -> Self {
        Self::fixed(Leadership::unchallenged(), None)
    }

    /// One shard, which this process never has.
    #[cfg(test)]
    pub(crate) fn of_a_follower(leader: &str) -> Self {
        Self::fixed(Leadership::never(), Some(leader.to_owned()))
    }

    /// So many shards, of which this process has some.
    #[cfg(test)]
    pub(crate) fn with(terms: Vec<Leadership>, holders: Vec<Option<String>>) -> Self {
        Self {
            count: terms.len().to_string().parse().unwrap(),
            terms: terms.into(),
            holders: watch::channel(holders.into()).1,
        }
    }

    fn fixed(leadership: Leadership, holder: Option<String>) -> Self {
        Self {
            count: Count::ONE,
            terms: [leadership].into(),
            holders: watch::channel(Holders::from([holder])).1,
        }
    }

    /// How many there are.
    pub fn count(&self) -> Count {
        self.count
    }

    /// Whether this process has the shard.
    pub fn has(&self, shard: Shard) -> bool {
        let term = self.terms.get(shard.index());
        term.is_some_and(|term| term.holds_for(Duration::ZERO))
    }

    /// Whether it has any.
    pub fn has_any(&self) -> bool {
        self.count.shards().any(|shard| self.has(shard))
    }

    /// Who has each shard, as far as was read.
    pub fn holders(&self) -> Vec<(Shard, Option<String>)> {
        let holders = self.holders.borrow().clone();
        let holder = |shard: Shard| holders.get(shard.index()).cloned().flatten();
        self.count.shards().map(|shard| (shard, holder(shard))).collect()
    }
}

/// The terms of a process that has all of one shard for ever.
pub fn unchallenged() -> (Vec<Term>, Sharing) {
    let sharing = Sharing::unchallenged();
    let term = |leadership: &Leadership| Term {
        shard: Shard::FIRST,
        leadership: leadership.clone(),
        holder: None,
        over: mpsc::unbounded_channel().0,
    };
    (sharing.terms.iter().map(term).collect(), sharing)
}

#[cfg(test)]
mod tests;
