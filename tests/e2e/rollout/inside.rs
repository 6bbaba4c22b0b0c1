//! Calls that a story makes itself, from inside of the mesh: through the proxy of the pod that makes the environment's load. It must
//! not know what a story wants of them.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::{Api, api::ListParams};
use lab::{
    clock,
    site::{Environment, SERVICE},
};
use tokio::{task::JoinHandle, time::sleep};
use tonic::{
    Request,
    metadata::MetadataMap,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::service_fn;
use user_proto::{ListUsersRequest, user_service_client::UserServiceClient};

/// Between two calls of a tester.
const PACE: Duration = Duration::from_millis(25);
/// Before a stream that ended is opened again.
const AGAIN: Duration = Duration::from_millis(50);

/// The apex's port of gRPC.
const PORT: u16 = 50051;

/// A connection to the apex, by the proxy beside the clients.
async fn channel(environment: &Environment) -> anyhow::Result<Channel> {
    let namespace = environment.namespace();
    let pods: Api<Pod> = Api::namespaced(environment.client(), &namespace);
    let clients = pods
        .list(&ListParams::default().labels("app.kubernetes.io/name=user-load"))
        .await
        .context("looking for the clients' pod")?;
    let mut addresses = clients.into_iter().filter_map(|pod| pod.status?.pod_ip);
    let pod: Ipv4Addr = addresses.next().context("no client has an address")?.parse()?;
    let services: Api<Service> = Api::namespaced(environment.client(), &namespace);
    let apex = services.get(SERVICE).await.context("looking for the apex")?;
    let apex = apex
        .spec
        .and_then(|spec| spec.cluster_ip)
        .context("the apex has no address")?;
    let apex = SocketAddr::new(apex.parse::<IpAddr>()?, PORT);

    let mesh = Arc::clone(&environment.site.lab.mesh);
    let connect = service_fn(move |_| {
        let mesh = Arc::clone(&mesh);
        async move { mesh.connect(pod, apex).await.map(TokioIo::new) }
    });
    let named = Endpoint::from_shared(format!("http://{SERVICE}.{namespace}.svc.cluster.local:{PORT}"))?;
    Ok(named.connect_with_connector_lazy(connect))
}

fn revision(metadata: &MetadataMap) -> Option<String> {
    Some(metadata.get("x-served-by-revision")?.to_str().ok()?.to_owned())
}

/// A call of a tester: when it began, who answered, and whether it succeeded.
#[derive(Debug, Clone)]
pub(super) struct Tested {
    pub(super) at: Timestamp,
    pub(super) revision: Option<String>,
    pub(super) succeeded: bool,
}

/// Somebody who calls with the testers' header, again and again, until this is dropped.
pub(super) struct Tester {
    calls: Arc<Mutex<Vec<Tested>>>,
    task: JoinHandle<()>,
}

impl Drop for Tester {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Tester {
    pub(super) async fn start(
        environment: &Environment,
        header: &'static str,
        value: &'static str,
    ) -> anyhow::Result<Self> {
        let client = UserServiceClient::new(channel(environment).await?);
        let calls = Arc::<Mutex<Vec<Tested>>>::default();
        let record = Arc::clone(&calls);
        let task = tokio::spawn(async move {
            loop {
                let mut request = Request::new(ListUsersRequest::default());
                request.set_timeout(Duration::from_secs(5));
                request.metadata_mut().insert(
                    header,
                    value
                        .parse()
                        .unwrap_or_else(|_| tonic::metadata::MetadataValue::from_static("")),
                );
                let at = clock::now();
                let answer = client.clone().list_users(request).await;
                let revision = match &answer {
                    Ok(answer) => revision(answer.metadata()),
                    Err(status) => revision(status.metadata()),
                };
                let call = Tested {
                    at,
                    revision,
                    succeeded: answer.is_ok(),
                };
                record.lock().unwrap_or_else(PoisonError::into_inner).push(call);
                sleep(PACE).await;
            }
        });
        Ok(Self { calls, task })
    }

    /// All calls so far, in their order.
    pub(super) fn calls(&self) -> Vec<Tested> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many of them this revision answered.
    pub(super) fn met(&self, revision: &str) -> usize {
        let calls = self.calls();
        calls
            .iter()
            .filter(|call| call.revision.as_deref() == Some(revision))
            .count()
    }
}

/// Which revision a stream is with, and since when.
#[derive(Debug, Clone)]
struct Open {
    revision: Option<String>,
    since: Timestamp,
}

/// Long-lived streams, each opened again when it ends, until this is dropped.
pub(super) struct Streams {
    open: Vec<Arc<Mutex<Option<Open>>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Streams {
    pub(super) async fn open(environment: &Environment, count: usize) -> anyhow::Result<Self> {
        let client = HealthClient::new(channel(environment).await?);
        let mut streams = Self {
            open: Vec::new(),
            tasks: Vec::new(),
        };
        for _ in 0..count {
            let open = Arc::<Mutex<Option<Open>>>::default();
            streams.open.push(Arc::clone(&open));
            let client = client.clone();
            streams.tasks.push(tokio::spawn(async move {
                let set = |to: Option<Open>| *open.lock().unwrap_or_else(PoisonError::into_inner) = to;
                loop {
                    let request = HealthCheckRequest { service: String::new() };
                    if let Ok(answer) = client.clone().watch(request).await {
                        set(Some(Open {
                            revision: revision(answer.metadata()),
                            since: clock::now(),
                        }));
                        let mut stream = answer.into_inner();
                        while let Ok(Some(_)) = stream.message().await {}
                        set(None);
                    }
                    sleep(AGAIN).await;
                }
            }));
        }
        Ok(streams)
    }

    /// Since when those are open that are with this revision.
    pub(super) fn with(&self, revision: &str) -> Vec<Timestamp> {
        let open = self
            .open
            .iter()
            .filter_map(|open| open.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let theirs = open.filter(|open| open.revision.as_deref() == Some(revision));
        theirs.map(|open| open.since).collect()
    }
}
