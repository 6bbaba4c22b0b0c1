//! docs/reference.md: the fields of the custom resource as a page, made from its definition in crds/. Pure; it knows no field.

use serde_json::Value;

/// What opens the page.
const HEAD: &str = "# Reference: CanaryRollout

Generated from the types in controller/src/api (`make generate`); `kubectl explain canaryrollout.spec` tells the same. Required fields
are marked with `*`. [How a rollout goes](rollouts.md) tells what they are for, and `serin explain -f FILE` what a spec means.
";

/// The page for a definition.
pub fn page(definition: &Value) -> String {
    let mut page = HEAD.to_owned();
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
    for version in versions.into_iter().flatten() {
        let name = text(version, "name");
        for part in ["spec", "status"] {
            let pointer = format!("/schema/openAPIV3Schema/properties/{part}");
            let Some(schema) = version.pointer(&pointer) else {
                continue;
            };
            page += &format!("\n## {name}: `{part}`\n\n{}\n", prose(schema));
            page += &rules(schema);
            let (plain, nested): (Vec<_>, Vec<_>) = fields(schema).partition(|(_, field)| inner(field).is_none());
            if !plain.is_empty() {
                page += &table(
                    &plain
                        .iter()
                        .map(|(key, field)| row(key, field, schema))
                        .collect::<String>(),
                );
            }
            for (key, field) in nested {
                page += &format!("\n### `{part}.{key}`{}\n\n{}\n", mark(schema, key), prose(field));
                let default = default(field);
                if !default.is_empty() {
                    page += &format!("\nDefault: {default}.\n");
                }
                page += &rules(field);
                let mut rows = String::new();
                below("", field, &mut rows);
                if !rows.is_empty() {
                    page += &table(&rows);
                }
            }
        }
    }
    page
}

fn table(rows: &str) -> String {
    format!("\n| field | type | default | |\n| --- | --- | --- | --- |\n{rows}")
}

/// Rows for all that is in a field, however deep.
fn below(prefix: &str, field: &Value, rows: &mut String) {
    let Some(object) = inner(field) else { return };
    for (key, field) in fields(object) {
        let path = format!("{prefix}{key}");
        *rows += &row(&path, field, object);
        let list = if text(field, "type") == "array" { "[]" } else { "" };
        below(&format!("{path}{list}."), field, rows);
    }
}

fn row(path: &str, field: &Value, within: &Value) -> String {
    let key = path.rsplit('.').next().unwrap_or(path);
    let mut what = prose(field);
    for rule in messages(field) {
        what += &format!(" ({rule})");
    }
    format!(
        "| `{path}`{} | {} | {} | {} |\n",
        mark(within, key),
        kind(field),
        default(field),
        what.replace('|', "\\|")
    )
}

/// The object that a field is, or that each of its items is; none for a plain value.
fn inner(field: &Value) -> Option<&Value> {
    let object = field.get("items").unwrap_or(field);
    fields(object).next().map(|_| object)
}

fn fields(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

fn text<'a>(schema: &'a Value, key: &str) -> &'a str {
    schema.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn prose(schema: &Value) -> String {
    text(schema, "description")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn mark(within: &Value, key: &str) -> &'static str {
    let required = within.get("required").and_then(Value::as_array);
    if required.is_some_and(|keys| keys.iter().any(|found| found == key)) {
        "*"
    } else {
        ""
    }
}

fn default(field: &Value) -> String {
    field.get("default").map_or_else(String::new, |value| match value {
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    })
}

fn messages(schema: &Value) -> impl Iterator<Item = &str> {
    let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array);
    rules.into_iter().flatten().map(|rule| text(rule, "message"))
}

fn rules(schema: &Value) -> String {
    messages(schema)
        .map(|message| format!("\nRule: {message}.\n"))
        .collect()
}

/// A field's type with its limits.
fn kind(field: &Value) -> String {
    if let Some(words) = field.get("enum").and_then(Value::as_array) {
        let words = words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`"));
        return words.collect::<Vec<_>>().join(", ");
    }
    let number = |key: &str| field.get(key).and_then(Value::as_f64);
    let limits = match (number("minimum"), number("maximum")) {
        (Some(least), Some(most)) => format!(", {least} to {most}"),
        (Some(least), None) => format!(", at least {least}"),
        (None, Some(most)) => format!(", at most {most}"),
        (None, None) => String::new(),
    };
    match text(field, "type") {
        "array" => match field.get("items").map(|items| text(items, "type")) {
            Some(items) if !items.is_empty() => format!("list of {items}s"),
            _ => "list".to_owned(),
        },
        "" => "any".to_owned(),
        kind => format!("{kind}{limits}"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    #[test]
    fn the_committed_page_is_in_step_with_the_definition() {
        let read = |name: &str| fs::read_to_string(crate::project_root().join(name)).unwrap();
        let definition = serde_saphyr::from_str(&read("crds/canaryrollouts.serin.dev.yaml")).unwrap();
        assert!(
            read("docs/reference.md") == page(&definition),
            "docs/reference.md is not in step; run: make generate"
        );
    }

    #[test]
    fn a_field_is_told_with_its_type_its_limits_its_default_and_its_rules() {
        let weight = json!({"type": "integer", "minimum": 1.0, "maximum": 100.0, "description": "A\nshare."});
        let steps = json!({"type": "array", "description": "Steps.", "items":
            {"type": "object", "required": ["weight"], "properties": {"weight": weight}}});
        let name = json!({"type": "string", "default": "main", "description": "A | name.",
            "x-kubernetes-validations": [{"rule": "true", "message": "it must be short"}]});
        let spec = json!({"description": "All.", "required": ["steps"], "properties": {"name": name, "steps": steps}});
        let definition = json!({"spec": {"versions": [
            {"name": "v1", "schema": {"openAPIV3Schema": {"properties": {"spec": spec}}}}]}});
        let page = page(&definition);
        let told = page.strip_prefix(HEAD).unwrap();
        let expected = "
## v1: `spec`

All.

| field | type | default | |
| --- | --- | --- | --- |
| `name` | string | `main` | A \\| name. (it must be short) |

### `spec.steps`*

Steps.

| field | type | default | |
| --- | --- | --- | --- |
| `weight`* | integer, 1 to 100 |  | A share. |
";
        assert_eq!(told, expected);
    }
}
