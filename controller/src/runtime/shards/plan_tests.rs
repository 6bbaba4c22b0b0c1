//! Who should have which shard.

use proptest::prelude::*;

use super::*;

fn count(count: u8) -> Count {
    count.to_string().parse().unwrap()
}

fn shard(index: usize) -> Shard {
    count(16).shards().nth(index).unwrap()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A view of `a`: the seats from the first shard on; `-` is free, `a` is ours.
fn view(in_force: u8, ready: &[&str], seats: &[&str]) -> View {
    let seat = |holder: &&str| match *holder {
        "-" => Seat::Free { is_left: false },
        "left" => Seat::Free { is_left: true },
        "a" => Seat::Ours,
        other => Seat::Anothers {
            holder: other.to_owned(),
            count: other
                .split_once('/')
                .map_or(count(in_force.max(1)), |(_, of)| of.parse().unwrap()),
        },
    };
    View {
        in_force: (in_force > 0).then(|| count(in_force)),
        counts: if ready.is_empty() {
            BTreeSet::new()
        } else {
            [count(in_force)].into()
        },
        ready: ready.iter().map(|name| ((*name).to_owned(), count(in_force))).collect(),
        seats: seats
            .iter()
            .enumerate()
            .map(|(nth, holder)| (shard(nth), seat(holder)))
            .collect(),
    }
}

fn held(moves: &[Move]) -> usize {
    moves.iter().filter(|step| matches!(step, Move::Hold(_))).count()
}

#[test]
fn a_replica_that_is_alone_takes_everything_at_once() {
    let moves = moves(&view(4, &[], &["-", "-", "-", "-"]), "a", count(4));
    assert_eq!(held(&moves), 4);
}

#[test]
fn a_lease_that_another_holds_is_not_touched() {
    assert_eq!(moves(&view(1, &["b"], &["b"]), "a", Count::ONE), []);
}

#[test]
fn a_second_replica_is_given_half_and_a_third_a_part_of_each() {
    let two = view(4, &["b"], &["a", "a", "a", "a"]);
    let yielded = |moves: Vec<Move>| moves.iter().filter(|step| matches!(step, Move::Yield(_))).count();
    assert_eq!(yielded(moves(&two, "a", count(4))), 2);
    let three = view(4, &["b", "c"], &["a", "a", "b", "b"]);
    // One of the two gives one away, and both know which.
    let fair = three.fair("a", count(4));
    let mut loads: Vec<_> = ["a", "b", "c"]
        .map(|name| fair.values().filter(|who| *who == name).count())
        .into();
    loads.sort_unstable();
    assert_eq!(loads, [1, 1, 2]);
}

#[test]
fn a_free_shard_is_left_to_whoever_should_have_it_and_taken_if_that_one_does_not_come() {
    let fair = view(2, &["b"], &["-", "-"]).fair("a", count(2));
    let (theirs, _) = fair.iter().find(|(_, who)| *who == "b").unwrap();
    for (holder, takes) in [("-", 1), ("left", 2)] {
        let mut seats = ["-", "-"];
        seats[theirs.index()] = holder;
        assert_eq!(held(&moves(&view(2, &["b"], &seats), "a", count(2))), takes);
    }
}

#[test]
fn replicas_of_another_number_wait_until_nobody_works_by_the_one_in_force() {
    // One lives.
    let mut waits = view(4, &["b"], &["-"; 16]);
    assert_eq!(moves(&waits, "a", count(8)), []);
    // None lives, and one of its leases is held still.
    waits = view(4, &[], &["-", "b"]);
    assert_eq!(moves(&waits, "a", count(8)), []);
    waits = view(4, &[], &["-", "-"]);
    assert_eq!(moves(&waits, "a", count(8)), [Move::Enforce]);
}

#[test]
fn a_replica_whose_number_is_no_more_in_force_ends_its_work() {
    let mut superseded = view(8, &["b"], &["a", "a"]);
    assert_eq!(
        moves(&superseded, "a", count(2)),
        [Move::Yield(shard(0)), Move::Yield(shard(1))]
    );
    assert!(!superseded.may_begin(count(2)));
    superseded.in_force = Some(count(2));
    assert!(superseded.may_begin(count(2)));
}

#[test]
fn a_version_without_shards_is_waited_for() {
    // It writes no number on its lease, and reads none.
    let old = view(4, &[], &["old/1", "-", "-", "-"]);
    assert_eq!(moves(&old, "a", count(4)), []);
    assert!(!old.may_begin(count(4)));
    let beside = view(4, &[], &["old/1", "a", "-", "-"]);
    assert_eq!(moves(&beside, "a", count(4)), [Move::Yield(shard(1))]);
    // With one shard it is one of us.
    let follows = view(0, &[], &["old/1"]);
    assert_eq!(moves(&follows, "a", Count::ONE), [Move::Enforce]);
    assert_eq!(moves(&view(1, &[], &["old/1"]), "a", Count::ONE), []);
}

/// Replicas of several numbers, each of which does one thing at a time: writes its lease, reads, works, lets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Rests,
    Holds,
    Works,
}

proptest! {
    #[test]
    fn shards_are_spread_evenly_and_only_those_move_that_have_to(
        shards in 1..=16_u8,
        members in proptest::collection::btree_set("[a-h]", 1..6),
        holders in proptest::collection::vec(proptest::option::of("[a-k]"), 16),
    ) {
        let held: BTreeMap<Shard, String> = count(shards)
            .shards()
            .filter_map(|shard| Some((shard, holders[shard.index()].clone()?)))
            .collect();
        let fair_now = fair(count(shards), &members, &held);
        let loads: Vec<_> = members.iter().map(|name| fair_now.values().filter(|who| *who == name).count()).collect();
        let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
        prop_assert!(most - least <= 1, "{loads:?}");
        prop_assert_eq!(loads.iter().sum::<usize>(), usize::from(shards));
        // Nobody gives away what is within its due.
        for name in &members {
            let before = held.values().filter(|who| *who == name).count();
            let kept = held.iter().filter(|(shard, who)| *who == name && fair_now.get(shard) == Some(name)).count();
            prop_assert!(kept >= before.min(usize::from(shards) / members.len()));
        }
        // And then it rests.
        prop_assert_eq!(&fair(count(shards), &members, &fair_now), &fair_now);
    }

    /// What [`super::super`] promises: the lease is written first, then what is in force and whose leases are held is read.
    #[test]
    fn replicas_that_count_differently_never_work_at_the_same_time(
        steps in proptest::collection::vec((0..4_usize, 0..5_u8), 1..200),
    ) {
        let counts = [2_u8, 2, 4, 3];
        let mut at = [At::Rests; 4];
        let mut in_force = counts[0];
        for (who, what) in steps {
            let mine = counts[who];
            let foreign = (0..4).any(|other| at[other] != At::Rests && counts[other] != mine);
            match (what, at[who]) {
                (0, At::Rests) => at[who] = At::Holds,
                // Even if somebody puts a number in force that others work by.
                (1, _) => in_force = mine,
                (2, At::Holds) => {
                    let seen = view(in_force, &[], if foreign { &["b/16"] } else { &["-"] });
                    if seen.may_begin(count(mine)) {
                        at[who] = At::Works;
                    }
                }
                (3, _) => at[who] = At::Rests,
                _ => {}
            }
            let working: BTreeSet<_> = (0..4).filter(|who| at[*who] == At::Works).map(|who| counts[who]).collect();
            prop_assert!(working.len() <= 1, "{at:?}");
        }
    }
}

#[test]
fn a_member_without_shards_gets_some_when_another_is_gone() {
    let holders = [(shard(0), "gone".to_owned()), (shard(1), "b".to_owned())].into();
    let fair = fair(count(2), &names(&["b", "c"]), &holders);
    assert_eq!((fair[&shard(0)].as_str(), fair[&shard(1)].as_str()), ("c", "b"));
}
