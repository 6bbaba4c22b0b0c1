//! The controller's HTTP side port: `/healthz`, `/readyz`, `/metrics`, and whatever else is served there. Knows nothing of
//! rollouts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::get;
use prometheus_client::registry::Registry;

/// Whether the controller has its watches, or follows one that leads.
#[derive(Debug, Clone, Default)]
pub struct Ready(Arc<AtomicBool>);

impl Ready {
    /// It is ready from now on.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Serves until the future ends.
///
/// # Errors
/// When the address can't be bound.
pub async fn serve(
    address: SocketAddr,
    ready: Ready,
    registry: Arc<Registry>,
    others: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let readyz = move || async move {
        if ready.0.load(Ordering::Relaxed) {
            (StatusCode::OK, "ready")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "starting")
        }
    };
    let metrics = move || async move {
        let mut text = String::new();
        let content = [(
            header::CONTENT_TYPE,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        )];
        match prometheus_client::encoding::text::encode(&mut text, &registry) {
            Ok(()) => (content, text).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        }
    };
    let router = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .merge(others);
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("binding the side port {address}"))?;
    tracing::info!(address = %listener.local_addr().unwrap_or(address), "serving health, metrics and the page");
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown)
        .await
        .context("serving the side port")
}
