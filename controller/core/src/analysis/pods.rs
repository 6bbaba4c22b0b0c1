//! Failures by pod: one bad pod or node is a true difference to a test, and a person has to see that it is one. Must not know
//! verdicts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::sequential::Tally;

/// Pods that are remembered; with more of them the later ones are not told apart.
const MOST: usize = 32;
/// Pods that are named.
const NAMED: usize = 3;
/// One pod alone is bad when it has so many failures …
const LEAST: u64 = 5;
/// … and a share of calls failed that is so many times the others'.
const TIMES: f64 = 5.0;

/// What one pod answered in a tick.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodCalls {
    /// Its name.
    pub pod: String,
    /// Calls answered.
    pub requests: u64,
    /// Those that failed.
    pub failures: u64,
}

/// What one pod answered since the trial began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodEvidence {
    /// Its name.
    pub pod: String,
    /// Calls that count against it.
    pub bad: u64,
    /// All its calls.
    pub total: u64,
}

/// The judged arm's pods.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Pods(BTreeMap<String, Tally>);

impl Pods {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn observe(&mut self, pods: &[PodCalls]) {
        for one in pods.iter().filter(|one| one.requests > 0) {
            let tally = Tally::new(one.failures, one.requests);
            if let Some(known) = self.0.get_mut(&one.pod) {
                known.add(&tally);
            } else if self.0.len() < MOST {
                self.0.insert(one.pod.clone(), tally);
            }
        }
    }

    /// The pods with the most failures, where there are pods to tell apart.
    pub(super) fn worst(&self) -> Vec<PodEvidence> {
        if self.0.len() < 2 {
            return Vec::new();
        }
        let mut pods: Vec<_> = self.0.iter().filter(|(_, tally)| tally.bad > 0).collect();
        pods.sort_by_key(|(_, tally)| std::cmp::Reverse(tally.bad));
        let named = pods.into_iter().take(NAMED);
        named
            .map(|(pod, tally)| PodEvidence {
                pod: pod.clone(),
                bad: tally.bad,
                total: tally.total,
            })
            .collect()
    }

    /// A clause about the one pod that is bad while the others are not.
    pub(super) fn alone(&self) -> Option<String> {
        let (pod, worst) = self.0.iter().max_by_key(|(_, tally)| tally.bad)?;
        let mut others = Tally::default();
        for (_, tally) in self.0.iter().filter(|(name, _)| *name != pod) {
            others.add(tally);
        }
        let stands_out = worst.bad >= LEAST && others.total > 0 && worst.rate() >= TIMES * others.rate();
        stands_out.then(|| {
            format!(
                "; pod {pod} alone: {} of its {} calls, {} of {} on the others",
                worst.bad, worst.total, others.bad, others.total
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(pods: &[(&str, u64, u64)]) -> Pods {
        let mut state = Pods::default();
        for (pod, failures, requests) in pods {
            state.observe(&[PodCalls {
                pod: (*pod).to_owned(),
                requests: *requests,
                failures: *failures,
            }]);
        }
        state
    }

    #[test]
    fn one_bad_pod_is_named_with_its_part() {
        let pods = after(&[("a", 0, 40), ("b", 20, 25), ("c", 1, 100), ("b", 15, 15)]);
        assert_eq!(
            pods.alone().unwrap(),
            "; pod b alone: 35 of its 40 calls, 1 of 140 on the others"
        );
        let worst: Vec<_> = pods.worst().iter().map(|p| (p.pod.clone(), p.bad, p.total)).collect();
        assert_eq!(worst, [("b".to_owned(), 35, 40), ("c".to_owned(), 1, 100)]);
    }

    #[test]
    fn pods_that_are_bad_alike_are_not_singled_out() {
        assert_eq!(after(&[("a", 10, 100), ("b", 12, 100)]).alone(), None);
        assert_eq!(after(&[("a", 10, 100)]).alone(), None, "one pod alone is the revision");
        assert!(after(&[("a", 10, 100)]).worst().is_empty());
        assert_eq!(
            after(&[("a", 2, 100), ("b", 0, 100)]).alone(),
            None,
            "two failures are chance"
        );
    }

    #[test]
    fn memory_is_limited() {
        let names: Vec<_> = (0..100).map(|n| format!("pod-{n}")).collect();
        let pods: Vec<_> = names.iter().map(|name| (name.as_str(), 1, 1)).collect();
        assert_eq!(after(&pods).0.len(), MOST);
    }
}
