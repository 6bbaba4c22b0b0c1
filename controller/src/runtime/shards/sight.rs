//! From the Leases and announcements that were read to what a replica goes by: who lives, by this process's own clock. Pure: it must not
//! know the API server.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt as _;

use super::super::lease::DURATION;
use super::plan::{Seat, View};
use super::{Count, MOST, Shard};

/// On a Lease: how many shards its holder counts. On the announcements: the number in force.
pub(super) const SHARDS: &str = "serin.dev/shards";
/// What an announcement's key begins with.
const MEMBER: &str = "members.serin.dev/";
/// So long whoever should have a shard is waited for.
const LEFT: Duration = Duration::from_secs(2);
/// So long a replica has to live before others hand shards over to it: one that dies at its start over and over takes none along.
const SETTLED: Duration = Duration::from_secs(5);
/// Announcements of the dead are taken away after so long.
const SWEPT: Duration = Duration::from_secs(60);

/// What a replica says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Announcement {
    pub(super) identity: String,
    pub(super) count: Count,
    /// Another one each time: it is the change that is a sign of life.
    pub(super) beat: u64,
}

impl Announcement {
    /// The annotation's key: an identity may be too long for one.
    pub(super) fn key(identity: &str) -> String {
        format!("{MEMBER}{:016x}", super::score(&[], &[identity]))
    }

    pub(super) fn value(&self) -> String {
        format!("{} {} {}", self.identity, self.count, self.beat)
    }

    fn parse(value: &str) -> Option<Self> {
        let mut words = value.split(' ');
        Some(Self {
            identity: words.next()?.to_owned(),
            count: words.next()?.parse().ok()?,
            beat: words.next()?.parse().ok()?,
        })
    }
}

/// The last sign of life.
#[derive(Debug, Clone)]
struct Sign {
    seen: String,
    /// When it was seen first, by our clock.
    at: Instant,
    /// When anything was seen first.
    since: Instant,
}

/// What was seen before, to tell what has changed since.
#[derive(Debug)]
pub(super) struct Sight {
    name: String,
    us: Arc<str>,
    signs: HashMap<String, Sign>,
}

/// What was seen in one look.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) view: View,
    /// The Leases, by shard, as they were read.
    pub(super) leases: BTreeMap<Shard, Lease>,
    /// The announcements, as they were read.
    pub(super) members: Option<Lease>,
    /// Keys of announcements of those who are long dead.
    pub(super) dead: Vec<String>,
}

impl Sight {
    pub(super) fn new(name: &str, us: Arc<str>) -> Self {
        Self {
            name: name.to_owned(),
            us,
            signs: HashMap::new(),
        }
    }

    /// The name of the announcements.
    pub(super) fn members_name(name: &str) -> String {
        format!("{name}-members")
    }

    /// `has` tells which shards are this process's, whatever the Lease says of it.
    pub(super) fn look(&mut self, objects: Vec<Lease>, has: impl Fn(Shard) -> bool, now: Instant) -> Seen {
        let mut objects: HashMap<String, Lease> = objects.into_iter().map(|lease| (lease.name_any(), lease)).collect();
        let members = objects.remove(&Self::members_name(&self.name));
        let mut leases = BTreeMap::new();
        let mut seats = BTreeMap::new();
        // Whoever let a lease expire lives no more, whatever was announced.
        let mut expired = BTreeSet::new();
        for shard in (0..MOST).map(Shard) {
            let name = shard.lease(&self.name);
            let lease = objects.remove(&name);
            let holder = lease.as_ref().and_then(holder);
            let sign = self.sign(&name, lease.as_ref().map(life).unwrap_or_default(), now);
            let silent = now.duration_since(sign.at);
            let seat = match holder {
                Some(holder) if holder == *self.us => Seat::Ours,
                Some(holder) if silent <= DURATION => Seat::Anothers {
                    holder,
                    count: lease.as_ref().map_or(Count::ONE, counted),
                },
                Some(holder) => {
                    expired.insert(holder);
                    Seat::Free {
                        is_left: silent > DURATION + LEFT,
                    }
                }
                None if has(shard) => Seat::Ours,
                None => Seat::Free { is_left: silent > LEFT },
            };
            seats.insert(shard, seat);
            leases.extend(lease.map(|lease| (shard, lease)));
        }
        let (mut others, mut dead) = (Vec::new(), Vec::new());
        let annotations = members
            .as_ref()
            .map(|members| members.annotations().clone())
            .unwrap_or_default();
        for (key, value) in annotations.iter().filter(|(key, _)| key.starts_with(MEMBER)) {
            let sign = self.sign(key, value.clone(), now);
            let (silent, age) = (now.duration_since(sign.at), now.duration_since(sign.since));
            let Some(said) = Announcement::parse(value).filter(|_| silent <= DURATION) else {
                if silent > SWEPT {
                    dead.push(key.clone());
                }
                continue;
            };
            if said.identity == *self.us || expired.contains(&said.identity) {
                continue;
            }
            others.push((said, age >= SETTLED));
        }
        self.signs
            .retain(|key, _| annotations.contains_key(key) || !key.starts_with(MEMBER));
        Seen {
            view: View {
                in_force: annotations.get(SHARDS).and_then(|count| count.parse().ok()),
                counts: others.iter().map(|(said, _)| said.count).collect(),
                ready: others
                    .into_iter()
                    .filter(|(_, is_settled)| *is_settled)
                    .map(|(said, _)| (said.identity, said.count))
                    .collect(),
                seats,
            },
            leases,
            members,
            dead,
        }
    }

    fn sign(&mut self, key: &str, seen: String, now: Instant) -> Sign {
        let sign = self.signs.entry(key.to_owned()).or_insert_with(|| Sign {
            seen: seen.clone(),
            at: now,
            since: now,
        });
        if sign.seen != seen {
            sign.seen = seen;
            sign.at = now;
        }
        sign.clone()
    }
}

/// Who holds it.
pub(super) fn holder(lease: &Lease) -> Option<String> {
    let holder = lease.spec.as_ref()?.holder_identity.clone();
    holder.filter(|holder| !holder.is_empty())
}

/// What changes when the holder lives.
fn life(lease: &Lease) -> String {
    let spec = lease.spec.as_ref();
    let renewed = spec.and_then(|spec| spec.renew_time.as_ref());
    format!("{:?} {:?}", holder(lease), renewed.map(|time| time.0))
}

/// How many shards its holder counts.
fn counted(lease: &Lease) -> Count {
    let said = lease.annotations().get(SHARDS);
    said.and_then(|count| count.parse().ok()).unwrap_or(Count::ONE)
}

#[cfg(test)]
#[path = "sight_tests.rs"]
mod tests;
