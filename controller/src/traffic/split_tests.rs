use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::super::patching::apply;
use super::*;

fn spec(adopted: bool) -> RouteSpec {
    RouteSpec {
        kind: Kind::TrafficSplit,
        namespace: "prod".to_owned(),
        name: "web".to_owned(),
        adopted,
        apex: "web".to_owned(),
        port: 50_051,
        stable_service: "web-stable".to_owned(),
        canary_service: "web-canary".to_owned(),
        testers: None,
        owner: OwnerReference::default(),
    }
}

fn split(stable: &Value, canary: &Value, more: &[Value]) -> Value {
    let mut backends = vec![
        json!({ "service": "web-stable", "weight": stable }),
        json!({ "service": "web-canary", "weight": canary }),
    ];
    backends.extend_from_slice(more);
    json!({ "spec": { "service": "web", "backends": backends } })
}

fn at(percent: i64) -> Weight {
    Weight::try_from(percent).unwrap()
}

#[test]
fn what_is_generated_says_its_weights_and_never_two_zeros() {
    for percent in 0..=100 {
        let live = Kind::TrafficSplit.generated(&spec(false), at(percent));
        let weights = Split.weights(&spec(false), &live).unwrap();
        assert_eq!(weights, written(at(percent)));
        assert!(weights.0 > 0 && weights.1 < 429_000);
        assert_eq!(Split.reweigh(&spec(false), &live, at(percent)), Vec::<Value>::new());
        assert_eq!(Split.misfit(&spec(false), &live), None);
    }
}

#[test]
fn a_quantity_is_read_in_every_spelling() {
    let read = |weight: Value| Split.weights(&spec(false), &split(&weight, &json!(0), &[]));
    assert_eq!(read(json!(90)), Some((90, 0)));
    assert_eq!(read(json!("90")), Some((90, 0)));
    assert_eq!(read(json!("1k")), Some((1_000, 0)));
    assert_eq!(read(json!("900m")), Some((900, 0)), "in thousandths, as both are");
    assert_eq!(read(json!("1.5")), Some((1_500, 0)));
    assert_eq!(read(json!(0.5)), Some((500, 0)));
    assert_eq!(read(json!("much")), Some((0, 0)), "which is no share");
}

#[test]
fn a_weight_that_was_a_text_stays_one() {
    let live = split(&json!("900m"), &json!(0), &[]);
    let next = apply(&live, &Split.reweigh(&spec(false), &live, at(100)));
    assert_eq!(next["spec"]["backends"][0]["weight"], "1");
    assert_eq!(next["spec"]["backends"][1]["weight"], 99_999);
}

#[test]
fn both_weights_are_written_together_after_the_names_were_tested() {
    let live = split(&json!(100), &json!(0), &[]);
    let steps = Split.reweigh(&spec(false), &live, at(5));
    let expected = json!([
        { "op": "test", "path": "/spec/backends/0/service", "value": "web-stable" },
        { "op": "test", "path": "/spec/backends/1/service", "value": "web-canary" },
        { "op": "add", "path": "/spec/backends/0/weight", "value": 95 },
        { "op": "add", "path": "/spec/backends/1/weight", "value": 5 },
    ]);
    assert_eq!(json!(steps), expected);
}

#[test]
fn another_backend_keeps_its_share_in_an_adopted_split() {
    let legacy = json!({ "service": "web-legacy", "weight": 1_000 });
    let live = split(&json!(9_000), &json!(0), std::slice::from_ref(&legacy));
    assert_eq!(Split.misfit(&spec(true), &live), None);
    let next = apply(&live, &Split.reweigh(&spec(true), &live, at(25)));
    assert_eq!(Split.weights(&spec(true), &next), Some((6_750, 2_250)));
    assert_eq!(next["spec"]["backends"][2], legacy);
}

#[test]
fn a_split_that_cannot_be_adopted_says_why() {
    let why = |live: &Value| Split.misfit(&spec(true), live).unwrap();
    let mut other = split(&json!(1), &json!(0), &[]);
    other["spec"]["service"] = json!("shop");
    assert!(why(&other).contains("not the apex web"));
    let mut alone = split(&json!(1), &json!(0), &[]);
    alone["spec"]["backends"].as_array_mut().unwrap().remove(1);
    assert!(why(&alone).contains("names no backend web-canary"), "{}", why(&alone));
    assert_eq!(Split.reweigh(&spec(true), &alone, at(0)), Vec::<Value>::new());
    let twice = split(&json!(1), &json!(0), &[json!({ "service": "web-stable", "weight": 1 })]);
    assert!(why(&twice).contains("more than once"));
    let few = split(
        &json!(90),
        &json!(0),
        &[json!({ "service": "web-legacy", "weight": 10 })],
    );
    assert!(why(&few).contains("at least 1000"), "{}", why(&few));
}
