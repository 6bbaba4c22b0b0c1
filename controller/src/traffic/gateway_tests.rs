use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serin_core::Weight;

use super::super::kind::written;
use super::super::live::LiveRoute;
use super::super::spec::Testers;
use super::*;

fn spec(testers: Option<Testers>) -> RouteSpec {
    RouteSpec {
        kind: Kind::GrpcRoute,
        namespace: "prod".to_owned(),
        name: "web".to_owned(),
        adopted: false,
        apex: "web".to_owned(),
        port: 50_051,
        stable_service: "web-stable".to_owned(),
        canary_service: "web-canary".to_owned(),
        testers,
        owner: OwnerReference {
            api_version: "serin.dev/v1alpha1".to_owned(),
            kind: "CanaryRollout".to_owned(),
            name: "web".to_owned(),
            uid: "u-1".to_owned(),
            ..OwnerReference::default()
        },
    }
}

fn testers() -> Testers {
    Testers {
        header: "x-canary".to_owned(),
        value: "always".to_owned(),
    }
}

fn at(percent: i64) -> Weight {
    Weight::try_from(percent).unwrap()
}

#[test]
fn a_route_splits_the_apexs_calls_between_the_arms() {
    insta::assert_json_snapshot!(Kind::GrpcRoute.generated(&spec(Some(testers())), at(5)));
}

#[test]
fn what_goes_past_the_weights_is_known() {
    let route = |testers: Option<Testers>| Kind::GrpcRoute.generated(&spec(testers), at(5));
    let sides = |route: &Value| Gateway(Kind::GrpcRoute).sides(&spec(None), route);
    assert_eq!(sides(&route(None)), Sides::Both);
    assert_eq!(sides(&route(Some(testers()))), Sides::TooFew);
    let mut more = route(None);
    let rule = json!({ "backendRefs": [{ "name": "web-stable", "port": 50_051 }] });
    more["spec"]["rules"].as_array_mut().unwrap().push(rule);
    assert_eq!(sides(&more), Sides::TooMany);
    let mut beside = route(Some(testers()));
    let apex = json!({ "name": "web", "port": 50_051, "weight": 50 });
    beside["spec"]["rules"][1]["backendRefs"]
        .as_array_mut()
        .unwrap()
        .push(apex);
    assert_eq!(sides(&beside), Sides::Neither);
}

#[test]
fn who_wrote_the_weights_last_is_known_unless_it_was_serin() {
    let entry = |manager: &str, minute: u32, field: &str| {
        json!({
            "manager": manager, "operation": "Update", "apiVersion": "gateway.networking.k8s.io/v1", "fieldsType": "FieldsV1",
            "time": format!("2026-01-01T00:{minute:02}:00Z"), "fieldsV1": { "f:spec": { field: {} } },
        })
    };
    let writer = |entries: &[Value]| {
        let mut route = Kind::GrpcRoute.generated(&spec(None), at(5));
        route["metadata"]["managedFields"] = json!(entries);
        LiveRoute::of(&spec(None), &serde_json::from_value(route).unwrap()).writer
    };
    assert_eq!(writer(&[]), None);
    assert_eq!(writer(&[entry("serin", 1, "f:rules")]), None);
    let kubectl = entry("kubectl-edit", 2, "f:rules");
    assert_eq!(
        writer(&[entry("serin", 1, "f:rules"), kubectl.clone()]),
        Some("kubectl-edit".to_owned())
    );
    assert_eq!(writer(&[entry("serin", 3, "f:rules"), kubectl]), None);
    assert_eq!(
        writer(&[entry("kubectl-edit", 2, "f:parentRefs"), entry("serin", 1, "f:rules")]),
        None
    );
}

#[test]
fn what_is_generated_says_its_weights() {
    for percent in [0, 5, 100] {
        let route = Kind::HttpRoute.generated(&spec(Some(testers())), at(percent));
        assert_eq!(
            Gateway(Kind::HttpRoute).weights(&spec(Some(testers())), &route),
            Some(written(at(percent)))
        );
    }
}

#[test]
fn both_weights_change_in_one_patch_that_names_what_it_changes() {
    let route = Kind::GrpcRoute.generated(&spec(None), at(5));
    let steps = Gateway(Kind::GrpcRoute).reweigh(&spec(None), &route, at(25));
    let expected = json!([
        { "op": "test", "path": "/spec/rules/0/backendRefs/0/name", "value": "web-stable" },
        { "op": "test", "path": "/spec/rules/0/backendRefs/1/name", "value": "web-canary" },
        { "op": "replace", "path": "/spec/rules/0/backendRefs/0/weight", "value": 75 },
        { "op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": 25 },
    ]);
    assert_eq!(json!(steps), expected);
}

#[test]
fn the_testers_rule_keeps_its_weights_and_falls_back_on_stable() {
    let spec = spec(Some(testers()));
    let mut route = Kind::GrpcRoute.generated(&spec, at(0));
    let weights = |route: &Value, rule: usize| {
        let backends = &route["spec"]["rules"][rule]["backendRefs"];
        (backends[0]["weight"].as_i64(), backends[1]["weight"].as_i64())
    };
    assert_eq!(weights(&route, 0), (Some(1), Some(99_999)));
    let steps = Gateway(Kind::GrpcRoute).reweigh(&spec, &route, at(50));
    assert!(
        steps
            .iter()
            .all(|step| step["path"].as_str().unwrap().contains("/rules/1/")),
        "{steps:?}"
    );
    // The one that splits is gone: all of it is written anew, as the testers' rule alone would give the canary everything.
    route["spec"]["rules"].as_array_mut().unwrap().pop();
    assert_eq!(Gateway(Kind::GrpcRoute).weights(&spec, &route), None);
}

#[test]
fn weights_that_stand_are_not_written_again() {
    let route = Kind::GrpcRoute.generated(&spec(Some(testers())), at(50));
    assert_eq!(
        Gateway(Kind::GrpcRoute).reweigh(&spec(Some(testers())), &route, at(50)),
        Vec::<Value>::new()
    );
}

#[test]
fn a_route_that_lost_an_arm_gets_its_rules_back() {
    let mut route = Kind::GrpcRoute.generated(&spec(None), at(50));
    route["spec"]["rules"][0]["backendRefs"]
        .as_array_mut()
        .unwrap()
        .remove(0);
    assert_eq!(Gateway(Kind::GrpcRoute).weights(&spec(None), &route), None);
    let steps = Gateway(Kind::GrpcRoute).reweigh(&spec(None), &route, Weight::ZERO);
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0]["path"], "/spec/rules");
    assert_eq!(steps[0]["value"][0]["backendRefs"].as_array().unwrap().len(), 2);
}
