//! Ways into the cluster: kubeconfigs and clients. It must not know who uses them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

const DAY: i64 = 24 * 60 * 60;

/// How to reach one cluster, and an admin's client for it.
#[derive(Clone)]
pub(super) struct Access {
    dir: PathBuf,
    /// `clusters[].cluster` of a kubeconfig.
    cluster: Value,
    admin: PathBuf,
    client: Client,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access")
            .field("admin", &self.admin)
            .finish_non_exhaustive()
    }
}

impl Access {
    /// A server of the lab's own: the certificate's file has its authority too.
    pub(super) async fn with_token(dir: &Path, server: &str, certificate: &Path, token: &str) -> anyhow::Result<Self> {
        let certificate =
            fs::read(certificate).with_context(|| format!("reading the certificate {}", certificate.display()))?;
        let cluster = json!({"server": server, "certificate-authority-data": BASE64_STANDARD.encode(certificate)});
        let admin = dir.join("admin.kubeconfig");
        write(&admin, &cluster, token, "default")?;
        let client = client(&admin).await?;
        Ok(Self {
            dir: dir.to_owned(),
            cluster,
            admin,
            client,
        })
    }

    /// A server of somebody else.
    pub(super) async fn with_kubeconfig(dir: &Path, path: &Path) -> anyhow::Result<Self> {
        let reading = || format!("reading the kubeconfig {}", path.display());
        let config = Kubeconfig::read_from(path).with_context(reading)?;
        let context = config.current_context.as_deref();
        let named = config
            .contexts
            .iter()
            .find(|c| Some(c.name.as_str()) == context)
            .or(config.contexts.first());
        let name = named.and_then(|c| c.context.as_ref()).map(|c| c.cluster.as_str());
        let cluster = config.clusters.iter().find(|c| Some(c.name.as_str()) == name);
        let cluster = cluster
            .and_then(|c| c.cluster.as_ref())
            .context("no cluster is in it")
            .with_context(reading)?;
        let cluster = serde_json::to_value(cluster)?;
        let client = client(path).await?;
        Ok(Self {
            dir: dir.to_owned(),
            cluster,
            admin: path.to_owned(),
            client,
        })
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    pub(super) fn admin_kubeconfig(&self) -> PathBuf {
        self.admin.clone()
    }

    pub(super) fn server(&self) -> String {
        self.cluster
            .get("server")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    }

    /// Asks for a token of the account and writes it into a kubeconfig for this server.
    pub(super) async fn service_account(&self, namespace: &str, name: &str, server: &str) -> anyhow::Result<PathBuf> {
        let request = TokenRequest {
            spec: TokenRequestSpec {
                expiration_seconds: Some(DAY),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), namespace);
        let answer = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await
            .with_context(|| format!("asking for a token of the service account {namespace}/{name}"))?;
        let token = answer
            .status
            .context("the answer to a token request has no token")?
            .token;
        let mut cluster = self.cluster.clone();
        if let Some(cluster) = cluster.as_object_mut() {
            cluster.insert("server".to_owned(), server.into());
        }
        let place: String = server
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        let path = self.dir.join(format!("{namespace}-{name}-{place}.kubeconfig"));
        write(&path, &cluster, &token, namespace)?;
        Ok(path)
    }
}

/// JSON is YAML, so every client reads this.
fn write(path: &Path, cluster: &Value, token: &str, namespace: &str) -> anyhow::Result<()> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": "lab", "user": {"token": token}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab", "namespace": namespace}}],
        "current-context": "lab",
    });
    fs::write(path, serde_json::to_vec_pretty(&config)?).with_context(|| format!("writing {}", path.display()))
}

async fn client(kubeconfig: &Path) -> anyhow::Result<Client> {
    let making = || format!("making a client from {}", kubeconfig.display());
    let read = Kubeconfig::read_from(kubeconfig).with_context(making)?;
    let mut config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
        .await
        .with_context(making)?;
    config.connect_timeout = Some(Duration::from_secs(5));
    Client::try_from(config).with_context(making)
}
