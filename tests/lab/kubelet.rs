//! A small scheduler and kubelet: each container of each pod is a process of this machine, with the pod's own loopback
//! address. It must not know what the pods are for; meshes and scrapers learn of them through [`sidecar::Sidecar`].

mod container;
pub mod endpoint;
mod env;
pub mod images;
pub mod logs;
mod node;
mod pod;
mod probe;
pub mod sidecar;
mod status;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::PostParams,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use rustix::process::Signal;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tracing::{debug, warn};

use self::{
    endpoint::Endpoint,
    images::Images,
    pod::{Order, Worker},
    sidecar::{PodInfo, Sidecar},
};
use crate::{namespaces::Namespaces, net::Net};

const STOP: Duration = Duration::from_secs(5);

/// What a kubelet needs.
#[derive(Clone)]
pub struct Options {
    /// May do everything in the cluster.
    pub client: Client,
    /// Gives the pods their addresses.
    pub net: Net,
    /// What an image reference stands for.
    pub images: Images,
    /// The lab's folder: logs go to `logs/pods`, as [`logs::files`] finds them, working folders to `pods`.
    pub dir: PathBuf,
    /// Those who want to know of meshed pods from the beginning.
    pub sidecars: Vec<Arc<dyn Sidecar>>,
    /// Gives pods networks of their own; none: all are in the lab's.
    pub namespaces: Option<Arc<Namespaces>>,
    /// Answers the API server; none: nobody can ask for logs, or forward a port.
    pub endpoint: Option<endpoint::Options>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            client: _,
            net,
            images,
            dir,
            sidecars,
            namespaces,
            endpoint,
        } = self;
        f.debug_struct("Options")
            .field("net", net)
            .field("images", images)
            .field("dir", dir)
            .field("sidecars", sidecars)
            .field("namespaces", namespaces)
            .field("endpoint", endpoint)
            .finish_non_exhaustive()
    }
}

/// The running kubelet. Its pods' processes end when it is stopped or dropped.
#[derive(Debug)]
pub struct Kubelet {
    shared: Arc<Shared>,
    watch: JoinHandle<()>,
}

/// What the pods' workers share.
#[derive(Debug)]
struct Shared {
    options: Options,
    node: String,
    http: reqwest::Client,
    endpoint: Option<Endpoint>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sidecars: Vec<Arc<dyn Sidecar>>,
    /// Pods that have an address, by uid.
    pods: BTreeMap<String, PodInfo>,
    workers: HashMap<String, Handle>,
    stopping: bool,
}

#[derive(Debug)]
struct Handle {
    namespace: String,
    name: String,
    orders: mpsc::UnboundedSender<Order>,
    task: JoinHandle<()>,
}

impl Kubelet {
    /// Registers the node and begins to run pods.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let node = format!("lab-{}", options.net.number());
        let endpoint = match &options.endpoint {
            Some(endpoint) => Some(Endpoint::start(endpoint, &options.net, &options.dir).await?),
            None => None,
        };
        let port = endpoint.as_ref().map(|endpoint| endpoint.port);
        node::register(&options.client, &node, options.net.infra(), port)
            .await
            .with_context(|| format!("registering the node {node}"))?;
        let http = reqwest::Client::builder()
            .pool_max_idle_per_host(0)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent("kube-probe/lab")
            .build()
            .context("making the client for HTTP probes")?;
        let state = State {
            sidecars: options.sidecars.clone(),
            ..State::default()
        };
        let shared = Arc::new(Shared {
            options,
            node,
            http,
            endpoint,
            state: Mutex::new(state),
        });
        let watch = tokio::spawn(watch(shared.clone()));
        Ok(Self { shared, watch })
    }

    /// Adds one who wants to know of meshed pods; those that run already are told at once.
    pub fn add_sidecar(&self, sidecar: Arc<dyn Sidecar>) {
        let mut state = self.shared.state();
        for pod in state.pods.values().filter(|pod| pod.is_meshed()) {
            sidecar.pod_started(pod);
        }
        state.sidecars.push(sidecar);
    }

    /// What an image reference stands for.
    pub fn images(&self) -> &Images {
        &self.shared.options.images
    }

    /// All pods that have an address, ready or not.
    pub fn pods(&self) -> Vec<PodInfo> {
        self.shared.state().pods.values().cloned().collect()
    }

    /// Kills the processes of the pod with SIGKILL, as if they had crashed; they are restarted as its policy says. False
    /// when there is no such pod.
    pub fn kill_pod(&self, namespace: &str, name: &str) -> bool {
        self.order(namespace, name, || Order::Kill)
    }

    /// Stops the processes of the pod where they are, as a machine does that has no time for them. False when there is no such
    /// pod.
    pub fn freeze_pod(&self, namespace: &str, name: &str) -> bool {
        self.order(namespace, name, || Order::Signal(Signal::STOP))
    }

    /// Ends [`Self::freeze_pod`].
    pub fn thaw_pod(&self, namespace: &str, name: &str) -> bool {
        self.order(namespace, name, || Order::Signal(Signal::CONT))
    }

    fn order(&self, namespace: &str, name: &str, order: impl Fn() -> Order) -> bool {
        let state = self.shared.state();
        let mut found = state
            .workers
            .values()
            .filter(|w| w.namespace == namespace && w.name == name)
            .peekable();
        let any = found.peek().is_some();
        found.for_each(|worker| drop(worker.orders.send(order())));
        any
    }

    /// Ends all pods' processes at once. The objects stay.
    pub async fn stop(&self) {
        self.watch.abort();
        let workers = {
            let mut state = self.shared.state();
            state.stopping = true;
            std::mem::take(&mut state.workers)
        };
        for worker in workers.values() {
            let _ = worker.orders.send(Order::Gone);
        }
        for (_, mut worker) in workers {
            // One that is just talking to an API server that does not answer is not waited for.
            if timeout(STOP, &mut worker.task).await.is_err() {
                worker.task.abort();
            }
        }
        if let Some(endpoint) = &self.shared.endpoint {
            endpoint.stop().await;
        }
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.watch.abort();
        let mut state = self.shared.state();
        state.stopping = true;
        state.workers.values().for_each(|worker| worker.task.abort());
    }
}

impl Shared {
    /// No code panics while it holds the lock, so a poisoned one is as good as any.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pod_started(&self, pod: &PodInfo) {
        let mut state = self.state();
        state.pods.insert(pod.uid.clone(), pod.clone());
        if pod.is_meshed() {
            state.sidecars.iter().for_each(|sidecar| sidecar.pod_started(pod));
        }
    }

    fn pod_stopped(&self, pod: &PodInfo) {
        let mut state = self.state();
        if state.pods.remove(&pod.uid).is_some() && pod.is_meshed() {
            state.sidecars.iter().for_each(|sidecar| sidecar.pod_stopped(pod));
        }
    }

    /// A pod as it is now: bind it, start it, or tell its worker.
    fn seen(self: &Arc<Self>, pod: Pod) {
        let (Some(uid), Some(spec)) = (pod.metadata.uid.clone(), &pod.spec) else {
            return;
        };
        match spec.node_name.as_deref() {
            None | Some("") => {
                if pod.metadata.deletion_timestamp.is_none() {
                    tokio::spawn(bind(self.clone(), pod));
                }
            }
            Some(node) if node == self.node => self.run(uid, pod),
            Some(_) => {}
        }
    }

    fn run(self: &Arc<Self>, uid: String, pod: Pod) {
        let mut state = self.state();
        if state.stopping {
            return;
        }
        if let Some(worker) = state.workers.get(&uid) {
            let _ = worker.orders.send(Order::Update(Box::new(pod)));
            return;
        }
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let name = pod.metadata.name.clone().unwrap_or_default();
        let (orders, inbox) = mpsc::unbounded_channel();
        let task = tokio::spawn(Worker::new(self.clone(), pod).run(inbox));
        state.workers.insert(
            uid,
            Handle {
                namespace,
                name,
                orders,
                task,
            },
        );
    }

    fn gone(&self, uid: &str) {
        if let Some(worker) = self.state().workers.remove(uid) {
            let _ = worker.orders.send(Order::Gone);
        }
    }
}

async fn watch(shared: Arc<Shared>) {
    let pods: Api<Pod> = Api::all(shared.options.client.clone());
    let mut events = pin!(watcher::watcher(pods, watcher::Config::default()).default_backoff());
    let mut listed = Vec::new();
    loop {
        match events.next().await {
            None => return,
            Some(Ok(Event::Init)) => listed.clear(),
            Some(Ok(Event::InitApply(pod))) => {
                listed.extend(pod.metadata.uid.clone());
                shared.seen(pod);
            }
            Some(Ok(Event::InitDone)) => {
                let known: Vec<_> = shared.state().workers.keys().cloned().collect();
                known
                    .iter()
                    .filter(|uid| !listed.contains(uid))
                    .for_each(|uid| shared.gone(uid));
            }
            Some(Ok(Event::Apply(pod))) => shared.seen(pod),
            Some(Ok(Event::Delete(pod))) => shared.gone(pod.metadata.uid.as_deref().unwrap_or_default()),
            Some(Err(error)) => warn!(%error, "watching pods"),
        }
    }
}

/// The scheduler: there is one node, and room for all.
async fn bind(shared: Arc<Shared>, pod: Pod) {
    let name = pod.metadata.name.unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(
        shared.options.client.clone(),
        &pod.metadata.namespace.unwrap_or_default(),
    );
    let binding = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": &name, "uid": pod.metadata.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": shared.node},
    });
    let bound: kube::Result<kube::core::Status> = pods
        .create_subresource("binding", &name, &PostParams::default(), &binding)
        .await;
    if let Err(error) = bound {
        // It was bound by the answer to an earlier event, or it is gone.
        debug!(name, %error, "binding a pod");
    }
}
