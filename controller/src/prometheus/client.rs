//! One Prometheus server (or what speaks its API), and every way in which it can fail to answer.
//! Must not know what is asked.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tracing::Instrument as _;

use super::answer::{Kind, Point, Reader, Series, Unusable, decode_instant};
use super::labels::Names;
use super::raw::Raw;
use crate::metrics::{self, Metrics};
use crate::runtime::telemetry::TRACE;

/// An answer about one rollout that is larger than this is given up: it can't be its pods.
const LARGEST_ANSWER: usize = 64 << 20;

/// Why there are no samples. Each of these is blindness, never a verdict.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SampleError {
    /// The address makes no sense.
    #[error("{url:?} is no address of a Prometheus; write one such as http://prometheus.linkerd-viz:9090")]
    BadUrl {
        /// What was given.
        url: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No HTTP client could be made.
    #[error("making an HTTP client for Prometheus failed")]
    NoClient(#[source] reqwest::Error),
    /// It could not be reached, or hung up.
    #[error("asking Prometheus at {url} failed; check that it runs and that Serin may reach it")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It took too long.
    #[error("Prometheus at {url} did not answer within {after:?}; check its load")]
    TimedOut {
        /// Where.
        url: String,
        /// How long.
        after: Duration,
    },
    /// It answered that the query failed.
    #[error("Prometheus at {url} refused a query ({kind}): {message}")]
    Refused {
        /// Where.
        url: String,
        /// Its word for the kind of error.
        kind: String,
        /// Its words.
        message: String,
    },
    /// It could not see all of its stores: counts of such an answer would be wrong.
    #[error("Prometheus at {url} gave only a part of the answer: {}", warnings.join("; "))]
    Partial {
        /// Where.
        url: String,
        /// Its words.
        warnings: Vec<String>,
    },
    /// It answered more than can be taken.
    #[error(
        "the answer of Prometheus at {url} is larger than {most} bytes; check whether a label of the proxies' metrics has a \
         value of its own for each call"
    )]
    TooLarge {
        /// Where.
        url: String,
        /// How much can be taken.
        most: usize,
    },
    /// Something else than Prometheus answered.
    #[error("what answered at {url} (HTTP {status}) is no Prometheus: {problem}; check the address")]
    NotPrometheus {
        /// Where.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What is wrong with the answer.
        problem: String,
    },
    /// A query of the user's own does not give what it should; nothing is wrong with the server.
    #[error("{field}: {problem}")]
    Unusable {
        /// The field's path in the resource.
        field: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The proxies' histograms lack a bound of an objective.
    #[error(
        "the samples have no bucket for {bound_ms}ms; check whether the scrape configuration drops buckets of response_latency_ms"
    )]
    NoSuchBucket {
        /// The bound.
        bound_ms: u64,
    },
    /// What came of a question that was asked for several rollouts at once.
    #[error(transparent)]
    Shared(Arc<SampleError>),
    /// A bug: of the counting of this rollout's samples, and of no other's.
    #[error("counting the samples panicked, which is a bug of Serin's; please report it with the log")]
    Panicked,
}

impl SampleError {
    /// The word for it in a metric's label.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::BadUrl { .. } => "BadUrl",
            Self::NoClient(_) => "NoClient",
            Self::Unreachable { .. } => "Unreachable",
            Self::TimedOut { .. } => "TimedOut",
            Self::Refused { .. } => "Refused",
            Self::Partial { .. } => "Partial",
            Self::TooLarge { .. } => "TooLarge",
            Self::NotPrometheus { .. } => "NotPrometheus",
            Self::Unusable { .. } => "Unusable",
            Self::NoSuchBucket { .. } => "NoSuchBucket",
            Self::Shared(error) => error.word(),
            Self::Panicked => "Panicked",
        }
    }

    /// Whether nobody took the call: then it is nobody's question that is wrong.
    pub(super) fn is_nobody_there(&self) -> bool {
        let Self::Unreachable { source, .. } = self else {
            return false;
        };
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&**source);
        while let Some(error) = cause {
            if error
                .downcast_ref::<reqwest::Error>()
                .is_some_and(reqwest::Error::is_connect)
            {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

/// A question, in the trace of the decision that needs its answer.
fn asking(query: &str) -> tracing::Span {
    tracing::info_span!(target: TRACE, "query", otel.kind = "client", db.system.name = "prometheus", db.query.text = query)
}

/// What a question may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Within {
    /// It ends then.
    pub(super) time: Duration,
    /// The length of its answer.
    pub(super) bytes: usize,
}

/// A client of one server. Cheap to clone; every query ends within the time given.
#[derive(Clone)]
pub(super) struct Client {
    inner: prometheus_http_query::Client,
    timeout: Duration,
    metrics: Metrics,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("url", &self.url())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the server at this address. A TLS provider must have been installed before.
    pub(super) fn new(url: &str, timeout: Duration) -> Result<Self, SampleError> {
        let http = reqwest::Client::builder()
            .connect_timeout(timeout)
            .user_agent(concat!("serin/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(SampleError::NoClient)?;
        let bad = |source| SampleError::BadUrl {
            url: url.to_owned(),
            source,
        };
        let inner = prometheus_http_query::Client::from(http, url).map_err(|error| bad(error.into()))?;
        // `prometheus:9090` is a URL too, of the scheme `prometheus`.
        if !matches!(inner.base_url().scheme(), "http" | "https") {
            return Err(bad("its scheme is neither http nor https".into()));
        }
        Ok(Self {
            inner,
            timeout,
            metrics: Metrics::default(),
        })
    }

    /// Counts its queries there.
    pub(super) fn count_in(&mut self, metrics: Metrics) {
        self.metrics = metrics;
    }

    /// The server's address, without a password that may stand in it.
    pub(super) fn url(&self) -> String {
        let mut url = self.inner.base_url().clone();
        // Refused only by addresses that can't have either.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.to_string()
    }

    /// How long a query may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The raw samples of a range selector, evaluated at a time.
    pub(super) async fn raw(&self, query: &str, at: Timestamp) -> Result<Vec<Series>, SampleError> {
        let (mut names, mut all) = (Names::default(), Vec::new());
        let within = Within {
            time: self.timeout,
            bytes: LARGEST_ANSWER,
        };
        let asked = self.each(query, at, within, |raw| {
            all.push(raw.whole(&mut names));
            ControlFlow::Continue(())
        });
        asked.instrument(asking(query)).await?;
        Ok(all)
    }

    /// The same, series by series while they come: `each` has had them all when this ends without an error, and breaks off what
    /// becomes too much.
    pub(super) async fn each(
        &self,
        query: &str,
        at: Timestamp,
        within: Within,
        each: impl FnMut(Raw<'_>) -> ControlFlow<()>,
    ) -> Result<(), SampleError> {
        let asked = (query, Some(at));
        self.in_time(within.time, self.read(asked, Kind::Matrix, within.bytes, each))
            .await
    }

    /// The values of an instant query by the server's own clock, value by value while they come.
    pub(super) async fn each_of_instant(&self, query: &str, mut each: impl FnMut(Raw<'_>)) -> Result<(), SampleError> {
        let each = |raw: Raw<'_>| {
            each(raw);
            ControlFlow::Continue(())
        };
        let asking_it = self.read((query, None), Kind::Vector, LARGEST_ANSWER, each);
        self.in_time(self.timeout, asking_it).instrument(asking(query)).await
    }

    /// The values of an instant query, by the server's own clock.
    pub(super) async fn instant(&self, query: &str) -> Result<Vec<Point>, SampleError> {
        let asking_it = async {
            let mut answer = self.ask(query, None).await?;
            let mut body = Vec::new();
            while let Some(part) = self.part(&mut answer, body.len(), LARGEST_ANSWER).await? {
                body.extend_from_slice(&part);
            }
            decode_instant(&body).map_err(|unusable| self.unusable(answer.status(), unusable))
        };
        self.in_time(self.timeout, asking_it).instrument(asking(query)).await
    }

    async fn in_time<T>(
        &self,
        timeout: Duration,
        asking: impl Future<Output = Result<T, SampleError>>,
    ) -> Result<T, SampleError> {
        let began = Instant::now();
        let answer = tokio::time::timeout(timeout, asking).await;
        let answer = answer.unwrap_or_else(|_| Err(self.timed_out(timeout)));
        let outcome = answer.as_ref().map_or_else(SampleError::word, |_| metrics::DONE);
        self.metrics.query(outcome, began.elapsed());
        answer
    }

    async fn read(
        &self,
        (query, at): (&str, Option<Timestamp>),
        is: Kind,
        most: usize,
        mut each: impl FnMut(Raw<'_>) -> ControlFlow<()>,
    ) -> Result<(), SampleError> {
        let mut answer = self.ask(query, at).await?;
        let status = answer.status();
        let (mut reader, mut length, mut goes_on) = (Reader::of(is), 0, true);
        while let Some(part) = self.part(&mut answer, length, most).await? {
            length += part.len();
            let fed = reader.feed(&part, &mut |raw| goes_on = goes_on && each(raw).is_continue());
            fed.map_err(|unusable| self.unusable(status, unusable))?;
            if !goes_on {
                return Err(self.too_large(length));
            }
        }
        reader.finish().map_err(|unusable| self.unusable(status, unusable))
    }

    async fn ask(&self, query: &str, at: Option<Timestamp>) -> Result<reqwest::Response, SampleError> {
        let mut question = self.inner.query(query);
        if let Some(at) = at {
            let ms = at.as_millisecond();
            question = question.query("time", format!("{}.{:03}", ms.div_euclid(1_000), ms.rem_euclid(1_000)));
        }
        question.post_raw().await.map_err(|e| self.unreachable(e))
    }

    /// The next part of an answer of which so many bytes have come.
    async fn part(
        &self,
        answer: &mut reqwest::Response,
        came: usize,
        most: usize,
    ) -> Result<Option<impl std::ops::Deref<Target = [u8]> + use<>>, SampleError> {
        let part = answer.chunk().await.map_err(|e| self.unreachable(e))?;
        match &part {
            Some(part) if came + part.len() > most => Err(self.too_large(most)),
            _ => Ok(part),
        }
    }

    fn unusable(&self, status: reqwest::StatusCode, unusable: Unusable) -> SampleError {
        match unusable {
            Unusable::Failed { kind, message } => SampleError::Refused {
                url: self.url(),
                kind,
                message,
            },
            Unusable::Partial(warnings) => SampleError::Partial {
                url: self.url(),
                warnings,
            },
            Unusable::Malformed(problem) => SampleError::NotPrometheus {
                url: self.url(),
                status: status.as_u16(),
                problem,
            },
        }
    }

    fn too_large(&self, most: usize) -> SampleError {
        SampleError::TooLarge { url: self.url(), most }
    }

    /// The error of what took longer.
    pub(super) fn timed_out(&self, after: Duration) -> SampleError {
        SampleError::TimedOut { url: self.url(), after }
    }

    fn unreachable(&self, source: impl std::error::Error + Send + Sync + 'static) -> SampleError {
        SampleError::Unreachable {
            url: self.url(),
            source: Box::new(source),
        }
    }
}
