//! Serin, installed with its own chart, under its own ServiceAccount, as a pod of the lab. It must not know what it rolls out.

use std::{collections::BTreeMap, fs, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{Api, api::ListParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Site, environment::merge};
use crate::{binary, forward::Forward, kubelet::images::Image};

/// The cluster's name in commit trailers.
pub const CLUSTER: &str = "lab";
const READY: Duration = Duration::from_secs(60);

/// What stands between a controller and the parts that it needs, instead of the parts themselves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Detours {
    /// Takes the API server's place, without TLS.
    pub api: Option<SocketAddr>,
    /// Takes Prometheus's place.
    pub prometheus: Option<SocketAddr>,
}

/// An installed controller, and the lines between it and the parts that it needs.
#[derive(Debug)]
pub struct Serin {
    site: Arc<Site>,
    namespace: String,
    release: String,
    /// The line to Prometheus.
    pub to_prometheus: Forward,
    /// The line to the API server.
    pub to_api: Forward,
}

impl Serin {
    /// Installs the chart in a namespace that exists; `namespaced` keeps it to that namespace.
    pub async fn install(site: &Arc<Site>, release: &str, namespace: &str, namespaced: bool) -> anyhow::Result<Self> {
        Self::install_with(site, release, namespace, namespaced, &json!({}), Detours::default()).await
    }

    /// As [`Self::install`], with these values of the chart over the lab's, and what stands in between.
    pub async fn install_with(
        site: &Arc<Site>,
        release: &str,
        namespace: &str,
        namespaced: bool,
        more: &Value,
        detours: Detours,
    ) -> anyhow::Result<Self> {
        let lab = &site.lab;
        let line = async |to: &str, detour: Option<SocketAddr>| {
            let target = match detour {
                Some(detour) => detour,
                None => address(to)?,
            };
            Forward::start((lab.net.infra(), lab.net.free_port()?).into(), target).await
        };
        let (to_prometheus, to_api) = (
            line(lab.prometheus.url(), detours.prometheus).await?,
            line(&lab.control_plane.server(), detours.api).await?,
        );
        let work = lab.dir().join("serin").join(release);
        fs::create_dir_all(&work)?;
        let mut values = json!({
            "clusterId": CLUSTER,
            "namespaced": namespaced,
            // The lab's own, which others use too.
            "crds": { "install": false },
            // Each costs the machine as much as a pod of the service.
            "replicas": 1,
            "image": { "repository": format!("registry.example.com/{release}"), "tag": "lab" },
            "prometheus": { "url": format!("http://{}", to_prometheus.address()) },
            "workDir": work,
            "keysDir": "/dev/shm",
            "log": "info,serin=debug",
        });
        merge(&mut values, more);
        let manifests = site.render("serin", release, namespace, &values, &[]).await?;
        site.kubectl(&["apply", "--server-side", "-f", "-"], manifests.as_bytes())
            .await?;
        // A mounted token, in the lab: a kubeconfig that has the account's token and nothing else.
        let scheme = if detours.api.is_some() { "http" } else { "https" };
        let server = format!("{scheme}://{}", to_api.address());
        let kubeconfig = lab
            .control_plane
            .kubeconfig_for_service_account_at(namespace, release, &server)
            .await?;
        let image = Image::new(binary("serin")?).env("KUBECONFIG", kubeconfig.to_string_lossy());
        let search = std::env::var("PATH").unwrap_or_default();
        lab.images
            .add(format!("registry.example.com/{release}:lab"), image.env("PATH", search));
        let serin = Self {
            site: site.clone(),
            namespace: namespace.to_owned(),
            release: release.to_owned(),
            to_prometheus,
            to_api,
        };
        serin.ready().await?;
        Ok(serin)
    }

    /// Waits until its pod is ready.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let end = Instant::now() + READY;
        loop {
            let pods = self.pods().await?;
            let is_ready = |pod: &Pod| {
                let pod = serde_json::to_value(pod).unwrap_or_default();
                let conditions = pod
                    .pointer("/status/conditions")
                    .and_then(Value::as_array)
                    .cloned()
                    .unwrap_or_default();
                conditions
                    .iter()
                    .any(|c| c.get("type") == Some(&json!("Ready")) && c.get("status") == Some(&json!("True")))
            };
            if pods.iter().any(is_ready) {
                return Ok(());
            }
            if Instant::now() > end {
                let logs = self.site.lab.dir().join("logs/pods");
                bail!(
                    "Serin's pod in {} is not ready after {READY:?}; its log is in {}",
                    self.namespace,
                    logs.display()
                );
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Kills its process with SIGKILL; the kubelet starts it again.
    pub async fn kill(&self) -> anyhow::Result<()> {
        let pods = self.pods().await?;
        ensure!(!pods.is_empty(), "Serin has no pod in {}", self.namespace);
        for pod in pods {
            let name = pod.metadata.name.unwrap_or_default();
            ensure!(
                self.site.lab.kubelet.kill_pod(&self.namespace, &name),
                "the pod {name} does not run"
            );
        }
        Ok(())
    }

    /// Its account, as the audit log names it.
    pub fn account(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.release)
    }

    /// Who holds the lease now: a process's identity, which begins with its pod's name.
    pub async fn leader(&self) -> anyhow::Result<Option<String>> {
        let api: Api<Lease> = Api::namespaced(self.site.lab.control_plane.client(), &self.namespace);
        let lease = api.get_opt("serin").await.context("reading the lease")?;
        let holder = lease.and_then(|lease| lease.spec?.holder_identity);
        Ok(holder.filter(|holder| !holder.is_empty()))
    }

    /// Who holds which of its leases now, by their names; those that nobody holds are left out.
    pub async fn holders(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let api: Api<Lease> = Api::namespaced(self.site.lab.control_plane.client(), &self.namespace);
        let leases = api.list(&ListParams::default()).await.context("listing leases")?;
        let held = leases.items.into_iter().filter_map(|lease| {
            let holder = lease.spec?.holder_identity.filter(|holder| !holder.is_empty())?;
            Some((lease.metadata.name?, holder))
        });
        Ok(held.collect())
    }

    /// Its Deployment's name.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// Where its page, health and metrics are.
    pub async fn side_port(&self) -> anyhow::Result<String> {
        let pods = self.pods().await?;
        let address = pods.iter().find_map(|pod| pod.status.as_ref()?.pod_ip.clone());
        let address = address.with_context(|| format!("no pod of Serin's in {} has an address", self.namespace))?;
        Ok(format!("http://{address}:8080"))
    }

    /// Its pods.
    pub async fn pods(&self) -> anyhow::Result<Vec<Pod>> {
        let api: Api<Pod> = Api::namespaced(self.site.lab.control_plane.client(), &self.namespace);
        let of = ListParams::default().labels("app.kubernetes.io/name=serin,app.kubernetes.io/component=controller");
        Ok(api.list(&of).await.context("listing Serin's pods")?.items)
    }
}

/// The address in a URL.
fn address(url: &str) -> anyhow::Result<SocketAddr> {
    let address = url.rsplit('/').next().unwrap_or_default();
    address.parse().with_context(|| format!("reading {url}"))
}
