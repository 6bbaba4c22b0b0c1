//! What a rollout looked like at each of its last changes: a bounded ring, for charts. It must not know what is drawn.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::api::CanaryRolloutStatus;

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
    #[serde(serialize_with = "text")]
    pub phase: Arc<str>,
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
    #[serde(serialize_with = "text")]
    pub metric: Arc<str>,
    /// Towards a failure.
    pub fail: i32,
    /// Towards passing the step.
    pub pass: i32,
}

fn text<S: Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text)
}

/// The last marks of a rollout.
#[derive(Debug, Default)]
pub(super) struct Marks(VecDeque<Mark>);

impl Marks {
    /// Marks the present, if anything that is drawn changed.
    pub(super) fn add(&mut self, status: &CanaryRolloutStatus, now: Timestamp) {
        let mark = self.mark(status, now);
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
        self.0.push_back(mark);
    }

    pub(super) fn all(&self) -> Vec<Mark> {
        self.0.iter().cloned().collect()
    }

    fn mark(&self, status: &CanaryRolloutStatus, now: Timestamp) -> Mark {
        let weight = status.weight.unwrap_or_default();
        let counted = status.evidence.iter().filter(|one| one.total > 0).take(MOST_METRICS);
        let evidence = counted.map(|one| Leaning {
            metric: self.name(&one.metric),
            fail: one.towards_fail,
            pass: one.towards_pass,
        });
        let phase = status.phase.as_deref().unwrap_or_default();
        Mark {
            at: now,
            phase: self.known(|mark| &mark.phase, phase),
            wanted: weight.wanted,
            observed: weight.observed,
            evidence: evidence.collect(),
        }
    }

    /// The names of metrics are the same in every mark: they are kept once.
    fn name(&self, metric: &str) -> Arc<str> {
        let last = self.0.back();
        let same = last.and_then(|mark| mark.evidence.iter().find(|one| &*one.metric == metric));
        same.map_or_else(|| metric.into(), |one| one.metric.clone())
    }

    fn known(&self, of: fn(&Mark) -> &Arc<str>, text: &str) -> Arc<str> {
        let last = self.0.back().map(of).filter(|known| &***known == text);
        last.map_or_else(|| text.into(), Arc::clone)
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
        assert!(Arc::ptr_eq(&first.evidence[0].metric, &last.evidence[0].metric));
        assert_eq!((last.wanted, last.observed, last.evidence.len()), (5, 0, 1));
    }
}
