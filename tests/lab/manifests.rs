//! What stands twice in deploy/, once for Helm and once for teams without it, says the same. It knows no cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use serde_json::Value;

use crate::{process::Program, project_root, tools::Tools};

const DEADLINE: Duration = Duration::from_secs(60);

async fn text_of(program: Program) -> String {
    program.output(DEADLINE).await.unwrap().text().unwrap()
}

/// The objects by kind and name, without what only says how they were rendered.
fn objects(text: &str) -> BTreeMap<(String, String), Value> {
    let all: Vec<Option<Value>> = serde_saphyr::from_multiple(text).unwrap();
    let mut objects = BTreeMap::new();
    for mut object in all.into_iter().flatten() {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
        let key = (text("/kind"), text("/metadata/name"));
        let mut without = |folder: &str, keys: &[&str]| {
            if let Some(map) = object.pointer_mut(folder).and_then(Value::as_object_mut) {
                for key in keys {
                    map.remove(*key);
                }
            }
        };
        without("/metadata/labels", &["helm.sh/chart", "app.kubernetes.io/managed-by"]);
        match key.0.as_str() {
            "Deployment" => {
                // Kustomize has the environment itself in the arm's file, so that a change of it shows in the template.
                without("/spec/template/metadata/annotations", &["checksum/config"]);
                let containers = object.pointer_mut("/spec/template/spec/containers");
                for container in containers.and_then(Value::as_array_mut).into_iter().flatten() {
                    let variables = container.get_mut("env").and_then(Value::as_array_mut).unwrap();
                    variables.sort_by_key(|variable| variable["name"].as_str().map(str::to_owned));
                }
            }
            // Where the arms stand in Git is what the two differ in.
            "CanaryRollout" => without("/spec/git", &["helm", "kustomize", "path"]),
            _ => {}
        }
        assert!(
            objects.insert(key.clone(), object).is_none(),
            "{key:?} stands there twice"
        );
    }
    objects
}

/// The workload's chart for an environment.
fn chart(tools: &Tools, environment: &str) -> Program {
    let root = project_root();
    Program::new(&tools.helm)
        .args(["template", "user-service"])
        .arg(root.join("deploy/charts/user-service"))
        .args(["--namespace", &format!("user-service-{environment}"), "--values"])
        .arg(root.join(format!("deploy/environments/{environment}/values.yaml")))
}

#[tokio::test]
async fn kustomize_makes_the_same_objects_as_the_chart() {
    let (tools, root) = (Tools::load().unwrap(), project_root());
    for (environment, count) in [("dev", 5), ("staging", 7), ("prod", 11)] {
        let helm = chart(&tools, environment);
        let kustomize = Program::new(&tools.kubectl)
            .arg("kustomize")
            .arg(root.join("deploy/kustomize/overlays").join(environment));
        let (chart, overlay) = (objects(&text_of(helm).await), objects(&text_of(kustomize).await));
        assert_eq!(chart.len(), count, "{environment}");
        assert_eq!(
            chart.keys().collect::<Vec<_>>(),
            overlay.keys().collect::<Vec<_>>(),
            "{environment}"
        );
        for (key, object) in &chart {
            similar(object, &overlay[key], &format!("{environment}: {key:?}"));
        }
    }
}

/// Tells the first place where they differ.
fn similar(left: &Value, right: &Value, place: &str) {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            let keys = |map: &serde_json::Map<String, Value>| map.keys().cloned().collect::<BTreeSet<_>>();
            assert_eq!(keys(left), keys(right), "{place}");
            for (key, value) in left {
                similar(value, &right[key], &format!("{place}/{key}"));
            }
        }
        (left, right) => assert_eq!(left, right, "{place}"),
    }
}

#[test]
fn the_rollout_of_each_overlay_names_the_files_that_are_there() {
    for environment in ["dev", "staging", "prod"] {
        let path = format!("deploy/kustomize/overlays/{environment}");
        let read = |name: &str| -> Value {
            serde_saphyr::from_str(&fs::read_to_string(project_root().join(name)).unwrap()).unwrap()
        };
        let base = read("deploy/kustomize/base/rollout.yaml");
        assert_eq!(read(&format!("{path}/rollout.yaml"))["spec"]["git"]["path"], path);
        for (arm, deployment) in [("stable", "user-service"), ("canary", "user-service-canary")] {
            let file = base["spec"]["git"]["kustomize"][arm].as_str().unwrap();
            let patch = read(&format!("{path}/{file}"));
            assert_eq!(patch["metadata"]["name"], deployment);
            assert_eq!(base["spec"][arm]["deployment"], deployment);
        }
    }
}

#[tokio::test]
async fn the_plain_manifests_are_the_charts() {
    let (tools, root) = (Tools::load().unwrap(), project_root());
    let script = Program::new(root.join("deploy/render-install.sh")).arg(&tools.helm);
    let rendered = text_of(script).await;
    let kept = fs::read_to_string(root.join("deploy/install.yaml")).unwrap();
    assert!(
        rendered == kept,
        "deploy/install.yaml is behind the chart; run `make generate`"
    );
}

#[tokio::test]
async fn helm_finds_nothing_to_complain_of_in_either_chart() {
    let (tools, root) = (Tools::load().unwrap(), project_root());
    let lint = |chart: &str| {
        let lint = Program::new(&tools.helm).args(["lint", "--strict", "--quiet"]);
        lint.arg(root.join("deploy/charts").join(chart))
    };
    for environment in ["dev", "staging", "prod"] {
        let values = root.join(format!("deploy/environments/{environment}/values.yaml"));
        text_of(lint("user-service").arg("--values").arg(values)).await;
    }
    for namespaced in ["true", "false"] {
        let set = format!("clusterId=x,namespaced={namespaced}");
        text_of(lint("serin").args(["--set", &set])).await;
    }
}

/// What people type without looking it up: `kubectl logs -f deployment/user-service -n user-service-prod`,
/// `kubectl port-forward svc/user-service 8080:80 -n user-service-prod`, `argocd app sync user-service-staging`.
#[tokio::test]
async fn the_usual_commands_find_what_they_name() {
    let tools = Tools::load().unwrap();
    let read = |file: &str| -> Value {
        serde_saphyr::from_str(&fs::read_to_string(project_root().join(file)).unwrap()).unwrap()
    };
    let set = read("argocd/applicationset.yaml");
    let application = set.pointer("/spec/template").unwrap();
    assert_eq!(application["metadata"]["name"], "user-service-{{ .env }}");
    assert_eq!(
        application["spec"]["destination"]["namespace"],
        "user-service-{{ .env }}"
    );
    for environment in ["dev", "staging", "prod"] {
        let objects = objects(&text_of(chart(&tools, environment)).await);
        let find = |kind: &str| &objects[&(kind.to_owned(), "user-service".to_owned())];
        let namespace = format!("user-service-{environment}");
        for kind in ["Deployment", "Service", "CanaryRollout"] {
            assert_eq!(find(kind)["metadata"]["namespace"], namespace, "{kind}");
        }
        let ports = find("Service")["spec"]["ports"].as_array().unwrap();
        let of = |name: &str| ports.iter().find(|port| port["name"] == name).unwrap();
        assert_eq!([&of("http")["port"], &of("grpc")["port"]], [80, 50051]);
        let container = find("Deployment").pointer("/spec/template/spec/containers/0").unwrap();
        // What answers /health and /metrics.
        assert_eq!(container["livenessProbe"]["httpGet"]["port"], of("http")["targetPort"]);
    }
}

#[tokio::test]
async fn each_environment_is_as_large_as_it_is_meant_to_be() {
    let tools = Tools::load().unwrap();
    for (environment, replicas, cpu, memory, scaled) in [
        ("dev", Some(1), "50m", "64Mi", None),
        // How many there are says the autoscaler.
        ("staging", None, "100m", "128Mi", Some((2, 5))),
        ("prod", None, "200m", "256Mi", Some((3, 10))),
    ] {
        let objects = objects(&text_of(chart(&tools, environment)).await);
        let find = |kind: &str| objects.get(&(kind.to_owned(), "user-service".to_owned()));
        let deployment = find("Deployment").unwrap();
        let container = deployment.pointer("/spec/template/spec/containers/0").unwrap();
        let requests = &container["resources"]["requests"];
        assert_eq!([&requests["cpu"], &requests["memory"]], [cpu, memory], "{environment}");
        assert_eq!(deployment["spec"]["replicas"].as_i64(), replicas, "{environment}");
        let limits = find("HorizontalPodAutoscaler").map(|scaler| {
            let of = |field: &str| scaler["spec"][field].as_i64().unwrap();
            (of("minReplicas"), of("maxReplicas"))
        });
        assert_eq!(limits, scaled, "{environment}");
        let variables = container["env"].as_array().unwrap();
        let is_traced = variables.iter().any(|one| one["name"] == "OTEL_EXPORTER_OTLP_ENDPOINT");
        assert_eq!(is_traced, environment != "dev", "{environment}");
        let metrics = variables.iter().find(|one| one["name"] == "METRICS");
        let is_basic = metrics.is_some_and(|one| one["value"] == "basic");
        assert_eq!(is_basic, environment == "dev", "{environment}");
    }
}
