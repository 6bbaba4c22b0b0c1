//! The dashboards of deploy/monitoring over a good and a bad revision: each panel's query is put to the lab's Prometheus as Grafana would
//! put it. It must not know how a panel is drawn.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use anyhow::{Context as _, ensure};
use lab::{Lab, clock};
use serde_json::{Value, json};

use super::{
    site::environment,
    witness::{PROMOTION, ROLLBACK},
};
use crate::story::{SOON, eventually};

const DASHBOARDS: [&str; 3] = [
    "dashboards/rollouts.json",
    "dashboards/linkerd.json",
    "user-service.json",
];

/// What the lab has nobody for: the beginning of the metrics' names, and why.
const NOT_IN_THE_LAB: [(&str, &str); 4] = [
    (
        "container_",
        "cAdvisor's: the lab's kubelet runs processes, and measures none",
    ),
    ("kube_", "kube-state-metrics', which the lab does not run"),
    ("tcp_", "a proxy's connections: the lab's proxies count calls only"),
    (
        "process_resident_memory_bytes",
        "a proxy's: those of the lab are one process",
    ),
];

/// Queries that show what is wrong, and nothing was: with what is well asked for in this part's place they have data.
const NOTHING_WRONG: [(&str, &str, &str); 3] = [
    (
        "Conditions",
        "condition!~\"Ready|SpecValid|MetricsReadable\"",
        "condition=\"Ready\"",
    ),
    ("Queries that failed", "outcome!=\"Done\"", "outcome=\"Done\""),
    ("Git operations that failed", "outcome!=\"Done\"", "outcome=\"Done\""),
];

pub(super) async fn story(lab: Arc<Lab>) -> anyhow::Result<()> {
    let environment = environment(&lab, "dashboards", json!({})).await?;
    let serin = environment.serin.as_ref().context("it has no Serin of its own")?;
    let side_port = serin.side_port().await?;
    let targets = lab.prometheus.targets();
    targets.add(side_port.trim_start_matches("http://"), &[("job", "serin")]);
    targets.add_applications_of(&environment.namespace());
    let began = clock::now();
    environment.commit("1.1.0", None).await?;
    environment.until_phase("Promoted", "1.1.0", PROMOTION).await?;
    environment.commit("1.2.0", None).await?;
    environment.until_phase("RolledBack", "1.2.0", ROLLBACK).await?;

    let (mut excused, mut without) = (BTreeSet::new(), Vec::new());
    for file in DASHBOARDS {
        let panels = panels(file)?;
        ensure!(panels.len() > 10, "{file} has panels");
        for (title, query) in panels {
            let asked = filled(&query, &environment.namespace());
            if let Some((prefix, why)) = NOT_IN_THE_LAB.iter().find(|(prefix, _)| asks_for(&query, prefix)) {
                println!("{file}: {title} has no data in the lab: {why}");
                excused.insert((*prefix).to_owned());
                continue;
            }
            let quiet = NOTHING_WRONG
                .iter()
                .find(|(of, part, _)| *of == title && query.contains(part));
            let asked = match quiet {
                Some((of, wrong, well)) => {
                    excused.insert((*of).to_owned());
                    asked.replace(" > 0", "").replace(wrong, well)
                }
                None => asked,
            };
            // The last scrapes may be on their way.
            let seen = eventually(&format!("{file}: {title} has data ({asked})"), SOON, async || {
                let series = lab.prometheus.query_since(&asked, began).await?;
                ensure!(
                    series.iter().any(has_number),
                    "of {} series none has a number",
                    series.len()
                );
                Ok(())
            })
            .await;
            without.extend(seen.err().map(|error| format!("{error:#}")));
        }
    }
    ensure!(without.is_empty(), "panels without data: {without:#?}");
    let excuses = NOT_IN_THE_LAB.len() + NOTHING_WRONG.len();
    ensure!(
        excused.len() == excuses,
        "an excuse that no panel needs: only {excused:?} were needed"
    );
    Ok(())
}

/// Each query of a dashboard, with the title of its panel.
fn panels(file: &str) -> anyhow::Result<Vec<(String, String)>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy/monitoring")
        .join(file);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let dashboard: Value = serde_json::from_str(&text).with_context(|| format!("reading {file}"))?;
    let mut found = Vec::new();
    collect(&dashboard, &mut found);
    Ok(found)
}

fn collect(of: &Value, found: &mut Vec<(String, String)>) {
    let list = |name: &str| of.get(name).and_then(Value::as_array).into_iter().flatten();
    let title = of.get("title").and_then(Value::as_str).unwrap_or_default();
    let queries = list("targets").filter_map(|target| target.get("expr")?.as_str());
    found.extend(queries.map(|query| (title.to_owned(), query.to_owned())));
    for panel in list("panels") {
        collect(panel, found);
    }
}

/// As Grafana fills it in.
fn filled(query: &str, namespace: &str) -> String {
    let variables = [
        ("$__rate_interval", "20s"),
        ("$__range", "10m"),
        ("$namespace", namespace),
        ("$rollout", "user-service"),
        ("$stable", "user-service"),
        ("$canary", "user-service-canary"),
    ];
    let fill = |query: String, (name, value): &(&str, &str)| query.replace(name, value);
    variables.iter().fold(query.to_owned(), fill)
}

/// Whether it selects a metric whose name begins so.
fn asks_for(query: &str, prefix: &str) -> bool {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    query.split(|c| !is_name(c)).any(|word| word.starts_with(prefix))
}

/// Whether a series has a number at some time: NaN, as of a quotient of nothing, is none.
fn has_number(series: &Value) -> bool {
    let values = series.get("values").and_then(Value::as_array).into_iter().flatten();
    let mut numbers = values.filter_map(|value| value.get(1)?.as_str()?.parse::<f64>().ok());
    numbers.any(f64::is_finite)
}
