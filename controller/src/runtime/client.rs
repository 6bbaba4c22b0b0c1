//! A client of the API server that answers in time or not at all, and that writes only while this process leads: no hidden
//! retries, so that a weight is never late. Knows nothing of what is written.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::Context as _;
use http::header::{HeaderValue, USER_AGENT};
use http::{Method, Request, Response};
use k8s_openapi::NamespaceResourceScope;
use kube::client::Body;
use kube::{Api, Client, Config, Resource};
use tower::{BoxError, Layer, Service};

use super::lease::Leadership;
use super::order::Order;

/// The lease must last for so long when a write is begun: no caller waits longer for an answer.
const WRITE: Duration = Duration::from_secs(5);

/// Installs the process's TLS provider. Call it first thing in `main` and in tests; a second call changes nothing.
pub fn install_tls() {
    // An error says that a provider is installed already, which is what is wanted.
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// The cluster of `$KUBECONFIG`, `~/.kube/config` or the pod's own service account. The API server's audit log tells by the
/// identity which replica it was.
///
/// # Errors
/// When no cluster is configured.
pub async fn configured(identity: &str) -> anyhow::Result<Config> {
    let mut config = Config::infer()
        .await
        .context("no cluster is configured: set $KUBECONFIG, or run inside of a pod with a service account")?;
    config.default_retry = false;
    let agent = format!("serin/{} ({identity})", env!("CARGO_PKG_VERSION"));
    let agent = HeaderValue::from_str(&agent).with_context(|| format!("calling this process {identity:?}"))?;
    config.headers.push((USER_AGENT, agent));
    Ok(config)
}

/// A client for the configured cluster, for what reads only and for commands of people.
///
/// # Errors
/// When no cluster is configured, or its configuration can't be used.
pub async fn connect() -> anyhow::Result<Client> {
    unfenced(configured("cli").await?)
}

/// A client that writes whoever leads: for the leases themselves, and to make fenced ones of.
///
/// # Errors
/// When the configuration can't be used.
pub fn unfenced(config: Config) -> anyhow::Result<Client> {
    Client::try_from(config).context("the cluster's configuration can't be used")
}

/// The same client, whose requests keep the order, with its writes fenced: none is begun unless the lease outlasts it, and one that was
/// not sent when the lease ended is not sent any more. All that are made of one share its connections.
pub fn fenced(client: &Client, leadership: Leadership, order: &Order) -> Client {
    let namespace = client.default_namespace().to_owned();
    let fenced = Fence(leadership).layer(Connections(client.clone()));
    Client::new(order.layer(fenced), namespace)
}

/// The same client, and it only reads.
pub fn reading(client: &Client, order: &Order) -> Client {
    fenced(client, Leadership::never(), order)
}

/// The objects of one namespace, or of the whole cluster.
pub fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Why a write was not made.
#[derive(Debug, thiserror::Error)]
#[error("the lease runs out; this replica writes nothing any more")]
struct NotLeading;

/// A client as the service that others are made of.
struct Connections(Client);

impl Service<Request<Body>> for Connections {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = Pin<Box<dyn Future<Output = kube::Result<Response<Body>>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let client = self.0.clone();
        Box::pin(async move { client.send(request).await })
    }
}

struct Fence(Leadership);

impl<S> Layer<S> for Fence {
    type Service = Fenced<S>;

    fn layer(&self, inner: S) -> Fenced<S> {
        Fenced {
            inner,
            leadership: self.0.clone(),
        }
    }
}

struct Fenced<S> {
    inner: S,
    leadership: Leadership,
}

impl<S> Service<Request<Body>> for Fenced<S>
where
    S: Service<Request<Body>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let writes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if !writes {
            let answer = self.inner.call(request);
            return Box::pin(async move { answer.await.map_err(Into::into) });
        }
        if !self.leadership.holds_for(WRITE) {
            return Box::pin(async { Err(NotLeading.into()) });
        }
        let (mut answer, leadership) = (Box::pin(self.inner.call(request)), self.leadership.clone());
        // Its turn may come late: then it begins with the first poll. A process that is stopped here and woken late is polled before
        // anything else is sent.
        let mut needed = WRITE;
        Box::pin(std::future::poll_fn(move |cx| {
            if leadership.holds_for(std::mem::take(&mut needed)) {
                answer.as_mut().poll(cx).map_err(Into::into)
            } else {
                Poll::Ready(Err(NotLeading.into()))
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Instant;

    use super::super::lease::Standing;
    use super::*;

    /// Counts what comes through; an answer takes until the second poll.
    #[derive(Clone, Default)]
    struct Server(Arc<AtomicU32>);

    impl Service<Request<Body>> for Server {
        type Response = ();
        type Error = BoxError;
        type Future = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

        fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            let sent = self.0.clone();
            Box::pin(async move {
                tokio::task::yield_now().await;
                sent.fetch_add(1, Ordering::SeqCst);
                Ok(())
            })
        }
    }

    fn request(method: Method) -> Request<Body> {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method;
        request
    }

    fn fenced(server: &Server, left: Duration) -> Fenced<Server> {
        Fence(Leadership::until(Instant::now() + left).1).layer(server.clone())
    }

    #[tokio::test]
    async fn a_replica_that_does_not_lead_reads_and_writes_nothing() {
        let server = Server::default();
        let mut behind = fenced(&server, WRITE / 2);
        for method in [Method::PATCH, Method::PUT, Method::POST, Method::DELETE] {
            let error = behind.call(request(method)).await.unwrap_err();
            assert!(error.is::<NotLeading>(), "{error}");
        }
        assert_eq!(server.0.load(Ordering::SeqCst), 0);
        behind.call(request(Method::GET)).await.unwrap();
        fenced(&server, 2 * WRITE).call(request(Method::PATCH)).await.unwrap();
        assert_eq!(server.0.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_client_that_only_reads_writes_nothing() {
        let server = Server::default();
        let mut reads = Fence(Leadership::never()).layer(server.clone());
        reads.call(request(Method::GET)).await.unwrap();
        assert!(reads.call(request(Method::PATCH)).await.is_err());
        assert_eq!(server.0.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_write_that_was_not_sent_when_the_lease_ended_is_not_sent() {
        let server = Server::default();
        let (standing, leadership) = Leadership::until(Instant::now() + 2 * WRITE);
        let mut write = Fence(leadership).layer(server.clone()).call(request(Method::PATCH));
        let first = std::future::poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx).is_pending())).await;
        assert!(first);
        standing.send_replace(Standing::Following);
        assert!(write.await.unwrap_err().is::<NotLeading>());
        assert_eq!(server.0.load(Ordering::SeqCst), 0);
    }
}
