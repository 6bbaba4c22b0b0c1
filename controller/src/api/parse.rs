//! From a spec to the core's plan: what a schema cannot refuse is refused here, each field by its name.

use jiff::SignedDuration;
use serin_core::analysis::sequential::Role;
use serin_core::analysis::{FailureCodes, LatencyObjective, Objectives, SuccessObjective};
use serin_core::rollout::{Capacity, FieldError, OnInconclusive, Plan, PlanDraft, RouteOrigin, StepDraft, Testers};

use crate::linkerd::failure;

use super::hooks::{HookCall, parse_hooks};
use super::metrics;
use super::notify::{Receiver, parse_receivers};
use super::rollout::{
    ApprovalSpec, CanaryRolloutSpec, CapacitySpec, GitSpec, HelmSpec, JudgingSpec, KustomizeSpec, OnInconclusiveSpec,
};

/// A spec that makes sense.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// What the core decides by.
    pub plan: Plan,
    /// How far back stable is looked at before a trial.
    pub baseline: SignedDuration,
    /// How often the proxies are scraped.
    pub scrape_interval: SignedDuration,
    /// Where the arms stand in the config repository.
    pub layout: Layout,
    /// Who is told, as the rollout says.
    pub notify: Vec<Receiver>,
    /// How the plan's hooks are asked.
    pub hooks: Vec<HookCall>,
}

/// Where the arms stand in the config repository: in one of two ways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// In a Helm values file.
    Helm(HelmSpec),
    /// In files of Kustomize.
    Kustomize(KustomizeSpec),
}

/// Parses a spec.
///
/// # Errors
/// Every field that makes no sense.
pub fn parse(spec: &CanaryRolloutSpec) -> Result<Parsed, Vec<FieldError>> {
    let mut errors = Vec::new();
    let mut duration = |field: String, text: &str| {
        parse_duration(text).unwrap_or_else(|problem| {
            errors.push(FieldError::new(field, problem));
            SignedDuration::from_secs(1)
        })
    };
    let steps = spec.plan.steps.iter().enumerate().map(|(i, step)| {
        let at = |name: &str| format!("spec.plan.steps[{i}].{name}");
        StepDraft {
            weight: i64::from(step.weight),
            hold: duration(at("hold"), &step.hold),
            at_most: step.at_most.as_ref().map(|text| duration(at("atMost"), text)),
            approval: step.approval == ApprovalSpec::Required,
            on_inconclusive: step.on_inconclusive.map(Into::into),
        }
    });
    let steps: Vec<_> = steps.collect();
    let draft = PlanDraft {
        steps,
        on_inconclusive: spec.plan.on_inconclusive.into(),
        route: match spec.route.adopt {
            Some(_) => RouteOrigin::Adopted,
            None => RouteOrigin::Generated,
        },
        testers: match (&spec.route.testers, &spec.route.adopt) {
            (None, None) => Testers::Absent,
            // An adopted route has its testers' rule in Git, if it has one.
            _ => Testers::Routed,
        },
        capacity: spec.plan.capacity.into(),
        idle_replicas: spec.canary.idle_replicas,
        drain: duration("spec.canary.drain".to_owned(), &spec.canary.drain),
        min_requests: spec.plan.min_requests,
        progress_deadline: duration("spec.plan.progressDeadline".to_owned(), &spec.plan.progress_deadline),
        promote_deadline: duration("spec.plan.promoteDeadline".to_owned(), &spec.plan.promote_deadline),
        blind_deadline: duration("spec.plan.blindDeadline".to_owned(), &spec.plan.blind_deadline),
        interval: duration("spec.analysis.interval".to_owned(), &spec.analysis.interval),
        fast_return: i64::from(spec.plan.fast_return),
        warm_up: duration("spec.analysis.warmUp".to_owned(), &spec.analysis.warm_up),
        objectives: Objectives::default(),
        hooks: vec![],
    };
    let baseline = duration("spec.analysis.baseline".to_owned(), &spec.analysis.baseline);
    let scrape_interval = duration(
        "spec.analysis.scrapeInterval".to_owned(),
        &spec.analysis.scrape_interval,
    );
    let bounds: Vec<_> = spec
        .analysis
        .latency
        .iter()
        .enumerate()
        .map(|(i, latency)| duration(format!("spec.analysis.latency[{i}].within"), &latency.within))
        .collect();
    let objectives = objectives(spec, &bounds, &mut errors);
    if errors.is_empty() && draft.interval < scrape_interval.saturating_mul(2) {
        errors.push(FieldError::new(
            "spec.analysis.interval",
            format!(
                "it must be at least two scrapes, that is {:#}",
                scrape_interval.saturating_mul(2)
            ),
        ));
    }
    // After a change of weight one tick straddles it, and the next one is known a scrape after its end.
    let blind = draft
        .interval
        .saturating_mul(3)
        .saturating_add(scrape_interval.saturating_mul(2));
    if errors.is_empty() && draft.blind_deadline < blind {
        errors.push(FieldError::new(
            "spec.plan.blindDeadline",
            format!(
                "it must be at least three intervals and two scrapes, that is {blind:#}, or every change of weight would \
                 look like blindness"
            ),
        ));
    }
    if spec.stable.deployment == spec.canary.deployment {
        errors.push(FieldError::new(
            "spec.canary.deployment",
            "stable and canary can't be the same Deployment",
        ));
    }
    let layout = layout(&spec.git).unwrap_or_else(|error| {
        errors.push(error);
        Layout::Helm(HelmSpec::default())
    });
    let notify = parse_receivers("spec.notify", &spec.notify).unwrap_or_else(|more| {
        errors.extend(more);
        Vec::new()
    });
    let (hooks, calls) = parse_hooks(&spec.hooks).unwrap_or_else(|more| {
        errors.extend(more);
        Default::default()
    });
    let draft = PlanDraft {
        objectives,
        hooks,
        ..draft
    };
    match Plan::parse(draft) {
        Ok(plan) if errors.is_empty() => Ok(Parsed {
            plan,
            baseline,
            scrape_interval,
            layout,
            notify,
            hooks: calls,
        }),
        Ok(_) => Err(errors),
        Err(more) => Err(errors.into_iter().chain(more).collect()),
    }
}

fn layout(git: &GitSpec) -> Result<Layout, FieldError> {
    match (&git.helm, &git.kustomize) {
        (Some(_), Some(_)) => Err(FieldError::new(
            "spec.git.kustomize",
            "the arms stand in a Helm values file or in files of Kustomize; remove helm or kustomize",
        )),
        (None, Some(kustomize)) if kustomize.stable == kustomize.canary => Err(FieldError::new(
            "spec.git.kustomize.canary",
            "stable and canary can't stand in the same file; give each an overlay or a patch of its own",
        )),
        (None, Some(kustomize)) => Ok(Layout::Kustomize(kustomize.as_ref().clone())),
        (Some(helm), None) if helm.stable == helm.canary => Err(FieldError::new(
            "spec.git.helm.canary",
            "stable and canary can't be the same subtree",
        )),
        (helm, None) => Ok(Layout::Helm(helm.clone().unwrap_or_default())),
    }
}

fn objectives(spec: &CanaryRolloutSpec, bounds: &[SignedDuration], errors: &mut Vec<FieldError>) -> Objectives {
    let rate = &spec.analysis.success_rate;
    let failure_codes = failure_codes(rate.failure_codes.as_deref(), errors);
    let mut share = |field: String, text: &str| {
        parse_share(text).unwrap_or_else(|problem| {
            errors.push(FieldError::new(field, problem));
            0.0
        })
    };
    let mut of_rate = |name: &str, text: &str| share(format!("spec.analysis.successRate.{name}"), text);
    let success = SuccessObjective {
        objective: of_rate("objective", &rate.objective),
        tolerance: of_rate("tolerance", &rate.tolerance),
        pass_tolerance: of_rate("passTolerance", &rate.pass_tolerance),
        role: if rate.dry_run { Role::DryRun } else { Role::Judged },
    };
    let false_rollbacks = share(
        "spec.analysis.falseRollbacks".to_owned(),
        &spec.analysis.false_rollbacks,
    );
    let mut latency = Vec::with_capacity(bounds.len());
    for (i, (spec, bound)) in spec.analysis.latency.iter().zip(bounds).enumerate() {
        let share = share(format!("spec.analysis.latency[{i}].share"), &spec.share);
        latency.push(LatencyObjective {
            share,
            within_ms: u64::try_from(bound.as_millis()).unwrap_or(0),
            role: if spec.dry_run { Role::DryRun } else { Role::Supporting },
        });
    }
    for (i, bound) in bounds.iter().enumerate() {
        if let Err(problem) = crate::linkerd::latency::check_bound(u64::try_from(bound.as_millis()).unwrap_or(0)) {
            errors.push(FieldError::new(
                format!("spec.analysis.latency[{i}].within"),
                problem.to_string(),
            ));
        }
    }
    let mut custom = metrics::parse(&spec.analysis.metrics, errors);
    custom.extend(metrics::outbound(spec.route.kind, &success, spec.analysis.outbound));
    if !(false_rollbacks > 0.0 && false_rollbacks <= 0.5) {
        let problem = format!(
            "`{}` bounds nothing; choose above 0% and up to 50%",
            spec.analysis.false_rollbacks
        );
        errors.push(FieldError::new("spec.analysis.falseRollbacks", problem));
        // One that makes a test, so that the other fields are looked at too.
        return Objectives::default();
    }
    Objectives {
        false_rollbacks,
        success,
        failure_codes,
        latency,
        latency_against_stable: match spec.analysis.latency_against_stable {
            JudgingSpec::Judged => Some(Role::Supporting),
            JudgingSpec::DryRun => Some(Role::DryRun),
            JudgingSpec::Off => None,
        },
        custom,
    }
}

fn failure_codes(codes: Option<&[String]>, errors: &mut Vec<FieldError>) -> FailureCodes {
    let Some(codes) = codes else {
        return FailureCodes::UnlessStableShows(failure::HIDDEN_FAILURES.to_vec());
    };
    let mut numbers = Vec::with_capacity(codes.len());
    for (i, code) in codes.iter().enumerate() {
        let field = || format!("spec.analysis.successRate.failureCodes[{i}]");
        match failure::code_number(code) {
            Ok(0) => errors.push(FieldError::new(field(), "OK is no failure; leave it out")),
            Ok(number) if numbers.contains(&number) => {
                errors.push(FieldError::new(field(), format!("{code} stands there twice")));
            }
            Ok(number) => numbers.push(number),
            Err(unknown) => errors.push(FieldError::new(field(), unknown.to_string())),
        }
    }
    FailureCodes::Given(numbers)
}

/// Parses a duration as Kubernetes writes it (`90s`, `1h30m`, `500ms`).
///
/// # Errors
/// A sentence, when it is none.
pub fn parse_duration(text: &str) -> Result<SignedDuration, String> {
    text.parse::<SignedDuration>()
        .map_err(|_| format!("`{text}` is no duration; write one such as 30s, 2m or 500ms"))
}

pub(super) fn parse_share(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
    match percent {
        Some(percent) if (0.0..=100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err(format!("`{text}` is no percentage; write one such as 99.9%")),
    }
}

impl From<OnInconclusiveSpec> for OnInconclusive {
    fn from(spec: OnInconclusiveSpec) -> Self {
        match spec {
            OnInconclusiveSpec::Advance => Self::Advance,
            OnInconclusiveSpec::Pause => Self::Pause,
            OnInconclusiveSpec::RollBack => Self::RollBack,
        }
    }
}

impl From<CapacitySpec> for Capacity {
    fn from(spec: CapacitySpec) -> Self {
        match spec {
            CapacitySpec::Proportional => Self::Proportional,
            CapacitySpec::Full => Self::Full,
            CapacitySpec::External => Self::External,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r"
service: {name: user-service, port: 50051}
stable: {deployment: user-service}
canary: {deployment: user-service-canary}
git: {repository: 'https://git.example.com/platform/config.git', path: deploy/environments/prod}
";

    fn spec(edit: impl FnOnce(&mut CanaryRolloutSpec)) -> CanaryRolloutSpec {
        let mut spec = serde_saphyr::from_str(MINIMAL).unwrap();
        edit(&mut spec);
        spec
    }

    fn fields(spec: &CanaryRolloutSpec) -> Vec<String> {
        parse(spec).unwrap_err().into_iter().map(|e| e.field).collect()
    }

    #[test]
    fn a_minimal_spec_is_a_plan() {
        let parsed = parse(&spec(|_| {})).unwrap();
        let weights: Vec<_> = parsed.plan.steps().iter().map(|s| s.weight.percent()).collect();
        assert_eq!(weights, [5, 25, 50, 100]);
        assert!((parsed.plan.objectives.success.objective - 0.99).abs() < 1e-12);
    }

    #[test]
    fn bad_fields_are_named() {
        assert_eq!(
            fields(&spec(|s| s.plan.steps[1].weight = 5)),
            ["spec.plan.steps[1].weight"]
        );
        assert_eq!(fields(&spec(|s| s.plan.steps.truncate(2))), ["spec.plan.steps"]);
        assert_eq!(
            fields(&spec(|s| s.canary.deployment = "user-service".into())),
            ["spec.canary.deployment"]
        );
        assert_eq!(
            fields(&spec(|s| s.analysis.interval = "15s".into())),
            ["spec.analysis.interval"]
        );
        assert_eq!(
            fields(&spec(|s| s.analysis.success_rate.objective = "101%".into())),
            ["spec.analysis.successRate.objective"]
        );
        assert_eq!(
            fields(&spec(|s| s.plan.steps[0].hold = "soon".into())),
            ["spec.plan.steps[0].hold"]
        );
        assert_eq!(
            fields(&spec(|s| s.analysis.latency[0].within = "450ms".into())),
            ["spec.analysis.latency[0].within"]
        );
    }

    #[test]
    fn failure_codes_are_read_by_name_and_number_and_nonsense_is_named() {
        let codes = |codes: &[&str]| {
            let codes = codes.iter().map(|code| (*code).to_owned()).collect();
            spec(|s| s.analysis.success_rate.failure_codes = Some(codes))
        };
        let parsed = |spec: &CanaryRolloutSpec| parse(spec).unwrap().plan.objectives.failure_codes;
        assert_eq!(parsed(&codes(&["NOT_FOUND", "8"])), FailureCodes::Given(vec![5, 8]));
        assert_eq!(parsed(&codes(&[])), FailureCodes::Given(vec![]));
        assert_eq!(parsed(&spec(|_| {})), FailureCodes::UnlessStableShows(vec![8, 12]));
        let path = |i| format!("spec.analysis.successRate.failureCodes[{i}]");
        assert_eq!(fields(&codes(&["TEAPOT", "5", "17"])), [path(0), path(2)]);
        assert_eq!(fields(&codes(&["OK", "NOT_FOUND", "5"])), [path(0), path(2)]);
    }

    #[test]
    fn the_arms_stand_in_a_values_file_or_in_files_of_kustomize_and_never_in_both() {
        assert_eq!(parse(&spec(|_| {})).unwrap().layout, Layout::Helm(HelmSpec::default()));
        let kustomize: KustomizeSpec = serde_saphyr::from_str("{image: web}").unwrap();
        let given = spec(|s| s.git.kustomize = Some(Box::new(kustomize.clone())));
        assert_eq!(parse(&given).unwrap().layout, Layout::Kustomize(kustomize.clone()));
        let both = spec(|s| {
            s.git.kustomize = Some(Box::new(kustomize.clone()));
            s.git.helm = Some(HelmSpec::default());
        });
        assert_eq!(fields(&both), ["spec.git.kustomize"]);
        let one_file = spec(|s| {
            let canary = kustomize.stable.clone();
            s.git.kustomize = Some(Box::new(KustomizeSpec { canary, ..kustomize }));
        });
        assert_eq!(fields(&one_file), ["spec.git.kustomize.canary"]);
    }

    #[test]
    fn durations_are_read_as_kubernetes_writes_them() {
        assert_eq!(parse_duration("1h30m"), Ok(SignedDuration::from_mins(90)));
        assert_eq!(parse_duration("500ms"), Ok(SignedDuration::from_millis(500)));
        assert!(parse_duration("5").is_err());
    }
}
