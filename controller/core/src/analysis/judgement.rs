//! The analysis of one trial: ticks in, verdict and evidence out. Knows whose counts it judges; not what is done about them.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::custom::ValueState;
use super::objectives::SUCCESS_RATE;
use super::pods::Pods;
use super::sequential::{Arms, Decision, Report, Role, StepInfo, Tally, TestSpec, TestState};
use super::{
    Counts, CustomMetric, CustomValue, Evidence, Frozen, Judged, Objectives, Outcome, Range, Reading, Tick, Unusable,
    Verdict,
};

/// The memory of the analysis, with all that was frozen when it began: what status has to keep of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Analysis {
    /// Whose counts these are.
    pub judged: Judged,
    /// What has to be kept.
    objectives: Objectives,
    /// Steps of the plan.
    steps: usize,
    /// What was frozen on stable before the trial.
    pub(super) frozen: Frozen,
    /// The judged arm's calls in this step.
    step_requests: u64,
    /// The canary's judged calls, once stable is judged in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proven_on: Option<u64>,
    /// Both arms' calls in this step, and the milliseconds in which they came.
    #[serde(default)]
    pub(super) step_calls: u64,
    #[serde(default)]
    pub(super) step_ms: u64,
    pub(super) test: TestState,
    /// The judged arm's calls by pod.
    #[serde(default, skip_serializing_if = "Pods::is_empty")]
    pods: Pods,
    /// For each of the user's own values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    values: Vec<ValueState>,
    /// What could not be read in the last tick.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unusable: Vec<Unusable>,
    #[serde(skip)]
    spec: Memo,
}

/// The test that follows from what is frozen. It is made once, as a tick must not allocate.
#[derive(Debug, Clone, Default)]
struct Memo(OnceLock<TestSpec>);

impl PartialEq for Memo {
    /// Whether it was made already makes no difference.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Memo {
    #[expect(clippy::expect_used, reason = "the message states the invariant")]
    fn get(&self, objectives: &Objectives, steps: usize, frozen: &Frozen) -> &TestSpec {
        self.0.get_or_init(|| {
            objectives
                .test(steps, &frozen.bounds_ms)
                .expect("Plan::parse lets only objectives through that make a test")
        })
    }
}

impl Analysis {
    /// An analysis of the canary that has seen nothing. `steps` is at least 1, and the objectives come out of a plan.
    pub fn begin(objectives: Objectives, steps: usize, frozen: Frozen) -> Self {
        let mut analysis = Self {
            judged: Judged::Canary,
            objectives,
            steps,
            frozen,
            step_requests: 0,
            proven_on: None,
            step_calls: 0,
            step_ms: 0,
            test: TestState::default(),
            pods: Pods::default(),
            values: Vec::new(),
            unusable: Vec::new(),
            spec: Memo::default(),
        };
        analysis.forget();
        analysis
    }

    /// An analysis of stable, which takes the revision over, beside the canary that proved it.
    #[must_use]
    pub fn of_stable(&self) -> Self {
        let mut analysis = Self {
            judged: Judged::Stable,
            step_requests: 0,
            proven_on: Some(self.canary_requests()),
            step_calls: 0,
            step_ms: 0,
            pods: Pods::default(),
            ..self.clone()
        };
        analysis.forget();
        analysis
    }

    /// Begins the tests with nothing seen.
    fn forget(&mut self) {
        self.test = TestState::start(self.spec(), &self.frozen.metrics());
        self.values = vec![ValueState::default(); self.value_specs().count()];
        self.unusable.clear();
    }

    /// The bounds in milliseconds that [`Counts::slow`] has to have, in this order.
    pub fn bounds_ms(&self) -> Vec<u64> {
        self.objectives
            .bounds_ms()
            .chain(self.frozen.bounds_ms.iter().copied())
            .collect()
    }

    /// The gRPC codes that [`Counts::failures`] has to have besides those that the mesh takes for failures.
    pub fn failure_codes(&self) -> &[u8] {
        &self.frozen.failure_codes
    }

    /// The user's own metrics, as they are asked for while this trial lasts.
    pub fn custom(&self) -> &[CustomMetric] {
        &self.objectives.custom
    }

    /// What could not be read in the last tick, although it has a say.
    pub fn unusable(&self) -> Option<&Unusable> {
        self.unusable.iter().find(|unusable| {
            let metric = self.objectives.custom.get(unusable.metric);
            metric.is_some_and(|metric| metric.role != Role::DryRun)
        })
    }

    /// The canary's judged calls since the trial began; they stay what they were when stable takes over.
    pub fn canary_requests(&self) -> u64 {
        // Every metric of the mesh counts the same calls; the first one is success.
        let counted = self.test.states().first().map_or(0, |state| state.whole.canary.total);
        self.proven_on.unwrap_or(counted)
    }

    /// The judged arm's calls in this step.
    pub fn step_requests(&self) -> u64 {
        self.step_requests
    }

    /// Begins a step, also one that is entered again: what passes it has to be proven anew. `other_share` is the share of the
    /// calls, 0 to 1, that the arm gets which it is compared with.
    pub fn begin_step(&mut self, index: usize, other_share: f64) {
        self.step_requests = 0;
        self.step_calls = 0;
        self.step_ms = 0;
        self.test.begin_step(StepInfo {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            stable_share: other_share,
        });
        for value in &mut self.values {
            value.begin_step();
        }
    }

    /// Adds a tick's counts. Allocates nothing but for a pod that it has not seen before.
    pub fn observe(&mut self, tick: &Tick) -> Outcome {
        let (judged, other) = match self.judged {
            Judged::Canary => (&tick.canary, &tick.stable),
            Judged::Stable => (&tick.stable, &tick.canary),
        };
        self.pods.observe(&judged.pods);
        let (judged, other) = (&judged.counts, &other.counts);
        let ms = tick.end.as_millisecond().saturating_sub(tick.start.as_millisecond());
        self.step_ms = self.step_ms.saturating_add(u64::try_from(ms).unwrap_or(0));
        let calls = judged.requests.saturating_add(other.requests);
        self.step_calls = self.step_calls.saturating_add(calls);
        let arms = |of: &dyn Fn(&Counts) -> u64| Arms {
            canary: Tally::new(of(judged), judged.requests),
            stable: Tally::new(of(other), other.requests),
        };
        let spec = self.spec.get(&self.objectives, self.steps, &self.frozen);
        let slow = |place: usize| arms(&move |counts: &Counts| counts.slow.get(place).copied().unwrap_or(0));
        let custom = self.objectives.custom_counts().count();
        let latencies = spec.metrics().len().saturating_sub(1 + custom);
        let whose = self.judged;
        let custom = (0..custom).map(|place| {
            let Arms { canary, stable } = tick.custom.counts.get(place).copied().unwrap_or_default();
            match whose {
                Judged::Canary => Arms { canary, stable },
                Judged::Stable => Arms {
                    canary: stable,
                    stable: canary,
                },
            }
        });
        let counts = std::iter::once(arms(&|counts| counts.failures))
            .chain((0..latencies).map(slow))
            .chain(custom);
        let decision = self.test.observe(spec, counts);
        self.step_requests = self.step_requests.saturating_add(judged.requests);
        self.unusable.clone_from(&tick.custom.unusable);
        self.observe_values(tick);
        self.outcome_of(decision)
    }

    fn observe_values(&mut self, tick: &Tick) {
        let specs = self.objectives.custom.iter().filter_map(CustomMetric::value);
        let readings = tick
            .custom
            .values
            .iter()
            .copied()
            .chain(std::iter::repeat(Reading::default()));
        for ((state, spec), reading) in self.values.iter_mut().zip(specs).zip(readings) {
            let (judged, other) = match (spec.per_arm, self.judged) {
                (false, _) => (reading.canary, None),
                (true, Judged::Canary) => (reading.canary, reading.stable),
                (true, Judged::Stable) => (reading.stable, reading.canary),
            };
            state.observe(spec, judged, other);
        }
    }

    fn value_specs(&self) -> impl Iterator<Item = (&CustomMetric, &CustomValue)> {
        let metrics = self.objectives.custom.iter();
        metrics.filter_map(|metric| Some((metric, metric.value()?)))
    }

    /// The values that have a say.
    fn judged_values(&self) -> impl Iterator<Item = &ValueState> {
        let values = self.value_specs().zip(&self.values);
        values
            .filter(|((metric, _), _)| metric.role != Role::DryRun)
            .map(|(_, state)| state)
    }

    /// What counts and values say together. Values can fail, and can keep from passing.
    fn outcome_of(&self, decision: Decision) -> Outcome {
        let all_fine = || self.judged_values().all(|value| value.fine) && self.unusable().is_none();
        match decision {
            Decision::Fail(_) => Outcome::Fail,
            _ if self.judged_values().any(|value| value.failed) => Outcome::Fail,
            Decision::Hold(_) => Outcome::Hold,
            _ if self.judged_values().any(|value| value.held) => Outcome::Hold,
            Decision::Pass if all_fine() => Outcome::Pass,
            Decision::Pass | Decision::Inconclusive => Outcome::Inconclusive,
        }
    }

    /// What the counts say.
    pub fn outcome(&self) -> Outcome {
        self.outcome_of(self.test.decision(self.spec()))
    }

    /// Whether the next tick could fail the judged arm, whatever is in it.
    pub fn may_fail_next(&self) -> bool {
        let values = self.value_specs().zip(&self.values);
        let mut judged = values.filter(|((metric, _), _)| metric.role != Role::DryRun);
        self.test.may_fail_next(self.spec()) || judged.any(|((_, spec), state)| state.may_fail_next(spec))
    }

    /// What the counts say, with the evidence.
    pub fn verdict(&self) -> Verdict {
        let report = self.test.report(self.spec());
        let mut evidence = self.evidence(&report);
        let values = self.value_specs().zip(&self.values);
        for ((metric, spec), state) in values {
            let one = self.of_value(metric, spec, state);
            // The deciding one comes first, and counts decide before values.
            let decides = state.failed && !one.dry_run && !matches!(report.decision, Decision::Fail(_));
            evidence.insert(if decides { 0 } else { evidence.len() }, one);
        }
        for unusable in &self.unusable {
            let metric = self.objectives.custom.get(unusable.metric);
            let known = evidence
                .iter_mut()
                .find(|one| metric.is_some_and(|metric| metric.name == one.metric));
            if let Some(known) = known {
                known.sentence = format!(
                    "{} can't be read: {}: {}",
                    known.metric, unusable.field, unusable.problem
                );
            }
        }
        Verdict {
            outcome: self.outcome_of(report.decision),
            suspect: report.suspect || self.judged_values().any(|value| value.in_a_row > 0),
            evidence,
        }
    }

    fn of_value(&self, metric: &CustomMetric, spec: &CustomValue, state: &ValueState) -> Evidence {
        let breaches = f64::from(state.in_a_row) / f64::from(spec.breaches.max(1));
        Evidence {
            metric: metric.name.clone(),
            arm: self.judged,
            bad: state.breaches,
            total: state.ticks,
            other: Tally::default(),
            range: None,
            other_range: None,
            towards_fail: if state.failed { 100 } else { percent(breaches, 1.0) },
            towards_pass: if state.fine { 100 } else { 0 },
            dry_run: metric.role == Role::DryRun,
            pods: Vec::new(),
            sentence: self.sentence(&state.sentence(&metric.name, spec)),
        }
    }

    fn evidence(&self, report: &Report) -> Vec<Evidence> {
        let metrics = report.metrics.iter().map(|metric| {
            let strands = || metric.relative.iter().chain(&metric.absolute);
            let fail = strands().map(|strand| strand.ln_fail).fold(0.0, f64::max);
            let pass = strands().map(|strand| strand.ln_pass).fold(f64::INFINITY, f64::min);
            Evidence {
                metric: metric.metric.clone(),
                arm: self.judged,
                bad: metric.whole.canary.bad,
                total: metric.whole.canary.total,
                other: metric.whole.stable,
                range: Range::of(metric.whole.canary, metric.canary_interval),
                other_range: Range::of(metric.whole.stable, metric.stable_interval),
                // Only the failed one has come all the way: a metric's own evidence counts for its share of all.
                towards_fail: percent(fail + metric.share.ln(), report.ln_fail_threshold),
                towards_pass: percent(pass, report.ln_pass_threshold),
                dry_run: metric.role == Role::DryRun,
                pods: Vec::new(),
                sentence: self.sentence(&metric.sentence),
            }
        });
        let mut metrics: Vec<_> = metrics.collect();
        if let Some(success) = metrics.iter_mut().find(|one| one.metric == SUCCESS_RATE) {
            success.pods = self.pods.worst();
            success.sentence += &self.pods.alone().unwrap_or_default();
        }
        metrics
    }

    /// The test speaks of canary and stable; here they have changed places when stable is judged.
    fn sentence(&self, text: &str) -> String {
        match self.judged {
            Judged::Canary => text.to_owned(),
            Judged::Stable => text
                .replace("stable", "\u{0}")
                .replace("canary", "stable")
                .replace('\u{0}', "canary"),
        }
    }

    pub(super) fn spec(&self) -> &TestSpec {
        self.spec.get(&self.objectives, self.steps, &self.frozen)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "limited to 0 to 100"
)]
fn percent(ln: f64, threshold: f64) -> u8 {
    let share = 100.0 * ln / threshold;
    if share.is_nan() {
        0
    } else {
        share.clamp(0.0, 100.0) as u8
    }
}

#[cfg(test)]
#[path = "judgement_tests.rs"]
mod tests;
