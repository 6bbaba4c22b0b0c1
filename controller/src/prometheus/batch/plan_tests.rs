//! Rounds of questions played without a server.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const TIME: Duration = Duration::from_secs(5);
const SMALL: Option<usize> = Some(32 << 10);

fn weighed(namespace: &str, bytes: Option<usize>) -> Weighed<'_> {
    Weighed {
        namespace,
        bytes,
        length: 6,
        is_apart: false,
        is_pressing: false,
    }
}

/// Asks until nothing is left. A question fails that has one of these in it. Who was answered, how many questions there were, and
/// the plan at the end.
fn played(of: usize, bad: &BTreeSet<usize>, limit: Limit) -> (BTreeSet<usize>, usize, Plan) {
    let mut plan = Plan::new(limit);
    let mut stack = plan.groups(&vec![weighed("prod", SMALL); of]);
    let (mut answered, mut asked) = (BTreeSet::new(), 0);
    while let Some(group) = stack.pop() {
        asked += 1;
        if group.places.iter().any(|place| bad.contains(place)) {
            stack.extend(plan.failed(&group, Why::Other));
        } else {
            plan.succeeded(&group, Duration::from_millis(100));
            answered.extend(group.places);
        }
    }
    (answered, asked, plan)
}

#[test]
fn a_thousand_small_targets_are_one_question() {
    let groups = Plan::new(Limit::default()).groups(&vec![weighed("prod", SMALL); 1_000]);
    assert_eq!(groups.len(), 1);
}

#[test]
fn what_would_be_too_large_an_answer_is_several_by_namespace() {
    let targets: Vec<_> = (0..90)
        .map(|i| weighed(["a", "b", "c"][i % 3], Some(1 << 20)))
        .collect();
    let groups = Plan::new(Limit::default()).groups(&targets);
    assert_eq!(groups.iter().map(|g| g.places.len()).collect::<Vec<_>>(), [48, 42]);
    let namespaces = |group: &Group| {
        group
            .places
            .iter()
            .map(|i| targets[*i].namespace)
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(namespaces(&groups[0]), BTreeSet::from(["a", "b"]));
    assert_eq!(namespaces(&groups[1]), BTreeSet::from(["b", "c"]));
}

#[test]
fn what_is_pressing_is_asked_first_and_alone() {
    let mut targets = vec![weighed("a", None); 5];
    targets[1].is_pressing = true;
    targets[4].is_pressing = true;
    let mut groups = Plan::new(Limit::default()).groups(&targets);
    let first = groups.pop().unwrap();
    assert_eq!((first.is_pressing, first.places), (true, vec![1, 4]));
    let others = groups.pop().unwrap();
    assert_eq!((others.is_pressing, others.places), (false, vec![0, 2, 3]));
}

#[test]
fn a_large_question_takes_the_room_of_several() {
    let takes = |bytes| {
        let groups = Plan::new(Limit::default()).groups(&[weighed("a", Some(bytes))]);
        groups[0].takes()
    };
    assert_eq!(
        [0, LARGEST / 3, LARGEST / 2, LARGEST, 2 * LARGEST].map(takes),
        [1, 1, 2, 3, 3]
    );
}

#[test]
fn a_question_of_the_largest_weight_holds_what_may_be_held() {
    let held = 1 << 20;
    let groups = Plan::new(Limit::default()).groups(&vec![weighed("a", Some(weight(0, held))); 1_000]);
    let most = groups.iter().map(|group| group.places.len() * held).max();
    assert_eq!(most, Some(MOST_HELD));
    assert_eq!(
        weight(3 * held, held),
        3 * held,
        "labels that are not held are in the answer"
    );
}

#[test]
fn an_unknown_target_is_taken_for_a_usual_one() {
    let mut targets = vec![weighed("a", Some(LARGEST / 3)); 3];
    targets.push(weighed("a", None));
    assert_eq!(Plan::new(Limit::default()).groups(&targets).len(), 2);
}

#[test]
fn one_at_fault_among_a_thousand_is_found_and_all_others_are_answered() {
    let bad = BTreeSet::from([617]);
    let (answered, asked, plan) = played(1_000, &bad, Limit::default());
    assert_eq!(answered.len(), 999);
    assert_eq!(plan.at_fault(), [617]);
    assert!(asked <= 1 + 4 * PARTS, "{asked}");
}

#[test]
fn many_at_fault_are_found_too() {
    let bad: BTreeSet<_> = (0..1_000).filter(|i| i % 16 == 3).collect();
    let (answered, _, plan) = played(1_000, &bad, Limit::default());
    assert_eq!(answered.len() + bad.len(), 1_000);
    assert_eq!(plan.at_fault().len(), bad.len());
}

#[test]
fn a_server_that_refuses_everything_is_asked_a_bounded_number_of_times_and_nobody_is_blamed() {
    let (answered, asked, plan) = played(1_000, &(0..1_000).collect(), Limit::default());
    assert!(answered.is_empty());
    assert!(asked <= 1 + CREDIT, "{asked}");
    assert_eq!(plan.at_fault(), [0; 0]);
    assert_eq!(plan.limit(TIME), Limit::default());
}

#[test]
fn where_nobody_is_there_nothing_is_asked_again() {
    let mut plan = Plan::new(Limit::default());
    let group = Group::of((0..1_000).collect(), false);
    assert_eq!(plan.failed(&group, Why::NobodyThere), []);
}

#[test]
fn questions_that_were_too_much_as_a_whole_only_become_smaller_and_grow_again_when_it_is_easy() {
    let mut plan = Plan::new(Limit::default());
    let whole = plan.groups(&vec![weighed("prod", SMALL); 800]).remove(0);
    let parts = plan.failed(&whole, Why::TooMuch);
    assert_eq!(parts.len(), PARTS);
    for part in &parts {
        plan.succeeded(part, TIME / 2);
    }
    let smaller = plan.limit(TIME);
    assert_eq!(smaller, Limit(100));
    let after = |took| {
        let mut plan = Plan::new(smaller);
        for group in plan.groups(&vec![weighed("prod", SMALL); 800]) {
            plan.succeeded(&group, took);
        }
        plan.limit(TIME)
    };
    assert_eq!(after(TIME / 2), Limit(100));
    assert_eq!(after(TIME / 10), Limit(200));
}

#[test]
fn who_was_at_fault_is_asked_for_by_itself() {
    let apart = Weighed {
        is_apart: true,
        ..weighed("a", None)
    };
    let groups = Plan::new(Limit::default()).groups(&[weighed("a", None), apart, weighed("a", None)]);
    let asked: Vec<_> = groups.iter().map(|group| (&*group.places, group.is_apart)).collect();
    assert_eq!(asked, [(&[0, 2][..], false), (&[1], true)]);
}

proptest! {
    #[test]
    fn whoever_is_at_fault_the_others_are_answered(
        of in 1usize..400, bad in prop::collection::btree_set(0usize..400, 0..12), limit in 1usize..500
    ) {
        let bad: BTreeSet<_> = bad.into_iter().filter(|i| *i < of).collect();
        let (answered, _, _) = played(of, &bad, Limit(limit));
        // More than half at fault is the server's own.
        if bad.len() * 4 < of {
            prop_assert!(answered.iter().all(|place| !bad.contains(place)));
            prop_assert_eq!(answered.len() + bad.len(), of);
        }
    }
}
