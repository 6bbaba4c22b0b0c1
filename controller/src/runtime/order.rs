//! The order in which requests go to the API server: what takes traffic away goes before everything else, and neither waits for a
//! connection nor stands behind a queue. Knows nothing of what is asked.
//!
//! # Guarantees
//! - A request that is [`marked`] inside of [`first`] waits for others of its kind alone.
//! - The others are held back while any of those waits or is on its way, but never for longer than [`HELD`]: they are late then,
//!   and not lost.
//! - Of thousands of statuses that are to be written, and of looks at what the API server says, so many are made ready as can be on
//!   their way ([`Order::room_for_status`], [`Order::room_for_look`]), and a few more of decisions that may take traffic away
//!   ([`Order::room_for_decision`]).
//! - Each ends in time, counted from its turn. Watches take no turn: they last. Nor do the lists that they begin with, which come page
//!   by page: whoever does not find in them what it needs asks for it, and the last page must not stand behind all who do.
//!
//! So few connections are open as have their turn: a thousand at once would cost the API server more than the requests on them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use http::{Request, Uri};
use kube::client::Body;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tower::{BoxError, Layer, Service};

/// Requests at once that take traffic away …
const FIRST: usize = 24;
/// … and others.
const OTHERS: usize = 16;
/// Decisions on samples that are made at once, until they have written their weights: more than can be on their way, so that none of
/// those is late for them.
const DECISIONS: usize = 2 * FIRST;
/// The longest time for which others are held back: a thousand weights take this long, as a loaded API server writes 200 a second.
const HELD: Duration = Duration::from_secs(5);
/// The longest wait for room.
const CROWDED: Duration = Duration::from_secs(20);
/// An answer comes within this time after the request's turn, or not at all.
const ANSWER: Duration = Duration::from_secs(5);

tokio::task_local! {
    /// Set while something is done that goes first.
    static GOES_FIRST: ();
}

/// Marks a request that goes first: the client's own task sends it.
#[derive(Debug, Clone, Copy)]
struct First;

/// Does something whose requests go first, where they are made to be marked. It is on the heap, as whoever comes to it mostly waits for
/// something else.
pub fn first<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    GOES_FIRST.scope((), Box::pin(work))
}

/// Marks the request, if it is made for something that goes first.
#[must_use]
pub fn marked<T>(mut request: Request<T>) -> Request<T> {
    if GOES_FIRST.try_with(|()| ()).is_ok() {
        request.extensions_mut().insert(First);
    }
    request
}

/// The order. Cheap to clone; clones are one.
#[derive(Debug, Clone)]
pub struct Order(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    first: Semaphore,
    others: Semaphore,
    statuses: Semaphore,
    looks: Semaphore,
    decisions: Semaphore,
    /// How many go first now, waiting or on their way.
    pressing: AtomicUsize,
    /// Whether there are any.
    pressed: watch::Sender<bool>,
    held: Duration,
    answer: Duration,
}

impl Default for Order {
    fn default() -> Self {
        Self::with(HELD, ANSWER)
    }
}

impl Order {
    fn with(held: Duration, answer: Duration) -> Self {
        Self(Arc::new(Inner {
            first: Semaphore::new(FIRST),
            others: Semaphore::new(OTHERS),
            statuses: Semaphore::new(OTHERS),
            looks: Semaphore::new(OTHERS),
            decisions: Semaphore::new(DECISIONS),
            pressing: AtomicUsize::new(0),
            pressed: watch::channel(false).0,
            held,
            answer,
        }))
    }

    /// Waits until nothing goes first, for so long at most.
    pub async fn calm(&self, at_most: Duration) {
        let mut pressed = self.0.pressed.subscribe();
        // An error says that it took too long.
        drop(tokio::time::timeout(at_most, pressed.wait_for(|pressed| !pressed)).await);
    }

    /// Waits until a status can be on its way soon, as long as what is given lives: as a request it takes the room of many while it waits
    /// for its turn.
    pub async fn room_for_status(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.0.statuses.acquire().await.ok()
    }

    /// Waits, but not for ever, until all that a look reads can be asked for soon; the look holds it as long as what is given lives.
    /// `None` when it took too long.
    pub async fn room_for_look(&self) -> Option<SemaphorePermit<'_>> {
        let room = tokio::time::timeout(CROWDED, self.0.looks.acquire()).await;
        // It is never closed.
        room.ok()?.ok()
    }

    /// Waits until what is decided on samples can be written soon if it takes traffic away, as long as what is given lives. Whoever has
    /// something else to write, or nothing, must let go of it before: nobody's weight waits for that.
    pub async fn room_for_decision(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.0.decisions.acquire().await.ok()
    }

    /// Whether a status would have to wait for its room.
    pub fn is_crowded(&self) -> bool {
        self.0.statuses.available_permits() == 0
    }

    fn press(&self) -> Pressing {
        if self.0.pressing.fetch_add(1, Ordering::SeqCst) == 0 {
            self.tell();
        }
        Pressing(self.clone())
    }

    /// Others may have come or gone since it was counted: what is told is what is true now.
    fn tell(&self) {
        self.0.pressed.send_if_modified(|pressed| {
            let now = self.0.pressing.load(Ordering::SeqCst) > 0;
            std::mem::replace(pressed, now) != now
        });
    }
}

/// One that goes first, until it is dropped.
struct Pressing(Order);

impl Drop for Pressing {
    fn drop(&mut self) {
        if self.0.0.pressing.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.tell();
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {0:?}; it is tried again")]
struct Late(Duration);

impl<S> Layer<S> for Order {
    type Service = Ordered<S>;

    fn layer(&self, inner: S) -> Ordered<S> {
        Ordered {
            inner,
            order: self.clone(),
        }
    }
}

/// A client whose requests keep the order.
#[derive(Debug)]
pub struct Ordered<S> {
    inner: S,
    order: Order,
}

impl<S> Service<Request<Body>> for Ordered<S>
where
    S: Service<Request<Body>>,
    S::Response: Send,
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
        let order = self.order.clone();
        let pressing = request.extensions().get::<First>().map(|_| order.press());
        let how = How::of(request.uri());
        // Nothing is sent before it is polled.
        let answer = self.inner.call(request);
        Box::pin(async move {
            let turns = match how {
                How::Watch => return answer.await.map_err(Into::into),
                How::Page => None,
                How::Single if pressing.is_some() => Some(&order.0.first),
                How::Single => {
                    order.calm(order.0.held).await;
                    Some(&order.0.others)
                }
            };
            let turn = match turns {
                // It is never closed.
                Some(turns) => Some(turns.acquire().await?),
                None => None,
            };
            let answer = tokio::time::timeout(order.0.answer, answer).await;
            drop((turn, pressing));
            answer.map_err(|_| Late(order.0.answer))?.map_err(Into::into)
        })
    }
}

/// How long a request takes, and who waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// It lasts.
    Watch,
    /// A page of the list that a watch begins with: nothing else is listed in pages.
    Page,
    /// Any other.
    Single,
}

impl How {
    fn of(uri: &Uri) -> Self {
        let mut pairs = uri.query().unwrap_or_default().split('&');
        if pairs.clone().any(|pair| pair == "watch=true" || pair == "watch=1") {
            Self::Watch
        } else if pairs.any(|pair| pair.starts_with("limit=")) {
            Self::Page
        } else {
            Self::Single
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Notes which requests came, and answers those that it may.
    #[derive(Clone)]
    struct Server {
        came: Arc<Mutex<Vec<String>>>,
        answers: Arc<Semaphore>,
    }

    impl Default for Server {
        fn default() -> Self {
            Self {
                came: Arc::default(),
                answers: Arc::new(Semaphore::new(0)),
            }
        }
    }

    impl Service<Request<Body>> for Server {
        type Response = ();
        type Error = BoxError;
        type Future = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

        fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Body>) -> Self::Future {
            let server = self.clone();
            Box::pin(async move {
                server.came.lock().unwrap().push(request.uri().to_string());
                server.answers.acquire().await?.forget();
                Ok(())
            })
        }
    }

    impl Server {
        fn came(&self) -> Vec<String> {
            self.came.lock().unwrap().clone()
        }

        /// Waits until so many came.
        async fn has_seen(&self, many: usize) {
            let seen = async {
                while self.came().len() < many {
                    tokio::task::yield_now().await;
                }
            };
            let seen = tokio::time::timeout(Duration::from_secs(10), seen).await;
            assert!(seen.is_ok(), "{:?}", self.came());
        }
    }

    /// One that ends too late for any test.
    const LONG: Duration = Duration::from_secs(600);

    fn client(server: &Server, held: Duration) -> (Order, Ordered<Server>) {
        let order = Order::with(held, LONG);
        let client = order.layer(server.clone());
        (order, client)
    }

    fn request(uri: &str) -> Request<Body> {
        marked(Request::get(uri).body(Body::empty()).unwrap())
    }

    #[tokio::test]
    async fn what_takes_traffic_away_does_not_wait_for_the_others() {
        let server = Server::default();
        let (_, mut client) = client(&server, LONG);
        for _ in 0..OTHERS + 5 {
            tokio::spawn(client.call(request("/status")));
        }
        server.has_seen(OTHERS).await;
        let weight = tokio::spawn(client.call(first(async { request("/weight") }).await));
        server.has_seen(OTHERS + 1).await;
        assert_eq!(
            server.came().last().map(String::as_str),
            Some("/weight"),
            "the others wait"
        );
        server.answers.add_permits(2 * OTHERS);
        weight.await.unwrap().unwrap();
        server.has_seen(OTHERS + 6).await;
    }

    #[tokio::test]
    async fn the_others_are_held_back_while_a_weight_is_on_its_way() {
        let server = Server::default();
        let (order, mut client) = client(&server, LONG);
        let weight = tokio::spawn(client.call(first(async { request("/weight") }).await));
        server.has_seen(1).await;
        let status = tokio::spawn(client.call(request("/status")));
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        assert_eq!(server.came(), ["/weight"]);
        server.answers.add_permits(2);
        weight.await.unwrap().unwrap();
        status.await.unwrap().unwrap();
        assert!(!*order.0.pressed.borrow());
    }

    #[tokio::test]
    async fn the_others_are_not_held_back_for_ever() {
        let server = Server::default();
        let (_, mut client) = client(&server, Duration::from_millis(1));
        tokio::spawn(client.call(first(async { request("/weight") }).await));
        tokio::spawn(client.call(request("/status")));
        server.has_seen(2).await;
    }

    #[tokio::test]
    async fn one_that_is_given_up_holds_nobody_back() {
        let server = Server::default();
        let (order, mut client) = client(&server, LONG);
        let weight = client.call(first(async { request("/weight") }).await);
        assert!(*order.0.pressed.borrow());
        drop(weight);
        assert!(!*order.0.pressed.borrow());
    }

    #[tokio::test]
    async fn as_many_statuses_are_made_ready_as_can_be_on_their_way() {
        let order = Order::default();
        let mut rooms = Vec::new();
        for _ in 0..OTHERS {
            assert!(!order.is_crowded());
            rooms.push(order.room_for_status().await);
        }
        assert!(order.is_crowded());
        let next = order.clone();
        let next = tokio::spawn(async move { next.room_for_status().await.is_some() });
        drop(rooms.pop());
        assert!(next.await.unwrap());
    }

    #[tokio::test]
    async fn who_decides_on_samples_waits_for_the_weights_of_others_and_for_nothing_else() {
        let order = Order::default();
        let mut rooms = Vec::new();
        for _ in 0..DECISIONS {
            rooms.push(order.room_for_decision().await);
        }
        assert!(!order.is_crowded(), "statuses have rooms of their own");
        let next = order.clone();
        let next = tokio::spawn(async move { next.room_for_decision().await.is_some() });
        tokio::task::yield_now().await;
        assert!(!next.is_finished());
        drop(rooms.pop());
        assert!(next.await.unwrap());
    }

    #[tokio::test]
    async fn an_answer_comes_in_time_or_not_at_all() {
        let server = Server::default();
        let mut client = Order::with(LONG, Duration::from_millis(1)).layer(server.clone());
        let late = client.call(request("/status")).await.unwrap_err();
        assert!(late.is::<Late>(), "{late}");
    }

    #[tokio::test]
    async fn watches_and_the_pages_that_they_begin_with_take_no_turn() {
        let server = Server::default();
        let (_, mut client) = client(&server, LONG);
        for _ in 0..OTHERS {
            tokio::spawn(client.call(request("/status")));
        }
        server.has_seen(OTHERS).await;
        tokio::spawn(client.call(request("/apis/x?watch=true&timeoutSeconds=60")));
        server.has_seen(OTHERS + 1).await;
        tokio::spawn(client.call(first(async { request("/weight") }).await));
        tokio::spawn(client.call(request("/apis/x?&limit=100&continue=abc")));
        server.has_seen(OTHERS + 3).await;
        assert_eq!(
            server.came().last().map(String::as_str),
            Some("/apis/x?&limit=100&continue=abc")
        );
    }

    #[tokio::test]
    async fn a_page_comes_in_time_or_not_at_all() {
        let server = Server::default();
        let mut client = Order::with(LONG, Duration::from_millis(1)).layer(server.clone());
        let late = client.call(request("/apis/x?limit=100")).await.unwrap_err();
        assert!(late.is::<Late>(), "{late}");
    }
}
