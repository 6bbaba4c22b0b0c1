//! The controller's HTTP side port: `/healthz`, `/readyz`, `/metrics`, and whatever else is served there. Knows nothing of
//! rollouts.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures::stream;
use prometheus_client::registry::Registry;

/// Bytes of a scrape's text that lie in one place.
const PIECE: usize = 64 * 1024;

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
    let metrics = move || scrape(registry.clone());
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

/// What can be scraped. It takes a processor for a while where there are thousands of rollouts: not one that looks wait for.
async fn scrape(registry: Arc<Registry>) -> Response {
    let content = [(
        header::CONTENT_TYPE,
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
    )];
    let encoded = tokio::task::spawn_blocking(move || {
        let mut text = Pieces::default();
        prometheus_client::encoding::text::encode(&mut text, &registry).map(|()| text)
    });
    match encoded.await.map_err(anyhow::Error::from).and_then(|text| Ok(text?)) {
        Ok(text) => (content, text.into_body()).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// A text of megabytes that is never in one place: to grow there it would take three times its room, and each piece is given back
/// as soon as it was sent. All of it is made before the first byte is sent, as counters are locked while they are read, and who
/// scrapes may be slow.
#[derive(Default)]
struct Pieces(Vec<String>);

impl Pieces {
    fn into_body(self) -> Body {
        Body::from_stream(stream::iter(self.0.into_iter().map(Ok::<_, Infallible>)))
    }
}

impl fmt::Write for Pieces {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        match self.0.last_mut() {
            Some(last) if last.len() + text.len() <= PIECE => last.push_str(text),
            _ => {
                let mut piece = String::with_capacity(PIECE.max(text.len()));
                piece.push_str(text);
                self.0.push(piece);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use axum::body::to_bytes;

    use super::*;

    #[tokio::test]
    async fn a_text_of_many_pieces_is_sent_whole() {
        let mut text = Pieces::default();
        for nth in 0..20_000 {
            writeln!(text, "series_{nth} 1").unwrap();
        }
        assert!(text.0.len() > 3 && text.0.iter().all(|piece| piece.len() <= PIECE));
        let sent = to_bytes(text.into_body(), usize::MAX).await.unwrap();
        let whole: String = (0..20_000).map(|nth| format!("series_{nth} 1\n")).collect();
        assert_eq!(sent, whole.as_bytes());
    }
}
