//! The cluster: the real etcd, kube-apiserver and kube-controller-manager as processes on the lab's address, or an existing
//! cluster that somebody names. It must not know what is installed into it, apart from the CRDs.

mod access;
mod crds;
mod kubelets;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::Api;
use tokio::time::{Instant, sleep};

use self::access::Access;
pub use self::kubelets::KubeletCertificates;
use crate::{
    audit::AuditLog,
    net::Net,
    process::{Child, Program},
    tools::Tools,
};

/// What a rollout is about, each write with its body; and that they happened, of all other writes that are not the cluster's
/// own or the lab's. Of what accounts read it tells enough to see which permissions they use: all that is not read at every
/// look, and that too where one story is told.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, Panic]
omitManagedFields: true
rules:
  - level: None
    userGroups: [\"system:serviceaccounts:kube-system\"]
    verbs: [get, list, watch]
  - level: Metadata
    userGroups: [\"system:serviceaccounts\"]
    verbs: [get, list, watch]
    namespaces: [user-service-promotes]
  - level: None
    userGroups: [\"system:serviceaccounts\"]
    verbs: [get, list]
    resources:
      - {group: serin.dev, resources: [canaryrollouts]}
      - {group: apps, resources: [deployments, replicasets]}
      - {group: \"\", resources: [services]}
      - {group: coordination.k8s.io, resources: [leases]}
  - level: Metadata
    userGroups: [\"system:serviceaccounts\"]
    verbs: [get, list, watch]
  - level: None
    verbs: [get, list, watch]
  - level: RequestResponse
    resources:
      - {group: gateway.networking.k8s.io, resources: [httproutes, grpcroutes]}
      - {group: policy.linkerd.io, resources: [httproutes]}
      - {group: split.smi-spec.io, resources: [trafficsplits]}
      - {group: serin.dev, resources: [canaryrollouts, canaryrollouts/status]}
      - {group: apps, resources: [deployments, deployments/scale]}
      - {group: autoscaling, resources: [horizontalpodautoscalers]}
      - {group: argoproj.io, resources: [applications]}
  - level: None
    users: [admin, \"system:apiserver\"]
  - level: None
    userGroups: [\"system:serviceaccounts:kube-system\"]
  - level: Metadata
";

/// Those that a rollout needs; the others would only take time and, as pods have loopback addresses, complain.
const CONTROLLERS: &str = "deployment-controller,replicaset-controller,job-controller,garbage-collector-controller,\
    namespace-controller,serviceaccount-controller,serviceaccount-token-controller,\
    root-ca-certificate-publisher-controller,clusterrole-aggregation-controller";

const READY: Duration = Duration::from_mins(1);

/// A running cluster. Its processes end when it is dropped.
#[derive(Debug)]
pub struct ControlPlane {
    access: Access,
    kubelets: Option<KubeletCertificates>,
    audit_log: Option<AuditLog>,
    /// In the order in which they are stopped.
    processes: Vec<Child>,
}

impl ControlPlane {
    /// Starts the three processes and installs the CRDs: the Gateway API's, the lab's own tolerant ones, and those in
    /// `more_crds`, Serin's.
    pub async fn start(tools: &Tools, net: &Net, dir: &Path, more_crds: &Path) -> anyhow::Result<Self> {
        let mut plane = Self::servers(tools, net, dir, AUDIT_POLICY).await?;
        let (dir, logs) = (dir.join("cluster"), dir.join("logs"));
        let (kubeconfig, client) = (plane.kubeconfig_admin(), plane.client());
        let (manager, installed) = tokio::join!(
            start_controller_manager(tools, &dir, &logs, &kubeconfig),
            crds::install(&client, &tools.gateway_crds, more_crds)
        );
        installed?;
        let manager = manager?;
        controllers_work(&manager, &plane.access).await?;
        plane.processes.insert(0, manager);
        Ok(plane)
    }

    /// As [`Self::start`], without the controllers, and with this audit policy: what they would write somebody else does.
    pub async fn bare(
        tools: &Tools,
        net: &Net,
        dir: &Path,
        more_crds: &Path,
        audit_policy: &str,
    ) -> anyhow::Result<Self> {
        let plane = Self::servers(tools, net, dir, audit_policy).await?;
        crds::install(&plane.client(), &tools.gateway_crds, more_crds).await?;
        Ok(plane)
    }

    async fn servers(tools: &Tools, net: &Net, dir: &Path, audit_policy: &str) -> anyhow::Result<Self> {
        let (dir, logs) = (dir.join("cluster"), dir.join("logs"));
        fs::create_dir_all(&dir)?;
        let etcd_port = net.free_port()?;
        let etcd = start_etcd(tools, net, &dir, &logs, etcd_port).await?;
        connects(&etcd, net, etcd_port).await?;

        let kubelets = KubeletCertificates::make(&dir.join("kubelets"), net.infra())?;
        let audit_log = logs.join("audit.log");
        let server = ApiServer {
            port: net.free_port()?,
            etcd_port,
            dir: &dir,
            kubelets: &kubelets,
            audit_log: &audit_log,
            audit_policy,
        };
        let apiserver = server.start(tools, net, &logs).await?;
        connects(&apiserver, net, server.port).await?;
        let url = format!("https://{}:{}", net.infra(), server.port);
        let access = Access::with_token(&dir, &url, &server.certificate(), ADMIN_TOKEN).await?;
        ready(&apiserver, &access).await?;
        Ok(Self {
            access,
            kubelets: Some(kubelets),
            audit_log: Some(AuditLog::new(audit_log)),
            processes: vec![apiserver, etcd],
        })
    }

    /// Takes a cluster that is there, by its kubeconfig, and installs the CRDs into it.
    pub async fn existing(kubeconfig: &Path, tools: &Tools, dir: &Path, more_crds: &Path) -> anyhow::Result<Self> {
        let dir = dir.join("cluster");
        fs::create_dir_all(&dir)?;
        let access = Access::with_kubeconfig(&dir, kubeconfig).await?;
        crds::install(&access.client(), &tools.gateway_crds, more_crds).await?;
        Ok(Self {
            access,
            kubelets: None,
            audit_log: None,
            processes: Vec::new(),
        })
    }

    /// A client that may do everything.
    pub fn client(&self) -> kube::Client {
        self.access.client()
    }

    /// The path of a kubeconfig that may do everything.
    pub fn kubeconfig_admin(&self) -> PathBuf {
        self.access.admin_kubeconfig()
    }

    /// The API server's URL.
    pub fn server(&self) -> String {
        self.access.server()
    }

    /// The path of a kubeconfig with a token of the ServiceAccount, good for 24 hours. The account must exist.
    pub async fn kubeconfig_for_service_account(&self, namespace: &str, name: &str) -> anyhow::Result<PathBuf> {
        self.access.service_account(namespace, name, &self.server()).await
    }

    /// As [`Self::kubeconfig_for_service_account`], reaching the API server at another URL on the same address: through a
    /// [`crate::forward::Forward`] that can be cut.
    pub async fn kubeconfig_for_service_account_at(
        &self,
        namespace: &str,
        name: &str,
        server: &str,
    ) -> anyhow::Result<PathBuf> {
        self.access.service_account(namespace, name, server).await
    }

    /// By which the API server and the endpoint of a kubelet know each other. None when the cluster is not the lab's.
    pub fn kubelet_certificates(&self) -> Option<&KubeletCertificates> {
        self.kubelets.as_ref()
    }

    /// The API server's audit log, one JSON event a line: every write to routes, splits, rollouts, Deployments, HPAs and
    /// Applications, with its body, and without it every other write of a service account. None when the cluster is not the lab's.
    pub fn audit_log(&self) -> Option<&AuditLog> {
        self.audit_log.as_ref()
    }

    /// Ends the processes.
    pub async fn stop(&self) {
        // Nothing in the cluster is worth a graceful end.
        for process in &self.processes {
            process.kill().await;
        }
    }
}

/// The lab's address is on the loopback interface; this is a name, not a secret.
const ADMIN_TOKEN: &str = "lab-admin";

async fn start_etcd(tools: &Tools, net: &Net, dir: &Path, logs: &Path, port: u16) -> anyhow::Result<Child> {
    let client = format!("http://{}:{port}", net.infra());
    let peer = format!("http://{}:{}", net.infra(), net.free_port()?);
    Program::role(&tools.etcd)
        .arg(format!("--data-dir={}", dir.join("etcd").display()))
        .args([
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
        ])
        .args([
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
        ])
        .arg(format!("--initial-cluster=default={peer}"))
        // The data is thrown away in the end; waiting for the disk would be for nothing.
        .args(["--unsafe-no-fsync", "--log-level=warn"])
        .lazy_gc()
        .log(logs.join("etcd.log"))
        .spawn()
        .await
}

struct ApiServer<'a> {
    port: u16,
    etcd_port: u16,
    dir: &'a Path,
    kubelets: &'a KubeletCertificates,
    audit_log: &'a Path,
    audit_policy: &'a str,
}

impl ApiServer<'_> {
    /// The server makes this itself, with the authority that signed it behind it in the same file.
    fn certificate(&self) -> PathBuf {
        self.dir.join("certs/apiserver.crt")
    }

    async fn start(&self, tools: &Tools, net: &Net, logs: &Path) -> anyhow::Result<Child> {
        let path = |name: &str| self.dir.join(name);
        fs::write(
            path("tokens.csv"),
            format!("{ADMIN_TOKEN},admin,admin,system:masters\n"),
        )?;
        fs::write(path("audit-policy.yaml"), self.audit_policy)?;
        // The key of the serving certificate signs service accounts' tokens too: the server makes it before it reads it.
        let key = key(self.dir);
        let flag = |name: &str, value: &Path| format!("--{name}={}", value.display());
        Program::role(&tools.kube_apiserver)
            .arg(format!("--etcd-servers=http://{}:{}", net.infra(), self.etcd_port))
            .args([
                format!("--bind-address={}", net.infra()),
                format!("--secure-port={}", self.port),
            ])
            // Endpoints refuse loopback addresses, so the server does not publish its own.
            .args([
                format!("--advertise-address={}", net.infra()),
                "--endpoint-reconciler-type=none".to_owned(),
            ])
            .arg(flag("cert-dir", &path("certs")))
            .arg(flag("token-auth-file", &path("tokens.csv")))
            .args(["--authorization-mode=RBAC", "--service-cluster-ip-range=10.96.0.0/12"])
            // Some clusters ask who may make an object that keeps its owner from going; here too, so that it is found missing.
            .arg("--enable-admission-plugins=OwnerReferencesPermissionEnforcement")
            .args([
                flag("kubelet-certificate-authority", &self.kubelets.authority),
                flag("kubelet-client-certificate", &self.kubelets.client.0),
                flag("kubelet-client-key", &self.kubelets.client.1),
            ])
            // Nodes' names are in no DNS.
            .arg("--kubelet-preferred-address-types=InternalIP")
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .args([
                flag("service-account-signing-key-file", &key),
                flag("service-account-key-file", &key),
            ])
            .args([
                flag("audit-policy-file", &path("audit-policy.yaml")),
                flag("audit-log-path", self.audit_log),
            ])
            .lazy_gc()
            // One file that is never rotated, and a request's line is in it before the request is answered.
            .args(["--audit-log-maxsize=0", "--audit-log-mode=blocking"])
            .log(logs.join("kube-apiserver.log"))
            .spawn()
            .await
    }
}

fn key(dir: &Path) -> PathBuf {
    dir.join("certs/apiserver.key")
}

async fn start_controller_manager(tools: &Tools, dir: &Path, logs: &Path, kubeconfig: &Path) -> anyhow::Result<Child> {
    Program::role(&tools.kube_controller_manager)
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--service-account-private-key-file={}", key(dir).display()))
        .arg(format!("--root-ca-file={}", dir.join("certs/apiserver.crt").display()))
        // Without credentials of their own most controllers silently do nothing.
        .args([
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            "--secure-port=0",
        ])
        .args([format!("--controllers={CONTROLLERS}"), "--kube-api-qps=500".to_owned()])
        .args([
            "--kube-api-burst=1000",
            "--concurrent-deployment-syncs=10",
            "--concurrent-replicaset-syncs=10",
        ])
        .lazy_gc()
        .log(logs.join("kube-controller-manager.log"))
        .spawn()
        .await
}

/// Waits until the process listens.
async fn connects(process: &Child, net: &Net, port: u16) -> anyhow::Result<()> {
    let address = format!("{}:{port}", net.infra());
    process
        .listens(&address, READY)
        .await
        .context("starting the control plane")
}

/// Waits until the API server says that it is ready.
async fn ready(process: &Child, access: &Access) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY;
    loop {
        let request = http::Request::get("/readyz").body(Vec::new())?;
        match access.client().request_text(request).await {
            Ok(text) if text.trim() == "ok" => return Ok(()),
            answer => alive(process, deadline, &format!("/readyz says {answer:?}"))?,
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the controllers have made what every new namespace needs before pods can be in it.
async fn controllers_work(process: &Child, access: &Access) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY;
    let accounts: Api<ServiceAccount> = Api::namespaced(access.client(), "default");
    let roots: Api<ConfigMap> = Api::namespaced(access.client(), "default");
    loop {
        if accounts.get_opt("default").await?.is_some() && roots.get_opt("kube-root-ca.crt").await?.is_some() {
            return Ok(());
        }
        alive(
            process,
            deadline,
            "there is no service account in the namespace default",
        )?;
        sleep(Duration::from_millis(50)).await;
    }
}

fn alive(process: &Child, deadline: Instant, state: &str) -> anyhow::Result<()> {
    if process.exited().is_some() {
        return Err(process.obituary()).context("starting the control plane");
    }
    if Instant::now() > deadline {
        bail!(
            "starting the control plane: not ready after {READY:?}; {state}; see {}",
            process.log_path()
        );
    }
    Ok(())
}
