//! The few words of Go's templates that argocd/applicationset.yaml uses; any other is refused by name. Pure; it must not know
//! what the text is for.

use anyhow::{Context as _, bail};
use serde_json::{Map, Value};

/// Fills in every text of a value, keys too.
pub(super) fn fill(template: &Value, data: &Value) -> anyhow::Result<Value> {
    Ok(match template {
        Value::String(text) => Value::String(render(text, data)?),
        Value::Array(items) => Value::Array(items.iter().map(|item| fill(item, data)).collect::<Result<_, _>>()?),
        Value::Object(map) => {
            let pair = |(key, value): (&String, &Value)| Ok((render(key, data)?, fill(value, data)?));
            Value::Object(map.iter().map(pair).collect::<anyhow::Result<Map<_, _>>>()?)
        }
        other => other.clone(),
    })
}

/// Fills in one text. What is not in the data is an error, as with `missingkey=error`.
pub(super) fn render(template: &str, data: &Value) -> anyhow::Result<String> {
    let mut out = String::new();
    // One entry for each open `if`: whether what is in it is shown.
    let mut shown: Vec<bool> = Vec::new();
    let mut rest = template;
    while let Some((text, after)) = rest.split_once("{{") {
        let (action, after) = after.split_once("}}").context("a template has `{{` without `}}`")?;
        let (action, trims_before) = action
            .strip_prefix('-')
            .map_or((action, false), |action| (action, true));
        let (action, trims_after) = action
            .strip_suffix('-')
            .map_or((action, false), |action| (action, true));
        rest = if trims_after { after.trim_start() } else { after };
        if shown.iter().all(|shown| *shown) {
            out.push_str(if trims_before { text.trim_end() } else { text });
        }
        let words: Vec<_> = action.split_whitespace().collect();
        match *words.as_slice() {
            ["if", "hasKey", map, key] => {
                let key = quoted(key).with_context(|| unknown(action))?;
                // What is in a part that is not shown is not looked up.
                let open = shown.iter().all(|shown| *shown);
                shown.push(open && find(data, map, action)?.get(key).is_some());
            }
            ["end"] => {
                shown.pop().context("a template has `end` without `if`")?;
            }
            ["toYaml", path, "|", "nindent", spaces] => {
                let spaces: usize = spaces.parse().with_context(|| unknown(action))?;
                if shown.iter().all(|shown| *shown) {
                    // JSON is YAML, and stands on one line.
                    let text = serde_json::to_string(find(data, path, action)?)?;
                    out.push_str(&format!("\n{:spaces$}{text}", ""));
                }
            }
            [path] if path.starts_with('.') => {
                if shown.iter().all(|shown| *shown) {
                    match find(data, path, action)? {
                        Value::String(text) => out.push_str(text),
                        Value::Number(number) => out.push_str(&number.to_string()),
                        Value::Bool(truth) => out.push_str(&truth.to_string()),
                        _ => bail!("`{{{{ {} }}}}` is no text; write toYaml", action.trim()),
                    }
                }
            }
            _ => bail!(unknown(action)),
        }
    }
    if !shown.is_empty() {
        bail!("a template has `if` without `end`");
    }
    out.push_str(rest);
    Ok(out)
}

/// `.` or `.a.b`.
fn find<'d>(data: &'d Value, path: &str, action: &str) -> anyhow::Result<&'d Value> {
    let names = path.strip_prefix('.').with_context(|| unknown(action))?;
    let mut at = data;
    for name in names.split('.').filter(|name| !name.is_empty()) {
        if !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
            bail!(unknown(action));
        }
        at = at
            .get(name)
            .with_context(|| format!("a template asks for `{path}`, and there is no `{name}`"))?;
    }
    Ok(at)
}

fn quoted(word: &str) -> Option<&str> {
    word.strip_prefix('"')?.strip_suffix('"')
}

fn unknown(action: &str) -> String {
    format!(
        "a template says `{{{{ {} }}}}`; the lab's stand-in for Argo CD knows `.name`, `if hasKey . \"name\"`, `end` and \
         `toYaml .name | nindent 4`",
        action.trim()
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_stand_for_their_values() {
        let data = json!({"env": "prod", "a": {"b": 7}});
        assert_eq!(
            render("user-service-{{ .env }}/{{.a.b}}", &data).unwrap(),
            "user-service-prod/7"
        );
        assert_eq!(
            fill(&json!({"{{ .env }}": ["{{ .env }}", 1]}), &data).unwrap(),
            json!({"prod": ["prod", 1]})
        );
    }

    #[test]
    fn a_missing_name_is_an_error() {
        let error = render("{{ .nothing }}", &json!({})).unwrap_err();
        assert!(error.to_string().contains("there is no `nothing`"), "{error}");
        assert!(render("{{ .map }}", &json!({"map": {}})).is_err());
    }

    #[test]
    fn a_patch_is_there_only_with_its_key() {
        let patch = "{{- if hasKey . \"values\" }}\nhelm:\n  {{- toYaml .values | nindent 4 }}\n{{- end }}\n";
        assert_eq!(render(patch, &json!({})).unwrap(), "\n");
        let text = render(patch, &json!({"values": {"a": {"b": [1, "x: y"]}}})).unwrap();
        assert_eq!(text, "\nhelm:\n    {\"a\":{\"b\":[1,\"x: y\"]}}\n");
        let read: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(read, json!({"helm": {"a": {"b": [1, "x: y"]}}}));
    }

    #[test]
    fn what_is_in_a_hidden_part_is_not_looked_up() {
        let template = "{{ if hasKey . \"a\" }}{{ if hasKey .a \"b\" }}{{ .a.b }}{{ end }}{{ end }}.";
        assert_eq!(render(template, &json!({})).unwrap(), ".");
        assert_eq!(render(template, &json!({"a": {"b": 1}})).unwrap(), "1.");
        assert_eq!(
            render("{{ if hasKey . \"a\" }}{{ .a }}{{ end }}.", &json!({})).unwrap(),
            "."
        );
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        for template in [
            "{{ .a | upper }}",
            "{{ range .a }}",
            "{{ else }}",
            "{{ $x }}",
            "{{ toYaml .a }}",
            "{{ if .a }}",
        ] {
            let error = render(template, &json!({"a": 1})).unwrap_err().to_string();
            assert!(error.contains(template), "{error}");
        }
        assert!(render("{{ .a", &json!({})).is_err());
        assert!(render("{{ end }}", &json!({})).is_err());
        assert!(render("{{ if hasKey . \"a\" }}", &json!({})).is_err());
    }
}
