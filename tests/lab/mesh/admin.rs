//! A proxy's own port: metrics and readiness over HTTP/1. It must not know what is counted, except its own calls.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header::CONTENT_TYPE},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;

use super::{classify::Class, labels, metrics::HttpSeries, proxy::Proxy};
use crate::{clock, prometheus::PROXY_METRICS_PORT};

/// Serves until the pod is gone.
pub(super) async fn serve(proxy: Arc<Proxy>, listener: TcpListener) {
    let address = SocketAddr::new(IpAddr::V4(proxy.ip()), PROXY_METRICS_PORT);
    let own = proxy.metrics.http(&labels::inbound(address, None));
    let stop = proxy.stop.clone();
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/ready", get(|| async { "ready\n" }))
        .route("/live", get(|| async { "live\n" }))
        .layer(middleware::from_fn_with_state(own, count))
        .with_state(proxy);
    let _ = axum::serve(listener, router)
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .await;
}

async fn metrics(State(proxy): State<Arc<Proxy>>) -> impl IntoResponse {
    let text = proxy.metrics.render(clock::now());
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

/// Calls of this port count as any other inbound ones.
async fn count(State(own): State<Arc<HttpSeries>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    own.request();
    let response = next.run(request).await;
    let status: StatusCode = response.status();
    own.first_frame(status, began.elapsed());
    own.response(Some(status), Class::of(false, status, None));
    response
}
