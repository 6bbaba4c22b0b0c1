//! Routes that stand in Git: whatever is in them, only the two weights change.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::patching::apply;
use super::*;

fn spec() -> RouteSpec {
    RouteSpec {
        kind: Kind::GrpcRoute,
        namespace: "prod".to_owned(),
        name: "web-in-git".to_owned(),
        adopted: true,
        apex: "web".to_owned(),
        port: 50_051,
        stable_service: "web-stable".to_owned(),
        canary_service: "web-canary".to_owned(),
        testers: None,
        owner: OwnerReference::default(),
    }
}

fn route(rules: &Value) -> Value {
    json!({
        "metadata": { "name": "web-in-git", "namespace": "prod", "labels": { "team": "users" } },
        "spec": {
            "hostnames": ["web.example.com"],
            "parentRefs": [{ "group": "core", "kind": "Service", "name": "web", "port": 50051 }],
            "rules": rules,
        },
    })
}

fn arms(stable: i64, canary: i64) -> Value {
    json!([{ "name": "web-stable", "port": 1, "weight": stable }, { "name": "web-canary", "port": 1, "weight": canary }])
}

fn at(percent: i64) -> Weight {
    Weight::try_from(percent).unwrap()
}

/// A backend: an arm, one that only looks like an arm, or another one.
fn backend() -> impl Strategy<Value = Value> {
    let named = select(vec![
        json!({ "name": "web-stable" }),
        json!({ "name": "web-canary" }),
        json!({ "name": "web-stable", "namespace": "elsewhere" }),
        json!({ "name": "web-canary", "group": "example.com", "kind": "Lambda" }),
        json!({ "name": "web-legacy" }),
        json!({ "name": "web-shadow", "kind": "Service" }),
    ]);
    let weight = proptest::option::of(prop_oneof![Just(0_i64), 1..2_000_i64]);
    let filters = proptest::option::of(Just(json!([{ "type": "RequestHeaderModifier" }])));
    (named, weight, filters, 1..65_535_u16).prop_map(|(mut backend, weight, filters, port)| {
        backend["port"] = json!(port);
        if let Some(weight) = weight {
            backend["weight"] = json!(weight);
        }
        if let Some(filters) = filters {
            backend["filters"] = filters;
        }
        backend
    })
}

fn rule() -> impl Strategy<Value = Value> {
    let matches = proptest::option::of(select(vec![
        json!([{ "headers": [{ "type": "Exact", "name": "x-canary", "value": "always" }] }]),
        json!([{ "method": { "service": "user.User", "method": "Get" } }, { "headers": [] }]),
    ]));
    let filters = proptest::option::of(Just(
        json!([{ "type": "RequestHeaderModifier", "requestHeaderModifier": {} }]),
    ));
    let backends = proptest::option::of(proptest::collection::vec(backend(), 0..5));
    (matches, filters, backends, any::<bool>()).prop_map(|(matches, filters, backends, named)| {
        let mut rule = json!({});
        let parts = [
            ("matches", matches),
            ("filters", filters),
            ("backendRefs", backends.map(Value::Array)),
        ];
        for (field, value) in parts {
            if let Some(value) = value {
                rule[field] = value;
            }
        }
        if named {
            rule["name"] = json!("a-rule");
            rule["timeouts"] = json!({ "request": "1s" });
        }
        rule
    })
}

/// The rule with exactly one backend for each arm, after its others.
fn with_arms((mut rule, stable, canary): (Value, i64, i64)) -> Value {
    let is_arm = |backend: &Value| backend.get("namespace").is_none() && backend.get("group").is_none();
    let mut backends = rule["backendRefs"].as_array().cloned().unwrap_or_default();
    backends.retain(|backend| !is_arm(backend) || backend["name"] == "web-legacy");
    backends.extend(arms(stable, canary).as_array().cloned().unwrap_or_default());
    rule["backendRefs"] = json!(backends);
    rule
}

/// The route without the weights that are Serin's.
fn without_the_two(live: &Value) -> Value {
    let mut rest = live.clone();
    for pair in pairs(&spec(), live) {
        for backend in [&pair.stable, &pair.canary] {
            let of = format!("/spec/rules/{}/backendRefs/{}", backend.rule, backend.index);
            rest.pointer_mut(&of).unwrap().as_object_mut().unwrap().remove("weight");
        }
    }
    rest
}

proptest! {
    #[test]
    fn nothing_changes_but_the_two_weights(
        rules in proptest::collection::vec(rule(), 0..5),
        percents in proptest::collection::vec(0..=100_i64, 1..5),
    ) {
        let spec = spec();
        let original = route(&json!(rules));
        let mut live = original.clone();
        // The way of a rollout: some steps, and back to stable.
        for percent in percents.into_iter().chain([0]) {
            let steps = Gateway(Kind::GrpcRoute).reweigh(&spec, &live, at(percent));
            live = apply(&live, &steps);
            prop_assert_eq!(without_the_two(&live), without_the_two(&original));
            for pair in pairs(&spec, &live) {
                prop_assert!(pair.stable.weight >= 0 && pair.canary.weight >= 0);
                prop_assert!(pair.together() + pair.others > 0, "never all zeros");
            }
            let again = Gateway(Kind::GrpcRoute).reweigh(&spec, &live, at(percent));
            prop_assert!(again.is_empty(), "what stands is not written again: {:?}", again);
        }
        for pair in pairs(&spec, &live) {
            prop_assert_eq!(pair.canary.weight, 0);
        }
    }

    #[test]
    fn what_can_be_adopted_is_read_back_as_it_was_written_and_keeps_the_others_share(
        rules in proptest::collection::vec((rule(), 500..5_000_i64, 500..5_000_i64), 1..4),
        percent in 0..=100_i64,
    ) {
        let (spec, gateway) = (spec(), Gateway(Kind::GrpcRoute));
        let live = route(&json!(rules.into_iter().map(with_arms).collect::<Vec<_>>()));
        prop_assert_eq!(gateway.misfit(&spec, &live), None);
        let next = apply(&live, &gateway.reweigh(&spec, &live, at(percent)));
        let (stable, canary) = gateway.weights(&spec, &next).unwrap();
        prop_assert_eq!(Weight::from_backends(stable, canary), Some(at(percent)));
        for (before, after) in pairs(&spec, &live).iter().zip(pairs(&spec, &next)) {
            if before.others > 0 {
                prop_assert_eq!(before.together(), after.together());
            }
        }
        prop_assert_eq!(gateway.misfit(&spec, &next), None, "it can be adopted still");
    }
}

#[test]
fn weights_change_in_every_rule_that_names_both_arms() {
    let live = route(&json!([
        { "matches": [{ "headers": [{ "name": "x-canary", "value": "always" }] }], "backendRefs": [{ "name": "web-canary", "port": 1 }] },
        { "matches": [{ "method": { "service": "a.B" } }], "backendRefs": arms(50, 50) },
        { "backendRefs": arms(100, 0) },
    ]));
    let gateway = Gateway(Kind::GrpcRoute);
    assert_eq!(
        gateway.weights(&spec(), &live),
        Some((50, 50)),
        "the most that any rule gives"
    );
    let next = apply(&live, &gateway.reweigh(&spec(), &live, at(5)));
    assert_eq!(next["spec"]["rules"][1]["backendRefs"], arms(95, 5));
    assert_eq!(next["spec"]["rules"][2]["backendRefs"], arms(95, 5));
    assert_eq!(next["spec"]["rules"][0], live["spec"]["rules"][0]);
}

#[test]
fn a_route_that_cannot_be_adopted_says_why() {
    let why = |route: &Value| Gateway(Kind::GrpcRoute).misfit(&spec(), route).unwrap();
    let backends = |list: Value| why(&route(&json!([{ "backendRefs": list }])));
    assert!(backends(json!([{ "name": "web" }])).contains("names the backends web-stable and web-canary"));
    assert!(backends(json!([{ "name": "web-stable" }])).contains("web-stable and not web-canary"));
    assert!(backends(json!([{ "name": "web-canary" }])).contains("web-canary and not web-stable"));
    let apart = json!([{ "backendRefs": [{ "name": "web-stable" }] }, { "backendRefs": [{ "name": "web-canary" }] }]);
    assert!(why(&route(&apart)).contains("in different rules only"));
    let twice = json!([{ "name": "web-stable" }, { "name": "web-canary" }, { "name": "web-canary", "port": 2 }]);
    assert!(backends(twice).contains("more than once"));
    let few = json!([{ "name": "web-stable", "weight": 90 }, { "name": "web-canary", "weight": 0 }, { "name": "web-legacy" }]);
    assert!(backends(few.clone()).contains("at least 1000"), "{}", backends(few));
    let mut gateways = route(&json!([{ "backendRefs": arms(100, 0) }]));
    gateways["spec"]["parentRefs"] = json!([{ "name": "web" }]);
    assert!(why(&gateways).contains("kind Service"), "{}", why(&gateways));
}

#[test]
fn a_route_that_lost_an_arm_is_not_written() {
    let live = route(&json!([{ "backendRefs": [{ "name": "web-stable", "weight": 100 }] }]));
    assert_eq!(
        Gateway(Kind::GrpcRoute).reweigh(&spec(), &live, at(0)),
        Vec::<Value>::new()
    );
}
