//! Over any sequence of transitions, deliveries, failed writes and restarts each transition is told at least once, and exactly once
//! unless the process died between a receiver's answer and the status that records it.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::*;
use super::stand::{began, said};
use crate::api::{NotifyOn, NotifySpec, NotifyStatus, Receiver, parse_receivers};

#[derive(Debug, Clone, Copy)]
enum Act {
    /// Something happens, and its status is written; or the write is lost, and the decision made again.
    Happens { written: bool },
    /// Receiver so-and-so takes the oldest letter on its way to it.
    Takes(usize),
    /// It refuses it for ever.
    Refuses(usize),
    /// What became of letters is recorded.
    Records,
    /// The process dies, and another one begins.
    Dies,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        3 => any::<bool>().prop_map(|written| Act::Happens { written }),
        5 => (0..2_usize).prop_map(Act::Takes),
        1 => (0..2_usize).prop_map(Act::Refuses),
        3 => Just(Act::Records),
        1 => Just(Act::Dies),
    ];
    prop::collection::vec(act, 1..60)
}

/// The reconciler, a receiver that never fails to take, and what outlives them: status and what receivers have.
#[derive(Default)]
struct World {
    stands: Option<NotifyStatus>,
    /// Of this process: letters on their way and outcomes.
    going: BTreeSet<(i64, String)>,
    done: Vec<Done>,
    /// By receiver and announcement: how often it was taken.
    taken: BTreeMap<(String, i64), usize>,
    refused: BTreeSet<(String, i64)>,
    /// Taken by a receiver, not recorded, and the process has died since.
    lost: BTreeSet<(String, i64)>,
    happened: i64,
}

impl World {
    fn decide(&mut self, receivers: &[Receiver], happens: bool, written: bool) {
        let news = if happens {
            vec![said(NotifyOn::Paused, "x")]
        } else {
            vec![]
        };
        let (after, dropped) = next(self.stands.as_ref(), news, receivers, &self.done, Some(began()));
        assert_eq!(dropped, 0);
        if !written {
            return;
        }
        self.happened += i64::from(happens);
        self.stands = after;
        self.done.clear();
        for one in self.stands.iter().flat_map(|outbox| &outbox.pending) {
            self.going
                .extend(one.receivers.iter().map(|receiver| (one.id, receiver.clone())));
        }
    }

    fn take(&mut self, receiver: &str, refuses: bool) {
        let Some(letter) = self.going.iter().find(|(_, to)| to == receiver).cloned() else {
            return;
        };
        self.going.remove(&letter);
        let key = (letter.1.clone(), letter.0);
        if refuses {
            self.refused.insert(key);
        } else {
            *self.taken.entry(key).or_default() += 1;
        }
        self.done.push(Done {
            id: letter.0,
            receiver: letter.1,
            thread: None,
            failed: refuses.then(|| "no".to_owned()),
        });
    }

    fn die(&mut self) {
        let taken = self.done.drain(..).filter(|done| done.failed.is_none());
        self.lost.extend(taken.map(|done| (done.receiver, done.id)));
        self.going.clear();
    }
}

fn receivers() -> Vec<Receiver> {
    let hook =
        |name: &str| format!("{{name: {name}, webhook: {{url: 'https://example.com', secretRef: {{name: s}}}}}}");
    let specs: Vec<NotifySpec> = serde_saphyr::from_str(&format!("[{}, {}]", hook("a"), hook("b"))).unwrap();
    parse_receivers("spec.notify", &specs).unwrap()
}

proptest! {
    #[test]
    fn each_transition_is_told_at_least_once_and_twice_only_where_the_answer_was_lost(acts in acts()) {
        let (receivers, mut world) = (receivers(), World::default());
        for act in acts {
            match act {
                // A rollout waits for a person more often than for so many announcements.
                Act::Happens { .. } if world.stands.as_ref().is_some_and(|o| o.pending.len() >= MOST) => {}
                Act::Happens { written } => world.decide(&receivers, true, written),
                Act::Takes(to) => world.take(&receivers[to].id, false),
                Act::Refuses(to) => world.take(&receivers[to].id, true),
                Act::Records => world.decide(&receivers, false, true),
                Act::Dies => world.die(),
            }
            let pending = world.stands.iter().flat_map(|outbox| &outbox.pending).count();
            prop_assert!(pending <= MOST);
        }
        // In the end everything is taken.
        world.decide(&receivers, false, true);
        while !world.going.is_empty() {
            for receiver in &receivers {
                world.take(&receiver.id, false);
            }
        }
        world.decide(&receivers, false, true);
        prop_assert!(world.stands.iter().all(|outbox| outbox.pending.is_empty()));
        for receiver in &receivers {
            for id in 1..=world.happened {
                let key = (receiver.id.clone(), id);
                let times = world.taken.get(&key).copied().unwrap_or(0);
                prop_assert!(times >= 1 || world.refused.contains(&key), "{key:?} was never told");
                prop_assert!(times <= 1 || world.lost.contains(&key), "{key:?} was told {times} times");
            }
        }
    }
}

#[test]
fn more_than_fit_lose_steps_first_and_say_so() {
    let mut news: Vec<_> = (0..MOST).map(|_| said(NotifyOn::Step, "x")).collect();
    news.push(said(NotifyOn::RollingBack, "y"));
    news.push(said(NotifyOn::RolledBack, "z"));
    let (outbox, dropped) = next(None, news, &receivers(), &[], None);
    let pending = outbox.unwrap().pending;
    assert_eq!((pending.len(), dropped), (MOST, 2));
    assert_eq!((pending[0].id, pending[MOST - 1].event.as_str()), (3, "RolledBack"));
}

#[test]
fn a_receiver_that_is_no_longer_named_is_not_waited_for_and_without_receivers_there_is_no_outbox() {
    let all = receivers();
    let (outbox, _) = next(None, vec![said(NotifyOn::Paused, "x")], &all, &[], None);
    let outbox = outbox.unwrap();
    assert_eq!(outbox.pending[0].receivers, ["a", "b"]);
    let (less, _) = next(Some(&outbox), vec![], &all[1..], &[], None);
    assert_eq!(less.unwrap().pending[0].receivers, ["b"]);
    assert_eq!(next(None, vec![said(NotifyOn::Paused, "x")], &[], &[], None).0, None);
}

#[test]
fn the_outbox_stays_small() {
    let mut longest = said(NotifyOn::Paused, &"ä".repeat(2000));
    longest.message = super::super::news::cut(&longest.message, 300);
    let (outbox, _) = next(None, vec![longest; 50], &receivers(), &[], None);
    let size = serde_json::to_string(&outbox).unwrap().len();
    assert!(size <= 24 * 1024, "{size} bytes");
}
