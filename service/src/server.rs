//! The life of the process: bind, serve, drain, finish what is in flight, stop.
//! It must not know what calls do, nor what asks it to stop.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;

use crate::aging::Aging;
use crate::calls::CallsLayer;
use crate::config::{Config, LimitsConfig, ShutdownConfig};
use crate::database;
use crate::fault::{FaultLayer, Faults};
use crate::grpc::Users;
use crate::http;
use crate::limits::LimitsLayer;
use crate::metrics::Metrics;
use crate::readiness::{Phase, Readiness};
use crate::store::{DatabaseUrl, DatabaseUrlError, Store, StoreError};
use crate::trace::Tracing;

/// Finds connections whose peer has gone without a word.
const KEEPALIVE: Duration = Duration::from_mins(1);
/// Nobody's work is lost if HTTP is cut off: it only answers probes and scrapes.
const HTTP_GRACE: Duration = Duration::from_secs(1);

/// Why the service could not start, or ended otherwise than asked.
#[derive(Debug, Error)]
pub enum ServerError {
    /// An address cannot be listened on.
    #[error("listening on {address} for {purpose}: {source}; set {variable} or BIND_ADDRESS to what is free here")]
    Bind {
        /// What was to listen.
        purpose: &'static str,
        /// The variable that chooses the port.
        variable: &'static str,
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// DATABASE_URL names none.
    #[error("DATABASE_URL: {0}")]
    DatabaseUrl(#[from] DatabaseUrlError),
    /// The database cannot be opened, or its schema cannot be had.
    #[error(
        "opening the database {url}: {source}; check DATABASE_URL, the folder's or the user's rights, and what was migrated"
    )]
    Database {
        /// Which one, without its password.
        url: DatabaseUrl,
        /// What it says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The reflection service refused the descriptors.
    #[error("reading the contract's descriptors: {0}")]
    Descriptors(#[from] tonic_reflection::server::Error),
    /// gRPC failed while serving.
    #[error("serving gRPC: {0}")]
    Grpc(#[from] tonic::transport::Error),
    /// HTTP failed while serving.
    #[error("serving HTTP: {0}")]
    Http(#[source] io::Error),
    /// A server ended though nothing asked it to.
    #[error("{0} stopped though nothing asked it to")]
    Stopped(&'static str),
    /// A server panicked.
    #[error("a server's task failed: {0}")]
    Task(#[from] JoinError),
    /// Calls took longer to finish than they were given.
    #[error("cut off {calls} calls in flight after SHUTDOWN_GRACE ({grace:?}); give them more, or clients a deadline")]
    GraceExpired {
        /// How many calls of user.UserService had not finished.
        calls: i64,
        /// How long they had.
        grace: Duration,
    },
}

/// A service that owns its ports, and does not answer yet.
#[derive(Debug)]
pub struct Server {
    config: Config,
    grpc: Listener,
    http: Listener,
}

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    async fn bind(purpose: &'static str, variable: &'static str, address: SocketAddr) -> Result<Self, ServerError> {
        let failed = |source| ServerError::Bind {
            purpose,
            variable,
            address,
            source,
        };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, address })
    }
}

impl Server {
    /// Takes both ports, or says which one it cannot have.
    pub async fn bind(config: Config) -> Result<Self, ServerError> {
        let grpc = Listener::bind("gRPC", "GRPC_PORT", config.grpc_address()).await?;
        let http = Listener::bind("HTTP", "HTTP_PORT", config.http_address()).await?;
        Ok(Self { config, grpc, http })
    }

    /// Where gRPC listens.
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc.address
    }

    /// Where HTTP listens.
    pub fn http_address(&self) -> SocketAddr {
        self.http.address
    }

    /// Serves until `shutdown` is ready, then drains, and returns when the last call has finished.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), ServerError> {
        let Self { config, grpc, http } = self;
        let metrics = Arc::new(Metrics::new(&config.identity(), config.metrics));
        let readiness = Readiness::starting().await;
        announce(&config, grpc.address, http.address);
        let url = config.database.url()?;
        let store = Store::open(&url, config.database.database_connections)
            .await
            .map_err(|error| not_there(&url, error))?;

        let (stop_grpc, stop_http) = (CancellationToken::new(), CancellationToken::new());
        let grpc = serve_grpc(grpc.socket, &config, &store, &readiness, &metrics, stop_grpc.clone())?;
        let watch = database::watch(store, config.database.database_migrate, readiness.clone());
        let http = http::serve(http.socket, readiness.clone(), Arc::clone(&metrics), stop_http.clone());
        let mut tasks = Tasks {
            grpc: tokio::spawn(grpc),
            http: tokio::spawn(http),
            watch: tokio::spawn(async move { watch.await.map_err(|error| not_there(&url, error)) }),
        };

        tokio::select! {
            () = shutdown => {}
            error = tasks.unexpected_end() => return Err(error),
        }

        let ShutdownConfig {
            shutdown_drain: drain,
            shutdown_grace: grace,
        } = config.shutdown;
        readiness.enter(Phase::Draining).await;
        tracing::info!(
            ?drain,
            calls = metrics.in_flight(),
            "draining: not ready any more, still answering"
        );
        tokio::select! {
            () = tokio::time::sleep(drain) => {}
            error = tasks.unexpected_end() => return Err(error),
        }

        tracing::info!(
            ?grace,
            calls = metrics.in_flight(),
            "no new connections; finishing calls in flight"
        );
        stop_grpc.cancel();
        readiness.release_watchers().await;
        let finished = timeout(grace, &mut tasks.grpc).await;
        let calls = metrics.in_flight();
        stop_http.cancel();
        if timeout(HTTP_GRACE, &mut tasks.http).await.is_err() {
            tasks.http.abort();
        }
        match finished {
            Ok(ended) => ended??,
            Err(_) if calls > 0 => return Err(ServerError::GraceExpired { calls, grace }),
            Err(_) => tracing::info!("closed connections that were open without a call"),
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// The two servers, and who looks after the database; each is waited for, so that neither dies unseen.
struct Tasks {
    grpc: JoinHandle<Result<(), tonic::transport::Error>>,
    http: JoinHandle<io::Result<()>>,
    watch: JoinHandle<Result<Infallible, ServerError>>,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Tasks {
    async fn unexpected_end(&mut self) -> ServerError {
        tokio::select! {
            ended = &mut self.grpc => match ended {
                Ok(Ok(())) => ServerError::Stopped("gRPC"),
                Ok(Err(error)) => error.into(),
                Err(error) => error.into(),
            },
            ended = &mut self.http => match ended {
                Ok(Ok(())) => ServerError::Stopped("HTTP"),
                Ok(Err(error)) => ServerError::Http(error),
                Err(error) => error.into(),
            },
            ended = &mut self.watch => match ended {
                Ok(Err(error)) => error,
                Err(error) => error.into(),
            },
        }
    }
}

fn not_there(url: &DatabaseUrl, error: StoreError) -> ServerError {
    ServerError::Database {
        url: url.clone(),
        source: error.into(),
    }
}

fn announce(config: &Config, grpc: SocketAddr, http: SocketAddr) {
    tracing::info!(
        %grpc,
        %http,
        version = %config.service_version,
        revision = %config.service_revision,
        settings = config.settings(),
        "user-service starts"
    );
}

fn serve_grpc(
    socket: TcpListener,
    config: &Config,
    store: &Store,
    readiness: &Readiness,
    metrics: &Arc<Metrics>,
    stop: CancellationToken,
) -> Result<impl Future<Output = Result<(), tonic::transport::Error>> + Send + 'static, ServerError> {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(user_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let calls = CallsLayer {
        identity: Arc::new(config.identity()),
        metrics: Arc::clone(metrics),
        tracing: Tracing::new(&config.traces),
    };
    let faults = Faults::new(&config.faults, Arc::clone(metrics)).map(Arc::new);
    let LimitsConfig {
        max_concurrent_calls,
        max_message_bytes,
        max_connection_age: age,
        max_connection_age_grace,
    } = config.limits;
    // Requests are small: waiting for more to send would only add to their latency.
    let incoming = TcpIncoming::from(socket).with_nodelay(Some(true));
    let accepted = Arc::clone(metrics);
    // Not all pods' connections at the same moment.
    let age = (!age.is_zero()).then(|| age.mul_f64(rand::random_range(0.9..1.1)));
    let longest = age.map(|age| age.saturating_add(max_connection_age_grace));
    let incoming = incoming.map(move |connection| {
        accepted.connections_accepted.inc();
        connection.map(|connection| Aging::new(connection, longest))
    });
    let mut server = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        // One connection may hold all places: a mesh's proxy has one for all its clients.
        .max_concurrent_streams(max_concurrent_calls);
    if let Some(age) = age {
        server = server.max_connection_age(age);
    }
    let users = Users::server(
        store.clone(),
        Arc::clone(metrics),
        usize::try_from(max_message_bytes).unwrap_or(usize::MAX),
    );
    Ok(server
        .layer(calls)
        .layer(LimitsLayer::new(
            max_concurrent_calls,
            readiness.clone(),
            Arc::clone(metrics),
        ))
        .layer(FaultLayer(faults))
        .add_service(readiness.health_server())
        .add_service(reflection)
        .add_service(users)
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned()))
}
