//! When calls are due, and which. Pure; it must not know how they are made.

use std::time::Duration;

use rand::{Rng, seq::IndexedRandom as _};

/// So many users are created first, so that there is something to read.
const FIRST_USERS: u64 = 10;
/// How many of the own users are asked for.
const REMEMBERED: usize = 200;

/// A fixed rate: the n-th call is due n periods after the start, however slow the answers are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    rate: f64,
}

impl Schedule {
    /// `rate` is in calls a second.
    pub(super) fn new(rate: f64) -> Self {
        Self { rate }
    }

    /// How long after the start a call is due.
    #[expect(clippy::cast_precision_loss, reason = "a load generator does not make 2^52 calls")]
    pub(super) fn due(self, call: u64) -> Duration {
        Duration::try_from_secs_f64(call as f64 / self.rate).unwrap_or(Duration::MAX)
    }
}

/// What a call is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    Create { email: String },
    Get { id: String },
    List,
}

impl Order {
    pub(super) fn method(&self) -> &'static str {
        match self {
            Self::Create { .. } => "CreateUser",
            Self::Get { .. } => "GetUser",
            Self::List => "ListUsers",
        }
    }
}

/// Chooses what the calls are: mostly lists and new users. The arms of a service may not share users, so that one which
/// was created by one of them is unknown to the other.
#[derive(Debug)]
pub(super) struct Mix {
    run: u64,
    created: u64,
    ids: Vec<String>,
}

impl Mix {
    /// `run` sets the e-mail addresses of this load generator apart from all others.
    pub(super) fn new(run: u64) -> Self {
        Self {
            run,
            created: 0,
            ids: Vec::new(),
        }
    }

    pub(super) fn next(&mut self, rng: &mut impl Rng) -> Order {
        let draw = rng.random_range(0..100);
        if self.created < FIRST_USERS || draw < 30 {
            self.created += 1;
            let email = format!("load-{:x}-{}@example.com", self.run, self.created);
            return Order::Create { email };
        }
        match self.ids.choose(rng) {
            Some(id) if draw < 50 => Order::Get { id: id.clone() },
            _ => Order::List,
        }
    }

    /// A user was created.
    pub(super) fn remember(&mut self, id: String, rng: &mut impl Rng) {
        if self.ids.len() < REMEMBERED {
            self.ids.push(id);
        } else {
            let place = rng.random_range(0..REMEMBERED);
            if let Some(old) = self.ids.get_mut(place) {
                *old = id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::{SeedableRng as _, rngs::SmallRng};

    use super::*;

    #[test]
    fn calls_are_due_at_a_fixed_rate() {
        let schedule = Schedule::new(50.0);
        assert_eq!(schedule.due(0), Duration::ZERO);
        assert_eq!(schedule.due(25), Duration::from_millis(500));
        assert_eq!(schedule.due(3_000), Duration::from_mins(1));
    }

    #[test]
    fn users_are_created_first_and_no_address_comes_twice() {
        let (mut mix, mut rng) = (Mix::new(10), SmallRng::seed_from_u64(7));
        let orders: Vec<_> = (0..1_000).map(|_| mix.next(&mut rng)).collect();
        let first = orders.iter().take(10);
        assert!(first.clone().all(|order| order.method() == "CreateUser"));
        let creates: Vec<_> = orders.iter().filter(|order| order.method() == "CreateUser").collect();
        assert_eq!(
            creates
                .iter()
                .map(|order| format!("{order:?}"))
                .collect::<BTreeSet<_>>()
                .len(),
            creates.len()
        );
        assert!((250..=370).contains(&creates.len()), "{}", creates.len());
    }

    #[test]
    fn nobody_is_asked_for_before_somebody_was_created() {
        let (mut mix, mut rng) = (Mix::new(10), SmallRng::seed_from_u64(7));
        assert!((0..1_000).all(|_| mix.next(&mut rng).method() != "GetUser"));
        mix.remember("u1".to_owned(), &mut rng);
        let gets = (0..1_000)
            .filter(|_| mix.next(&mut rng) == Order::Get { id: "u1".to_owned() })
            .count();
        assert!((140..=260).contains(&gets), "{gets}");
    }
}
