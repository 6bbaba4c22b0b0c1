//! Who should have which shard, and what a replica does about it. Pure: time and Leases are arguments.

use std::collections::{BTreeMap, BTreeSet};

use super::{Count, Shard, score};

/// A shard's Lease as a replica sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seat {
    /// Nobody has it.
    Free {
        /// Whether that was so for long enough that whoever should have it does not come.
        is_left: bool,
    },
    /// It names this process.
    Ours,
    /// It names another, who lives.
    Anothers { holder: String, count: Count },
}

/// All that a replica goes by.
#[derive(Debug, Clone)]
pub(super) struct View {
    /// The number of shards in force; none before the first replica ever said one.
    pub(super) in_force: Option<Count>,
    /// The numbers that other replicas that live would have in force.
    pub(super) counts: BTreeSet<Count>,
    /// The other replicas that may be given shards, and how many they count.
    pub(super) ready: BTreeMap<String, Count>,
    /// By shard, of any number of shards.
    pub(super) seats: BTreeMap<Shard, Seat>,
}

/// What a replica does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Move {
    /// Puts its number of shards in force.
    Enforce,
    /// Writes the Lease that is its own, or nobody's.
    Hold(Shard),
    /// Comes to an end with the shard, so that another can have it.
    Yield(Shard),
}

impl View {
    /// Whether a replica that counts otherwise holds a Lease.
    pub(super) fn is_foreign(&self, count: Count) -> bool {
        let mut seats = self.seats.values();
        seats.any(|seat| matches!(seat, Seat::Anothers { count: theirs, .. } if *theirs != count))
    }

    /// Whether work in a shard may begin: asked on a view that was read after its Lease was written.
    pub(super) fn may_begin(&self, count: Count) -> bool {
        self.in_force == Some(count) && !self.is_foreign(count)
    }

    /// Who should have each shard.
    pub(super) fn fair(&self, us: &str, count: Count) -> BTreeMap<Shard, String> {
        let mut holders = BTreeMap::new();
        for shard in count.shards() {
            match self.seats.get(&shard) {
                Some(Seat::Ours) => holders.insert(shard, us.to_owned()),
                Some(Seat::Anothers { holder, count: theirs }) if *theirs == count => {
                    holders.insert(shard, holder.clone())
                }
                _ => None,
            };
        }
        let ready = self.ready.iter().filter(|(_, theirs)| **theirs == count);
        let mut members: BTreeSet<_> = ready.map(|(member, _)| member.clone()).collect();
        members.extend(holders.values().cloned());
        members.insert(us.to_owned());
        fair(count, &members, &holders)
    }
}

/// Who should have each shard: each as many as the others or one more, and nobody gives away more than has to move.
pub(super) fn fair(
    count: Count,
    members: &BTreeSet<String>,
    holders: &BTreeMap<Shard, String>,
) -> BTreeMap<Shard, String> {
    let Some(least) = count.get().checked_div(members.len()) else {
        return BTreeMap::new();
    };
    let weigh = |member: &str, shard: Shard| score(&[&[shard.0]], &[member]);
    let held = |member: &str| {
        let mut held: Vec<Shard> = holders
            .iter()
            .filter(|(_, holder)| *holder == member)
            .map(|(s, _)| *s)
            .collect();
        held.sort_by_key(|shard| std::cmp::Reverse(weigh(member, *shard)));
        held
    };
    // Those who have most have the ones that are left over.
    let mut by_load: Vec<(&String, Vec<Shard>)> = members.iter().map(|member| (member, held(member))).collect();
    by_load.sort_by_key(|(_, held)| std::cmp::Reverse(held.len()));
    let extras = count.get() % members.len();
    let mut room = BTreeMap::new();
    let mut fair = BTreeMap::new();
    for (nth, (member, held)) in by_load.into_iter().enumerate() {
        let quota = least + usize::from(nth < extras);
        fair.extend(held.iter().take(quota).map(|shard| (*shard, member.clone())));
        room.insert(member, quota.saturating_sub(held.len()));
    }
    for shard in count.shards() {
        if fair.contains_key(&shard) {
            continue;
        }
        let free = room.iter_mut().filter(|(_, room)| **room > 0);
        if let Some((member, room)) = free.max_by_key(|(member, _)| weigh(member, shard)) {
            *room -= 1;
            fair.insert(shard, (*member).clone());
        }
    }
    fair
}

/// What this replica does on what it sees.
pub(super) fn moves(view: &View, us: &str, count: Count) -> Vec<Move> {
    let ours = || {
        view.seats
            .iter()
            .filter(|(_, seat)| **seat == Seat::Ours)
            .map(|(shard, _)| *shard)
    };
    if view.is_foreign(count) {
        // One that knows no numbers may have begun.
        return ours().map(Move::Yield).collect();
    }
    if view.in_force != Some(count) {
        // As long as one of them lives, what is in force stays: two numbers must not take turns.
        let is_kept = view.in_force.is_some_and(|in_force| view.counts.contains(&in_force));
        if is_kept {
            return ours().map(Move::Yield).collect();
        }
        let held = ours().filter(|shard| shard.index() < count.get()).map(Move::Hold);
        return std::iter::once(Move::Enforce).chain(held).collect();
    }
    let fair = view.fair(us, count);
    let is_ours = |shard: &Shard| fair.get(shard).is_some_and(|member| member == us);
    let mut moves = Vec::new();
    for (shard, seat) in &view.seats {
        let is_one = shard.index() < count.get();
        match seat {
            Seat::Ours if is_one && is_ours(shard) => moves.push(Move::Hold(*shard)),
            Seat::Ours => moves.push(Move::Yield(*shard)),
            Seat::Free { is_left } if is_one && (*is_left || is_ours(shard)) => {
                moves.push(Move::Hold(*shard));
            }
            Seat::Free { .. } | Seat::Anothers { .. } => {}
        }
    }
    moves
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
