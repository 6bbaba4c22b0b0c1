//! The connection of one client pod to one endpoint: shared by all calls, made again when it breaks. It must not know why an
//! endpoint was chosen.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{net::TcpStream, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    breaker::{Breaker, Circuit},
    metrics::HttpSeries,
};

const CONNECT: Duration = Duration::from_secs(1);
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_millis(500);

pub(super) type Sender = http2::SendRequest<Incoming>;

/// An endpoint as one client pod sees it.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// The client's own counters of it.
    pub(super) outbound: Arc<HttpSeries>,
    /// The counters of the endpoint's proxy; none if it has no proxy.
    pub(super) inbound: OnceLock<Arc<HttpSeries>>,
    line: Mutex<Line>,
    /// Only one call makes a connection; the others wait for it.
    connecting: tokio::sync::Mutex<()>,
    in_flight: AtomicUsize,
    circuit: Mutex<Circuit>,
}

#[derive(Debug)]
struct Line {
    sender: Option<Sender>,
    /// Not before then: the last connect failed.
    retry_at: Option<Instant>,
    backoff: Duration,
}

/// The endpoint can't be reached.
#[derive(Debug)]
pub(super) struct Unreachable;

/// Counts a call that is with the endpoint.
#[derive(Debug)]
pub(super) struct InFlight(pub(super) Arc<Peer>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.0.circuit().leave();
    }
}

impl Peer {
    pub(super) fn new(address: SocketAddr, outbound: Arc<HttpSeries>) -> Self {
        Self {
            address,
            outbound,
            inbound: OnceLock::new(),
            line: Mutex::new(Line {
                sender: None,
                retry_at: None,
                backoff: FIRST_BACKOFF,
            }),
            connecting: tokio::sync::Mutex::new(()),
            in_flight: AtomicUsize::new(0),
            circuit: Mutex::default(),
        }
    }

    /// No code panics while it holds the lock.
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many calls are with it.
    pub(super) fn load(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.circuit().enter();
        InFlight(Arc::clone(self))
    }

    fn circuit(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a call ended, for the circuit breaker.
    pub(super) fn ended(&self, is_failure: bool, breaker: Breaker) {
        self.circuit().ended(is_failure, breaker, Instant::now());
    }

    /// Whether it takes no calls: the last connect failed just now, or its circuit is tripped.
    pub(super) fn is_closed(&self, now: Instant) -> bool {
        self.is_down(now) || self.circuit().is_tripped(now)
    }

    /// Whether the last connect failed just now.
    fn is_down(&self, now: Instant) -> bool {
        self.line().retry_at.is_some_and(|at| now < at)
    }

    /// The connection, made if there is none.
    pub(super) async fn connection(&self, stop: &CancellationToken) -> Result<Sender, Unreachable> {
        if let Some(sender) = self.line().live() {
            return Ok(sender);
        }
        let _only = self.connecting.lock().await;
        if let Some(sender) = self.line().live() {
            return Ok(sender);
        }
        if self.is_down(Instant::now()) {
            return Err(Unreachable);
        }
        let made = timeout(CONNECT, connect(self.address, stop.clone())).await;
        let mut line = self.line();
        match made {
            Ok(Ok(sender)) => {
                line.sender = Some(sender.clone());
                (line.retry_at, line.backoff) = (None, FIRST_BACKOFF);
                Ok(sender)
            }
            failed => {
                debug!(address = %self.address, ?failed, "connecting to an endpoint");
                line.retry_at = Some(Instant::now() + line.backoff);
                line.backoff = (line.backoff * 2).min(LAST_BACKOFF);
                Err(Unreachable)
            }
        }
    }

    /// Forgets the connection: the server takes no more calls on it.
    pub(super) fn hang_up(&self) {
        self.line().sender = None;
    }
}

impl Line {
    fn live(&mut self) -> Option<Sender> {
        self.sender = self.sender.take().filter(|sender| !sender.is_closed());
        self.sender.clone()
    }
}

async fn connect(address: SocketAddr, stop: CancellationToken) -> anyhow::Result<Sender> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::spawn(async move { stop.run_until_cancelled(connection).await });
    Ok(sender)
}
