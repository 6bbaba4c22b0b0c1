//! The port at which the API server asks for logs and forwards ports: a program beside the kubelet, and what it is told of
//! pods. It must not know how a pod runs.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{logs, sidecar::PodInfo};
use crate::{
    control_plane::KubeletCertificates,
    net::Net,
    process::{Child, Program},
};

const READY: Duration = Duration::from_mins(1);

/// What the endpoint is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// tests/lab/controlplane/kubelet-endpoint.
    pub program: PathBuf,
    /// By which it and the API server know each other.
    pub certificates: KubeletCertificates,
}

/// The running endpoint. Its process ends when this is dropped.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) port: u16,
    /// Each pod has a file in it.
    pods: PathBuf,
    process: Child,
}

/// What the program is told of a pod.
#[derive(Serialize, Deserialize)]
struct Told {
    uid: String,
    ip: String,
    logs: PathBuf,
}

impl Endpoint {
    pub(super) async fn start(options: &Options, net: &Net, lab: &Path) -> anyhow::Result<Self> {
        let pods = lab.join("kubelet");
        fs::create_dir_all(&pods).with_context(|| format!("making {}", pods.display()))?;
        let port = net.free_port()?;
        let KubeletCertificates {
            authority,
            client: _,
            endpoint: (certificate, key),
        } = &options.certificates;
        let address = format!("{}:{port}", net.infra());
        let flag = |name: &str, value: &Path| format!("-{name}={}", value.display());
        let process = Program::new(&options.program)
            .arg(format!("-address={address}"))
            .args([flag("tls-cert", certificate), flag("tls-key", key)])
            .args([flag("client-ca", authority), flag("pods", &pods)])
            .log(lab.join("logs/kubelet-endpoint.log"))
            .spawn()
            .await?;
        process
            .listens(&address, READY)
            .await
            .context("starting the kubelet's endpoint")?;
        Ok(Self { port, pods, process })
    }

    /// Tells the program of a pod, for as long as what this returns lives.
    pub(super) fn tell(&self, lab: &Path, pod: &PodInfo) -> Word {
        let word = Word {
            file: self.pods.join(format!("{}_{}.json", pod.namespace, pod.name)),
            uid: pod.uid.clone(),
        };
        let told = Told {
            uid: pod.uid.clone(),
            ip: pod.ip.to_string(),
            logs: logs::folder(lab, pod),
        };
        if let Err(error) = logs::replace(&word.file, &told) {
            warn!(pod = pod.name, %error, "telling the kubelet's endpoint of a pod");
        }
        word
    }

    pub(super) async fn stop(&self) {
        self.process.kill().await;
    }
}

/// That a pod is there.
#[derive(Debug)]
pub(super) struct Word {
    file: PathBuf,
    uid: String,
}

impl Drop for Word {
    fn drop(&mut self) {
        let told = fs::read(&self.file).ok();
        let told = told.and_then(|text| serde_json::from_slice::<Told>(&text).ok());
        // By now another pod may have the name.
        if told.is_some_and(|told| told.uid == self.uid) {
            // The whole folder may be gone before.
            let _ = fs::remove_file(&self.file);
        }
    }
}
