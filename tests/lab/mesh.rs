//! A stand-in for Linkerd: a proxy beside every meshed pod, in this process, that splits traffic and counts it as Linkerd
//! does; and the control plane's API, from which a real proxy in its place learns the same. It learns of Services, Pods and routes
//! from the API server only; it must not know the controller.

mod accept;
mod admin;
mod api;
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
mod real;
mod route;
#[cfg(test)]
pub(crate) mod stub;
mod table;
#[cfg(test)]
mod tests;
mod watch;

pub use self::{
    accept::BY_HAND,
    api::{AUDIENCE, Api},
};

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use kube::Client;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

use self::{fabric::Fabric, real::Launcher};
use crate::{
    kubelet::sidecar::{PodInfo, Sidecar},
    namespaces::{self, Namespaces},
    net::Net,
};

/// Where a meshed pod's proxy takes the pod's own calls: HTTP/2 with prior knowledge, `:authority` names the Service.
pub const OUTBOUND_PORT: u16 = 4140;

const READY: Duration = Duration::from_secs(30);

/// Proxies that are not the lab's own.
#[derive(Debug, Clone)]
pub struct Real {
    /// The program linkerd2-proxy.
    pub program: PathBuf,
    /// In which its pods are.
    pub namespaces: Arc<Namespaces>,
    /// The lab's folder.
    pub dir: PathBuf,
}

/// The running mesh. All its proxies end when it is dropped.
#[derive(Debug)]
pub struct Mesh {
    fabric: Arc<Fabric>,
    /// None: the proxies are those of this process.
    launcher: Option<Arc<Launcher>>,
    tasks: Vec<JoinHandle<()>>,
    api: Api,
    runtime: Handle,
    /// The proxies listen in this network, so it must not be another lab's meanwhile.
    _net: Net,
}

impl Mesh {
    /// Begins to watch, and waits until everything that is there has been read. `client` needs to read Services, Pods and
    /// routes of all namespaces, and to create TokenReviews; with real proxies, tokens of service accounts too.
    pub async fn start(client: Client, net: Net, real: Option<Real>) -> anyhow::Result<Arc<Self>> {
        let fabric = Fabric::new(None);
        let (ready, is_ready) = oneshot::channel();
        let listener = match &real {
            Some(real) => TcpListener::bind((real.namespaces.gateway(), namespaces::CONTROL)).await,
            None => Ok(net.listen().await?),
        };
        let listener = listener.context("listening for proxies")?;
        let api = Api::start(&fabric, listener, Some(client.clone()))?;
        let mut tasks = Vec::new();
        let launcher = real.map(|real| {
            let Real {
                program,
                namespaces,
                dir,
            } = real;
            tasks.push(tokio::spawn(real::keep_names(
                fabric.follow(),
                namespaces.hosts().to_owned(),
            )));
            Launcher::new(&program, &dir, api.trust_anchor(), client.clone())
        });
        tasks.push(tokio::spawn(watch::run(client, Arc::clone(&fabric), ready)));
        let mesh = Arc::new(Self {
            launcher,
            tasks,
            api,
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

    /// Whether pods call Services by their names, and a real proxy takes the calls; else they call [`OUTBOUND_PORT`].
    pub fn is_transparent(&self) -> bool {
        self.launcher.is_some()
    }

    /// Connects to a Service as a program in the pod at this address does: its proxy takes the connection. `service` is the Service's
    /// cluster IP and port.
    ///
    /// # Errors
    /// When the pod's proxy, or its network, can't be reached.
    pub async fn connect(&self, pod: Ipv4Addr, service: SocketAddr) -> io::Result<TcpStream> {
        if self.is_transparent() {
            namespaces::connect_from(pod, service).await
        } else {
            TcpStream::connect((pod, OUTBOUND_PORT)).await
        }
    }

    /// The API from which real proxies would learn what this mesh does.
    pub fn api(&self) -> &Api {
        &self.api
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.fabric.stop();
        if let Some(launcher) = &self.launcher {
            launcher.stop_all();
        }
    }
}

impl Sidecar for Mesh {
    fn pod_started(&self, pod: &PodInfo) {
        let _inside = self.runtime.enter();
        match &self.launcher {
            Some(launcher) => launcher.start(pod),
            None => self.fabric.start_proxy(pod, OUTBOUND_PORT),
        }
    }

    fn pod_stopped(&self, pod: &PodInfo) {
        match &self.launcher {
            Some(launcher) => launcher.stop(pod.ip),
            None => self.fabric.stop_proxy(pod.ip),
        }
    }
}
