//! To which shard a branch belongs.

use proptest::prelude::*;

use super::*;

fn count(count: u8) -> Count {
    count.to_string().parse().unwrap()
}

#[test]
fn the_shard_of_a_branch_is_the_same_in_every_version() {
    let of = |repository: &str, branch: &str| count(4).shard_of(&["git.example.com", repository, branch]).index();
    assert_eq!(
        [
            of("platform/config", "main"),
            of("platform/config", "prod"),
            of("shop/config", "main"),
            of("", "")
        ],
        [0, 2, 1, 1]
    );
    assert_eq!(Count::ONE.shard_of(&["any"]), Shard::FIRST);
}

#[test]
fn a_thousand_repositories_are_spread_evenly() {
    for shards in 2..=MOST {
        let mut loads = vec![0_usize; usize::from(shards)];
        for repository in 0..1000 {
            loads[count(shards)
                .shard_of(&["git.example.com", &format!("team-{repository}/config"), "main"])
                .index()] += 1;
        }
        let fair = 1000 / usize::from(shards);
        for load in &loads {
            assert!(
                (fair * 6 / 10..=fair * 14 / 10).contains(load),
                "{shards} shards: {loads:?}"
            );
        }
    }
}

#[test]
fn a_number_of_shards_is_from_1_to_16() {
    for bad in ["0", "17", "-1", "many", ""] {
        let words = bad.parse::<Count>().unwrap_err().to_string();
        assert!(words.contains("from 1 to 16"), "{words}");
    }
    assert_eq!(count(16).shards().count(), 16);
}

#[test]
fn the_first_shards_lease_is_the_one_of_a_version_without_shards() {
    let names: Vec<_> = count(3).shards().map(|shard| shard.lease("serin")).collect();
    assert_eq!(names, ["serin", "serin-1", "serin-2"]);
}

proptest! {
    #[test]
    fn one_shard_more_takes_and_the_others_exchange_nothing(words in "[a-z/]{0,20}", shards in 1..MOST) {
        let (before, after) = (count(shards).shard_of(&[&words]), count(shards + 1).shard_of(&[&words]));
        prop_assert!(after == before || after.index() == usize::from(shards));
    }
}
