//! The page: all rollouts and each one live, served beside health and metrics. It reads the board, asks the API server nothing
//! for a reader, and decides nothing.
//!
//! # Guarantees
//! Whatever comes from the cluster is data in JSON, and the page's script puts it into text nodes and attributes only; no page is
//! made from it, no script or style stands in a page, and the content policy allows none. A command is given with the person's own
//! token ([`steer`]): nobody can do on the page what Kubernetes does not let them do.
//!
//! # Caveats
//! Whoever reaches the port can read: phases, weights, revisions, commit subjects. A token is asked for commands only.

mod assets;
mod live;
pub mod steer;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::api::CanaryRollout;
use crate::board::{Board, Key};
use crate::metrics::ShardOf;
use crate::runtime::clock;
use crate::runtime::shards::{Count, Shard, Sharing};
use crate::view;
use steer::Steering;

/// Readers of live streams at once: each holds a connection.
const READERS: usize = 64;
/// A command is a word and a sentence.
const LARGEST_BODY: usize = 16 * 1024;

/// Which replica serves the page, and which one leads.
#[derive(Debug, Clone)]
pub struct Replica {
    /// This one.
    pub identity: String,
    /// Who has which shard.
    pub sharing: Sharing,
    /// The shard of a rollout.
    pub shard_of: ShardOf,
}

/// What a page says of the replica that serves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct ReplicaView {
    identity: String,
    leads: bool,
    /// Of one shard.
    leader: Option<String>,
    /// Of several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shards: Vec<ShardView>,
}

/// Who has a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct ShardView {
    shard: usize,
    holder: Option<String>,
}

impl Replica {
    fn view(&self) -> ReplicaView {
        let holders = self.sharing.holders().into_iter();
        let mut shards: Vec<_> = holders.map(|(shard, holder)| self.shard(shard, holder)).collect();
        let mut leader = None;
        if let [only] = &mut *shards {
            leader = only.holder.take();
            shards.clear();
        }
        ReplicaView {
            identity: self.identity.clone(),
            leads: self.sharing.has_any(),
            leader,
            shards,
        }
    }

    /// What this process has it knows better than a Lease that was read a second ago.
    fn shard(&self, shard: Shard, holder: Option<String>) -> ShardView {
        let ours = self.sharing.has(shard).then(|| self.identity.clone());
        ShardView {
            shard: shard.index(),
            holder: ours.or(holder),
        }
    }

    /// Of a rollout; none where there is one shard for all.
    fn shard_of(&self, rollout: &CanaryRollout) -> Option<ShardView> {
        let count = self.sharing.count();
        if count == Count::ONE {
            return None;
        }
        let shard = (self.shard_of)(count, rollout);
        let mut holders = self.sharing.holders().into_iter();
        let (_, holder) = holders.find(|(other, _)| *other == shard)?;
        Some(self.shard(shard, holder))
    }
}

/// What all requests share.
#[derive(Debug, Clone)]
pub struct Page(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    board: Board,
    replica: Replica,
    steering: Steering,
    readers: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Page {
    /// A page whose streams end when it is told to stop.
    pub fn new(board: Board, replica: Replica, steering: Steering, stop: CancellationToken) -> Self {
        Self(Arc::new(Inner {
            board,
            replica,
            steering,
            readers: Arc::new(Semaphore::new(READERS)),
            stop,
        }))
    }

    fn list(&self) -> serde_json::Value {
        let rollouts = self.0.board.all();
        let rows: Vec<_> = rollouts.iter().map(|rollout| view::row(rollout)).collect();
        json!({
            "at": clock::now(),
            "replica": self.0.replica.view(),
            "filled": self.0.board.is_filled(),
            "rollouts": rows,
        })
    }

    fn one(&self, key: &Key) -> Option<serde_json::Value> {
        let (rollout, lately) = self.0.board.one(key)?;
        let around = self.0.board.around(key);
        let status = rollout.status.as_ref();
        let mut page = json!({
            "at": clock::now(),
            "replica": self.0.replica.view(),
            "rollout": view::detail(&rollout, lately),
            "happened": status.map(|status| view::timeline::of(status, &around.told)),
            "around": around,
        });
        if let Some(shard) = self.0.replica.shard_of(&rollout)
            && let Some(page) = page.as_object_mut()
        {
            page.insert("shard".to_owned(), json!(shard));
        }
        Some(page)
    }
}

/// The routes.
pub fn router(page: Page) -> Router {
    let of_one = "/api/rollouts/{namespace}/{name}";
    Router::new()
        .merge(assets::router())
        .route("/api/rollouts", get(list))
        .route("/api/events", get(live::list))
        .route(of_one, get(one))
        .route(&format!("{of_one}/events"), get(live::one))
        .route(&format!("{of_one}/commands"), get(allowed).post(command))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(middleware::map_response(secure))
        .with_state(page)
}

/// What a browser may do with an answer: show it, run the page's own script, and ask this very server.
const HEADERS: [(HeaderName, &str); 8] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=()",
    ),
];

async fn secure(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn list(State(page): State<Page>) -> Response {
    Json(page.list()).into_response()
}

async fn one(State(page): State<Page>, Path(key): Path<KeyPath>) -> Response {
    match page.one(&key.key()) {
        Some(one) => Json(one).into_response(),
        None => Refusal::no_such_rollout(&key.key()).into_response(),
    }
}

/// A rollout in a path.
#[derive(Debug, Deserialize)]
struct KeyPath {
    namespace: String,
    name: String,
}

impl KeyPath {
    fn key(&self) -> Key {
        Key {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }
}

/// Who the token is, and whether they may give this rollout commands.
async fn allowed(
    State(page): State<Page>,
    Path(key): Path<KeyPath>,
    headers: axum::http::HeaderMap,
) -> Result<Response, Refusal> {
    let key = known(&page, &key)?;
    let person = page.0.steering.person(&headers, &key).await?;
    Ok(Json(json!({ "user": person.name() })).into_response())
}

/// A command as the page sends it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    verb: String,
    #[serde(default)]
    reason: String,
}

/// Gives a rollout a command, in the person's own name and with their own right.
async fn command(
    State(page): State<Page>,
    Path(key): Path<KeyPath>,
    headers: axum::http::HeaderMap,
    Json(wanted): Json<Wanted>,
) -> Result<Response, Refusal> {
    let key = known(&page, &key)?;
    let steering = &page.0.steering;
    let person = steering.person(&headers, &key).await?;
    let id = steering.give(&person, &key, &wanted.verb, wanted.reason).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "id": id, "user": person.name() }))).into_response())
}

fn known(page: &Page, key: &KeyPath) -> Result<Key, Refusal> {
    let key = key.key();
    // What is not there is not asked the API server for either.
    match page.0.board.one(&key) {
        Some(_) => Ok(key),
        None => Err(Refusal::no_such_rollout(&key)),
    }
}

/// Why something is not done, in words for a person.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    why: String,
}

impl Refusal {
    fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self {
            status,
            why: why.into(),
        }
    }

    fn no_such_rollout(key: &Key) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no rollout {key}"))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.why }))).into_response()
    }
}

#[cfg(test)]
mod tests;
