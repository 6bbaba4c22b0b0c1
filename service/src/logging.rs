//! Where log lines and spans go, and what they look like. It must not know what is logged.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use thiserror::Error;
use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry};

use crate::config::{Config, LogConfig, LogFormat};

/// How long the last spans may take to get away when the process ends.
const FLUSH: Duration = Duration::from_secs(2);
const EXPORT: Duration = Duration::from_secs(5);

/// The log could not be set up.
#[derive(Debug, Error)]
pub enum LoggingError {
    /// The filter is not one.
    #[error("invalid value '{filter}' for RUST_LOG: {source}; use a level such as info, or target=level,…")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Spans cannot be sent there.
    #[error("sending traces to OTEL_EXPORTER_OTLP_ENDPOINT: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// Another subscriber was there first.
    #[error("setting up the log: {0}")]
    Subscriber(#[from] tracing_subscriber::util::TryInitError),
}

/// What sends spans away in the background.
#[derive(Debug)]
#[must_use = "the last spans are lost unless it is shut down"]
pub struct Telemetry(Option<SdkTracerProvider>);

impl Telemetry {
    /// Sends what is left.
    pub async fn shutdown(self) {
        let Self(Some(provider)) = self else { return };
        // It waits for a thread of its own.
        let done = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH)).await;
        if let Ok(Err(error)) = done {
            tracing::warn!(%error, "the last spans are lost");
        }
    }
}

/// Sends this process's log to standard output, and its spans to the collector, if there is one.
pub fn init(config: &Config) -> Result<Telemetry, LoggingError> {
    let LogConfig { log_format, log_filter } = &config.log;
    let filter = EnvFilter::try_new(log_filter).map_err(|source| LoggingError::Filter {
        filter: log_filter.clone(),
        source,
    })?;
    let log = tracing_subscriber::fmt::layer();
    let log = match log_format {
        // A call's span says which trace a line belongs to.
        LogFormat::Json => log
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .boxed(),
        LogFormat::Text => log.boxed(),
    };
    let provider = provider(config)?;
    let spans = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("user-service"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(own_spans())
    });
    Registry::default()
        .with(spans)
        .with(log.with_filter(filter))
        .try_init()?;
    Ok(Telemetry(provider))
}

/// Calls, whatever is logged; the exporter's own connection makes no spans.
fn own_spans() -> FilterFn {
    let own: fn(&Metadata<'_>) -> bool = |metadata| metadata.is_span() && metadata.target().starts_with("user_service");
    FilterFn::new(own).with_max_level_hint(LevelFilter::INFO)
}

fn provider(config: &Config) -> Result<Option<SdkTracerProvider>, LoggingError> {
    let Some(endpoint) = &config.traces.otlp_endpoint else {
        return Ok(None);
    };
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT)
        .build()?;
    let identity = config.identity();
    let resource = Resource::builder_empty()
        .with_service_name("user-service")
        .with_attributes([
            KeyValue::new("service.version", identity.version.as_str().to_owned()),
            KeyValue::new("service.instance.id", identity.instance.as_str().to_owned()),
            KeyValue::new("serin.revision", identity.revision.as_str().to_owned()),
        ])
        .build();
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        // Spans are made for calls that are to be traced only; the rest was decided by who called.
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
        .with_resource(resource)
        .build();
    Ok(Some(provider))
}
