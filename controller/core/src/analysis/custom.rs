//! Metrics that users bring: pairs of counters, which go through the same test as success does, and single values, which are
//! held to limits. Knows numbers and limits; a query is a text to it, and who answers it is others' business.
//!
//! A value is no count: there is no bound on false alarms for it, and how many breaches in a row mean something is the user's
//! guess. Values can fail a canary and keep a step from passing; they never pass one.

use serde::{Deserialize, Serialize};

use super::sequential::{Arms, Role, exact};

/// One metric of the user's own; frozen with a trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CustomMetric {
    /// Its name, unique in the rollout.
    pub name: String,
    /// [`Role::Judged`] or [`Role::DryRun`].
    pub role: Role,
    /// What it is.
    pub kind: CustomKind,
}

/// What a user's metric is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CustomKind {
    /// Two counters: all, and the bad ones among them.
    Counts(CustomCounts),
    /// One number.
    Value(CustomValue),
}

/// Two counters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CustomCounts {
    /// The query for the bad ones, with its variables.
    pub bad: String,
    /// The query for all.
    pub total: String,
    /// What bad calls did, for sentences; `None`: they were bad by the metric's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verb: Option<String>,
    /// The least share that must be good, 0 to 1; `None`: only stable is the measure.
    pub objective: Option<f64>,
    /// How much worse than stable a canary may be before that can fail it, a share.
    pub tolerance: f64,
    /// How much worse than stable it must be proven not to be before a step passes, a share.
    pub pass_tolerance: f64,
}

/// One number, with its limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CustomValue {
    /// The query, with its variables.
    pub query: String,
    /// The least that is right.
    pub min: Option<f64>,
    /// The most that is right.
    pub max: Option<f64>,
    /// Ticks in a row outside of the limits that fail the canary, at least 1.
    pub breaches: u32,
    /// Whether each arm has a number of its own.
    pub per_arm: bool,
}

/// What users' metrics were in one tick.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CustomTick {
    /// For each pair of counters, in the order of the metrics.
    pub counts: Vec<Arms>,
    /// For each value, in the order of the metrics.
    pub values: Vec<Reading>,
    /// What could not be read, and is of no fault of the server's: nothing of it is in `counts` or `values`.
    pub unusable: Vec<Unusable>,
}

/// A value at the end of a tick; `None`: the query has no answer, or one that is no finite number.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Reading {
    /// Of the canary; of the whole service if it is not per arm.
    pub canary: Option<f64>,
    /// Of stable.
    pub stable: Option<f64>,
}

/// A metric whose query does not give what it should.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unusable {
    /// Its place among the metrics.
    pub metric: usize,
    /// The field's path in the resource.
    pub field: String,
    /// What is wrong with it and what would be right.
    pub problem: String,
}

/// The memory of one value.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ValueState {
    /// Breaches in a row.
    pub(super) in_a_row: u32,
    /// Breaches since the trial began.
    pub(super) breaches: u64,
    /// Ticks with a value since then.
    pub(super) ticks: u64,
    /// Whether it was within its limits in this step, and is not in breach now.
    pub(super) fine: bool,
    /// Whether the other arm was out of the limits as well at the last tick.
    pub(super) held: bool,
    /// Whether there were too many breaches in a row: that is final.
    pub(super) failed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    other: Option<Number>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Number(#[serde(with = "exact::one")] f64);

impl CustomMetric {
    /// The pair of counters, if it is one.
    pub fn counts(&self) -> Option<&CustomCounts> {
        match &self.kind {
            CustomKind::Counts(counts) => Some(counts),
            CustomKind::Value(_) => None,
        }
    }

    /// The value, if it is one.
    pub fn value(&self) -> Option<&CustomValue> {
        match &self.kind {
            CustomKind::Counts(_) => None,
            CustomKind::Value(value) => Some(value),
        }
    }
}

impl CustomValue {
    fn breaks(&self, value: f64) -> bool {
        self.min.is_some_and(|min| value < min) || self.max.is_some_and(|max| value > max)
    }

    /// Such as "at most 500" or "from 1 to 5".
    fn limits(&self) -> String {
        match (self.min, self.max) {
            (Some(min), Some(max)) => format!("from {} to {}", short(min), short(max)),
            (Some(min), None) => format!("at least {}", short(min)),
            (None, Some(max)) => format!("at most {}", short(max)),
            (None, None) => "anything".to_owned(),
        }
    }
}

impl ValueState {
    /// Begins a step: it has to be seen within its limits anew. Breaches in a row go on.
    pub(super) fn begin_step(&mut self) {
        self.fine = false;
    }

    /// Whether one more breach would be one too many.
    pub(super) fn may_fail_next(&self, spec: &CustomValue) -> bool {
        self.failed || self.in_a_row.saturating_add(1) >= spec.breaches
    }

    /// One tick's value of the judged arm and of the other one. A tick without a value says nothing.
    pub(super) fn observe(&mut self, spec: &CustomValue, judged: Option<f64>, other: Option<f64>) {
        let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
        self.other = finite(other).map(Number);
        let Some(value) = finite(judged) else { return };
        self.last = Some(Number(value));
        self.ticks = self.ticks.saturating_add(1);
        let breach = spec.breaks(value);
        // What stable does as well is not the revision's doing.
        self.held = breach && self.other.is_some_and(|other| spec.breaks(other.0));
        if !breach {
            self.in_a_row = 0;
            self.fine = true;
            return;
        }
        self.breaches = self.breaches.saturating_add(1);
        self.fine = false;
        if !self.held {
            self.in_a_row = self.in_a_row.saturating_add(1);
            self.failed |= self.in_a_row >= spec.breaches;
        }
    }

    /// Such as "memory is 812 on canary, stable 430, at most 500 allowed; 2 of the 3 breaches in a row that fail".
    pub(super) fn sentence(&self, name: &str, spec: &CustomValue) -> String {
        let Some(Number(last)) = self.last else {
            return format!("{name} has no value on canary yet");
        };
        let mut text = format!("{name} is {}", short(last));
        if spec.per_arm {
            text += " on canary";
        }
        if let Some(Number(other)) = self.other {
            text += &format!(", stable {}", short(other));
        }
        text += &format!(", {} allowed", spec.limits());
        if self.held {
            return text + "; stable breaks the limit as well";
        }
        text + &format!(
            "; {} of the {} breaches in a row that fail",
            self.in_a_row, spec.breaches
        )
    }
}

/// A number as a person writes it: up to three decimals.
fn short(value: f64) -> String {
    if value.abs() >= 1e15 {
        return format!("{value:e}");
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> CustomValue {
        CustomValue {
            query: "sum(memory)".to_owned(),
            min: None,
            max: Some(500.0),
            breaches: 3,
            per_arm: true,
        }
    }

    fn after(values: &[(Option<f64>, Option<f64>)]) -> ValueState {
        let mut state = ValueState::default();
        for (judged, other) in values {
            state.observe(&memory(), *judged, *other);
        }
        state
    }

    #[test]
    fn fails_after_enough_breaches_in_a_row_and_not_before() {
        let (bad, good) = ((Some(812.0), Some(430.0)), (Some(400.0), Some(430.0)));
        assert!(!after(&[bad]).may_fail_next(&memory()));
        assert!(!after(&[bad, bad]).failed);
        assert!(after(&[bad, bad]).may_fail_next(&memory()));
        assert!(!after(&[bad, bad, good, bad, bad]).failed);
        assert!(after(&[bad, bad, bad]).failed);
        assert!(after(&[bad, bad, bad, good]).failed, "a failure is final");
    }

    #[test]
    fn a_tick_without_a_value_says_nothing() {
        let bad = (Some(812.0), None);
        assert!(after(&[bad, bad, (None, None), (Some(f64::NAN), None), bad]).failed);
        assert_eq!(after(&[(None, None); 5]), ValueState::default());
    }

    #[test]
    fn what_stable_breaks_as_well_is_not_the_revisions_doing() {
        let state = after(&[(Some(812.0), Some(811.0)); 9]);
        assert!(!state.failed && state.held && !state.fine);
        assert_eq!(
            state.sentence("memory", &memory()),
            "memory is 812 on canary, stable 811, at most 500 allowed; stable breaks the limit as well"
        );
    }

    #[test]
    fn has_to_be_seen_within_its_limits_in_each_step() {
        let mut state = after(&[(Some(1.0), None)]);
        assert!(state.fine);
        state.begin_step();
        assert!(!state.fine);
    }

    #[test]
    fn says_what_a_person_understands() {
        let state = after(&[(Some(812.25), Some(430.0)), (Some(900.0), Some(430.0))]);
        assert_eq!(
            state.sentence("memory", &memory()),
            "memory is 900 on canary, stable 430, at most 500 allowed; 2 of the 3 breaches in a row that fail"
        );
        assert_eq!([0.0, -0.5, 1e20, 0.1234].map(short), ["0", "-0.5", "1e20", "0.123"]);
    }
}
