//! What one process takes upon itself: no call before it can, so many at once, and none for longer than its client waits. It
//! must not know what a call does.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::grpc::status::{overloaded, starting, too_large, too_late};
use crate::metrics::{Method, Metrics};
use crate::readiness::{Phase, Readiness};

const GRPC_TIMEOUT: &str = "grpc-timeout";
/// The answer is sent so long before the client's time is over: it should arrive while somebody still listens.
const MARGIN: Duration = Duration::from_millis(5);

/// Refuses what is too much, and ends what is too late. Health and reflection have no limits.
#[derive(Clone, Debug)]
pub(crate) struct LimitsLayer {
    room: Arc<Semaphore>,
    readiness: Readiness,
    metrics: Arc<Metrics>,
}

impl LimitsLayer {
    pub(crate) fn new(max_concurrent_calls: u32, readiness: Readiness, metrics: Arc<Metrics>) -> Self {
        let room = usize::try_from(max_concurrent_calls).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            room: Arc::new(Semaphore::new(room)),
            readiness,
            metrics,
        }
    }
}

impl<S> Layer<S> for LimitsLayer {
    type Service = Limits<S>;

    fn layer(&self, inner: S) -> Limits<S> {
        Limits {
            limits: self.clone(),
            inner,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Limits<S> {
    limits: LimitsLayer,
    inner: S,
}

impl<S> Service<Request<Body>> for Limits<S>
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
        if Method::of_path(request.uri().path()).is_none() {
            return Box::pin(self.inner.call(request));
        }
        if self.limits.readiness.phase() == Phase::Starting {
            return Box::pin(async { Ok(starting().into_http()) });
        }
        let Ok(place) = Arc::clone(&self.limits.room).try_acquire_owned() else {
            self.limits.metrics.calls_shed.inc();
            return Box::pin(async { Ok(overloaded().into_http()) });
        };
        let time = time_of(request.headers());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = match time {
                Some(time) => timeout(time, answer)
                    .await
                    .unwrap_or_else(|_| Ok(too_late().into_http())),
                None => answer.await,
            };
            drop(place);
            answer.map(by_convention)
        })
    }
}

/// tonic calls a message that is too large OUT_OF_RANGE; gRPC's own libraries, and with them clients' rules, RESOURCE_EXHAUSTED.
fn by_convention(answer: Response<Body>) -> Response<Body> {
    let Some(status) = Status::from_header_map(answer.headers()) else {
        return answer;
    };
    let tonics = "Error, decoded message length too large: ";
    match (status.code(), status.message().strip_prefix(tonics)) {
        (Code::OutOfRange, Some(sizes)) => too_large(&format!("the request is too large: {sizes}")).into_http(),
        _ => answer,
    }
}

/// How long a call may take here.
fn time_of(headers: &HeaderMap) -> Option<Duration> {
    let time = parse_timeout(headers.get(GRPC_TIMEOUT)?.to_str().ok()?)?;
    Some(time.saturating_sub(MARGIN.min(time / 10)))
}

/// gRPC's own form of a duration: at most eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_hours(number),
        "M" => Duration::from_mins(number),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_a_number_with_a_unit() {
        for (text, time) in [
            ("1H", Duration::from_hours(1)),
            ("2M", Duration::from_mins(2)),
            ("3S", Duration::from_secs(3)),
            ("400m", Duration::from_millis(400)),
            ("50000u", Duration::from_millis(50)),
            ("99999999n", Duration::from_nanos(99_999_999)),
        ] {
            assert_eq!(parse_timeout(text), Some(time), "{text}");
        }
        for refused in ["", "S", "1", "1s", "-1S", "+1S", "123456789m", "1 S", "1é"] {
            assert_eq!(parse_timeout(refused), None, "{refused}");
        }
    }

    #[test]
    fn the_answer_is_sent_before_the_client_gives_up() {
        let time = |text: &'static str| {
            time_of(&HeaderMap::from_iter([(
                GRPC_TIMEOUT.parse().unwrap(),
                text.parse().unwrap(),
            )]))
        };
        assert_eq!(time("1S"), Some(Duration::from_millis(995)));
        assert_eq!(time("10m"), Some(Duration::from_millis(9)));
        assert_eq!(time("soon"), None);
    }
}
