//! GRPCRoute and HTTPRoute of gateway.networking.k8s.io, and the HTTPRoute of policy.linkerd.io, which says the same in the
//! same words. Pure JSON: typed routes refuse legal objects of other releases.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use serin_core::Weight;
use serin_core::analysis::Sides;

use super::kind::{Kind, LEAST_BESIDE, Rules, Weights, written, written_beside};
use super::live::{Backend, backends, sides};
use super::spec::{RouteSpec, metadata};

/// One of the kinds; they differ in what else a rule can say, which Serin never does.
pub(super) struct Gateway(pub(super) Kind);

/// A rule that names both arms.
struct Pair {
    stable: Backend,
    canary: Backend,
    /// What the rule's other backends weigh.
    others: i64,
}

impl Pair {
    fn together(&self) -> i64 {
        self.stable.weight.saturating_add(self.canary.weight)
    }

    /// The two weights that say a share in this rule.
    fn wanted(&self, spec: &RouteSpec, weight: Weight) -> Weights {
        if spec.adopted && self.others > 0 && self.together() > 0 {
            written_beside(weight, self.together())
        } else {
            written(weight)
        }
    }
}

impl Rules for Gateway {
    fn generated(&self, spec: &RouteSpec, (stable, canary): Weights) -> Value {
        let backend = |service: &str, weight: i64| {
            // Namespace and port always: where they are omitted, the proxies and the status disagree about the default.
            json!({
                "group": "", "kind": "Service", "name": service, "namespace": spec.namespace, "port": spec.port, "weight": weight,
            })
        };
        let mut rules = Vec::new();
        // As at full weight: while no canary is there, the proxies send the testers' calls to stable by themselves.
        let (standby, testers_canary) = written(Weight::FULL);
        if let Some(testers) = &spec.testers {
            rules.push(json!({
                "matches": [{ "headers": [{ "type": "Exact", "name": testers.header, "value": testers.value }] }],
                "backendRefs": [backend(&spec.stable_service, standby), backend(&spec.canary_service, testers_canary)],
            }));
        }
        rules.push(json!({
            "backendRefs": [backend(&spec.stable_service, stable), backend(&spec.canary_service, canary)],
        }));
        let resource = self.0.resource();
        json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": metadata(&spec.namespace, &spec.name, &spec.owner),
            "spec": {
                // The CRD's own default is a Gateway.
                "parentRefs": [{ "group": "core", "kind": "Service", "name": spec.apex, "namespace": spec.namespace, "port": spec.port }],
                "rules": rules,
            },
        })
    }

    fn weights(&self, spec: &RouteSpec, live: &Value) -> Option<Weights> {
        // Where several rules split between the arms, the one that gives the canary most is what it gets.
        let share = |(stable, canary): &Weights| {
            i128::from(*canary) * 1_000_000 / (i128::from(*stable) + i128::from(*canary)).max(1)
        };
        pairs(spec, live)
            .into_iter()
            .map(|pair| (pair.stable.weight, pair.canary.weight))
            .max_by_key(share)
    }

    fn reweigh(&self, spec: &RouteSpec, live: &Value, weight: Weight) -> Vec<Value> {
        let mut steps = Vec::new();
        let pairs = pairs(spec, live);
        for pair in &pairs {
            let (stable, canary) = pair.wanted(spec, weight);
            let both = [(&pair.stable, stable), (&pair.canary, canary)];
            if both.iter().all(|(backend, weight)| backend.weight == *weight) {
                continue;
            }
            for (backend, _) in both {
                steps.push(json!({ "op": "test", "path": backend.pointer("name"), "value": backend.name }));
            }
            for (backend, weight) in both {
                let op = if backend.has_weight { "replace" } else { "add" };
                steps.push(json!({ "op": op, "path": backend.pointer("weight"), "value": weight }));
            }
        }
        if pairs.is_empty() && !spec.adopted {
            // Somebody took an arm out of it: one arm alone would get everything, whatever its weight.
            let whole = self.generated(spec, written(weight));
            steps.push(json!({ "op": "add", "path": "/spec/rules", "value": whole.pointer("/spec/rules") }));
        }
        steps
    }

    fn sides(&self, spec: &RouteSpec, live: &Value) -> Sides {
        let all = backends(live);
        let rules: BTreeSet<usize> = all.iter().map(|b| b.rule).collect();
        // The apex's own pods are stable's.
        let names = |rule: usize, service: &str| {
            all.iter()
                .any(|b| b.rule == rule && b.is_service(&spec.namespace, service))
        };
        let of = |rule: usize| {
            if is_testers(spec, live, rule) {
                return (true, false, false);
            }
            let stable = names(rule, &spec.stable_service);
            (names(rule, &spec.canary_service), stable, names(rule, &spec.apex))
        };
        let arms: Vec<_> = rules.into_iter().map(of).collect();
        let only_canary = arms.iter().any(|(canary, stable, apex)| *canary && !stable && !apex);
        let only_stable = arms.iter().any(|(canary, stable, apex)| *apex || (*stable && !canary));
        sides(only_canary, only_stable)
    }

    fn misfit(&self, spec: &RouteSpec, live: &Value) -> Option<String> {
        if !is_of_apex(spec, live) {
            return Some(format!(
                "none of its parentRefs is the Service {} with kind Service, group core and port {}",
                spec.apex, spec.port
            ));
        }
        let pairs = pairs(spec, live);
        if pairs.is_empty() {
            let all = backends(live);
            let named = |service: &str| all.iter().any(|b| b.is_service(&spec.namespace, service));
            let (stable, canary) = (&spec.stable_service, &spec.canary_service);
            return Some(match (named(stable), named(canary)) {
                (false, false) => format!("none of its rules names the backends {stable} and {canary}"),
                (true, false) => format!("it names the backend {stable} and not {canary}; both belong into one rule"),
                (false, true) => format!("it names the backend {canary} and not {stable}; both belong into one rule"),
                (true, true) => {
                    format!("it names {stable} and {canary} in different rules only; both belong into one rule")
                }
            });
        }
        pairs.iter().find_map(|pair| pair_misfit(spec, live, pair))
    }

    fn generated_fields(&self) -> &'static [&'static str] {
        &["/spec/parentRefs", "/spec/rules"]
    }
}

/// What keeps one rule that names both arms from being adopted.
fn pair_misfit(spec: &RouteSpec, live: &Value, pair: &Pair) -> Option<String> {
    let rule = pair.stable.rule;
    let all = backends(live);
    for service in [&spec.stable_service, &spec.canary_service] {
        let named = all
            .iter()
            .filter(|b| b.rule == rule && b.is_service(&spec.namespace, service));
        if named.count() > 1 {
            return Some(format!(
                "its rules[{rule}] names the backend {service} more than once; name it once"
            ));
        }
    }
    (pair.others > 0 && pair.together() < LEAST_BESIDE).then(|| {
        format!(
            "in its rules[{rule}] {} and {} have a weight of {} together beside other backends; multiply all weights of the \
             rule so that they have at least {LEAST_BESIDE}, or a percent can't be said without changing the others' share",
            spec.stable_service,
            spec.canary_service,
            pair.together()
        )
    })
}

fn is_of_apex(spec: &RouteSpec, live: &Value) -> bool {
    let parents = live.pointer("/spec/parentRefs").and_then(Value::as_array);
    parents.into_iter().flatten().any(|parent| {
        let text = |field: &str| parent.get(field).and_then(Value::as_str);
        let port = parent.get("port").and_then(Value::as_u64);
        // Both have a Gateway as their default.
        text("kind") == Some("Service")
            && text("group").is_some_and(|group| matches!(group, "" | "core"))
            && text("name") == Some(&spec.apex)
            && text("namespace").is_none_or(|namespace| namespace == spec.namespace)
            && port.is_none_or(|port| port == u64::from(spec.port))
    })
}

/// The rules that name both arms.
fn pairs(spec: &RouteSpec, live: &Value) -> Vec<Pair> {
    let all = backends(live);
    let rules: BTreeSet<usize> = all.iter().map(|b| b.rule).collect();
    let pair = |rule: usize| {
        let of_rule = || all.iter().filter(move |b| b.rule == rule);
        let find = |service: &str| of_rule().find(|b| b.is_service(&spec.namespace, service)).cloned();
        let (stable, canary) = (find(&spec.stable_service)?, find(&spec.canary_service)?);
        let other = |b: &&Backend| b.index != stable.index && b.index != canary.index;
        let others = of_rule().filter(other).map(|b| b.weight).fold(0, i64::saturating_add);
        Some(Pair { stable, canary, others })
    };
    let is_split = |rule: &usize| !is_testers(spec, live, *rule);
    rules.into_iter().filter(is_split).filter_map(pair).collect()
}

/// Whether a rule of a generated route is the testers': its weights stand, whatever the canary's share is.
fn is_testers(spec: &RouteSpec, live: &Value, rule: usize) -> bool {
    let matches = live.pointer(&format!("/spec/rules/{rule}/matches"));
    let looks_at_headers = |one: &Value| {
        let headers = one.get("headers").and_then(Value::as_array);
        headers.is_some_and(|headers| !headers.is_empty())
    };
    let matches = matches.and_then(Value::as_array);
    !spec.adopted && matches.into_iter().flatten().any(looks_at_headers)
}

#[cfg(test)]
#[path = "gateway_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "adopted_tests.rs"]
mod adopted_tests;
