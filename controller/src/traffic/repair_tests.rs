use super::*;

const SERVICE: &[&str] = &["/spec/ports", "/spec/selector"];

fn service(selector: &Value) -> Value {
    json!({
        "metadata": { "labels": { "app.kubernetes.io/managed-by": "serin" } },
        "spec": { "selector": selector, "ports": [{ "port": 50051, "protocol": "TCP" }] },
    })
}

#[test]
fn what_the_api_server_adds_is_not_repaired() {
    let wanted = service(&json!({ "app": "web" }));
    let mut live = wanted.clone();
    live["spec"]["ports"][0]["nodePort"] = json!(0);
    live["metadata"]["labels"]["team"] = json!("users");
    assert_eq!(repairs(&live, &wanted, SERVICE), Vec::<Value>::new());
}

#[test]
fn a_selector_has_exactly_the_wanted_keys() {
    let wanted = service(&json!({ "app": "web" }));
    let live = service(&json!({ "app": "web", "pod-template-hash": "old" }));
    let steps = repairs(&live, &wanted, SERVICE);
    assert_eq!(
        steps,
        [json!({ "op": "add", "path": "/spec/selector", "value": { "app": "web" } })]
    );
}

#[test]
fn a_missing_label_is_put_back_by_its_own_step() {
    let wanted = service(&json!({ "app": "web" }));
    let mut live = wanted.clone();
    live["metadata"]["labels"] = json!({ "team": "users" });
    let steps = repairs(&live, &wanted, SERVICE);
    let path = "/metadata/labels/app.kubernetes.io~1managed-by";
    assert_eq!(steps, [json!({ "op": "add", "path": path, "value": "serin" })]);
}

const OWNERS: &str = "/metadata/ownerReferences";

#[test]
fn what_begins_to_outlive_the_rollout_loses_its_owner_and_gets_its_name() {
    let live = json!({ "metadata": { "ownerReferences": [{ "uid": "u-1" }] } });
    let wanted = json!({ "metadata": { "annotations": { "serin.dev/rollout": "web" } } });
    let expected = json!([
        { "op": "remove", "path": OWNERS },
        { "op": "add", "path": "/metadata/annotations", "value": { "serin.dev/rollout": "web" } },
    ]);
    assert_eq!(json!(ties(&live, &wanted)), expected);
    assert_eq!(ties(&wanted, &wanted), Vec::<Value>::new());
}

#[test]
fn other_annotations_stay_beside_the_rollouts_name() {
    let live = json!({ "metadata": { "annotations": { "team": "users" } } });
    let wanted = json!({ "metadata": { "annotations": { "serin.dev/rollout": "web" } } });
    let expected = json!([{ "op": "add", "path": "/metadata/annotations/serin.dev~1rollout", "value": "web" }]);
    assert_eq!(json!(ties(&live, &wanted)), expected);
}

#[test]
fn what_stayed_of_an_adoption_goes_with_the_rollout_again() {
    let live = json!({ "metadata": { "annotations": { "serin.dev/rollout": "web" } } });
    let wanted = json!({ "metadata": { "ownerReferences": [{ "uid": "u-2" }] } });
    let expected = json!([{ "op": "add", "path": OWNERS, "value": [{ "uid": "u-2" }] }]);
    assert_eq!(json!(ties(&live, &wanted)), expected);
}
