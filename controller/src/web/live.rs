//! Server-sent events: the whole of what a page shows, again at each change. It must not know what is shown.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::{KeyPath, Page, Refusal};
use crate::board::Key;

/// Changes of one rollout that come closer together are shown together.
const ONE: Duration = Duration::from_millis(200);
/// The same of a list, which may be long.
const LIST: Duration = Duration::from_secs(2);
/// Shown again although nothing changed: another replica may lead by now.
const AGAIN: Duration = Duration::from_secs(30);
/// A line that goes through a proxy is kept open.
const ALIVE: Duration = Duration::from_secs(15);

/// All rollouts.
pub(super) async fn list(State(page): State<Page>) -> Result<Response, Refusal> {
    let of = page.clone();
    serve(&page, None, LIST, move || Some(of.list()))
}

/// One rollout.
pub(super) async fn one(State(page): State<Page>, Path(path): Path<KeyPath>) -> Result<Response, Refusal> {
    let (of, key) = (page.clone(), path.key());
    let shown = key.clone();
    serve(&page, Some(key), ONE, move || of.one(&shown))
}

fn serve(
    page: &Page,
    about: Option<Key>,
    pause: Duration,
    show: impl Fn() -> Option<Value> + Send + 'static,
) -> Result<Response, Refusal> {
    let seat = page.0.readers.clone().try_acquire_owned().map_err(|_| {
        let why = "too many pages are open on this replica; close one, or use `serin status`";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why)
    })?;
    let line = Line {
        news: page.0.board.news(),
        about,
        pause,
        show,
        is_first: true,
        _seat: seat,
    };
    let events = events(line).take_until(page.0.stop.clone().cancelled_owned());
    Ok(Sse::new(events)
        .keep_alive(KeepAlive::new().interval(ALIVE))
        .into_response())
}

/// One reader's.
struct Line<S> {
    news: Receiver<Key>,
    /// Only news of this one; of all when absent.
    about: Option<Key>,
    pause: Duration,
    show: S,
    is_first: bool,
    _seat: OwnedSemaphorePermit,
}

fn events<S>(line: Line<S>) -> impl Stream<Item = Result<Event, Infallible>>
where
    S: Fn() -> Option<Value>,
{
    stream::unfold(line, |mut line| async move {
        if line.is_first {
            line.is_first = false;
        } else {
            tokio::select! {
                alive = line.changed() => if !alive { return None },
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
        let shown = (line.show)().unwrap_or_else(|| json!({ "gone": true }));
        let event = Event::default().data(shown.to_string());
        Some((Ok(event), line))
    })
}

impl<S> Line<S> {
    /// Waits for news, and then a little for more; false when there will be none.
    async fn changed(&mut self) -> bool {
        loop {
            match self.news.recv().await {
                Ok(key) if self.about.as_ref().is_none_or(|about| *about == key) => break,
                Ok(_) => {}
                // Whatever was missed, what is shown next is the present.
                Err(RecvError::Lagged(_)) => break,
                Err(RecvError::Closed) => return false,
            }
        }
        tokio::time::sleep(self.pause).await;
        self.news = self.news.resubscribe();
        true
    }
}
