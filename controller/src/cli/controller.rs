//! `serin controller`: puts the rooms together and waits for a signal. Every task is joined here: when one ends, all end.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use futures::StreamExt as _;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::gitops::{GitOps, Hosts, Identity, Pace};
use crate::metrics::{Metrics, Sources};
use crate::notify;
use crate::prometheus::Prometheus;
use crate::reconcile;
use crate::runtime::crash;
use crate::runtime::lease::Leadership;
use crate::runtime::order::Order;
use crate::runtime::shards::{self, Count, Keeper};
use crate::runtime::{client, health, telemetry};
use crate::web::steer::Steering;
use crate::web::{self, Page, Replica};

/// How the controller runs.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The cluster's name in commit trailers: unique among the clusters that share a config repository.
    #[arg(long, env = "SERIN_CLUSTER_ID")]
    cluster_id: String,
    /// Where Linkerd's metrics are: linkerd-viz's Prometheus, or one that scrapes the proxies like it.
    #[arg(
        long,
        env = "SERIN_PROMETHEUS_URL",
        default_value = super::LINKERDS_PROMETHEUS
    )]
    prometheus_url: String,
    /// Only rollouts of this namespace; all when absent.
    #[arg(long, env = "SERIN_NAMESPACE")]
    namespace: Option<String>,
    /// Run without a lease: only where no second replica can be.
    #[arg(long)]
    no_lease: bool,
    /// The namespace of the lease.
    #[arg(long, env = "SERIN_LEASE_NAMESPACE", default_value = "serin")]
    lease_namespace: String,
    /// The name of the lease; those of further shards, and the replicas' announcements, have names that begin with it.
    #[arg(long, env = "SERIN_LEASE_NAME", default_value = "serin")]
    lease_name: String,
    /// Into so many parts the work is divided, by repository and branch, so that replicas share it; at most 16. All replicas should
    /// say the same: those that say another number wait until nobody works by the one in force.
    #[arg(long, env = "SERIN_SHARDS", value_name = "N", default_value_t = Count::ONE)]
    shards: Count,
    /// Where mirrors of config repositories are kept; they can be thrown away at any time.
    #[arg(long, env = "SERIN_CACHE_DIR")]
    cache_dir: Option<PathBuf>,
    /// A file with the allow-list: which namespaces may have commits written to which repositories, branches and paths.
    /// Without it everything is allowed that a namespace's own credentials allow.
    #[arg(long, env = "SERIN_ACCESS_FILE", value_name = "FILE")]
    access_file: Option<PathBuf>,
    /// A file with the receivers of notifications for the whole cluster or for some namespaces, and with the addresses that
    /// rollouts may name for their own. Without it there are only those that rollouts name.
    #[arg(long, env = "SERIN_NOTIFY_FILE", value_name = "FILE")]
    notify_file: Option<PathBuf>,
    /// Where the Secrets of that file's receivers are mounted: a folder for each, a file for each key.
    #[arg(
        long,
        env = "SERIN_NOTIFY_SECRETS",
        value_name = "DIR",
        default_value = "/etc/serin-notify-secrets"
    )]
    notify_secrets: PathBuf,
    /// Let hooks of rollouts be Jobs in their namespaces. Whoever may edit a rollout can run pods by them.
    #[arg(long, env = "SERIN_HOOK_JOBS")]
    hook_jobs: bool,
    /// Author and committer of commits.
    #[arg(long, env = "SERIN_GIT_AUTHOR", default_value = "Serin <serin@serin.dev>")]
    git_author: String,
    /// At most so many pushes of promotions a minute to one repository; a rollback never waits for it.
    #[arg(long, env = "SERIN_PUSHES_A_MINUTE", value_name = "N", default_value = "6")]
    pushes_a_minute: NonZeroUsize,
    /// The address to listen on.
    #[arg(long, env = "BIND_ADDRESS", default_value = "0.0.0.0")]
    bind_address: IpAddr,
    /// The side port: /healthz, /readyz, /metrics, and the page of all rollouts at /.
    #[arg(long, env = "SERIN_HTTP_PORT", default_value_t = 8080)]
    http_port: u16,
    /// Serve no page, only health and metrics.
    #[arg(long, env = "SERIN_NO_PAGE")]
    no_page: bool,
    /// For tests: a file that names the point at which the process dies.
    #[arg(long, hide = true, value_name = "FILE")]
    crash_file: Option<PathBuf>,
    /// Where traces go: an OTLP collector that takes gRPC without TLS, such as http://otel-collector:4317. None when absent.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<String>,
    /// How log lines are written.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value = "json")]
    log_format: telemetry::LogFormat,
    /// Which log lines are written, as `RUST_LOG`.
    #[arg(long, env = "RUST_LOG", default_value = "info")]
    log: String,
}

/// Runs until SIGTERM or SIGINT, or until a lease is lost.
pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let identity = identity();
    let collector = args.otlp_endpoint.as_deref().filter(|collector| !collector.is_empty());
    let telemetry = telemetry::start(args.log_format, &args.log, collector, &identity)?;
    if let Some(file) = args.crash_file {
        tracing::warn!(file = %file.display(), "this process dies where the file says; that is for tests only");
        crash::arm(file);
    }
    let config = client::configured(&identity).await?;
    let metrics = Metrics::default();
    let prometheus = Prometheus::new(&args.prometheus_url)?.with_metrics(metrics.clone());
    let access = match &args.access_file {
        Some(file) => reconcile::Access::read(file)?,
        None => reconcile::Access::default(),
    };
    let notify = match &args.notify_file {
        Some(file) => notify::Config::read(file)?,
        None => notify::Config::default(),
    };
    let notify = notify::Setup::new(notify)?;
    let (cache, _temporary) = cache(args.cache_dir)?;
    let stop = CancellationToken::new();
    let ready = health::Ready::default();

    let writes = client::unfenced(config.clone())?;
    let (keeper, (terms, sharing)) = if args.no_lease {
        (None, shards::unchallenged())
    } else {
        let (namespace, name) = (&args.lease_namespace, &args.lease_name);
        let (keeper, terms, sharing) = Keeper::new(writes.clone(), namespace, name, &identity, args.shards);
        (Some(keeper), (terms, sharing))
    };
    let replica = Replica {
        identity: identity.clone(),
        sharing: sharing.clone(),
        shard_of: reconcile::shard_of,
    };
    // People's commands are theirs, and asking who they are changes nothing: neither is fenced.
    let steering = Steering::new(client::unfenced(config.clone())?, config);
    let order = Order::default();
    let gitops = GitOps::new(cache, Identity::parse(&args.git_author)?)
        .with_pace(Pace {
            pushes_a_minute: args.pushes_a_minute.get(),
            ..Pace::default()
        })
        .with_hosts(Hosts::with(access.hosts())?)
        .with_metrics(metrics.clone());
    let gitops = Arc::new(gitops);
    let board = Board::default();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), cluster = %args.cluster_id, identity, "serin starts");

    let waiting = {
        let gitops = gitops.clone();
        Arc::new(move || {
            let [rollbacks, others] = gitops.waiting();
            [("rollback", rollbacks), ("other", others)]
        })
    };
    let registry = metrics.registry(Sources {
        board: board.clone(),
        sharing: sharing.clone(),
        shard_of: reconcile::shard_of,
        waiting,
    });
    let page = if args.no_page {
        Router::new()
    } else {
        web::router(Page::new(board.clone(), replica, steering, stop.clone()))
    };
    let served = health::serve(
        SocketAddr::new(args.bind_address, args.http_port),
        ready.clone(),
        Arc::new(registry),
        page,
        stop.clone().cancelled_owned(),
    );
    let followed = board.clone().follow(client::scoped(
        &client::reading(&writes, &order),
        args.namespace.as_deref(),
    ));
    let side = tokio::spawn(async move {
        tokio::select! {
            served = served => served,
            () = followed => anyhow::bail!("the watch of rollouts for the page and the metrics ended"),
        }
    });
    // Leases are let go of only when the last reconcile has come to its end.
    let reconciled = CancellationToken::new();
    let keeper = {
        let (stop, reconciled) = (stop.clone(), reconciled.clone());
        tokio::spawn(async move {
            match keeper {
                Some(keeper) => keeper.keep(stop, reconciled.cancelled()).await,
                None => {
                    reconciled.cancelled().await;
                    Ok(())
                }
            }
        })
    };
    let work = {
        let (stop, ready) = (stop.clone(), ready.clone());
        let leads: Vec<_> = terms.iter().map(|term| term.leadership.clone()).collect();
        let options = reconcile::Options {
            namespace: args.namespace,
            cluster: args.cluster_id,
            prometheus,
            gitops,
            count: sharing.count(),
            terms,
            order,
            access,
            notify,
            notify_secrets: args.notify_secrets,
            hook_jobs: args.hook_jobs,
            board,
            metrics,
        };
        tokio::spawn(async move {
            let led = async {
                let mut known = leads.clone();
                join_all(known.iter_mut().map(Leadership::known)).await;
                // One who follows is ready to lead; who leads is ready when it watches.
                if !leads.iter().any(|lead| lead.holds_for(Duration::ZERO)) {
                    ready.set();
                }
                let mut acquired: FuturesUnordered<_> =
                    leads.into_iter().map(async |mut lead| lead.acquired().await).collect();
                acquired.next().await;
            };
            tokio::select! {
                () = led => {}
                () = stop.cancelled() => return,
            }
            reconcile::run(writes, options, ready, stop.cancelled_owned()).await;
        })
    };
    let finished = finish(stop, reconciled, side, keeper, work).await;
    telemetry.shutdown().await;
    finished
}

type Task<T> = tokio::task::JoinHandle<T>;

async fn finish(
    stop: CancellationToken,
    reconciled: CancellationToken,
    mut side: Task<anyhow::Result<()>>,
    mut keeper: Task<anyhow::Result<()>>,
    mut work: Task<()>,
) -> anyhow::Result<()> {
    tokio::select! {
        signal = signal() => {
            tracing::info!(signal = signal?, "stopping");
            stop.cancel();
            work.await.context("the reconciler panicked")?;
            reconciled.cancel();
            keeper.await.context("the lease's task panicked")??;
            side.await.context("the side port's task panicked")?
        }
        ended = &mut keeper => ended.context("the lease's task panicked")?,
        ended = &mut side => ended.context("the side port's task panicked")?,
        ended = &mut work => {
            ended.context("the reconciler panicked")?;
            anyhow::bail!("the reconciler ended without being asked to; the process ends, so that it is started again")
        }
    }
}

async fn signal() -> anyhow::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

/// The folder for mirrors, and what removes it at the end when it is a temporary one.
fn cache(dir: Option<PathBuf>) -> anyhow::Result<(PathBuf, Option<tempfile::TempDir>)> {
    match dir {
        Some(dir) => Ok((dir, None)),
        None => {
            let temporary = tempfile::Builder::new()
                .prefix("serin-")
                .tempdir()
                .context("creating a folder for mirrors")?;
            Ok((temporary.path().to_owned(), Some(temporary)))
        }
    }
}

/// Unique for each process: a restarted pod has the same name.
fn identity() -> String {
    let name = std::env::var("POD_NAME")
        .or_else(|_| std::env::var("HOSTNAME"))
        .unwrap_or_else(|_| "serin".to_owned());
    format!("{name}_{:08x}", rand::random::<u32>())
}
