//! How the percentiles of latency went in the present trial: a bounded ring, for charts and lines. It must not know what is drawn.

use std::collections::VecDeque;

use crate::api::{CanaryRolloutStatus, LatencyStatus};

/// An hour where each rollout is asked for once a minute, and twenty minutes where it is every 20 s.
const MOST: usize = 60;

/// The last readings of a trial. Statuses keep only the newest one: here are those that this process has seen.
#[derive(Debug, Default)]
pub struct Percentiles {
    trial: Option<String>,
    seen: VecDeque<LatencyStatus>,
}

impl Percentiles {
    /// Keeps what a status says, if it is a new reading. Those of the trial before go with the first of the next.
    pub fn add(&mut self, status: &CanaryRolloutStatus) {
        let Some(latency) = &status.latency else { return };
        if self.trial != status.trial {
            self.trial.clone_from(&status.trial);
            self.seen.clear();
        }
        if self.seen.iter().any(|seen| seen.as_of == latency.as_of) {
            return;
        }
        if self.seen.len() >= MOST {
            self.seen.pop_front();
        }
        self.seen.push_back(latency.as_ref().clone());
    }

    /// All of them, oldest first.
    pub fn all(&self) -> Vec<LatencyStatus> {
        self.seen.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(trial: &str, second: usize) -> CanaryRolloutStatus {
        let at = jiff::Timestamp::from_second(i64::try_from(second).unwrap()).unwrap();
        let arm = json!({"p50Ms": second, "p95Ms": 2 * second, "p99Ms": 3 * second});
        serde_json::from_value(json!({"trial": trial, "latency": {"asOf": at, "canary": arm}})).unwrap()
    }

    #[test]
    fn a_reading_is_kept_once_and_the_oldest_go() {
        let mut percentiles = Percentiles::default();
        for second in 1..=2 * MOST {
            percentiles.add(&read("a", second));
            percentiles.add(&read("a", second));
            percentiles.add(&CanaryRolloutStatus::default());
        }
        let all = percentiles.all();
        let [first, .., last] = all.as_slice() else {
            unreachable!("there are {MOST}")
        };
        let p50 = |of: &LatencyStatus| usize::try_from(of.canary.unwrap().p50_ms).unwrap();
        assert_eq!((all.len(), p50(first), p50(last)), (MOST, MOST + 1, 2 * MOST));
    }

    #[test]
    fn readings_of_one_trial_are_not_drawn_on_by_those_of_the_next() {
        let mut percentiles = Percentiles::default();
        percentiles.add(&read("a", 1));
        percentiles.add(&CanaryRolloutStatus::default());
        assert_eq!(percentiles.all().len(), 1, "it is over, and stays to be seen");
        percentiles.add(&read("b", 2));
        assert_eq!(percentiles.all(), [*read("b", 2).latency.unwrap()]);
    }
}
