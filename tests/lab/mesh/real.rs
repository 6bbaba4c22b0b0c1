//! Real proxies instead of the lab's own: `LINKERD_PROXY` beside each meshed pod, in the pod's network namespace, told about the mesh
//! by the API alone. It must not know what the proxy does with that.

use std::{
    collections::HashMap,
    fmt, fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{Api, Client, api::PostParams};
use serde_json::json;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{api::AUDIENCE, fabric::Tables, labels};
use crate::{
    kubelet::sidecar::PodInfo,
    namespaces::{CONTROL, GROUP, INBOUND, OUTBOUND, OWN},
    process::Program,
};

/// Pods and Services both.
const NETWORKS: &str = "10.0.0.0/8";
const AGAIN: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(2);

/// Starts a proxy beside each pod.
pub(super) struct Launcher {
    program: PathBuf,
    dir: PathBuf,
    trust_anchor: String,
    client: Client,
    running: Mutex<HashMap<Ipv4Addr, CancellationToken>>,
}

impl fmt::Debug for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launcher")
            .field("program", &self.program)
            .finish_non_exhaustive()
    }
}

impl Launcher {
    /// `dir` is the lab's folder; `client` needs to create tokens of service accounts.
    pub(super) fn new(program: &Path, dir: &Path, trust_anchor: &str, client: Client) -> Arc<Self> {
        Arc::new(Self {
            program: program.to_owned(),
            dir: dir.to_owned(),
            trust_anchor: trust_anchor.to_owned(),
            client,
            running: Mutex::default(),
        })
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Ipv4Addr, CancellationToken>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to run a proxy, and starts it again whenever it ends before its pod.
    pub(super) fn start(self: &Arc<Self>, pod: &PodInfo) {
        let stop = CancellationToken::new();
        self.running().insert(pod.ip, stop.clone());
        let (launcher, pod) = (Arc::clone(self), pod.clone());
        tokio::spawn(async move {
            while !stop.is_cancelled() {
                if let Err(error) = launcher.run(&pod, &stop).await {
                    warn!(pod = pod.name, error = format!("{error:#}"), "running a pod's proxy");
                }
                let _ = stop.run_until_cancelled(sleep(AGAIN)).await;
            }
        });
    }

    /// Ends a pod's proxy.
    pub(super) fn stop(&self, ip: Ipv4Addr) {
        if let Some(stop) = self.running().remove(&ip) {
            stop.cancel();
        }
    }

    /// Ends all proxies.
    pub(super) fn stop_all(&self) {
        self.running().drain().for_each(|(_, stop)| stop.cancel());
    }

    async fn run(&self, pod: &PodInfo, stop: &CancellationToken) -> anyhow::Result<()> {
        let home = self.dir.join("proxies").join(format!("{}_{}", pod.namespace, pod.name));
        fs::create_dir_all(&home).with_context(|| format!("making {}", home.display()))?;
        let token = home.join("token");
        fs::write(&token, self.token(pod).await?).with_context(|| format!("writing {}", token.display()))?;
        let log = self
            .dir
            .join("logs/proxies")
            .join(format!("{}_{}.log", pod.namespace, pod.name));
        let program = Program::new("setpriv")
            // Whoever changes its group loses the death signal, so it is asked for again.
            .args([
                "--pdeathsig",
                "KILL",
                "--regid",
                &GROUP.to_string(),
                "--clear-groups",
                "--",
            ])
            .arg(&self.program)
            .in_network(pod.network.clone())
            .clean_env()
            .dir(&home)
            .log(log);
        let program = environment(pod, &home, &token, &self.trust_anchor)
            .into_iter()
            .fold(program, |program, (name, value)| program.env(name, value));
        let child = program.spawn().await?;
        match stop.run_until_cancelled(child.wait()).await {
            Some(_) => Err(child.obituary()),
            None => {
                child.stop(GRACE).await;
                Ok(())
            }
        }
    }

    /// Such as a pod has mounted.
    async fn token(&self, pod: &PodInfo) -> anyhow::Result<String> {
        let PodInfo {
            namespace,
            service_account,
            ..
        } = pod;
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: vec![AUDIENCE.to_owned()],
                expiration_seconds: Some(86_400),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let made = accounts
            .create_token_request(service_account, &PostParams::default(), &request)
            .await;
        let made = made.with_context(|| format!("making a token of {service_account} in {namespace}"))?;
        Ok(made.status.context("the API server gave no token")?.token)
    }
}

/// What Linkerd's injector sets, as far as it differs from what the proxy takes by itself.
fn environment(pod: &PodInfo, home: &Path, token: &Path, trust_anchor: &str) -> Vec<(&'static str, String)> {
    let PodInfo {
        namespace,
        name,
        ip,
        service_account,
        ports,
        ..
    } = pod;
    let [own, metrics] = OWN;
    let everywhere = |port: u16| format!("0.0.0.0:{port}");
    let of_the_control_plane = |account: &str| labels::identity(labels::CONTROL_PLANE, account);
    // Loopback: the namespace hands it on to the gateway, and the proxy asks for no TLS.
    let control = format!("127.0.0.1:{CONTROL}");
    let ports: Vec<_> = ports.iter().map(|port| port.port.to_string()).collect();
    vec![
        ("LINKERD2_PROXY_LOG", "warn,linkerd=info".to_owned()),
        ("LINKERD2_PROXY_CORES", "1".to_owned()),
        ("LINKERD2_PROXY_ADMIN_LISTEN_ADDR", everywhere(metrics)),
        ("LINKERD2_PROXY_CONTROL_LISTEN_ADDR", everywhere(own)),
        ("LINKERD2_PROXY_INBOUND_LISTEN_ADDR", everywhere(INBOUND)),
        ("LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR", format!("127.0.0.1:{OUTBOUND}")),
        ("LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS", format!("127.0.0.1:{OUTBOUND}")),
        ("LINKERD2_PROXY_INBOUND_IPS", ip.to_string()),
        ("LINKERD2_PROXY_INBOUND_PORTS", ports.join(",")),
        (
            "LINKERD2_PROXY_INBOUND_DEFAULT_POLICY",
            "all-unauthenticated".to_owned(),
        ),
        ("LINKERD2_PROXY_POLICY_CLUSTER_NETWORKS", NETWORKS.to_owned()),
        ("LINKERD2_PROXY_DESTINATION_PROFILE_NETWORKS", NETWORKS.to_owned()),
        (
            "LINKERD2_PROXY_DESTINATION_PROFILE_SUFFIXES",
            format!("svc.{}.", labels::TRUST_DOMAIN),
        ),
        (
            "LINKERD2_PROXY_POLICY_WORKLOAD",
            json!({"ns": namespace, "pod": name}).to_string(),
        ),
        (
            "LINKERD2_PROXY_DESTINATION_CONTEXT",
            json!({"ns": namespace, "pod": name}).to_string(),
        ),
        ("LINKERD2_PROXY_DESTINATION_SVC_ADDR", control.clone()),
        (
            "LINKERD2_PROXY_DESTINATION_SVC_NAME",
            of_the_control_plane("linkerd-destination"),
        ),
        ("LINKERD2_PROXY_POLICY_SVC_ADDR", control.clone()),
        (
            "LINKERD2_PROXY_POLICY_SVC_NAME",
            of_the_control_plane("linkerd-destination"),
        ),
        ("LINKERD2_PROXY_IDENTITY_SVC_ADDR", control),
        (
            "LINKERD2_PROXY_IDENTITY_SVC_NAME",
            of_the_control_plane("linkerd-identity"),
        ),
        ("LINKERD2_PROXY_IDENTITY_DIR", home.display().to_string()),
        ("LINKERD2_PROXY_IDENTITY_TOKEN_FILE", token.display().to_string()),
        ("LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS", trust_anchor.to_owned()),
        (
            "LINKERD2_PROXY_IDENTITY_LOCAL_NAME",
            labels::identity(namespace, service_account),
        ),
        ("HOSTNAME", name.clone()),
    ]
}

/// Keeps the file of names up to date: pods call Services by name, and there is no DNS in their networks.
pub(super) async fn keep_names(mut tables: Tables, file: PathBuf) {
    let mut last = String::new();
    while let Some(table) = tables.next().await {
        let names = names(table.services());
        if names == last {
            continue;
        }
        // In place: it is mounted in each pod by what it is and not by its name.
        if let Err(error) = fs::write(&file, &names) {
            warn!(file = %file.display(), %error, "writing the names of Services");
        }
        last = names;
    }
}

/// In the form of /etc/hosts.
fn names<'a>(services: impl Iterator<Item = (std::net::IpAddr, &'a (String, String))>) -> String {
    let line = |(address, (namespace, name)): (std::net::IpAddr, &(String, String))| {
        format!(
            "{address} {name}.{namespace}.svc.{} {name}.{namespace}.svc {name}.{namespace}\n",
            labels::TRUST_DOMAIN
        )
    };
    let mut lines: Vec<_> = services.map(line).collect();
    lines.sort_unstable();
    format!("127.0.0.1 localhost\n{}", lines.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_found_by_the_names_that_clients_use() {
        let web = ("shop".to_owned(), "web".to_owned());
        let text = names([("10.96.0.1".parse().unwrap(), &web)].into_iter());
        assert_eq!(
            text,
            "127.0.0.1 localhost\n10.96.0.1 web.shop.svc.cluster.local web.shop.svc web.shop\n"
        );
    }

    /// Without one of these a real proxy does not start.
    #[test]
    fn a_proxy_is_told_all_that_it_must_know() {
        let pod = json!({
            "metadata": {"name": "web-1", "namespace": "shop"},
            "spec": {"serviceAccountName": "web", "containers": [{"name": "a", "ports": [{"containerPort": 50051}]}]},
        });
        let pod = PodInfo::new(&serde_json::from_value(pod).unwrap(), Ipv4Addr::new(10, 16, 1, 1));
        let all: HashMap<_, _> = environment(&pod, Path::new("/home"), Path::new("/home/token"), "PEM")
            .into_iter()
            .collect();
        let must = [
            ("DESTINATION_SVC_ADDR", "127.0.0.1:8086"),
            ("POLICY_SVC_ADDR", "127.0.0.1:8086"),
            ("POLICY_WORKLOAD", r#"{"ns":"shop","pod":"web-1"}"#),
            ("IDENTITY_SVC_ADDR", "127.0.0.1:8086"),
            ("IDENTITY_DIR", "/home"),
            ("IDENTITY_TOKEN_FILE", "/home/token"),
            ("IDENTITY_TRUST_ANCHORS", "PEM"),
            (
                "IDENTITY_LOCAL_NAME",
                "web.shop.serviceaccount.identity.linkerd.cluster.local",
            ),
            ("INBOUND_PORTS", "50051"),
        ];
        for (name, value) in must {
            assert_eq!(all[format!("LINKERD2_PROXY_{name}").as_str()], value, "{name}");
        }
    }
}
