//! A receiver that keeps what it is sent and answers as it is told, and a notifier that speaks to it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::super::*;
use crate::api::{AnnouncementStatus, NotifyOn, NotifySpec, NotifyStatus, Receiver, parse_receivers};
use crate::callout::Secret;

/// Longer than anything takes here.
const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Request {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap().to_str().unwrap()
    }
}

/// An answer: a status, `Retry-After`, and a body. `None` never answers.
type Answer = Option<(u16, Option<&'static str>, String)>;

#[derive(Clone)]
pub(super) struct Stand {
    pub(super) url: String,
    requests: watch::Sender<Vec<Request>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
}

impl Stand {
    /// Answers 200 and Slack's `ok`, unless other answers were put in.
    pub(super) async fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stand = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            requests: watch::Sender::default(),
            answers: Arc::new(Mutex::new(answers.into_iter().collect())),
        };
        let app = Router::new().fallback(take).with_state(stand.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        stand
    }

    /// Its requests, as soon as there are so many.
    pub(super) async fn requests(&self, count: usize) -> Vec<Request> {
        let mut requests = self.requests.subscribe();
        let there = requests.wait_for(|requests| requests.len() >= count);
        let there = tokio::time::timeout(DEADLINE, there)
            .await
            .expect("the requests came in time")
            .unwrap();
        there.clone()
    }

    pub(super) fn so_far(&self) -> usize {
        self.requests.borrow().len()
    }
}

async fn take(State(stand): State<Stand>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let path = uri.path().to_owned();
    stand
        .requests
        .send_modify(|requests| requests.push(Request { path, headers, body }));
    let count = stand.so_far();
    let answer = stand.answers.lock().unwrap().pop_front();
    match answer {
        Some(None) => std::future::pending().await,
        Some(Some((status, retry_after, body))) => {
            let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
            if let Some(after) = retry_after {
                response.headers_mut().insert("retry-after", after.parse().unwrap());
            }
            response
        }
        None => axum::Json(json!({ "ok": true, "channel": "C1", "ts": format!("17.{count}") })).into_response(),
    }
}

/// A notifier with the outbox of one rollout, as the reconciler has them.
pub(super) struct Office {
    notifier: Notifier,
    config: Config,
    pub(super) receivers: Vec<Receiver>,
    pub(super) outbox: Option<NotifyStatus>,
    news: tokio::sync::mpsc::UnboundedReceiver<()>,
    is_tenants: bool,
    _stop: DropGuard,
}

pub(super) const UID: &str = "0c5a";

impl Office {
    /// With receivers that the controller's configuration names, or (`tenants`) the rollout.
    pub(super) fn new(config: &str, receivers: &str, secret: &[(&str, &str)], is_tenants: bool) -> Self {
        crate::runtime::client::install_tls();
        let specs: Vec<NotifySpec> = serde_saphyr::from_str(receivers).unwrap();
        let receivers = parse_receivers("spec.notify", &specs).unwrap();
        let values: BTreeMap<_, _> = secret
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
            .collect();
        let secrets: Secrets = Arc::new(move |namespace, name| {
            assert_eq!(namespace.is_some(), is_tenants);
            let secret = Secret::new(name, values.clone());
            Box::pin(async move { Ok(secret) })
        });
        let (wake, news) = tokio::sync::mpsc::unbounded_channel();
        let wake: Wake = Arc::new(move |namespace, name| {
            assert_eq!((namespace, name), ("shop", "user-service"));
            wake.send(()).unwrap();
        });
        let patience = Patience {
            backoff: crate::runtime::backoff::Backoff {
                first: Duration::from_millis(5),
                longest: Duration::from_millis(20),
            },
            tries: 3,
            pace: Duration::ZERO,
        };
        let stop = CancellationToken::new();
        let setup = Setup::new(Config::parse(config).unwrap()).unwrap();
        let (notifier, sending) = Notifier::new(&setup, secrets, wake, patience, stop.clone());
        tokio::spawn(sending);
        Self {
            notifier,
            config: setup.config,
            receivers,
            outbox: None,
            news,
            is_tenants,
            _stop: stop.drop_guard(),
        }
    }

    /// A decision in which this happened.
    pub(super) fn decide(&mut self, news: Vec<AnnouncementStatus>) {
        let done = self.notifier.done(UID);
        let trial = Some(began());
        (self.outbox, _) = next(self.outbox.as_ref(), news, &self.receivers, &done, trial);
        self.notifier.recorded(UID, &done);
        let outbox = self.outbox.clone().unwrap_or_default();
        self.notifier.offer(UID, &outbox, |announcement, receiver| {
            self.letter(announcement, receiver)
        });
    }

    pub(super) fn letter(&self, announcement: &AnnouncementStatus, receiver: &str) -> Option<Letter> {
        Some(Letter {
            uid: UID.to_owned(),
            cluster: "prod-1".to_owned(),
            namespace: "shop".to_owned(),
            rollout: "user-service".to_owned(),
            receiver: self.receivers.iter().find(|known| known.id == receiver)?.clone(),
            is_tenants: self.is_tenants,
            announcement: announcement.clone(),
            link: self.config.link.clone(),
        })
    }

    /// The next outcome that the notifier has.
    pub(super) async fn outcome(&mut self) -> Done {
        let woken = tokio::time::timeout(DEADLINE, self.news.recv()).await;
        woken.expect("something became of a letter in time").unwrap();
        let done = self.notifier.done(UID);
        done.last().unwrap().clone()
    }

    pub(super) fn notifier(&self) -> &Notifier {
        &self.notifier
    }
}

pub(super) fn began() -> jiff::Timestamp {
    "2026-11-28T14:00:00Z".parse().unwrap()
}

pub(super) fn said(event: NotifyOn, message: &str) -> AnnouncementStatus {
    AnnouncementStatus {
        event: event.name().to_owned(),
        at: Some("2026-11-28T14:05:00Z".parse().unwrap()),
        revision: "1.4.2".to_owned(),
        trial: Some(began()),
        step: (event == NotifyOn::Step).then(|| "2/4".to_owned()),
        weight: 25,
        message: message.to_owned(),
        commit: Some("3f2a".repeat(10)),
        author: Some("Ada <ada@example.com>".to_owned()),
        subject: Some("Raise the limit <!channel>".to_owned()),
        ..AnnouncementStatus::default()
    }
}

pub(super) fn problem(problem: Problem, over: bool) -> AnnouncementStatus {
    AnnouncementStatus {
        problem: Some(problem.condition().to_owned()),
        since: Some("2026-11-28T14:04:00Z".parse().unwrap()),
        over,
        ..said(NotifyOn::Problem, "no fresh scrape")
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the other answer is none")]
pub(super) fn ok(body: &str) -> Answer {
    Some((200, None, body.to_owned()))
}
