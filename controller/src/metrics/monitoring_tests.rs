//! That the dashboards and alerts of deploy/monitoring ask for metrics that there are.

use std::collections::BTreeSet;

use serde_json::Value;

use super::tests::names;

/// A scrape of a real proxy.
const PROXY: &str = include_str!("../../../tests/fixtures/linkerd-proxy-scrape.txt");
const DASHBOARDS: [(&str, &str); 2] = [
    (
        "rollouts.json",
        include_str!("../../../deploy/monitoring/dashboards/rollouts.json"),
    ),
    (
        "linkerd.json",
        include_str!("../../../deploy/monitoring/dashboards/linkerd.json"),
    ),
];
const RULES: &str = include_str!("../../../deploy/monitoring/rules.yaml");

/// Words that are no metrics: operators, and aggregations, which a clause may part from their argument.
const WORDS: [&str; 10] = [
    "or", "and", "unless", "offset", "bool", "sum", "max", "min", "count", "avg",
];

fn known() -> BTreeSet<String> {
    let of_proxies = PROXY.lines().filter(|line| !line.starts_with('#'));
    let of_proxies = of_proxies.filter_map(|line| line.split(['{', ' ']).next());
    of_proxies
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .chain(names())
        .collect()
}

/// The metrics that a query selects: its names without selectors, clauses, functions and numbers.
fn selected(query: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let (mut names, mut word, mut in_braces, mut in_clause) = (BTreeSet::new(), String::new(), false, false);
    let mut clause_may_come = false;
    for c in query.chars().chain([' ']) {
        if in_braces {
            in_braces = c != '}';
            continue;
        }
        if in_clause {
            in_clause = c != ')';
            continue;
        }
        if is_name(c) {
            word.push(c);
            continue;
        }
        let ended = std::mem::take(&mut word);
        let is_clause = ["by", "on", "without", "ignoring", "group_left", "group_right"].contains(&ended.as_str());
        if is_clause {
            clause_may_come = true;
        } else if !ended.is_empty() {
            clause_may_come = false;
            let is_function = c == '(';
            if !is_function && !ended.starts_with(|c: char| c.is_ascii_digit()) && !WORDS.contains(&ended.as_str()) {
                names.insert(ended);
            }
        }
        match c {
            '{' => in_braces = true,
            '(' if clause_may_come => (in_clause, clause_may_come) = (true, false),
            _ => {}
        }
    }
    names
}

/// Every `expr` of a dashboard, and the metrics of its variables.
fn queries(of: &Value, found: &mut Vec<String>) {
    match of {
        Value::Object(map) => {
            for (key, value) in map {
                match (key.as_str(), value) {
                    ("expr", Value::String(query)) => found.push(query.clone()),
                    ("definition", Value::String(values)) => {
                        let inside = values
                            .strip_prefix("label_values(")
                            .and_then(|values| values.strip_suffix(')'));
                        let (metric, _) = inside.unwrap().rsplit_once(',').unwrap();
                        found.push(metric.to_owned());
                    }
                    _ => queries(value, found),
                }
            }
        }
        Value::Array(all) => all.iter().for_each(|value| queries(value, found)),
        _ => {}
    }
}

#[test]
fn metrics_of_a_query_are_told_from_its_other_words() {
    let query = "histogram_quantile(0.9, sum by (le, op) (rate(a_bucket{x=\"y{z\"}[5m]))) / on () group_left () sum(b) > 50 or vector(0)";
    assert_eq!(selected(query).into_iter().collect::<Vec<_>>(), ["a_bucket", "b"]);
}

#[test]
fn every_panel_asks_for_metrics_that_there_are() {
    let known = known();
    for (file, text) in DASHBOARDS {
        let mut found = vec![];
        queries(&serde_json::from_str(text).unwrap(), &mut found);
        assert!(found.len() > 10, "{file} has panels");
        for query in found {
            let metrics = selected(&query);
            assert!(!metrics.is_empty(), "{file}: {query} asks for no metric");
            for metric in metrics {
                assert!(
                    known.contains(&metric),
                    "{file}: there is no metric {metric}, of which {query} asks"
                );
            }
        }
    }
}

#[test]
fn every_alert_asks_for_metrics_that_there_are_and_conditions_that_are_set() {
    let rules: Value = serde_saphyr::from_str(RULES).unwrap();
    let own: BTreeSet<_> = names().into_iter().collect();
    let mut found = vec![];
    queries(&rules, &mut found);
    assert!(found.len() > 10, "there are rules");
    let conditions = include_str!("../api/status.rs");
    for query in found {
        for metric in selected(&query) {
            assert!(
                own.contains(&metric),
                "there is no metric {metric}, of which {query} asks"
            );
        }
        if let Some((_, after)) = query.split_once("condition=\"") {
            let condition = after.split('"').next().unwrap();
            assert!(
                conditions.contains(condition),
                "no rollout has the condition {condition}"
            );
        }
    }
}
