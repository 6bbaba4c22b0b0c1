//! Commands given on the page. It must not know what a command does.
//!
//! # Guarantees
//! Kubernetes says who the token is (TokenReview) and whether they may patch the rollout (SubjectAccessReview). The command itself
//! is then written with that very token, as `serin` writes it: the API server authorizes it, its audit log and the admission policy
//! know the person, and Serin lends its own rights to nobody. A token is kept nowhere.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::config::AuthInfo;
use kube::{Client, Config};
use serin_core::rollout::Verb;
use tokio::sync::Semaphore;

use super::Refusal;
use crate::api::{CanaryRollout, GROUP, LONGEST_REASON, Order};
use crate::board::Key;
use crate::runtime::client;

/// The longest wait for the API server.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Tokens that are looked at once: whoever sends many waits for themselves.
const AT_ONCE: usize = 4;
/// Tokens of OpenID Connect are long; what is longer is none.
const LONGEST_TOKEN: usize = 12 * 1024;

type AsPerson = Arc<dyn Fn(HeaderValue) -> anyhow::Result<Client> + Send + Sync>;

/// Who asks the API server, and how a person's own client is made.
#[derive(Clone)]
pub struct Steering {
    reviews: Client,
    as_person: AsPerson,
    turns: Arc<Semaphore>,
}

impl fmt::Debug for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steering").finish_non_exhaustive()
    }
}

/// Somebody who may steer a rollout.
pub struct Person {
    name: String,
    client: Client,
}

impl fmt::Debug for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Person")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Person {
    /// As the API server knows them.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Steering {
    /// Reviews are asked with this client, whoever leads; people's commands go to the same cluster.
    pub fn new(reviews: Client, config: Config) -> Self {
        Self::with(reviews, move |token| {
            let mut config = config.clone();
            // Nothing of Serin's own: only the token says who this is.
            config.auth_info = AuthInfo::default();
            config.headers.push((header::AUTHORIZATION, token));
            client::unfenced(config)
        })
    }

    /// The same, with people's clients made so.
    pub fn with(
        reviews: Client,
        as_person: impl Fn(HeaderValue) -> anyhow::Result<Client> + Send + Sync + 'static,
    ) -> Self {
        Self {
            reviews,
            as_person: Arc::new(as_person),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Whoever sent the request, if they may steer the rollout.
    ///
    /// # Errors
    /// Without a token, with one that the API server does not know, and without the right.
    pub async fn person(&self, headers: &HeaderMap, key: &Key) -> Result<Person, Refusal> {
        let (header, token) = bearer(headers)?;
        let _turn = self
            .turns
            .acquire()
            .await
            .map_err(|_| unavailable("asking for a turn"))?;
        let user = self.known(token).await?;
        let name = user.username.clone().unwrap_or_default();
        if !self.may_patch(user, key).await? {
            let why = format!(
                "{name} may not patch canaryrollouts.{GROUP} in the namespace {}",
                key.namespace
            );
            return Err(Refusal::new(StatusCode::FORBIDDEN, why));
        }
        let client = (self.as_person)(header).map_err(|error| {
            tracing::warn!("making a client for a person on the page: {error:#}");
            let why = "your token can't be used from here; use `serin`";
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why)
        })?;
        Ok(Person { name, client })
    }

    /// Writes the command, and gives its id; the answer comes with the rollout's status.
    ///
    /// # Errors
    /// When there is no such command, and when the API server refuses it.
    pub async fn give(&self, person: &Person, key: &Key, verb: &str, reason: String) -> Result<String, Refusal> {
        let bad = |why: &str| Refusal::new(StatusCode::BAD_REQUEST, why);
        let verb = Verb::ALL.into_iter().find(|known| known.word() == verb);
        let verb = verb.ok_or_else(|| bad("there is no such command"))?;
        if reason.chars().count() > LONGEST_REASON {
            return Err(bad("the reason is too long"));
        }
        let order = Order::new(verb, person.name.clone(), reason, rand::random());
        let api: Api<CanaryRollout> = Api::namespaced(person.client.clone(), &key.namespace);
        let (params, patch) = (PatchParams::default(), Patch::Merge(order.patch()));
        in_time("giving the command", api.patch(&key.name, &params, &patch)).await?;
        tracing::info!(rollout = %key, by = person.name, verb = order.verb, "a command was given on the page");
        Ok(order.id)
    }

    async fn known(&self, token: &str) -> Result<UserInfo, Refusal> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: None,
            },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(self.reviews.clone());
        let params = PostParams::default();
        let review = in_time("asking whose the token is", api.create(&params, &review)).await?;
        let status = review.status.unwrap_or_default();
        let user = status.user.filter(|user| {
            let named = user.username.as_ref().is_some_and(|name| !name.is_empty());
            status.authenticated == Some(true) && named
        });
        user.ok_or_else(|| Refusal::new(StatusCode::UNAUTHORIZED, "the API server does not know this token"))
    }

    async fn may_patch(&self, user: UserInfo, key: &Key) -> Result<bool, Refusal> {
        let extra: Option<BTreeMap<_, _>> = user.extra;
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: user.username,
                groups: user.groups,
                uid: user.uid,
                extra,
                resource_attributes: Some(ResourceAttributes {
                    group: Some(GROUP.to_owned()),
                    resource: Some("canaryrollouts".to_owned()),
                    verb: Some("patch".to_owned()),
                    namespace: Some(key.namespace.clone()),
                    name: Some(key.name.clone()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.reviews.clone());
        let params = PostParams::default();
        let review = in_time("asking what the token may do", api.create(&params, &review)).await?;
        Ok(review
            .status
            .is_some_and(|status| status.allowed && status.denied != Some(true)))
    }
}

/// The whole header, and the token in it.
fn bearer(headers: &HeaderMap) -> Result<(HeaderValue, &str), Refusal> {
    let header = headers.get(header::AUTHORIZATION);
    let text = header.and_then(|header| header.to_str().ok());
    let token = text.and_then(|text| text.split_once(' ')).filter(|(scheme, token)| {
        let is_token = !token.is_empty() && token.len() <= LONGEST_TOKEN;
        scheme.eq_ignore_ascii_case("bearer") && is_token && token.bytes().all(|byte| byte.is_ascii_graphic())
    });
    let (Some(header), Some((_, token))) = (header, token) else {
        let why = "a command takes a token of the cluster, in the header `Authorization: Bearer …`";
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, why));
    };
    let mut header = header.clone();
    header.set_sensitive(true);
    Ok((header, token))
}

async fn in_time<T>(doing: &str, call: impl Future<Output = kube::Result<T>>) -> Result<T, Refusal> {
    match tokio::time::timeout(TIMEOUT, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => {
            // What the API server refuses a person is theirs to know; what it refuses Serin is not theirs to mend.
            let code = StatusCode::from_u16(status.code)
                .ok()
                .filter(StatusCode::is_client_error);
            let why = format!("{doing}: the API server says: {}", status.message);
            Err(Refusal::new(code.unwrap_or(StatusCode::BAD_GATEWAY), why))
        }
        Ok(Err(error)) => {
            tracing::warn!("{doing} for the page: {error}");
            Err(unavailable(doing))
        }
        Err(_) => Err(unavailable(doing)),
    }
}

fn unavailable(doing: &str) -> Refusal {
    let why = format!("{doing}: the API server did not answer; try again, or use `serin`");
    Refusal::new(StatusCode::BAD_GATEWAY, why)
}
