//! What a canary has to keep, and the test that it makes. Knows shares and bounds; not how they are spelled in a resource.

use serde::{Deserialize, Serialize};

use super::CustomMetric;
use super::sequential::{
    Comparison, DEFAULT_ALPHA, DEFAULT_BETA, DEFAULT_FAIL_DELTA, DEFAULT_PASS_DELTA, InvalidNumber, MetricSpec, Role,
    TestSpec, bounds,
};

/// The name of the metric of success.
pub const SUCCESS_RATE: &str = "success-rate";

/// What the canary has to keep; frozen with a trial, as a change of it would void the test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Objectives {
    /// The bound on false rollbacks over one start (α), above 0 and up to 0.5.
    pub false_rollbacks: f64,
    /// The share of calls that must succeed.
    pub success: SuccessObjective,
    /// Which gRPC codes are failures besides those that the mesh takes for failures.
    #[serde(default)]
    pub failure_codes: FailureCodes,
    /// Shares of calls that must be answered in time.
    pub latency: Vec<LatencyObjective>,
    /// How latency is compared with stable's, at bounds that are chosen on stable before the trial; `None`: not at all.
    pub latency_against_stable: Option<Role>,
    /// The user's own, in the order of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub custom: Vec<CustomMetric>,
}

/// gRPC codes, by number, that are failures besides those that the mesh takes for failures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FailureCodes {
    /// These, whatever stable answers.
    Given(Vec<u8>),
    /// Those of these that stable did not answer with before the trial: what it answers with every day is no sign.
    UnlessStableShows(Vec<u8>),
}

impl FailureCodes {
    /// All of them, whatever stable shows.
    pub fn all(&self) -> &[u8] {
        let (Self::Given(codes) | Self::UnlessStableShows(codes)) = self;
        codes
    }
}

impl Default for FailureCodes {
    fn default() -> Self {
        Self::Given(Vec::new())
    }
}

/// Success, against an objective and against stable.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SuccessObjective {
    /// The least share of calls that must succeed, 0 to 1.
    pub objective: f64,
    /// How much worse than stable a canary may be before that can fail it, a share of calls.
    pub tolerance: f64,
    /// How much worse than stable it must be proven not to be before a step passes, a share of calls.
    pub pass_tolerance: f64,
    /// [`Role::Judged`] or [`Role::DryRun`].
    #[serde(default)]
    pub role: Role,
}

/// The least share of calls that must be answered within a bound.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LatencyObjective {
    /// 0 to 1, such as 0.99 for a p99.
    pub share: f64,
    /// The bound, one of Linkerd's histogram bounds, in milliseconds.
    pub within_ms: u64,
    /// [`Role::Supporting`] or [`Role::DryRun`].
    #[serde(default = "supporting")]
    pub role: Role,
}

fn supporting() -> Role {
    Role::Supporting
}

impl Default for Objectives {
    fn default() -> Self {
        Self {
            false_rollbacks: DEFAULT_ALPHA,
            success: SuccessObjective {
                objective: 0.99,
                tolerance: DEFAULT_FAIL_DELTA,
                pass_tolerance: DEFAULT_PASS_DELTA,
                role: Role::Judged,
            },
            failure_codes: FailureCodes::default(),
            latency: Vec::new(),
            // Linkerd's latency carries no gRPC status: fast errors look good, so latency alone never passes a step.
            latency_against_stable: Some(Role::Supporting),
            custom: Vec::new(),
        }
    }
}

impl Objectives {
    /// The test of a trial with so many steps. Its metrics: success, then one for each latency objective, then one for each
    /// of `bounds_ms`, the bounds at which latency is compared with stable's, then one for each of the user's own pairs of
    /// counters.
    ///
    /// # Errors
    /// A share or a level that makes no sense; a plan that was parsed has none.
    pub fn test(&self, steps: usize, bounds_ms: &[u64]) -> Result<TestSpec, InvalidNumber> {
        let Self {
            false_rollbacks,
            success,
            // They say what is counted, not how counts are tested.
            failure_codes: _,
            latency,
            latency_against_stable,
            custom,
        } = self;
        let mut metrics = vec![MetricSpec {
            name: SUCCESS_RATE.to_owned(),
            verb: "failed".to_owned(),
            relative: Some(Comparison::against_stable(
                1.0,
                success.tolerance,
                success.pass_tolerance,
            )?),
            absolute: Some(Comparison::objective(1.0 - success.objective)?),
            role: success.role,
            weight: 1.0,
        }];
        for objective in latency {
            metrics.push(MetricSpec {
                name: format!("latency-{}ms", objective.within_ms),
                verb: slower_than(objective.within_ms),
                relative: None,
                absolute: Some(Comparison::objective(1.0 - objective.share)?),
                role: objective.role,
                weight: 1.0,
            });
        }
        for bound in bounds_ms {
            metrics.push(MetricSpec {
                name: format!("latency-{bound}ms-against-stable"),
                verb: slower_than(*bound),
                relative: Some(bounds::comparison()?),
                absolute: None,
                role: latency_against_stable.unwrap_or(Role::DryRun),
                weight: bounds::weight_of_each(1.0, bounds_ms.len()),
            });
        }
        for (metric, counts) in custom.iter().filter_map(|metric| Some((metric, metric.counts()?))) {
            let allowed = counts.objective.map(|objective| Comparison::objective(1.0 - objective));
            metrics.push(MetricSpec {
                name: metric.name.clone(),
                verb: counts
                    .verb
                    .clone()
                    .unwrap_or_else(|| format!("were bad by {}", metric.name)),
                relative: Some(Comparison::against_stable(
                    1.0,
                    counts.tolerance,
                    counts.pass_tolerance,
                )?),
                absolute: allowed.transpose()?,
                role: metric.role,
                weight: 1.0,
            });
        }
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        TestSpec::new(*false_rollbacks, DEFAULT_BETA, steps, metrics)
    }

    /// The user's own pairs of counters.
    pub fn custom_counts(&self) -> impl Iterator<Item = &CustomMetric> {
        self.custom.iter().filter(|metric| metric.counts().is_some())
    }

    /// The bounds of the latency objectives in milliseconds, in their order.
    pub fn bounds_ms(&self) -> impl Iterator<Item = u64> + '_ {
        self.latency.iter().map(|objective| objective.within_ms)
    }
}

fn slower_than(bound_ms: u64) -> String {
    format!("took longer than {bound_ms} ms")
}
