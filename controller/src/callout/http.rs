//! One request to a receiver, and what its answer means for trying again. It must not know what is sent.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, ClientBuilder, RequestBuilder, Response, StatusCode};
use serin_core::rollout::first_line;

use super::Failure;
use super::guard::Inside;

/// The longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Of an answer no more is read.
const LARGEST: usize = 64 * 1024;

/// What all clients have in common.
pub fn builder() -> ClientBuilder {
    Client::builder()
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("serin/", env!("CARGO_PKG_VERSION")))
}

/// An answer of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// Its status.
    pub status: StatusCode,
    /// How long the receiver wants to be left alone.
    pub after: Option<Duration>,
    /// Its body, or the beginning of one that is very long.
    pub body: Vec<u8>,
}

impl Answered {
    /// Whether it is none yet: the same may be answered otherwise later.
    pub fn passes(&self) -> bool {
        let later = matches!(
            self.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY
        );
        later || self.status.is_server_error()
    }

    /// The status, and the first line of the body.
    pub fn words(&self) -> String {
        let words = first_line(&String::from_utf8_lossy(&self.body));
        let between = if words.is_empty() { "" } else { ": " };
        format!("HTTP {}{between}{words}", self.status.as_u16())
    }
}

/// Sends a request; the body of a good answer.
///
/// # Errors
/// When it could not be sent, or the answer is not a good one.
pub async fn send(request: RequestBuilder, now: Timestamp) -> Result<Vec<u8>, Failure> {
    let answered = exchange(request, now).await?;
    if answered.status.is_success() {
        return Ok(answered.body);
    }
    let why = answered.words();
    Err(if answered.passes() {
        let after = answered.after;
        Failure::Later { why, after }
    } else {
        Failure::Never(why)
    })
}

/// Sends a request; any answer.
///
/// # Errors
/// When it could not be sent.
pub async fn exchange(request: RequestBuilder, now: Timestamp) -> Result<Answered, Failure> {
    let response = request.send().await.map_err(|error| unsent(&error))?;
    let (status, after) = (response.status(), later(&response, now));
    let body = body(response).await;
    Ok(Answered { status, after, body })
}

/// A connection that was not made is made later, unless it may not be made. Addresses may hold secrets and are not repeated.
fn unsent(error: &reqwest::Error) -> Failure {
    let mut source = std::error::Error::source(error);
    let mut words = None;
    while let Some(inner) = source {
        if let Some(inside) = inner.downcast_ref::<Inside>() {
            return Failure::Never(inside.to_string());
        }
        words = Some(inner.to_string());
        source = inner.source();
    }
    let why = if error.is_timeout() {
        format!("no answer in {TIMEOUT:?}")
    } else {
        words.unwrap_or_else(|| "the request could not be sent".to_owned())
    };
    Failure::Later { why, after: None }
}

async fn body(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > LARGEST {
            body.truncate(LARGEST);
            break;
        }
    }
    body
}

/// How long the receiver wants to be left alone.
fn later(response: &Response, now: Timestamp) -> Option<Duration> {
    retry_after(response.headers().get(RETRY_AFTER)?.to_str().ok()?, now)
}

/// `Retry-After`: seconds, or a date.
pub fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
    Some(Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let now = "2026-11-28T14:00:00Z".parse().unwrap();
        assert_eq!(retry_after("7", now), Some(Duration::from_secs(7)));
        let date = "Sat, 28 Nov 2026 14:01:00 GMT";
        assert_eq!(retry_after(date, now), Some(Duration::from_secs(60)));
        assert_eq!(retry_after("Sat, 28 Nov 2026 13:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
    }
}
