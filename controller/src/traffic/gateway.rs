//! GRPCRoute and HTTPRoute of gateway.networking.k8s.io. Pure JSON: typed routes refuse legal objects of other releases.

use serde_json::{Value, json};

use super::kind::{Kind, Rules, Weights};
use super::live::{Backend, backends};
use super::spec::{RouteSpec, metadata};

/// One of the two kinds; they differ in what else a rule can say, which Serin never does.
pub(super) struct Gateway(pub(super) Kind);

impl Rules for Gateway {
    fn generated(&self, spec: &RouteSpec, (stable, canary): Weights) -> Value {
        let backend = |service: &str, weight: i64| {
            // Namespace and port always: where they are omitted, the proxies and the status disagree about the default.
            json!({
                "group": "", "kind": "Service", "name": service, "namespace": spec.namespace, "port": spec.port, "weight": weight,
            })
        };
        let mut rules = Vec::new();
        if let Some(testers) = &spec.testers {
            rules.push(json!({
                "matches": [{ "headers": [{ "type": "Exact", "name": testers.header, "value": testers.value }] }],
                "backendRefs": [backend(&spec.canary_service, 1)],
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
        let share = |(stable, canary): &Weights| i128::from(*canary) * 1_000_000 / i128::from(stable + canary).max(1);
        pairs(spec, live)
            .map(|(stable, canary)| (stable.weight, canary.weight))
            .max_by_key(share)
    }

    fn reweigh(&self, spec: &RouteSpec, live: &Value, (stable, canary): Weights) -> Vec<Value> {
        let mut steps = Vec::new();
        let mut split = false;
        for (live_stable, live_canary) in pairs(spec, live) {
            split = true;
            if (live_stable.weight, live_canary.weight) == (stable, canary) {
                continue;
            }
            let both = [(live_stable, stable), (live_canary, canary)];
            for (backend, _) in &both {
                steps.push(json!({ "op": "test", "path": backend.pointer("name"), "value": backend.name }));
            }
            for (backend, weight) in &both {
                let op = if backend.has_weight { "replace" } else { "add" };
                steps.push(json!({ "op": op, "path": backend.pointer("weight"), "value": weight }));
            }
        }
        if !split {
            // Somebody took an arm out of it: one arm alone would get everything, whatever its weight.
            let whole = self.generated(spec, (stable, canary));
            steps.push(json!({ "op": "add", "path": "/spec/rules", "value": whole.pointer("/spec/rules") }));
        }
        steps
    }
}

/// The rules that name both arms: their two backends.
fn pairs<'a>(spec: &'a RouteSpec, live: &Value) -> impl Iterator<Item = (Backend, Backend)> + use<'a> {
    let all = backends(live);
    let rules: std::collections::BTreeSet<usize> = all.iter().map(|b| b.rule).collect();
    rules.into_iter().filter_map(move |rule| {
        let find = |service: &str| {
            all.iter()
                .find(|b| b.rule == rule && b.is_service(&spec.namespace, service))
                .cloned()
        };
        Some((find(&spec.stable_service)?, find(&spec.canary_service)?))
    })
}

#[cfg(test)]
#[path = "gateway_tests.rs"]
mod tests;
