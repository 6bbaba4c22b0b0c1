//! Who lives, and what is free.

use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::ObjectMeta;

use super::super::super::lease::{FOLLOWING, RENEWING, TIMEOUT};
use super::*;

fn object(name: &str, annotations: &[(String, String)], holder: Option<&str>, renewed: i64) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            annotations: Some(annotations.iter().cloned().collect()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            renew_time: jiff::Timestamp::from_second(renewed).ok().map(MicroTime),
            ..LeaseSpec::default()
        }),
    }
}

fn lease(index: u8, holder: Option<&str>, renewed: i64) -> Lease {
    object(
        &Shard(index).lease("serin"),
        &[(SHARDS.to_owned(), "4".to_owned())],
        holder,
        renewed,
    )
}

fn members(said: &[(&str, &str, u64)]) -> Lease {
    let one = |(identity, count, beat): &(&str, &str, u64)| {
        let said = Announcement {
            identity: (*identity).to_owned(),
            count: count.parse().unwrap(),
            beat: *beat,
        };
        (Announcement::key(identity), said.value())
    };
    let mut annotations: Vec<_> = said.iter().map(one).collect();
    annotations.push((SHARDS.to_owned(), "4".to_owned()));
    object("serin-members", &annotations, None, 0)
}

struct Looks {
    sight: Sight,
    begun: Instant,
}

impl Looks {
    fn begin() -> Self {
        Self {
            sight: Sight::new("serin", "a_1".into()),
            begun: Instant::now(),
        }
    }

    fn at(&mut self, seconds: u64, objects: Vec<Lease>) -> View {
        self.sight
            .look(objects, |_| false, self.begun + Duration::from_secs(seconds))
            .view
    }
}

fn seat(view: &View, index: u8) -> &Seat {
    &view.seats[&Shard(index)]
}

#[test]
fn a_killed_replicas_shards_are_taken_within_15_s_and_an_expected_one_that_does_not_come_costs_2_s_more_than_a_look() {
    assert!(DURATION + 2 * FOLLOWING + TIMEOUT <= Duration::from_secs(15));
    assert!(LEFT > FOLLOWING, "whoever should have it looks first");
    assert!(SETTLED > 2 * RENEWING && SETTLED < DURATION);
}

#[test]
fn a_holder_lives_as_long_as_it_writes_anything() {
    let mut looks = Looks::begin();
    let is_held = |view: &View| matches!(seat(view, 0), Seat::Anothers { .. });
    assert!(
        is_held(&looks.at(0, vec![lease(0, Some("b_2"), 100)])),
        "seen for the first time"
    );
    // Its own clock may say what it wants: it is the change that counts.
    assert!(is_held(&looks.at(9, vec![lease(0, Some("b_2"), 7)])));
    assert!(is_held(&looks.at(19, vec![lease(0, Some("b_2"), 7)])));
    assert_eq!(
        *seat(&looks.at(20, vec![lease(0, Some("b_2"), 7)]), 0),
        Seat::Free { is_left: false }
    );
    assert_eq!(
        *seat(&looks.at(22, vec![lease(0, Some("b_2"), 7)]), 0),
        Seat::Free { is_left: true }
    );
}

#[test]
fn a_lease_that_was_let_go_of_is_free_at_once() {
    let mut looks = Looks::begin();
    looks.at(0, vec![lease(1, Some("b_2"), 1)]);
    let view = looks.at(1, vec![lease(1, None, 1)]);
    assert_eq!(*seat(&view, 1), Seat::Free { is_left: false });
    assert_eq!(*seat(&view, 3), Seat::Free { is_left: false }, "there is no such lease");
    assert_eq!(
        *seat(&looks.at(4, vec![lease(1, None, 1)]), 3),
        Seat::Free { is_left: true }
    );
}

#[test]
fn what_this_process_has_is_its_own_though_somebody_emptied_the_lease() {
    let mut looks = Looks::begin();
    let seen = looks
        .sight
        .look(vec![lease(0, None, 1)], |shard| shard == Shard::FIRST, looks.begun);
    assert_eq!(*seat(&seen.view, 0), Seat::Ours);
}

#[test]
fn a_replica_is_given_shards_when_it_has_lived_for_a_while_and_none_once_it_is_silent() {
    let mut looks = Looks::begin();
    let said = |beat| vec![members(&[("b_2", "4", beat), ("a_1", "4", 1)])];
    assert_eq!(looks.at(0, said(1)).ready.len(), 0, "it is young");
    assert_eq!(looks.at(4, said(2)).counts.len(), 1, "it counts nevertheless");
    assert_eq!(looks.at(6, said(3)).ready.into_keys().collect::<Vec<_>>(), ["b_2"]);
    assert_eq!(looks.at(17, said(3)).ready.len(), 0, "it is silent");
    // A lease that it lets expire tells the same, earlier.
    let both = |beat| vec![members(&[("b_2", "4", beat)]), lease(2, Some("b_2"), 1)];
    assert_eq!(looks.at(18, both(4)).ready.len(), 1);
    let view = looks.at(29, both(5));
    assert_eq!((view.ready.len(), seat(&view, 2)), (0, &Seat::Free { is_left: false }));
}

#[test]
fn announcements_of_the_dead_are_swept_and_nonsense_is_nobodys() {
    let mut looks = Looks::begin();
    let mut said = members(&[("b_2", "4", 1)]);
    said.annotations_mut()
        .insert(format!("{MEMBER}x"), "who knows".to_owned());
    looks.at(0, vec![said.clone()]);
    let seen = looks
        .sight
        .look(vec![said], |_| false, looks.begun + Duration::from_secs(61));
    assert_eq!(seen.dead.len(), 2);
    assert!(seen.view.counts.is_empty());
    assert_eq!(seen.view.in_force.map(|count| count.to_string()).as_deref(), Some("4"));
}

#[test]
fn the_key_of_an_announcement_is_short_whatever_a_pod_is_called() {
    let long = "x".repeat(253);
    let key = Announcement::key(&long);
    assert!(key.split_once('/').unwrap().1.len() <= 63, "{key}");
    assert_ne!(key, Announcement::key("b_2"));
}
