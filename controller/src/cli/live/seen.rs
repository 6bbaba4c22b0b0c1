//! What a watch told of rollouts so far, and what each event of it changes. Pure; it must not know where that is shown.

use std::collections::{BTreeMap, BTreeSet};

use kube::runtime::watcher::Event;

use crate::api::CanaryRollout;
use crate::board::Key;

/// All that was told.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) rollouts: BTreeMap<Key, CanaryRollout>,
    /// Those of a list that is not whole yet.
    listed: Option<BTreeSet<Key>>,
}

/// What an event changed.
#[derive(Debug)]
pub(super) enum Change {
    /// One is new, or was this before.
    Told(Key, Option<Box<CanaryRollout>>),
    /// One is gone.
    Gone(Box<CanaryRollout>),
}

impl Seen {
    /// What went while nobody watched is found by the list that comes then.
    pub(super) fn take(&mut self, event: Event<CanaryRollout>) -> Vec<Change> {
        match event {
            Event::Init => {
                self.listed = Some(BTreeSet::new());
                vec![]
            }
            Event::InitApply(rollout) => {
                if let Some(listed) = &mut self.listed {
                    listed.insert(Key::of(&rollout));
                }
                self.put(rollout)
            }
            Event::Apply(rollout) => self.put(rollout),
            Event::InitDone => {
                let listed = self.listed.take().unwrap_or_default();
                let gone = self.rollouts.extract_if(.., |key, _| !listed.contains(key));
                gone.map(|(_, rollout)| Change::Gone(Box::new(rollout))).collect()
            }
            Event::Delete(rollout) => {
                self.rollouts.remove(&Key::of(&rollout));
                vec![Change::Gone(Box::new(rollout))]
            }
        }
    }

    fn put(&mut self, rollout: CanaryRollout) -> Vec<Change> {
        let key = Key::of(&rollout);
        let before = self.rollouts.insert(key.clone(), rollout);
        vec![Change::Told(key, before.map(Box::new))]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::rollout::minimal;

    fn named(name: &str) -> CanaryRollout {
        let mut rollout = minimal(&json!({}));
        rollout.metadata.name = Some(name.to_owned());
        rollout
    }

    #[test]
    fn one_that_went_while_nobody_watched_is_gone_when_the_list_is_whole() {
        let mut seen = Seen::default();
        for event in [
            Event::Init,
            Event::InitApply(named("a")),
            Event::InitApply(named("b")),
            Event::InitDone,
        ] {
            assert!(!seen.take(event).iter().any(|change| matches!(change, Change::Gone(_))));
        }
        seen.take(Event::Init);
        let [Change::Told(_, Some(_))] = &seen.take(Event::InitApply(named("b")))[..] else {
            panic!("b was known")
        };
        assert_eq!(seen.rollouts.len(), 2, "nothing is gone before the list is whole");
        let [Change::Gone(gone)] = &seen.take(Event::InitDone)[..] else {
            panic!("a is gone")
        };
        assert_eq!(gone.metadata.name.as_deref(), Some("a"));
        assert_eq!(seen.rollouts.len(), 1);
    }
}
