//! A proxy that speaks HTTP and breaks what goes over it: between the controller and the API server, Prometheus or the Git
//! server. It must not know what is asked, beyond what it needs to break it.

mod answers;
mod hidden;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep,
};
use tokio_stream::wrappers::ReceiverStream;

use self::hidden::Hidden;

type Body = UnsyncBoxBody<Bytes, anyhow::Error>;

/// How long a delayed request waits: longer than a renewal of the lease may.
const DELAY: Duration = Duration::from_millis(1500);

/// What stands behind the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// The API server.
    Api,
    /// Prometheus.
    Prometheus,
    /// The Git server.
    Git,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// Connections are closed without an answer.
    Cut,
    /// Requests are late.
    Delay,
    /// Writes are answered with 409.
    Conflict,
    /// Everything is answered with 429.
    TooMany,
    /// Everything is answered with 500.
    Broken,
    /// Writes are done, and their answers lost.
    LostReply,
    /// Watches end in the middle of an event.
    TruncatedWatch,
    /// Watches end as too old, and new ones do at once.
    ExpiredWatch,
    /// Watches tell everything twice, and writes are made twice.
    Twice,
    /// Answers are of a minute ago.
    OldData,
    /// Answers have no series.
    NoData,
    /// All values are NaN.
    NotANumber,
    /// Answers say that they are partial.
    Warnings,
    /// Answers are no JSON.
    Garbage,
}

impl Behind {
    /// What can go wrong with it.
    pub fn faults(self) -> &'static [Fault] {
        match self {
            Self::Api => &[
                Fault::Cut,
                Fault::Delay,
                Fault::Conflict,
                Fault::TooMany,
                Fault::Broken,
                Fault::LostReply,
                Fault::TruncatedWatch,
                Fault::ExpiredWatch,
                Fault::Twice,
            ],
            Self::Prometheus => &[
                Fault::Cut,
                Fault::Delay,
                Fault::Broken,
                Fault::OldData,
                Fault::NoData,
                Fault::NotANumber,
                Fault::Warnings,
                Fault::Garbage,
            ],
            Self::Git => &[
                Fault::Cut,
                Fault::Delay,
                Fault::TooMany,
                Fault::Broken,
                Fault::LostReply,
            ],
        }
    }
}

/// A running proxy. It ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    behind: Behind,
    /// `scheme://address`.
    target: String,
    client: reqwest::Client,
    fault: watch::Sender<Option<Fault>>,
    met: Mutex<BTreeMap<Fault, u64>>,
    hidden: Hidden,
}

impl Proxy {
    /// Stands before `target` (`scheme://address`) and lets everything through.
    pub async fn start(address: SocketAddr, behind: Behind, target: &str) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder()
            // The lab's own server has made its certificate itself.
            .tls_danger_accept_invalid_certs(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("making the client of a fault proxy")?;
        let shared = Arc::new(Shared {
            behind,
            target: target.trim_end_matches('/').to_owned(),
            client,
            fault: watch::Sender::new(None),
            met: Mutex::default(),
            hidden: Hidden::default(),
        });
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("listening on {address}"))?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(serve(listener, shared.clone()));
        Ok(Self { address, shared, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on this goes wrong; with none, nothing does.
    pub fn set(&self, fault: Option<Fault>) {
        self.shared.fault.send_replace(fault);
    }

    /// From now on nothing is found whose path begins so: an API server that does not serve it.
    pub fn hide(&self, path: &str) {
        self.shared.hidden.add(path);
    }

    /// How many requests asked for what is hidden.
    pub fn hidden(&self) -> u64 {
        self.shared.hidden.met()
    }

    /// How many requests and watches have met each fault.
    pub fn met(&self) -> BTreeMap<Fault, u64> {
        self.shared.met.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let shared = shared.clone();
                    let _ = stream.set_nodelay(true);
                    connections.spawn(async move {
                        let service = service_fn(|request| shared.clone().answer(request));
                        // An error is a fault of ours, or a client that has gone.
                        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                    });
                }
                Err(_) => sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

/// A request that can be made more than once.
struct Asked {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Shared {
    fn count(&self, fault: Fault) {
        *self
            .met
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(fault)
            .or_default() += 1;
    }

    /// An error closes the connection.
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
        let (head, body) = request.into_parts();
        let mut asked = Asked {
            path: head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            method: head.method,
            headers: head.headers,
            body: body.collect().await?.to_bytes(),
        };
        if self.hidden.hides(&asked.path) {
            return Ok(answers::status(StatusCode::NOT_FOUND));
        }
        let is_watch = asked.path.contains("watch=true") || asked.path.contains("watch=1");
        let writes = match self.behind {
            Behind::Api => !matches!(asked.method, Method::GET | Method::HEAD),
            Behind::Prometheus => false,
            Behind::Git => asked.path.ends_with("/git-receive-pack"),
        };
        let fault = *self.fault.borrow();
        match fault {
            Some(fault @ Fault::Cut) => {
                self.count(fault);
                return Err(anyhow!("cut"));
            }
            Some(fault @ Fault::Delay) if !is_watch => {
                self.count(fault);
                sleep(DELAY).await;
            }
            Some(fault @ Fault::Conflict) if writes => {
                self.count(fault);
                return Ok(answers::status(StatusCode::CONFLICT));
            }
            Some(fault @ Fault::TooMany) => {
                self.count(fault);
                return Ok(answers::status(StatusCode::TOO_MANY_REQUESTS));
            }
            Some(fault @ Fault::Broken) => {
                self.count(fault);
                return Ok(answers::status(StatusCode::INTERNAL_SERVER_ERROR));
            }
            Some(fault @ Fault::LostReply) if writes => {
                self.count(fault);
                let done = self.forward(&asked).await?;
                drop(done.bytes().await);
                return Err(anyhow!("lost"));
            }
            Some(fault @ Fault::ExpiredWatch) if is_watch => {
                self.count(fault);
                return Ok(answers::expired());
            }
            Some(fault @ Fault::Twice) if writes => {
                self.count(fault);
                let first = self.forward(&asked).await?;
                drop(self.forward(&asked).await);
                return answers::whole(first).await;
            }
            Some(fault @ Fault::OldData) => {
                self.count(fault);
                asked.body = answers::a_minute_earlier(&asked.body);
            }
            _ => {}
        }
        let response = self.forward(&asked).await?;
        if is_watch && response.status().is_success() {
            return Ok(self.clone().watching(response));
        }
        match fault {
            Some(fault) if answers::spoils(fault) => {
                self.count(fault);
                Ok(answers::spoiled(&response.bytes().await?, fault))
            }
            _ => answers::whole(response).await,
        }
    }

    async fn forward(&self, asked: &Asked) -> anyhow::Result<reqwest::Response> {
        let mut headers = asked.headers.clone();
        for hop in [
            header::HOST,
            header::CONNECTION,
            header::CONTENT_LENGTH,
            header::TRANSFER_ENCODING,
            header::EXPECT,
        ] {
            headers.remove(hop);
        }
        let url = format!("{}{}", self.target, asked.path);
        self.client
            .request(asked.method.clone(), &url)
            .headers(headers)
            .body(asked.body.clone())
            .send()
            .await
            .with_context(|| format!("forwarding to {url}"))
    }

    /// A watch, event by event, until the server or a fault ends it.
    fn watching(self: Arc<Self>, mut upstream: reqwest::Response) -> Response<Body> {
        let (to, events) = mpsc::channel::<anyhow::Result<Frame<Bytes>>>(64);
        let mut response = Response::new(StreamBody::new(ReceiverStream::new(events)).boxed_unsync());
        answers::copy_headers(upstream.headers(), response.headers_mut());
        let mut fault = self.fault.subscribe();
        tokio::spawn(async move {
            let mut rest = Vec::new();
            loop {
                let chunk = tokio::select! {
                    chunk = upstream.chunk() => chunk,
                    changed = fault.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        let now = *fault.borrow_and_update();
                        let last = match now {
                            Some(Fault::Cut) => Err(anyhow!("cut")),
                            Some(Fault::ExpiredWatch) => Ok(Frame::data(Bytes::from(answers::EXPIRED))),
                            _ => continue,
                        };
                        if let Some(fault) = now {
                            self.count(fault);
                        }
                        let _ = to.send(last).await;
                        return;
                    }
                    () = to.closed() => return,
                };
                let Ok(Some(chunk)) = chunk else { return };
                rest.extend_from_slice(&chunk);
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Bytes = rest.drain(..=end).collect::<Vec<_>>().into();
                    let now = *fault.borrow();
                    let mut frames = vec![Ok(Frame::data(line.clone()))];
                    match now {
                        Some(fault @ Fault::TruncatedWatch) => {
                            self.count(fault);
                            frames = vec![Ok(Frame::data(line.slice(..line.len() / 2))), Err(anyhow!("truncated"))];
                        }
                        Some(fault @ Fault::Twice) => {
                            self.count(fault);
                            frames.push(Ok(Frame::data(line)));
                        }
                        _ => {}
                    }
                    for frame in frames {
                        let ends = frame.is_err();
                        if to.send(frame).await.is_err() || ends {
                            return;
                        }
                    }
                }
            }
        });
        response
    }
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

#[cfg(test)]
mod tests;
