//! For tests: what the API server does with a JSON patch, as far as Serin writes any.

use serde_json::Value;

/// Applies the steps in order, each strictly: a `test` that fails and a `replace` of nothing are panics.
pub(super) fn apply(object: &Value, steps: &[Value]) -> Value {
    let mut next = object.clone();
    for step in steps {
        let path = step["path"].as_str().unwrap();
        let value = &step["value"];
        match step["op"].as_str().unwrap() {
            "test" => assert_eq!(next.pointer(path), Some(value), "{step}"),
            "replace" => *next.pointer_mut(path).unwrap() = value.clone(),
            "add" => {
                let (parent, field) = path.rsplit_once('/').unwrap();
                let parent = next.pointer_mut(parent).unwrap().as_object_mut().unwrap();
                parent.insert(field.to_owned(), value.clone());
            }
            other => panic!("Serin writes no {other} here"),
        }
    }
    next
}
