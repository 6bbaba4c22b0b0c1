//! The Grafana dashboard deploy/monitoring/user-service.json asks for what is really counted: by this service, by kubelet
//! (cAdvisor) or by kube-state-metrics. It can't show that Grafana draws it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use user_proto::{CreateUserRequest, User};

use crate::harness::start;

/// What kubelet and kube-state-metrics count, as far as the dashboard uses it.
const OF_THE_CLUSTER: [&str; 10] = [
    "container_cpu_cfs_periods_total",
    "container_cpu_cfs_throttled_periods_total",
    "container_cpu_usage_seconds_total",
    "container_memory_working_set_bytes",
    "container_network_receive_bytes_total",
    "container_network_transmit_bytes_total",
    "kube_deployment_status_replicas_available",
    "kube_pod_container_resource_limits",
    "kube_pod_container_resource_requests",
    "kube_pod_container_status_restarts_total",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn dashboard() -> Value {
    let text = fs::read_to_string(root().join("deploy/monitoring/user-service.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// All queries, of panels and annotations.
fn queries(of: &Value) -> Vec<String> {
    match of {
        Value::Array(items) => items.iter().flat_map(queries).collect(),
        Value::Object(map) => {
            let own = map.get("expr").and_then(Value::as_str).map(str::to_owned);
            own.into_iter().chain(map.values().flat_map(queries)).collect()
        }
        _ => Vec::new(),
    }
}

/// The names before `{`: every series is selected by labels here.
fn names(query: &str) -> BTreeSet<String> {
    let name = |before: &str| {
        let start = before
            .rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .map_or(0, |at| at + 1);
        before[start..].to_owned()
    };
    let parts: Vec<_> = query.split('{').collect();
    parts[..parts.len() - 1].iter().map(|before| name(before)).collect()
}

#[tokio::test]
async fn the_dashboard_asks_for_metrics_that_there_are() {
    let service = start(&["--fault-error-rate=1", "--fault-latency=1ms"]).await;
    let user = User {
        display_name: "Ann".to_owned(),
        email: "ann@example.com".to_owned(),
        ..User::default()
    };
    let request = CreateUserRequest {
        user: Some(user),
        ..CreateUserRequest::default()
    };
    service.client().await.create_user(request).await.unwrap_err();
    let (status, exported) = service.get("/metrics").await;
    assert_eq!(status, 200);
    let exported: BTreeSet<_> = exported
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let mut own = BTreeSet::new();
    for query in queries(&dashboard()) {
        let names = names(&query);
        assert!(!names.is_empty(), "{query}");
        for name in names {
            let there = exported.contains(name.as_str());
            assert!(
                there || OF_THE_CLUSTER.contains(&name.as_str()),
                "nobody exports {name}: {query}"
            );
            if there {
                own.insert(name);
            }
        }
    }
    // What the service counts and the dashboard does not show is not worth counting.
    let families: BTreeSet<_> = exported
        .iter()
        .map(|name| name.trim_end_matches("_sum").trim_end_matches("_count"))
        .filter(|name| !name.ends_with("_created"))
        .map(|name| {
            if name.ends_with("_seconds") {
                format!("{name}_bucket")
            } else {
                name.to_owned()
            }
        })
        .collect();
    assert_eq!(own, families);
}

#[test]
fn prometheus_understands_the_dashboards_queries() {
    let setup = Command::new(root().join("tests/lab/setup/prometheus.sh"))
        .output()
        .unwrap();
    assert!(setup.status.success(), "{}", String::from_utf8_lossy(&setup.stderr));
    let tools = String::from_utf8(setup.stdout).unwrap();
    let promtool = tools.lines().nth(1).unwrap();
    // Its rules are the queries that promtool reads.
    let mut rules = "groups:\n- name: dashboard\n  rules:\n".to_owned();
    let queries = queries(&dashboard());
    for (number, query) in queries.iter().enumerate() {
        let query = query.replace("$__rate_interval", "5m").replace("$__range", "3h");
        write!(
            rules,
            "  - record: dashboard:query_{number}\n    expr: {}\n",
            Value::String(query)
        )
        .unwrap();
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), rules).unwrap();
    let output = Command::new(promtool)
        .args(["check", "rules"])
        .arg(file.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        queries.len() > 20 && said.contains(&format!("{} rules found", queries.len())),
        "{said}"
    );
}

#[test]
fn panels_have_a_title_a_unit_and_a_place_of_their_own() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut places = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(!panel["title"].as_str().unwrap().is_empty());
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}", panel["title"]);
        if panel["type"] != "row" {
            assert!(
                panel["fieldConfig"]["defaults"]["unit"].is_string(),
                "{}",
                panel["title"]
            );
        }
        let place = &panel["gridPos"];
        let at = |key: &str| place[key].as_u64().unwrap();
        for y in at("y")..at("y") + at("h") {
            for x in at("x")..at("x") + at("w") {
                assert!(
                    x < 24 && places.insert((x, y)),
                    "{} lies on another one",
                    panel["title"]
                );
            }
        }
    }
    let rows: Vec<_> = panels
        .iter()
        .filter(|panel| panel["type"] == "row")
        .map(|row| row["title"].as_str().unwrap())
        .collect();
    assert_eq!(rows, ["Calls", "Business", "Pods"]);
}
