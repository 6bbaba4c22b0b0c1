//! Places for those who ask: so many at a time, and fewer for one namespace, so that a tenant whose hooks hang leaves others theirs.
//! It must not know what a place is for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Namespaces that nobody asks for are forgotten when there are so many.
const MANY: usize = 64;

/// The places of all.
pub(super) struct Places {
    all: Arc<Semaphore>,
    each: usize,
    namespaces: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// A place; it is free again when this is dropped.
pub(super) struct Place {
    _own: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Places {
    /// So many at a time, and no more than `each` of one namespace.
    pub(super) fn new(all: usize, each: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(all)),
            each,
            namespaces: Mutex::default(),
        }
    }

    /// Waits for a place of this namespace; none when there will be none any more.
    pub(super) async fn take(&self, namespace: &str) -> Option<Place> {
        // The namespace's own first: who waits for it holds nobody else up.
        let own = self.of(namespace).acquire_owned().await.ok()?;
        let of_all = self.all.clone().acquire_owned().await.ok()?;
        Some(Place {
            _own: own,
            _of_all: of_all,
        })
    }

    fn of(&self, namespace: &str) -> Arc<Semaphore> {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        if namespaces.len() >= MANY {
            // Whoever holds a place or waits for one holds the semaphore.
            namespaces.retain(|_, own| Arc::strong_count(own) > 1);
        }
        let own = namespaces.entry(namespace.to_owned());
        own.or_insert_with(|| Arc::new(Semaphore::new(self.each))).clone()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn a_namespace_whose_hooks_hang_leaves_the_others_their_places() {
        let places = Places::new(8, 2);
        let take = |namespace: &str| places.take(namespace).now_or_never().flatten();
        let hanging: Vec<_> = (0..2).map(|_| take("greedy").unwrap()).collect();
        assert!(take("greedy").is_none(), "it has had its places");
        let others: Vec<_> = ["a", "a", "b", "b", "c", "c"]
            .map(|namespace| take(namespace).unwrap())
            .into();
        assert!(take("d").is_none(), "nobody has more than all");
        drop(hanging);
        assert!(take("greedy").is_some());
        drop(others);
    }

    #[test]
    fn namespaces_that_nobody_asks_for_are_forgotten() {
        let places = Places::new(1_000, 2);
        let held = places.take("held").now_or_never().flatten();
        for nth in 0..10 * MANY {
            assert!(places.take(&nth.to_string()).now_or_never().flatten().is_some());
        }
        let known = places.namespaces.lock().unwrap();
        assert!(known.len() <= MANY && known.contains_key("held"), "{}", known.len());
        drop(held);
    }
}
