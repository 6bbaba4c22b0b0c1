//! A stand-in for Linkerd: a proxy beside every meshed pod, in this process, that splits traffic and counts it as Linkerd
//! does. It learns of Services, Pods and routes from the API server only; it must not know the controller.

mod accept;
mod admin;
mod breaker;
mod call;
mod classify;
mod destination;
mod fabric;
mod labels;
mod metrics;
mod peer;
mod policy;
mod profile;
mod proxy;
mod route;
#[cfg(test)]
pub(crate) mod stub;
mod table;
#[cfg(test)]
mod tests;
mod watch;

pub use self::accept::BY_HAND;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use kube::Client;
use tokio::{runtime::Handle, sync::oneshot, task::JoinHandle, time::timeout};

use self::fabric::Fabric;
use crate::{
    kubelet::sidecar::{PodInfo, Sidecar},
    net::Net,
};

/// Where a meshed pod's proxy takes the pod's own calls: HTTP/2 with prior knowledge, `:authority` names the Service.
pub const OUTBOUND_PORT: u16 = 4140;

const READY: Duration = Duration::from_secs(30);

/// The running mesh. All its proxies end when it is dropped.
#[derive(Debug)]
pub struct Mesh {
    fabric: Arc<Fabric>,
    watch: JoinHandle<()>,
    runtime: Handle,
    /// The proxies listen in this network, so it must not be another lab's meanwhile.
    _net: Net,
}

impl Mesh {
    /// Begins to watch, and waits until everything that is there has been read. `client` needs to read Services, Pods and
    /// routes of all namespaces.
    pub async fn start(client: Client, net: Net) -> anyhow::Result<Arc<Self>> {
        let fabric = Fabric::new(None);
        let (ready, is_ready) = oneshot::channel();
        let mesh = Arc::new(Self {
            watch: tokio::spawn(watch::run(client, Arc::clone(&fabric), ready)),
            fabric,
            runtime: Handle::current(),
            _net: net,
        });
        timeout(READY, is_ready)
            .await
            .context("the API server did not list Services and Pods in time")
            .and_then(|told| told.context("the watch ended"))
            .context("starting the mesh")?;
        Ok(mesh)
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.watch.abort();
        self.fabric.stop();
    }
}

impl Sidecar for Mesh {
    fn pod_started(&self, pod: &PodInfo) {
        let _inside = self.runtime.enter();
        self.fabric.start_proxy(pod, OUTBOUND_PORT);
    }

    fn pod_stopped(&self, pod: &PodInfo) {
        self.fabric.stop_proxy(pod.ip);
    }
}
