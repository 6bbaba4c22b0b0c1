//! The labels of series, with each text held once for all series of an answer. Must not know what a label means.

use std::collections::HashSet;
use std::sync::Arc;

/// The labels of one series, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Labels(Box<[(Arc<str>, Arc<str>)]>);

impl Labels {
    /// A label's value; empty when it is absent, as in PromQL.
    pub(super) fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| &**known == name);
        found.map_or("", |(_, value)| value)
    }

    /// Names and values, in the order of the names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// For tests: the same and one more.
    #[cfg(test)]
    pub(super) fn with(&self, name: &str, value: &str) -> Self {
        Names::default().labels(self.iter().chain([(name, value)]))
    }
}

/// The texts that the labels of an answer are made of.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<Arc<str>>);

impl Names {
    /// Labels of these names and values.
    pub(super) fn labels<'a>(&mut self, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Labels {
        let mut labels: Vec<_> = pairs.map(|(name, value)| (self.text(name), self.text(value))).collect();
        labels.sort();
        Labels(labels.into_boxed_slice())
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        self.0.insert(Arc::clone(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_held_once_for_all_series() {
        let mut names = Names::default();
        let one = names.labels([("pod", "a"), ("job", "proxy")].into_iter());
        let other = names.labels([("job", "proxy"), ("pod", "b")].into_iter());
        assert!(Arc::ptr_eq(&one.0[0].1, &other.0[0].1));
        assert_eq!((one.get("pod"), other.get("pod"), one.get("absent")), ("a", "b", ""));
        assert_eq!(one.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["job", "pod"]);
    }
}
