//! The real Prometheus, and what it scrapes: every meshed pod's proxy once a second, labelled as linkerd-viz labels them. It
//! must not know what the metrics mean.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail};
use axum::{Json, Router, extract::State, routing::get};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    kubelet::sidecar::{PodInfo, Sidecar},
    net::Net,
    process::{Child, Program},
    tools::Tools,
};

/// Where a proxy shows its metrics.
pub const PROXY_METRICS_PORT: u16 = 4191;

const READY: Duration = Duration::from_secs(30);

/// A running Prometheus. It ends when it is dropped.
#[derive(Debug)]
pub struct Prometheus {
    program: Program,
    url: String,
    child: tokio::sync::Mutex<Option<Child>>,
    targets: Arc<Targets>,
    discovery: JoinHandle<()>,
}

impl Prometheus {
    /// Starts it, and the endpoint at which it discovers its targets, and waits until it is ready.
    pub async fn start(tools: &Tools, net: &Net, dir: &Path) -> anyhow::Result<Self> {
        let home = dir.join("prometheus");
        fs::create_dir_all(&home)?;
        let targets = Arc::new(Targets::default());
        let listener = net.listen().await.context("serving Prometheus's targets")?;
        let discovery_url = format!("http://{}", listener.local_addr()?);
        let router = Router::new()
            .route("/targets", get(serve_targets))
            .route("/applications", get(serve_applications))
            .with_state(targets.clone());
        let discovery = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });

        let config = home.join("prometheus.yml");
        // JSON is YAML.
        fs::write(&config, serde_json::to_vec_pretty(&configuration(&discovery_url))?)?;
        let listen = format!("{}:{}", net.infra(), net.free_port()?);
        let program = Program::new(&tools.prometheus)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", home.join("data").display()))
            .arg(format!("--web.listen-address={listen}"))
            .args(["--storage.tsdb.retention.time=6h", "--log.level=warn"])
            // New targets are taken over once a second instead of every five.
            .arg("--scrape.discovery-reload-interval=1s")
            .lazy_gc()
            .dir(&home)
            .log(dir.join("logs/prometheus.log"));
        let url = format!("http://{listen}");
        let prometheus = Self {
            program,
            url,
            child: tokio::sync::Mutex::new(None),
            targets,
            discovery,
        };
        prometheus.start_again().await?;
        Ok(prometheus)
    }

    /// Its base URL; it stays the same over outages.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What is scraped. It is a sidecar: the kubelet fills it.
    pub fn targets(&self) -> Arc<Targets> {
        self.targets.clone()
    }

    /// Ends the process, as in an outage. What was scraped stays.
    pub async fn stop(&self) {
        if let Some(child) = self.child.lock().await.take() {
            child.stop(Duration::from_secs(5)).await;
        }
    }

    /// Starts the process on the same port, if it does not run, and waits until it is ready.
    pub async fn start_again(&self) -> anyhow::Result<()> {
        let mut slot = self.child.lock().await;
        if slot.as_ref().is_some_and(|child| child.exited().is_none()) {
            return Ok(());
        }
        let child = slot.insert(self.program.spawn().await?);
        let client = reqwest::Client::builder().timeout(Duration::from_secs(2)).build()?;
        let deadline = Instant::now() + READY;
        loop {
            let answer = client.get(format!("{}/-/ready", self.url)).send().await;
            if answer.is_ok_and(|response| response.status().is_success()) {
                return Ok(());
            }
            if child.exited().is_some() {
                return Err(child.obituary()).context("starting Prometheus");
            }
            if Instant::now() > deadline {
                bail!(
                    "starting Prometheus: not ready after {READY:?}; see {}",
                    child.log_path()
                );
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Asks an instant query; the answer is `data.result`.
    pub async fn query(&self, query: &str) -> anyhow::Result<Vec<Value>> {
        self.ask("query", &[("query", query)]).await
    }

    /// Asks a query for each second from then on until now; the answer is `data.result`.
    pub async fn query_since(&self, query: &str, since: Timestamp) -> anyhow::Result<Vec<Value>> {
        let (start, end) = (since.to_string(), crate::clock::now().to_string());
        let form = [("query", query), ("start", &start), ("end", &end), ("step", "1s")];
        self.ask("query_range", &form).await
    }

    async fn ask(&self, how: &str, form: &[(&str, &str)]) -> anyhow::Result<Vec<Value>> {
        let url = format!("{}/api/v1/{how}", self.url);
        let asking = || format!("asking Prometheus {form:?}");
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
        let response = client.post(url).form(form).send().await.with_context(asking)?;
        let mut answer: Value = response.json().await.with_context(asking)?;
        match answer.pointer_mut("/data/result").map(Value::take) {
            Some(Value::Array(result)) => Ok(result),
            _ => bail!("{}: it answered {answer}", asking()),
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.discovery.abort();
    }
}

fn configuration(discovery: &str) -> Value {
    json!({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "scrape_configs": [{
            "job_name": "linkerd-proxy",
            "http_sd_configs": [{"url": format!("{discovery}/targets"), "refresh_interval": "1s"}],
        }, {
            "job_name": "applications",
            "http_sd_configs": [{"url": format!("{discovery}/applications"), "refresh_interval": "1s"}],
        }],
    })
}

async fn serve_targets(State(targets): State<Arc<Targets>>) -> Json<Value> {
    Json(targets.groups())
}

async fn serve_applications(State(targets): State<Arc<Targets>>) -> Json<Value> {
    Json(targets.applications())
}

/// The pods to scrape.
#[derive(Debug, Default)]
pub struct Targets {
    pods: Mutex<BTreeMap<String, PodInfo>>,
    /// What else there is to scrape, by address: its labels.
    others: Mutex<BTreeMap<String, BTreeMap<String, String>>>,
    /// Namespaces whose applications are scraped too.
    namespaces: Mutex<BTreeSet<String>>,
}

impl Targets {
    /// The answer to Prometheus's HTTP service discovery.
    fn groups(&self) -> Value {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        let group = |pod: &PodInfo| json!({"targets": [format!("{}:{PROXY_METRICS_PORT}", pod.ip)], "labels": target_labels(pod)});
        pods.values().map(group).collect()
    }

    /// Has this address (with its port) scraped too, with these labels.
    pub fn add(&self, address: &str, labels: &[(&str, &str)]) {
        let labels = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.insert(address.to_owned(), labels.collect());
    }

    /// Has the applications of the meshed pods in a namespace scraped too, at their port `http`.
    pub fn add_applications_of(&self, namespace: &str) {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        namespaces.insert(namespace.to_owned());
    }

    fn applications(&self) -> Value {
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let others = others
            .iter()
            .map(|(address, labels)| json!({"targets": [address], "labels": labels}));
        let namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        let application = |pod: &PodInfo| {
            let port = pod.ports.iter().find(|port| port.name == "http")?.port;
            let labels = json!({"namespace": pod.namespace, "pod": pod.name});
            Some(json!({"targets": [format!("{}:{port}", pod.ip)], "labels": labels}))
        };
        let wanted = pods.values().filter(|pod| namespaces.contains(&pod.namespace));
        others.chain(wanted.filter_map(application)).collect()
    }
}

impl Sidecar for Targets {
    fn pod_started(&self, pod: &PodInfo) {
        self.pods
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(pod.uid.clone(), pod.clone());
    }

    fn pod_stopped(&self, pod: &PodInfo) {
        self.pods
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&pod.uid);
    }
}

/// The labels that linkerd-viz's relabelling gives a proxy's metrics.
pub fn target_labels(pod: &PodInfo) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<_, _> = pod
        .labels
        .iter()
        .map(|(name, value)| (sanitize(name), value.clone()))
        .collect();
    let mut set = |name: &str, value: &str| labels.insert(name.to_owned(), value.to_owned());
    set("control_plane_ns", "linkerd");
    set("workload_ns", &pod.namespace);
    set("namespace", &pod.namespace);
    set("pod", &pod.name);
    if let Some(deployment) = &pod.deployment {
        set("deployment", deployment);
    }
    if let Some(hash) = &pod.pod_template_hash {
        set("pod_template_hash", hash);
    }
    labels
}

/// A pod label as a Prometheus label.
pub fn sanitize(label: &str) -> String {
    label
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    fn pod() -> PodInfo {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {
                "name": "web-5d8f-abcde", "namespace": "shop", "uid": "u",
                "labels": {"pod-template-hash": "5d8f", "app.kubernetes.io/name": "web", "serin.dev/track": "canary"},
                "ownerReferences": [
                    {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d8f", "uid": "r", "controller": true}
                ],
            },
        }))
        .unwrap();
        PodInfo::new(&pod, Ipv4Addr::new(127, 20, 1, 1))
    }

    #[test]
    fn labels_are_those_of_linkerd_viz() {
        let labels = target_labels(&pod());
        let expected = [
            ("app_kubernetes_io_name", "web"),
            ("control_plane_ns", "linkerd"),
            ("deployment", "web"),
            ("namespace", "shop"),
            ("pod", "web-5d8f-abcde"),
            ("pod_template_hash", "5d8f"),
            ("serin_dev_track", "canary"),
            ("workload_ns", "shop"),
        ];
        assert_eq!(labels, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    }

    #[test]
    fn a_target_goes_with_its_pod() {
        let targets = Targets::default();
        targets.pod_started(&pod());
        assert_eq!(
            targets.groups().pointer("/0/targets/0"),
            Some(&json!("127.20.1.1:4191"))
        );
        targets.pod_stopped(&pod());
        assert_eq!(targets.groups(), json!([]));
    }
}
