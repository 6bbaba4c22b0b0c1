//! Where log lines and spans go, and what they look like. It must not know what is logged.
//!
//! Log lines go to standard error: JSON for machines, text for people. Spans go to a collector over OTLP where one is named; those of
//! the target [`TRACE`] are for it alone, and no log line tells of them.

use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry};

/// The target of spans that are a part of a decision: a log line names the decision and not its part.
pub const TRACE: &str = "serin_trace";
/// How long one export may take.
const EXPORT: Duration = Duration::from_secs(5);
/// How long the last spans may take to get away when the process ends.
const FLUSH: Duration = Duration::from_secs(2);

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
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

/// Starts logging, by a filter in `RUST_LOG`'s syntax, and sends spans to the collector, if there is one.
///
/// # Errors
/// A filter that is none, an address that is none, or a process that logs already.
pub fn start(format: LogFormat, filter: &str, collector: Option<&str>, instance: &str) -> anyhow::Result<Telemetry> {
    let filter = EnvFilter::try_new(filter)
        .with_context(|| format!("reading RUST_LOG ({filter}); use a level such as info, or target=level,…"))?
        .add_directive(format!("{TRACE}=off").parse().context("silencing spans")?);
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let log = match format {
        // A decision's span says which rollout and which trial a line belongs to.
        LogFormat::Json => log
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .boxed(),
        LogFormat::Text => log.with_target(false).boxed(),
    };
    let provider = collector.map(|collector| provider(collector, instance)).transpose()?;
    let spans = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("serin"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(own_spans())
    });
    Registry::default()
        .with(spans)
        .with(log.with_filter(filter))
        .try_init()
        .context("setting up the log")?;
    Ok(Telemetry(provider))
}

/// Serin's own, whatever is logged; those of its libraries are none, nor are those of the exporter.
fn own_spans() -> FilterFn {
    let own: fn(&Metadata<'_>) -> bool = |metadata| metadata.is_span() && metadata.target().starts_with("serin");
    FilterFn::new(own).with_max_level_hint(LevelFilter::INFO)
}

fn provider(collector: &str, instance: &str) -> anyhow::Result<SdkTracerProvider> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(collector)
        .with_timeout(EXPORT)
        .build()
        .with_context(|| format!("sending traces to OTEL_EXPORTER_OTLP_ENDPOINT ({collector})"))?;
    let resource = Resource::builder_empty()
        .with_service_name("serin")
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", instance.to_owned()),
        ])
        .build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .build())
}
