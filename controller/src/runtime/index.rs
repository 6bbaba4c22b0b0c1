//! Which things are found by what: nearly always one, so a thing costs no more than its place in a list. It must not know what is found.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// Things by what they are found with, in their order.
#[derive(Debug)]
pub struct Index<K, V>(HashMap<K, Vec<V>>);

impl<K, V> Default for Index<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq, V: Ord> Index<K, V> {
    /// From now on the thing is found with this key; once, however often it is said.
    pub fn add(&mut self, key: K, thing: V) {
        let things = self.0.entry(key).or_insert_with(|| Vec::with_capacity(1));
        if let Err(at) = things.binary_search(&thing) {
            things.insert(at, thing);
        }
    }

    /// It is found with this key no more.
    pub fn remove<T>(&mut self, key: &K, thing: &T)
    where
        V: Borrow<T>,
        T: Ord + ?Sized,
    {
        let Some(things) = self.0.get_mut(key) else { return };
        if let Ok(at) = things.binary_search_by(|known| known.borrow().cmp(thing)) {
            things.remove(at);
        }
        if things.is_empty() {
            self.0.remove(key);
        }
    }

    /// All that are found with this key.
    pub fn get<Q>(&self, key: &Q) -> &[V]
    where
        K: Borrow<Q>,
        Q: Hash + Eq,
    {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether nothing is found with anything.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_is_found_once_in_its_order_until_it_is_removed() {
        let mut index = Index::default();
        for thing in ["web", "api", "web"] {
            index.add("prod", thing.to_owned());
        }
        assert_eq!(index.get(&"prod"), ["api", "web"]);
        assert!(index.get(&"dev").is_empty());
        index.remove(&"prod", "shop");
        index.remove(&"prod", "web");
        assert_eq!(index.get(&"prod"), ["api"]);
        index.remove(&"prod", "api");
        assert!(index.is_empty());
    }
}
