//! Which changes of the cluster wake which rollout. Decides nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::api::ApiResource;
use kube::core::DynamicObject;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::watcher;
use kube::{Api, Client, ResourceExt as _};
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;

use super::cluster;
use super::desk::{Desk, Key};
use super::rollouts::Rollouts;
use super::rooms::Rooms;
use super::{Access, Error, reconcile_apart};
use crate::api::CanaryRollout;
use crate::board::Board;
use crate::gitops::GitOps;
use crate::metrics::Metrics;
use crate::notify;
use crate::prometheus::Prometheus;
use crate::runtime::client::{reading, scoped};
use crate::runtime::health::Ready;
use crate::runtime::order::Order;
use crate::runtime::shards::{Count, Term};
use crate::traffic::{self, Traffic};

/// What the controller is to do.
#[derive(Debug)]
pub struct Options {
    /// Only rollouts of this namespace; all when absent.
    pub namespace: Option<String>,
    /// The cluster's name in commit trailers.
    pub cluster: String,
    /// Where samples come from.
    pub prometheus: Prometheus,
    /// Where commits go.
    pub gitops: Arc<GitOps>,
    /// How many shards there are.
    pub count: Count,
    /// What this process has of each.
    pub terms: Vec<Term>,
    /// What of its requests goes first.
    pub order: Order,
    /// Who may have commits written where.
    pub access: Access,
    /// Who is told what happens.
    pub notify: notify::Setup,
    /// The folder of the Secrets of receivers in the controller's configuration, one folder each.
    pub notify_secrets: PathBuf,
    /// Whether hooks may be Jobs.
    pub hook_jobs: bool,
    /// What the page and the metrics tell of rollouts.
    pub board: Board,
    /// Where looks and transitions are counted.
    pub metrics: Metrics,
}

/// Reconciles the rollouts of the shards that are this process's, until the future ends and the last reconcile has come to its end.
/// What is written goes through clients that are made of this one, each fenced by its shard's Lease.
pub async fn run(
    client: Client,
    mut options: Options,
    ready: Ready,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let (namespace, terms) = (options.namespace.clone(), std::mem::take(&mut options.terms));
    let (desk, news) = Desk::new();
    let stop = CancellationToken::new();
    let reads = reading(&client, &options.order);
    let rollouts = Rollouts::default();
    let (store, told) = rollouts.watch(scoped(&reads, namespace.as_deref()), options.board.clone());
    let mut controller =
        Controller::for_stream(told, store).with_config(Config::default().debounce(Duration::from_millis(10)));
    let (rooms, sending, asking) = Rooms::new(client, options, (desk, stop.clone()), rollouts.clone());
    let (rooms, client) = (Arc::new(rooms), reads);
    let (sending, asking) = (tokio::spawn(sending), tokio::spawn(asking));
    let (of_deployment, of_set) = (rollouts.clone(), rollouts.clone());
    let (cluster, scope) = (&rooms.cluster, namespace.as_deref());
    controller = controller
        .watches_stream(
            cluster.deployments.watch(scoped(&client, scope)),
            move |deployment: Deployment| {
                stirred(&of_deployment, |rollouts| {
                    rollouts.of_deployment(deployment.metadata.namespace.as_deref(), &deployment.name_any())
                })
            },
        )
        // Their pods are counted there before the Deployment knows.
        .watches_stream(
            cluster.replica_sets.watch(scoped(&client, scope)),
            move |set: ReplicaSet| match cluster::owner(&set) {
                Some(deployment) => stirred(&of_set, |rollouts| {
                    rollouts.of_deployment(set.metadata.namespace.as_deref(), &deployment)
                }),
                None => Vec::new(),
            },
        )
        .owns_stream(cluster.services.watch(scoped(&client, scope)))
        // What an autoscaler does shows in its Deployment.
        .watches_stream(cluster.autoscalers.watch(scoped(&client, scope)), |_| []);
    for kind in traffic::Kind::ALL {
        let Some(resource) = watched(&rooms.traffic, kind).await else {
            continue;
        };
        let api: Api<DynamicObject> = match namespace.as_deref() {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let (kept, of_route) = (rooms.traffic.clone(), rollouts.clone());
        let told = watcher(api, cluster::watching())
            .inspect(move |event| kept.told(kind, event.as_ref().ok()))
            .touched_objects();
        // By name: an adopted route does not say whose it is.
        controller = controller.watches_stream_with(
            told,
            move |route: DynamicObject| {
                stirred(&of_route, |rollouts| {
                    rollouts.of_route(route.metadata.namespace.as_deref(), &route.name_any())
                })
            },
            resource,
        );
    }
    let attended: JoinSet<()> = terms.into_iter().map(|term| rooms.clone().attend(term)).collect();
    ready.set();
    tracing::info!(
        namespace = namespace.as_deref().unwrap_or("all"),
        "reconciling rollouts"
    );
    controller
        .reconcile_on(UnboundedReceiverStream::new(news))
        .graceful_shutdown_on(shutdown)
        .run(reconcile_apart, retry, rooms)
        .for_each(|result| async move {
            if let Err(error) = result {
                tracing::debug!("a reconcile did not come to its end: {error}");
            }
        })
        .await;
    asking.abort();
    drop(attended);
    // What is on its way now is told again by whoever leads next.
    stop.cancel();
    if let Err(error) = sending.await {
        tracing::error!("sending notifications ended in a panic, which is a bug of Serin's: {error}");
    }
}

/// Those that a change is about: whoever waits for one of them hears of it, and all are woken.
fn stirred(rollouts: &Rollouts, about: impl FnOnce(&Rollouts) -> Vec<Key>) -> Vec<Key> {
    let keys = about(rollouts);
    rollouts.stir(&keys);
    keys
}

/// The kind as the cluster serves it. The Gateway API's kinds are watched in any case: their CRDs may come later.
async fn watched(traffic: &Traffic, kind: traffic::Kind) -> Option<ApiResource> {
    let served = traffic.served(kind).await.unwrap_or_else(|error| {
        tracing::warn!("{error}; changes of these routes are seen a little later");
        None
    });
    let common = matches!(kind, traffic::Kind::GrpcRoute | traffic::Kind::HttpRoute);
    served.or_else(|| common.then(|| kind.resource()))
}

/// A failed reconcile is tried again soon: it may be the one that takes traffic away.
#[expect(clippy::needless_pass_by_value, reason = "the signature is the runtime's")]
fn retry(rollout: Arc<CanaryRollout>, error: &Error, _: Arc<Rooms>) -> Action {
    tracing::warn!(rollout = %ObjectRef::from_obj(&*rollout), "{error}");
    Action::requeue(match error {
        Error::Memory(_) | Error::Panicked(_) => Duration::from_secs(60),
        _ => Duration::from_millis(500),
    })
}
