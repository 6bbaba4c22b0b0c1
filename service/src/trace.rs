//! Which trace a call belongs to (W3C Trace Context), and the span that stands for it here. It must not know what a call does,
//! nor where spans go.

use http::{HeaderMap, HeaderName};
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::Code;
use tracing::Span;
use tracing::field::{Empty, display};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::config::TraceConfig;
use crate::metrics::Method;

const TRACEPARENT: &str = "traceparent";

/// Decides which calls are traced. A call that brings a decision with it keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Tracing {
    /// The share of the other calls; nothing without somebody who takes the spans.
    ratio: Option<f64>,
}

/// A call's place in its trace, if it has one.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) span: Span,
    /// The trace's id, if somebody can look it up.
    pub(crate) exemplar: Option<String>,
}

impl Tracing {
    pub(crate) fn new(config: &TraceConfig) -> Self {
        let TraceConfig {
            otlp_endpoint,
            trace_ratio,
        } = config;
        Self {
            ratio: otlp_endpoint.as_ref().map(|_| *trace_ratio),
        }
    }

    /// The trace of a call that brings these headers.
    pub(crate) fn of(&self, method: Method, headers: &HeaderMap) -> Trace {
        let untraced = Trace {
            span: Span::none(),
            exemplar: None,
        };
        // What most calls bring is nothing, and that costs nothing.
        let parent = headers
            .contains_key(TRACEPARENT)
            .then(|| TraceContextPropagator::new().extract(&Headers(headers)))
            .filter(|context| context.span().span_context().is_valid());
        let starts_here = parent.is_none() && self.ratio.is_some_and(|ratio| rand::random_bool(ratio));
        if parent.is_none() && !starts_here {
            return untraced;
        }
        let span = tracing::info_span!(
            "call",
            otel.name = method.full_name(),
            otel.kind = "server",
            otel.status_code = Empty,
            rpc.system = "grpc",
            rpc.method = method.as_str(),
            rpc.grpc.status_code = Empty,
            trace_id = Empty,
        );
        let (id, sampled) = match parent {
            Some(parent) => {
                let remote = parent.span().span_context().clone();
                // Without a collector there is nobody to tell of the parent; the id is logged all the same.
                let _ = span.set_parent(parent);
                (remote.trace_id(), remote.is_sampled())
            }
            None => (span.context().span().span_context().trace_id(), true),
        };
        let id = id.to_string();
        span.record("trace_id", display(&id));
        Trace {
            span,
            exemplar: (sampled && self.ratio.is_some()).then_some(id),
        }
    }
}

/// Says in the span how its call ended.
pub(crate) fn ended(span: &Span, code: Code) {
    if span.is_none() {
        return;
    }
    span.record("rpc.grpc.status_code", i64::from(code as i32));
    // Those that are the server's fault, by OpenTelemetry's conventions.
    if matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    ) {
        span.record("otel.status_code", "ERROR");
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}
