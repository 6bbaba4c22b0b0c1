//! What a rollout looked like at each of its last changes: a bounded ring, for charts. It must not know what is drawn.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::Serialize;

use crate::api::{CanaryRolloutStatus, Word};

/// An hour of ticks of 20 s. A rollout at rest does not change, so that of thousands only those on trial fill theirs.
const MOST: usize = 180;
/// Metrics in one mark: success, the latencies, eight of the user's own.
const MOST_METRICS: usize = 16;

/// One moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    /// When.
    pub at: Timestamp,
    /// The phase.
    pub phase: Word,
    /// The canary's share that Serin wanted, in percent.
    pub wanted: i32,
    /// The one that the route had.
    pub observed: i32,
    /// How far the evidence of each metric had come; one that nobody counted has none.
    pub evidence: Vec<Leaning>,
}

/// How far the evidence of one metric had come, in percent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leaning {
    /// Its name.
    pub metric: Word,
    /// Towards a failure.
    pub fail: i32,
    /// Towards passing the step.
    pub pass: i32,
}

/// The last marks of a rollout.
#[derive(Debug, Default)]
pub(super) struct Marks(VecDeque<Mark>);

impl Marks {
    /// Marks the present, if anything that is drawn changed.
    pub(super) fn add(&mut self, status: &CanaryRolloutStatus, now: Timestamp) {
        let mark = mark(status, now);
        let same = |last: &Mark| {
            (&last.phase, last.wanted, last.observed, &last.evidence)
                == (&mark.phase, mark.wanted, mark.observed, &mark.evidence)
        };
        if self.0.back().is_some_and(same) {
            return;
        }
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        if self.0.is_empty() {
            // Most have one for as long as they are at rest.
            self.0.reserve_exact(1);
        }
        self.0.push_back(mark);
    }

    pub(super) fn all(&self) -> Vec<Mark> {
        self.0.iter().cloned().collect()
    }
}

fn mark(status: &CanaryRolloutStatus, now: Timestamp) -> Mark {
    let weight = status.weight.unwrap_or_default();
    let counted = status.evidence.iter().filter(|one| one.total > 0).take(MOST_METRICS);
    let evidence = counted.map(|one| Leaning {
        metric: one.metric.as_str().into(),
        fail: one.towards_fail,
        pass: one.towards_pass,
    });
    Mark {
        at: now,
        phase: status.phase.as_deref().unwrap_or_default().into(),
        wanted: weight.wanted,
        observed: weight.observed,
        evidence: evidence.collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn progressing(fail: usize) -> CanaryRolloutStatus {
        serde_json::from_value(json!({
            "phase": "Progressing", "weight": {"wanted": 5, "observed": 0},
            "evidence": [
                {"metric": "success-rate", "total": 9, "towardsFail": fail, "towardsPass": 7},
                {"metric": "nobodys", "total": 0},
            ],
        }))
        .unwrap()
    }

    #[test]
    fn marks_changes_only_and_forgets_the_oldest() {
        let mut marks = Marks::default();
        let at = |second: usize| Timestamp::from_second(i64::try_from(second).unwrap()).unwrap();
        for second in 0..2 * MOST {
            marks.add(&progressing(second), at(second));
            marks.add(&progressing(second), at(second + 1));
        }
        let all = marks.all();
        assert_eq!(all.len(), MOST);
        assert_eq!(all.first().unwrap().at, at(MOST));
        let [first, .., last] = all.as_slice() else {
            unreachable!("there are {MOST}")
        };
        let [one, other] = [first, last].map(|mark| mark.evidence[0].metric.as_str());
        assert!(std::ptr::eq(one, other), "it is kept once");
        assert_eq!((last.wanted, last.observed, last.evidence.len()), (5, 0, 1));
    }
}
