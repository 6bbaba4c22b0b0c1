//! Around every gRPC call: says who answered, and counts the call with the status that the client gets.
//! It must not know what a call does, nor why it failed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Bytes};
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::Instrument as _;

use crate::identity::Identity;
use crate::metrics::{Method, Metrics};
use crate::trace::{self, Trace, Tracing};

const GRPC_STATUS: &str = "grpc-status";

/// Identifies and counts the calls of a service. It belongs outside of all that can fail a call.
#[derive(Clone, Debug)]
pub(crate) struct CallsLayer {
    pub(crate) identity: Arc<Identity>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tracing: Tracing,
}

impl<S> Layer<S> for CallsLayer {
    type Service = Calls<S>;

    fn layer(&self, inner: S) -> Calls<S> {
        Calls {
            around: self.clone(),
            inner,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Calls<S> {
    around: CallsLayer,
    inner: S,
}

impl<S> Service<Request<Body>> for Calls<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<Response<Body>, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let identity = Arc::clone(&self.around.identity);
        let Some(method) = Method::of_path(request.uri().path()) else {
            let answer = self.inner.call(request);
            return Box::pin(async move {
                let mut response = answer.await?;
                identity.stamp(response.headers_mut());
                Ok(response)
            });
        };
        let trace = self.around.tracing.of(method, request.headers());
        let span = trace.span.clone();
        let in_flight = InFlight::start(method, trace, &self.around.metrics);
        let answer = span.in_scope(|| self.inner.call(request)).instrument(span);
        Box::pin(async move {
            let mut response = answer.await?;
            identity.stamp(response.headers_mut());
            Ok(count_at_end(in_flight, response))
        })
    }
}

/// A failed call has its status in the headers, any other one in the trailers that end its body.
fn count_at_end(in_flight: InFlight, response: Response<Body>) -> Response<Body> {
    match status(response.headers()) {
        Some(code) => {
            in_flight.end(code);
            response
        }
        None => response.map(|body| {
            Body::new(CountedBody {
                body,
                in_flight: Some(in_flight),
            })
        }),
    }
}

fn status(headers: &HeaderMap) -> Option<Code> {
    headers.get(GRPC_STATUS).map(|value| Code::from_bytes(value.as_bytes()))
}

/// A call that has not ended; dropped before its end, it counts as cancelled.
#[derive(Debug)]
struct InFlight {
    method: Method,
    started: Instant,
    code: Code,
    trace: Trace,
    metrics: Arc<Metrics>,
}

impl InFlight {
    fn start(method: Method, trace: Trace, metrics: &Arc<Metrics>) -> Self {
        metrics.call_started();
        Self {
            method,
            started: Instant::now(),
            code: Code::Cancelled,
            trace,
            metrics: Arc::clone(metrics),
        }
    }

    fn end(mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let Self {
            method,
            started,
            code,
            trace: Trace { span, exemplar },
            metrics,
        } = self;
        metrics.call_ended(*method, *code, *started, exemplar.take());
        trace::ended(span, *code);
        let _entered = span.enter();
        tracing::debug!(method = method.as_str(), ?code, latency = ?started.elapsed(), "call ended");
    }
}

/// Passes a body on, and ends the call with the status in its trailers.
#[derive(Debug)]
struct CountedBody {
    body: Body,
    in_flight: Option<InFlight>,
}

impl http_body::Body for CountedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let end = match &frame {
            Some(Ok(frame)) => frame
                .trailers_ref()
                .map(|trailers| status(trailers).unwrap_or(Code::Unknown)),
            Some(Err(status)) => Some(status.code()),
            None => Some(Code::Unknown),
        };
        if let Some(code) = end
            && let Some(in_flight) = self.in_flight.take()
        {
            in_flight.end(code);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
