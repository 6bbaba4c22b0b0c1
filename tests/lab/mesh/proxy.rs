//! The proxy beside one pod: takes the pod's calls and brings each to an endpoint. It must not know where the routing table
//! comes from.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rand::rngs::SmallRng;
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    call::{Call, Observed},
    classify::{Broken, UNAVAILABLE, UNIMPLEMENTED},
    destination::{Destinations, Unresolved},
    fabric::Fabric,
    labels,
    metrics::Metrics,
    peer::Peer,
    policy::{Choice, Rule, ServicePort, Target},
    table::{Endpoint, Table},
};
use crate::{clock, kubelet::sidecar::PodInfo};

/// How long a call waits for a backend that has no endpoint. Linkerd waits for 3 seconds.
const FAIL_FAST: Duration = Duration::from_millis(300);
/// How often a waiting call looks whether an endpoint can be reached again.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// More than any client of the lab has in flight.
const STREAMS: u32 = 10_000;

/// A pod's proxy. All that it runs ends with its token.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) pod: PodInfo,
    pub(super) metrics: Metrics,
    pub(super) stop: CancellationToken,
    fabric: Arc<Fabric>,
    destinations: Mutex<Destinations>,
    peers: Mutex<HashMap<(ServicePort, SocketAddr), Arc<Peer>>>,
    rng: Mutex<SmallRng>,
    turn: AtomicUsize,
}

/// Answers that are not the server's.
type Refusal = (StatusCode, u32, &'static str);

const NO_SERVICE: Refusal = (StatusCode::BAD_GATEWAY, UNAVAILABLE, "there is no such Service");
const POISONED: Refusal = (StatusCode::BAD_GATEWAY, UNAVAILABLE, "all weights were zero");
const NO_RULE: Refusal = (StatusCode::NOT_FOUND, UNIMPLEMENTED, "no rule of the route matches");
const NO_BACKEND: Refusal = (
    StatusCode::INTERNAL_SERVER_ERROR,
    UNAVAILABLE,
    "the backend does not exist",
);
const FAILED_FAST: Refusal = (StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE, "no endpoint is available");
const BROKEN: Refusal = (
    StatusCode::BAD_GATEWAY,
    UNAVAILABLE,
    "the connection to the endpoint broke",
);

impl Proxy {
    pub(super) fn new(pod: PodInfo, fabric: Arc<Fabric>, rng: SmallRng) -> Self {
        Self {
            metrics: Metrics::new(clock::now()),
            stop: CancellationToken::new(),
            destinations: Mutex::new(Destinations::new(&pod.namespace)),
            peers: Mutex::default(),
            rng: Mutex::new(rng),
            turn: AtomicUsize::new(0),
            fabric,
            pod,
        }
    }

    pub(super) fn ip(&self) -> Ipv4Addr {
        self.pod.ip
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<(ServicePort, SocketAddr), Arc<Peer>>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn destinations(&self) -> MutexGuard<'_, Destinations> {
        self.destinations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over a new table.
    pub(super) fn update(&self, table: &Table) {
        self.destinations().update(table, Instant::now());
        // Calls in flight keep their connection until they end.
        self.peers()
            .retain(|(service, address), _| table.endpoints(service).iter().any(|e| e.address == *address));
    }

    /// Takes the pod's calls until the pod is gone.
    pub(super) async fn listen(self: Arc<Self>, listener: TcpListener) {
        let accept = async {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => drop(tokio::spawn(Arc::clone(&self).serve(stream))),
                    // Too many open files, most likely; it passes.
                    Err(_) => sleep(LOOK_AGAIN).await,
                }
            }
        };
        self.stop.run_until_cancelled(accept).await;
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let service = service_fn(|request| Arc::clone(&self).call(request));
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .serve_connection(TokioIo::new(stream), service);
        if let Some(Err(error)) = self.stop.run_until_cancelled(connection).await {
            debug!(pod = self.pod.name, %error, "a client's connection");
        }
    }

    /// One call. An error resets the client's stream as the server has reset its own.
    async fn call(self: Arc<Self>, request: Request<Incoming>) -> hyper::Result<Response<Observed>> {
        let content_type = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let is_grpc = content_type.is_some_and(|value| value.starts_with(b"application/grpc"));
        let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
        let authority = authority.unwrap_or_default();
        let table = self.fabric.table();
        let found = self.destinations().policy(&authority, &table, Instant::now());
        let (policy, lease) = match found {
            Ok(found) => found,
            Err(Unresolved::NoService) => return Ok(refuse(is_grpc, NO_SERVICE)),
            Err(Unresolved::Poisoned) => return Ok(refuse(is_grpc, POISONED)),
        };
        let Some(rule) = policy.rule(request.uri().path(), request.headers()) else {
            return Ok(refuse(is_grpc, NO_RULE));
        };
        let series = self.metrics.route(rule.family, &rule.labels);
        let mut call = Call::new(is_grpc, rule.family, series, policy.breaker, lease);
        let peer = match self.connected(rule, &mut call).await {
            Ok(peer) => peer,
            Err((refusal, broken)) => {
                let (http, grpc, _) = refusal;
                call.answered_by_the_mesh(http, grpc, broken);
                return Ok(refuse(is_grpc, refusal));
            }
        };
        self.send(&peer, call, request, is_grpc).await
    }

    /// Finds an endpoint that can be reached.
    async fn connected(&self, rule: &Rule, call: &mut Call) -> Result<Arc<Peer>, (Refusal, Option<Broken>)> {
        let deadline = Instant::now() + FAIL_FAST;
        let mut changes = self.fabric.changes();
        loop {
            let table = changes.borrow_and_update().clone();
            let choice = {
                let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
                rule.choose(&mut *rng, |service| self.least_loaded(&table, service).is_some())
            };
            let count = |call: &mut Call, labels: &str| {
                call.dispatched(self.metrics.backend(rule.family, &rule.labels, labels));
            };
            match choice {
                Choice::Nothing => return Err((NO_BACKEND, None)),
                Choice::Take(backend) => {
                    let Target::Service(service) = &backend.target else {
                        count(call, &backend.labels);
                        return Err((NO_BACKEND, None));
                    };
                    if let Some(peer) = self.least_loaded(&table, service)
                        && peer.connection(&self.stop).await.is_ok()
                    {
                        count(call, &backend.labels);
                        return Ok(peer);
                    }
                    // It is down now, so the next choice is another.
                }
                Choice::Wait(backend) => {
                    if Instant::now() > deadline {
                        count(call, &backend.labels);
                        return Err((FAILED_FAST, Some(Broken::FailFast)));
                    }
                    tokio::select! {
                        _ = changes.changed() => {}
                        () = sleep(LOOK_AGAIN) => {}
                    }
                }
            }
        }
    }

    /// The endpoint with the fewest calls of this pod; of several the next one in turn.
    fn least_loaded(&self, table: &Table, service: &ServicePort) -> Option<Arc<Peer>> {
        let endpoints = table.endpoints(service);
        let now = Instant::now();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % endpoints.len().max(1);
        let (before, after) = endpoints.split_at_checked(turn)?;
        let peers = after.iter().chain(before).map(|endpoint| self.peer(service, endpoint));
        peers.filter(|peer| !peer.is_closed(now)).min_by_key(|peer| peer.load())
    }

    fn peer(&self, service: &ServicePort, endpoint: &Endpoint) -> Arc<Peer> {
        let address = endpoint.address;
        let mut peers = self.peers();
        let peer = peers.entry((service.clone(), address)).or_insert_with(|| {
            let ip = match address.ip() {
                std::net::IpAddr::V4(ip) => ip,
                std::net::IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
            };
            let pod = PodInfo::new(&endpoint.pod, ip);
            let series = self.metrics.http(&labels::outbound(service, address, &pod));
            Arc::new(Peer::new(address, series))
        });
        Arc::clone(peer)
    }

    async fn send(
        &self,
        peer: &Arc<Peer>,
        mut call: Call,
        mut request: Request<Incoming>,
        is_grpc: bool,
    ) -> hyper::Result<Response<Observed>> {
        if peer.inbound.get().is_none()
            && let Some(proxy) = self.fabric.proxy(peer.address.ip())
        {
            let labels = labels::inbound(peer.address, Some(&self.pod));
            let _ = peer.inbound.set(proxy.metrics.http(&labels));
        }
        // The connection may end just now; then the request comes back and can go on the next one.
        for _ in 0..2 {
            let Ok(mut connection) = peer.connection(&self.stop).await else {
                break;
            };
            call.sent(peer);
            let mut failed = match connection.try_send_request(request).await {
                Ok(response) => return Ok(call.answered(response)),
                Err(failed) => failed,
            };
            if let Some(unsent) = failed.take_message() {
                peer.hang_up();
                request = unsent;
                continue;
            }
            let error = failed.into_error();
            let broken = Broken::of(&error);
            call.broke(broken);
            if broken.is_of_the_stream() {
                return Err(error);
            }
            return Ok(refuse(is_grpc, BROKEN));
        }
        call.was_not_sent();
        Ok(refuse(is_grpc, BROKEN))
    }
}

/// An answer of the mesh itself; its marks are Linkerd's.
fn refuse(is_grpc: bool, (http, grpc, message): Refusal) -> Response<Observed> {
    let mut response = Response::new(Observed::empty());
    let headers = response.headers_mut();
    headers.insert("l5d-proxy-error", HeaderValue::from_static(message));
    if is_grpc {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(grpc));
        headers.insert("grpc-message", HeaderValue::from_static(message));
    } else {
        *response.status_mut() = http;
    }
    response
}
