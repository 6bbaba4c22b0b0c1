//! Users' own metrics as they are asked for: the queries of the spec with the rollout's names in them. Pure.

use jiff::SignedDuration;
use kube::ResourceExt as _;
use serin_core::analysis::sequential::Role;
use serin_core::analysis::{CustomKind, CustomMetric, Judged};
use serin_core::rollout::Run;

use crate::api::{CanaryRollout, Parsed};
use crate::linkerd::outbound::{Counter, OUTBOUND};
use crate::prometheus::{Backends, CustomQuery, CustomTarget, PairQuery};
use crate::query::{CounterQuery, Problem, ValueQuery, Variables};
use crate::traffic;

/// What the arms run. A name that is `None` is not known; a hash that is `None` stands for any.
pub(crate) struct Revisions {
    pub(crate) canary: Option<String>,
    pub(crate) canary_hash: Option<String>,
    pub(crate) stable: Option<String>,
    pub(crate) stable_hash: Option<String>,
}

/// What the arms run in a trial.
pub(super) fn revisions(run: &Run) -> Revisions {
    let stable = match run.analysis.judged {
        Judged::Canary => &run.baseline,
        Judged::Stable => &run.revision,
    };
    Revisions {
        canary: Some(run.revision.name.clone()),
        canary_hash: Some(run.revision.hash.clone()),
        stable: Some(stable.name.clone()),
        stable_hash: None,
    }
}

/// What to ask for these metrics.
pub(crate) fn targets(
    rollout: &CanaryRollout,
    parsed: &Parsed,
    metrics: &[CustomMetric],
    revisions: &Revisions,
) -> Vec<CustomTarget> {
    let (spec, namespace) = (&rollout.spec, rollout.namespace().unwrap_or_default());
    let interval = promql_duration(parsed.plan.interval);
    let backends = [
        traffic::canary_service(&spec.service.name),
        traffic::stable_service(&spec.service.name),
    ];
    let [canary_backend, stable_backend] = &backends;
    let shared = Variables {
        namespace: &namespace,
        service: &spec.service.name,
        stable: &spec.stable.deployment,
        canary: &spec.canary.deployment,
        deployment: &spec.canary.deployment,
        hash: revisions.canary_hash.as_deref(),
        backend: canary_backend,
        revision: revisions.canary.as_deref(),
        interval: &interval,
    };
    let arms = [
        shared,
        Variables {
            deployment: &spec.stable.deployment,
            hash: revisions.stable_hash.as_deref(),
            backend: stable_backend,
            revision: revisions.stable.as_deref(),
            ..shared
        },
    ];
    let target = |(place, metric): (usize, &CustomMetric)| CustomTarget {
        // Serin's own come after the spec's.
        field: if metric.name == OUTBOUND {
            "spec.analysis.outbound".to_owned()
        } else {
            format!("spec.analysis.metrics[{place}]")
        },
        judged: metric.role != Role::DryRun,
        // The clients' proxies are in the clients' namespaces; the query is our own.
        query: query(&metric.kind, &arms, metric.name != OUTBOUND),
        backends: (metric.name == OUTBOUND)
            .then(|| Counter::of_total(&metric.counts()?.total))
            .flatten()
            .map(|counter| Backends {
                counter,
                service: spec.service.name.clone(),
                canary: canary_backend.clone(),
                stable: stable_backend.clone(),
            }),
    };
    metrics.iter().enumerate().map(target).collect()
}

fn query(kind: &CustomKind, arms: &[Variables<'_>; 2], of_a_user: bool) -> CustomQuery {
    let counter = |field, text| counter(field, text, arms, of_a_user);
    let asked = match kind {
        CustomKind::Counts(counts) => counter("bad", &counts.bad).and_then(|[canary_bad, stable_bad]| {
            let [canary_total, stable_total] = counter("total", &counts.total)?;
            Ok(CustomQuery::Counts {
                canary: PairQuery {
                    bad: canary_bad,
                    total: canary_total,
                },
                stable: PairQuery {
                    bad: stable_bad,
                    total: stable_total,
                },
            })
        }),
        CustomKind::Value(value) => single(&value.query, arms).map_err(|problem| ("query", problem)),
    };
    asked.unwrap_or_else(|(field, problem)| CustomQuery::Unusable {
        field,
        problem: problem.to_string(),
    })
}

fn counter(
    field: &'static str,
    text: &str,
    [canary, stable]: &[Variables<'_>; 2],
    of_a_user: bool,
) -> Result<[Vec<String>; 2], (&'static str, Problem)> {
    let render = || {
        let query = CounterQuery::parse(text)?;
        let of = |arm: &Variables<'_>| {
            if of_a_user {
                query.render_within(arm)
            } else {
                query.render(arm)
            }
        };
        Ok([of(canary)?, of(stable)?])
    };
    render().map_err(|problem| (field, problem))
}

fn single(text: &str, [canary, stable]: &[Variables<'_>; 2]) -> Result<CustomQuery, Problem> {
    let query = ValueQuery::parse(text)?;
    let stable = query
        .tells_arms_apart()
        .then(|| query.render_within(stable))
        .transpose()?;
    Ok(CustomQuery::Value {
        canary: query.render_within(canary)?,
        stable,
    })
}

fn promql_duration(duration: SignedDuration) -> String {
    let ms = duration.as_millis();
    if ms % 1_000 == 0 {
        format!("{}s", ms / 1_000)
    } else {
        format!("{ms}ms")
    }
}

#[cfg(test)]
mod tests {
    use serin_core::analysis::CustomCounts;

    use super::*;

    #[test]
    fn a_query_is_rendered_once_for_each_arm() {
        let rollout: CanaryRollout = serde_json::from_value(serde_json::json!({
            "apiVersion": "serin.dev/v1alpha1", "kind": "CanaryRollout", "metadata": {"name": "web", "namespace": "prod"},
            "spec": {
                "service": {"name": "web", "port": 50051}, "stable": {"deployment": "web"},
                "canary": {"deployment": "web-canary"}, "git": {"repository": "file:///config.git", "path": ""},
            },
        }))
        .unwrap();
        let parsed = crate::api::parse(&rollout.spec).unwrap();
        let counts = CustomCounts {
            bad: r#"sum(bad_total{namespace="{{namespace}}",pod=~"{{pods}}"})"#.to_owned(),
            total: r#"all_total{app="{{service}}",version="{{revision}}"}"#.to_owned(),
            objective: None,
            verb: None,
            tolerance: 0.0,
            pass_tolerance: 0.0,
        };
        let metric = CustomMetric {
            name: "checkout".to_owned(),
            role: Role::Judged,
            kind: CustomKind::Counts(counts),
        };
        let revisions = |canary: &str| Revisions {
            canary: Some(canary.to_owned()),
            canary_hash: Some("5d4f".to_owned()),
            stable: Some("1.0.0".to_owned()),
            stable_hash: None,
        };
        let clients = targets(&rollout, &parsed, &parsed.plan.objectives.custom, &revisions("1.1.0"));
        let shared = Backends {
            counter: Counter::GrpcRoute,
            service: "web".to_owned(),
            canary: "web-canary".to_owned(),
            stable: "web-stable".to_owned(),
        };
        assert_eq!(
            clients[0].backends,
            Some(shared),
            "what clients saw is asked for with other rollouts'"
        );
        let targets_of = |canary: &str| targets(&rollout, &parsed, std::slice::from_ref(&metric), &revisions(canary));
        insta::assert_debug_snapshot!(targets_of("1.1.0"));
        let evil = &targets_of("1\"}")[0];
        assert!(
            matches!(&evil.query, CustomQuery::Unusable { field: "total", problem } if problem.contains("{{pods}}")),
            "{evil:?}"
        );
    }
}
