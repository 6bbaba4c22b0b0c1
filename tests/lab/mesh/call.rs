//! One call from its beginning to its end, and what is counted of it on the way. It must not know how it was routed.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{
    breaker::Breaker,
    classify::{Broken, Class, grpc_status},
    destination::Lease,
    metrics::{HttpSeries, RouteSeries, status_label},
    peer::{InFlight, Peer},
    policy::Family,
};

/// A call that a rule was found for. However it ends, it is counted once.
#[derive(Debug)]
pub(super) struct Call {
    is_grpc: bool,
    family: Family,
    breaker: Option<Breaker>,
    started: Instant,
    request: Arc<RouteSeries>,
    backend: Option<Arc<RouteSeries>>,
    endpoint: Option<Attempt>,
    head: Option<Head>,
    has_frame: bool,
    is_done: bool,
    _lease: Lease,
}

/// A call that is with an endpoint.
#[derive(Debug)]
struct Attempt {
    began: Instant,
    outbound: Arc<HttpSeries>,
    inbound: Option<Arc<HttpSeries>>,
    in_flight: InFlight,
}

#[derive(Debug, Clone, Copy)]
struct Head {
    http: StatusCode,
    grpc: Option<u32>,
}

impl Call {
    pub(super) fn new(
        is_grpc: bool,
        family: Family,
        request: Arc<RouteSeries>,
        breaker: Option<Breaker>,
        lease: Lease,
    ) -> Self {
        Self {
            is_grpc,
            family,
            breaker,
            started: Instant::now(),
            request,
            backend: None,
            endpoint: None,
            head: None,
            has_frame: false,
            is_done: false,
            _lease: lease,
        }
    }

    /// The call goes to this backend.
    pub(super) fn dispatched(&mut self, backend: Arc<RouteSeries>) {
        backend.request();
        self.backend = Some(backend);
    }

    /// The call is sent on a connection, for the first or the second time.
    pub(super) fn sent(&mut self, peer: &Arc<Peer>) {
        if self.endpoint.is_some() {
            return;
        }
        let attempt = Attempt {
            began: Instant::now(),
            outbound: Arc::clone(&peer.outbound),
            inbound: peer.inbound.get().cloned(),
            in_flight: peer.enter(),
        };
        attempt.each(HttpSeries::request);
        self.endpoint = Some(attempt);
    }

    /// The mesh itself answers; no server saw the call.
    pub(super) fn answered_by_the_mesh(mut self, http: StatusCode, grpc: u32, broken: Option<Broken>) {
        let grpc = broken.is_none().then_some(grpc);
        let http = broken.is_none().then_some(http);
        self.count_routes(status_label(self.family, http, grpc), broken);
    }

    /// The server never saw the call.
    pub(super) fn was_not_sent(&mut self) {
        self.endpoint = None;
        self.broke(Broken::Io);
    }

    /// The answer begins.
    pub(super) fn answered(mut self, response: Response<Incoming>) -> Response<Observed> {
        self.head = Some(Head {
            http: response.status(),
            grpc: grpc_status(response.headers()),
        });
        // Nobody will read this body: what is told when it is dropped comes after the client has the answer, and maybe its next call.
        if response.body().is_end_stream() {
            self.complete(None);
        }
        response.map(|body| Observed {
            body: Some(body),
            call: Some(self),
        })
    }

    fn first_frame(&mut self) {
        let Some(head) = self.head.filter(|_| !self.has_frame) else {
            return;
        };
        self.has_frame = true;
        if let Some(attempt) = &self.endpoint {
            let after = attempt.began.elapsed();
            attempt.each(|series| series.first_frame(head.http, after));
        }
    }

    /// The answer is complete, or nobody wants the rest of it.
    fn complete(&mut self, trailers: Option<&HeaderMap>) {
        let Some(head) = self.head.filter(|_| !self.is_done) else {
            return;
        };
        self.first_frame();
        let grpc = head.grpc.or_else(|| trailers.and_then(grpc_status));
        if let Some(attempt) = &self.endpoint {
            let class = Class::of(self.is_grpc, head.http, grpc);
            attempt.each(|series| series.response(Some(head.http), class.clone()));
            attempt.tell(class.is_failure(), self.breaker);
        }
        self.count_routes(status_label(self.family, Some(head.http), grpc), None);
    }

    /// The stream or the connection broke.
    pub(super) fn broke(&mut self, broken: Broken) {
        if self.is_done {
            return;
        }
        if let Some(attempt) = &self.endpoint {
            let http = self.head.map(|head| head.http);
            attempt.each(|series| series.response(http, broken.class()));
            attempt.tell(true, self.breaker);
        }
        self.count_routes(status_label(self.family, None, None), Some(broken));
    }

    fn count_routes(&mut self, status: String, broken: Option<Broken>) {
        self.is_done = true;
        if let Some(backend) = &self.backend {
            let began = self.endpoint.as_ref().map_or(self.started, |attempt| attempt.began);
            backend.response(status.clone(), broken, Some(began.elapsed()));
        }
        self.request.response(status, broken, Some(self.started.elapsed()));
    }
}

impl Drop for Call {
    /// The client went away.
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        if self.head.is_some() {
            self.complete(None);
        } else {
            // As in Linkerd, `response_total` knows only of answers that began.
            self.count_routes(status_label(self.family, None, None), None);
        }
    }
}

impl Attempt {
    fn tell(&self, is_failure: bool, breaker: Option<Breaker>) {
        if let Some(breaker) = breaker {
            self.in_flight.0.ended(is_failure, breaker);
        }
    }

    fn each(&self, count: impl Fn(&HttpSeries)) {
        count(&self.outbound);
        self.inbound.iter().for_each(|series| count(series));
    }
}

/// The body of an answer; it counts what passes.
#[derive(Debug)]
pub(super) struct Observed {
    body: Option<Incoming>,
    call: Option<Call>,
}

impl Observed {
    /// The body of an answer of the mesh itself.
    pub(super) fn empty() -> Self {
        Self { body: None, call: None }
    }
}

impl Body for Observed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if let Some(call) = &mut this.call {
            match &frame {
                Some(Ok(frame)) => {
                    call.first_frame();
                    if let Some(trailers) = frame.trailers_ref() {
                        call.complete(Some(trailers));
                    }
                }
                Some(Err(error)) => call.broke(Broken::of(error)),
                None => call.complete(None),
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
