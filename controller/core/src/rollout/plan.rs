//! What a rollout is to do, parsed once: a spec that makes no sense never becomes a [`Plan`].
//!
//! Knows percentages and durations; not how they are spelled in a custom resource.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::hooks::{self, Hook};
use crate::Weight;
use crate::analysis::{Analysis, Baseline, Objectives};

/// One weight of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The canary's share while this step lasts, 1 to 100 %; 0 in a first step that judges the testers' calls.
    pub weight: Weight,
    /// The least time at this weight.
    pub hold: SignedDuration,
    /// The most time at this weight without a verdict; at least `hold`.
    pub at_most: SignedDuration,
    /// Whether a person must approve before the next step.
    pub approval: bool,
    /// What happens when `at_most` is over without a verdict.
    pub on_inconclusive: OnInconclusive,
}

/// What a step does when it cannot tell good from bad in its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OnInconclusive {
    /// Go on unproven, when nothing speaks against the canary and it has had the least number of requests.
    #[default]
    Advance,
    /// Wait for a person.
    Pause,
    /// Treat it as a failure.
    RollBack,
}

/// How many canary pods a weight needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Capacity {
    /// The weight's share of stable's replicas, rounded up.
    #[default]
    Proportional,
    /// As many as stable.
    Full,
    /// Somebody else scales the canary; one ready pod is enough.
    External,
}

/// Whose the route is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RouteOrigin {
    /// Serin makes it, and it goes with the rollout.
    #[default]
    Generated,
    /// It stands in Git; Serin writes its two weights and leaves it where it is.
    Adopted,
}

/// Whether calls reach the canary whatever its weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Testers {
    /// None do.
    #[default]
    Absent,
    /// The route sends calls with a header to it, or may do so.
    Routed,
}

/// So many promoted revisions are remembered.
pub const MOST_PROMOTED: usize = 10;

/// All that the state machine needs to know of a spec. Only [`Plan::parse`] makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    steps: Vec<Step>,
    /// Whose the route is.
    pub route: RouteOrigin,
    /// How canary pods are counted.
    pub capacity: Capacity,
    /// Canary replicas while nothing is judged.
    pub idle_replicas: i32,
    /// From weight 0 to scaling the canary down, so that calls in flight can end.
    pub drain: SignedDuration,
    /// Canary requests in a step before it may advance unproven.
    pub min_requests: u64,
    /// The longest wait for canary capacity.
    pub progress_deadline: SignedDuration,
    /// The longest wait for stable to run the promoted revision.
    pub promote_deadline: SignedDuration,
    /// The longest time without a fresh scrape of the canary's pods before its traffic is taken away.
    pub blind_deadline: SignedDuration,
    /// The length of a tick.
    pub interval: SignedDuration,
    /// How long the canary's first calls are not judged.
    pub warm_up: SignedDuration,
    /// A revision among so many that were promoted last returns without a canary; 0 is none.
    pub fast_return: usize,
    /// What a canary has to keep.
    pub objectives: Objectives,
    /// Who is asked on the way.
    pub hooks: Vec<Hook>,
}

/// A spec's field and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct FieldError {
    /// The field's path in the resource, such as `spec.plan.steps[1].weight`.
    pub field: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl FieldError {
    /// An error of the field at this path.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
        }
    }
}

/// A step before it was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepDraft {
    /// Percent; anything.
    pub weight: i64,
    /// The least time.
    pub hold: SignedDuration,
    /// The most time; three times `hold` when absent.
    pub at_most: Option<SignedDuration>,
    /// Whether a person must approve.
    pub approval: bool,
    /// The step's own policy, else the plan's.
    pub on_inconclusive: Option<OnInconclusive>,
}

/// A plan before it was checked, as it stands in a spec.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanDraft {
    /// In the order of the spec.
    pub steps: Vec<StepDraft>,
    /// The policy of steps that have none of their own.
    pub on_inconclusive: OnInconclusive,
    /// See [`Plan::route`].
    pub route: RouteOrigin,
    /// Whether a first step of weight 0 has calls to judge.
    pub testers: Testers,
    /// See [`Plan::capacity`].
    pub capacity: Capacity,
    /// See [`Plan::idle_replicas`].
    pub idle_replicas: i32,
    /// See [`Plan::drain`].
    pub drain: SignedDuration,
    /// See [`Plan::min_requests`].
    pub min_requests: i64,
    /// See [`Plan::progress_deadline`].
    pub progress_deadline: SignedDuration,
    /// See [`Plan::promote_deadline`].
    pub promote_deadline: SignedDuration,
    /// See [`Plan::blind_deadline`].
    pub blind_deadline: SignedDuration,
    /// See [`Plan::interval`].
    pub interval: SignedDuration,
    /// See [`Plan::warm_up`].
    pub warm_up: SignedDuration,
    /// See [`Plan::fast_return`]; from 0 to [`MOST_PROMOTED`].
    pub fast_return: i64,
    /// See [`Plan::objectives`].
    pub objectives: Objectives,
    /// See [`Plan::hooks`].
    pub hooks: Vec<Hook>,
}

impl Plan {
    /// Checks a draft whole.
    ///
    /// # Errors
    /// Every field that makes no sense, each by its path, so that one edit can mend them all.
    pub fn parse(draft: PlanDraft) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        let mut steps = Vec::with_capacity(draft.steps.len());
        let mut last = 0;
        if draft.steps.is_empty() {
            errors.push(FieldError::new(
                "spec.plan.steps",
                "there must be at least one step, the last with weight 100",
            ));
        }
        for (i, step) in draft.steps.iter().enumerate() {
            let at = format!("spec.plan.steps[{i}]");
            match Weight::try_from(step.weight) {
                Ok(weight) if !weight.is_zero() || (i == 0 && draft.testers == Testers::Routed) => {
                    if i > 0 && step.weight <= last {
                        errors.push(FieldError::new(
                            format!("{at}.weight"),
                            format!("weights must rise from step to step: {} follows {last}", step.weight),
                        ));
                    }
                    last = step.weight;
                    let at_most = step.at_most.unwrap_or_else(|| step.hold.saturating_mul(3));
                    if step.hold.is_negative() {
                        errors.push(FieldError::new(format!("{at}.hold"), "a hold can't be negative"));
                    }
                    if at_most < step.hold {
                        errors.push(FieldError::new(
                            format!("{at}.atMost"),
                            "it must be at least the step's hold",
                        ));
                    }
                    steps.push(Step {
                        weight,
                        hold: step.hold,
                        at_most,
                        approval: step.approval,
                        on_inconclusive: step.on_inconclusive.unwrap_or(draft.on_inconclusive),
                    });
                }
                Ok(_) if i == 0 && draft.testers == Testers::Absent => errors.push(FieldError::new(
                    format!("{at}.weight"),
                    "a first step of weight 0 judges the testers' calls, and nobody's calls reach the canary: set \
                     spec.route.testers, or begin with a weight from 1 to 100",
                )),
                _ => errors.push(FieldError::new(
                    format!("{at}.weight"),
                    format!(
                        "a weight is a percentage from 1 to 100 (0 in the first step, for testers), not {}",
                        step.weight
                    ),
                )),
            }
        }
        if errors.is_empty() && last != 100 {
            errors.push(FieldError::new(
                "spec.plan.steps",
                format!("the last step must have weight 100, so that all traffic bakes on the canary while stable is still warm; it has {last}"),
            ));
        }
        let positive = [
            ("spec.plan.progressDeadline", draft.progress_deadline),
            ("spec.plan.promoteDeadline", draft.promote_deadline),
            ("spec.plan.blindDeadline", draft.blind_deadline),
            ("spec.analysis.interval", draft.interval),
        ];
        for (field, value) in positive {
            if value <= SignedDuration::ZERO {
                errors.push(FieldError::new(field, "it must be longer than nothing, such as 20s"));
            }
        }
        if draft.drain.is_negative() {
            errors.push(FieldError::new("spec.canary.drain", "it can't be negative"));
        }
        if draft.warm_up.is_negative() {
            errors.push(FieldError::new("spec.analysis.warmUp", "it can't be negative"));
        }
        // The steps have errors of their own.
        if let Err(problem) = draft.objectives.test(draft.steps.len().max(1), &[]) {
            errors.push(FieldError::new("spec.analysis", problem.to_string()));
        }
        errors.extend(hooks::problems(&draft.hooks, draft.steps.len()));
        if draft.idle_replicas < 0 {
            errors.push(FieldError::new("spec.canary.idleReplicas", "it can't be negative"));
        }
        let min_requests = u64::try_from(draft.min_requests)
            .ok()
            .filter(|n| *n > 0)
            .unwrap_or_else(|| {
                errors.push(FieldError::new("spec.plan.minRequests", "it must be at least 1"));
                1
            });
        let fast_return = usize::try_from(draft.fast_return)
            .ok()
            .filter(|revisions| *revisions <= MOST_PROMOTED)
            .unwrap_or_else(|| {
                let problem = format!("it must be from 0 (none) to {MOST_PROMOTED}");
                errors.push(FieldError::new("spec.plan.fastReturn", problem));
                0
            });
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self {
            steps,
            route: draft.route,
            capacity: draft.capacity,
            idle_replicas: draft.idle_replicas,
            drain: draft.drain,
            min_requests,
            progress_deadline: draft.progress_deadline,
            promote_deadline: draft.promote_deadline,
            blind_deadline: draft.blind_deadline,
            interval: draft.interval,
            warm_up: draft.warm_up,
            fast_return,
            objectives: draft.objectives,
            hooks: draft.hooks,
        })
    }

    /// The steps, never empty, weights rising, the last one 100 %.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The step of this index; the last one for an index beyond the plan (a plan that became shorter meanwhile).
    pub fn step(&self, index: usize) -> &Step {
        #[expect(clippy::indexing_slicing, reason = "a parsed plan has at least one step")]
        &self.steps[index.min(self.steps.len() - 1)]
    }

    /// Whether this is the last step.
    pub fn is_last(&self, index: usize) -> bool {
        index + 1 >= self.steps.len()
    }

    /// An analysis that begins after what stable did before.
    pub fn analysis(&self, baseline: &Baseline) -> Analysis {
        Analysis::begin(
            self.objectives.clone(),
            self.steps.len(),
            baseline.freeze(&self.objectives),
        )
    }

    /// Canary replicas that a weight needs beside this many stable ones; at least one.
    pub fn replicas_for(&self, weight: Weight, stable: i32) -> i32 {
        match self.capacity {
            Capacity::Proportional => (stable.max(1).saturating_mul(i32::from(weight.percent())) + 99) / 100,
            Capacity::Full => stable,
            Capacity::External => 1,
        }
        .max(1)
    }

    /// The most that so many canary pods can carry beside this many stable ones: each as much as one of stable's.
    pub fn carried_by(&self, ready: i32, stable: i32) -> Weight {
        match self.capacity {
            Capacity::Proportional | Capacity::Full => Weight::share_of(ready, stable.max(1)),
            Capacity::External if ready > 0 => Weight::FULL,
            Capacity::External => Weight::ZERO,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::analysis::{LatencyObjective, Objectives};

    pub(crate) fn draft(weights: &[i64]) -> PlanDraft {
        let secs = SignedDuration::from_secs;
        PlanDraft {
            steps: weights
                .iter()
                .map(|&weight| StepDraft {
                    weight,
                    hold: secs(20),
                    at_most: None,
                    approval: false,
                    on_inconclusive: None,
                })
                .collect(),
            on_inconclusive: OnInconclusive::Advance,
            route: RouteOrigin::Generated,
            testers: Testers::Absent,
            capacity: Capacity::Proportional,
            idle_replicas: 0,
            drain: secs(5),
            min_requests: 20,
            progress_deadline: secs(120),
            promote_deadline: secs(120),
            blind_deadline: secs(60),
            interval: secs(10),
            warm_up: SignedDuration::ZERO,
            fast_return: 3,
            objectives: Objectives {
                latency: vec![LatencyObjective {
                    share: 0.99,
                    within_ms: 500,
                    role: crate::analysis::sequential::Role::Supporting,
                }],
                ..Objectives::default()
            },
            hooks: vec![],
        }
    }

    pub(crate) fn plan(weights: &[i64]) -> Plan {
        Plan::parse(draft(weights)).unwrap()
    }

    fn fields(draft: PlanDraft) -> Vec<String> {
        Plan::parse(draft).unwrap_err().into_iter().map(|e| e.field).collect()
    }

    #[test]
    fn names_every_bad_field_at_once() {
        assert_eq!(fields(draft(&[])), ["spec.plan.steps"]);
        assert_eq!(fields(draft(&[25, 25, 100])), ["spec.plan.steps[1].weight"]);
        assert_eq!(fields(draft(&[0, 100])), ["spec.plan.steps[0].weight"]);
        assert_eq!(fields(draft(&[50, 101])), ["spec.plan.steps[1].weight"]);
        assert_eq!(fields(draft(&[5, 50])), ["spec.plan.steps"]);
        let mut two = draft(&[-5, 100]);
        two.min_requests = 0;
        assert_eq!(fields(two), ["spec.plan.steps[0].weight", "spec.plan.minRequests"]);
        for fast_return in [-1, 11] {
            let draft = PlanDraft {
                fast_return,
                ..draft(&[100])
            };
            assert_eq!(fields(draft), ["spec.plan.fastReturn"]);
        }
    }

    #[test]
    fn a_first_step_of_weight_zero_needs_testers() {
        let with = |weights: &[i64]| PlanDraft {
            testers: Testers::Routed,
            ..draft(weights)
        };
        let plan = Plan::parse(with(&[0, 100])).unwrap();
        assert!(plan.step(0).weight.is_zero());
        assert_eq!(fields(with(&[0, 0, 100])), ["spec.plan.steps[1].weight"]);
        assert_eq!(fields(with(&[0])), ["spec.plan.steps"]);
        let [error] = Plan::parse(draft(&[0, 100])).unwrap_err().try_into().unwrap();
        assert!(error.problem.contains("spec.route.testers"), "{error}");
    }

    #[test]
    fn pods_carry_a_weight_just_when_there_are_as_many_as_it_needs() {
        let plan = plan(&[5, 100]);
        for stable in 1..40 {
            for weight in (1..=100).map(|w| Weight::try_from(w).unwrap()) {
                let need = plan.replicas_for(weight, stable);
                assert!(
                    plan.carried_by(need, stable) >= weight,
                    "{need} of {stable} for {weight}"
                );
                assert!(
                    plan.carried_by(need - 1, stable) < weight,
                    "{need} of {stable} for {weight}"
                );
            }
        }
        let external = Plan {
            capacity: Capacity::External,
            ..plan
        };
        assert_eq!(external.carried_by(1, 30), Weight::FULL);
        assert_eq!(external.carried_by(0, 30), Weight::ZERO);
    }

    #[test]
    fn counts_pods_for_a_weight() {
        let mut plan = plan(&[5, 100]);
        let five = Weight::try_from(5).unwrap();
        assert_eq!(plan.replicas_for(five, 3), 1);
        assert_eq!(plan.replicas_for(Weight::try_from(50).unwrap(), 3), 2);
        assert_eq!(plan.replicas_for(Weight::FULL, 3), 3);
        plan.capacity = Capacity::Full;
        assert_eq!(plan.replicas_for(five, 3), 3);
        plan.capacity = Capacity::External;
        assert_eq!(plan.replicas_for(Weight::FULL, 3), 1);
    }
}
