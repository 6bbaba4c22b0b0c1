//! The steps of JSON patches that put an object right. Pure; must not know what it is for.

use serde_json::{Value, json};

use super::spec::ROLLOUT_ANNOTATION;

/// The step that makes a patch apply only to the version that was read.
pub(super) fn guard(resource_version: &str) -> Value {
    json!({ "op": "test", "path": "/metadata/resourceVersion", "value": resource_version })
}

/// The steps that put right the wanted labels and the fields pointed to. A list or a value has to be as wanted; an object
/// may have more than is wanted (defaults), except for a selector, in which every key means something.
pub(super) fn repairs(live: &Value, wanted: &Value, fields: &[&str]) -> Vec<Value> {
    let mut steps = Vec::new();
    let labels = "/metadata/labels";
    for (label, value) in wanted.pointer(labels).and_then(Value::as_object).into_iter().flatten() {
        match live.pointer(labels).and_then(Value::as_object) {
            Some(map) if map.get(label) == Some(value) => {}
            Some(_) => {
                let escaped = label.replace('~', "~0").replace('/', "~1");
                steps.push(json!({ "op": "add", "path": format!("{labels}/{escaped}"), "value": value }));
            }
            None => {
                steps.push(json!({ "op": "add", "path": labels, "value": wanted.pointer(labels) }));
                break;
            }
        }
    }
    for field in fields {
        let (is, should) = (
            live.pointer(field).unwrap_or(&Value::Null),
            wanted.pointer(field).unwrap_or(&Value::Null),
        );
        let right = if field.ends_with("/selector") {
            is == should
        } else {
            covers(is, should)
        };
        if !right {
            steps.push(json!({ "op": "add", "path": field, "value": should }));
        }
    }
    steps
}

/// The steps that make an object go with the rollout, or stay without it, as wanted: a rollout may begin or cease to adopt.
pub(super) fn ties(live: &Value, wanted: &Value) -> Vec<Value> {
    let mut steps = Vec::new();
    let owners = "/metadata/ownerReferences";
    let is_tied = live
        .pointer(owners)
        .and_then(Value::as_array)
        .is_some_and(|o| !o.is_empty());
    match wanted.pointer(owners) {
        Some(wanted) if !is_tied => steps.push(json!({ "op": "add", "path": owners, "value": wanted })),
        None if is_tied => steps.push(json!({ "op": "remove", "path": owners })),
        _ => {}
    }
    let annotations = "/metadata/annotations";
    let made_for = wanted.pointer(annotations).and_then(|a| a.get(ROLLOUT_ANNOTATION));
    match (made_for, live.pointer(annotations)) {
        (Some(name), Some(has)) if has.get(ROLLOUT_ANNOTATION) != Some(name) => {
            let escaped = ROLLOUT_ANNOTATION.replace('/', "~1");
            steps.push(json!({ "op": "add", "path": format!("{annotations}/{escaped}"), "value": name }));
        }
        (Some(_), None) => {
            steps.push(json!({ "op": "add", "path": annotations, "value": wanted.pointer(annotations) }));
        }
        _ => {}
    }
    steps
}

fn covers(is: &Value, should: &Value) -> bool {
    match (is, should) {
        (Value::Object(is), Value::Object(should)) => should
            .iter()
            .all(|(key, value)| is.get(key).is_some_and(|is| covers(is, value))),
        (Value::Array(is), Value::Array(should)) => {
            is.len() == should.len() && is.iter().zip(should).all(|(is, should)| covers(is, should))
        }
        (is, should) => is == should,
    }
}

#[cfg(test)]
#[path = "repair_tests.rs"]
mod tests;
