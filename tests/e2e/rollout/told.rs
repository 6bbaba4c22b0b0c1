//! A receiver that a rollout names, and what it was told: a part of stories that have something to tell.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, ensure};
use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::PostParams};
use lab::{Lab, site::Environment};
use serde_json::{Value, json};
use serin::callout;
use tokio::net::TcpListener;

use crate::story::{SOON, eventually};

const KEY: &str = "sixteen bytes or more";
const SECRET: &str = "hook";

/// A webhook's receiver. It has no time for the first request.
#[derive(Clone, Default)]
pub(super) struct Receiver {
    url: String,
    heard: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

impl Receiver {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listening")?;
        let receiver = Self {
            url: format!("http://{}/in", listener.local_addr()?),
            ..Self::default()
        };
        let app = Router::new().route("/in", post(take)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(receiver)
    }

    /// What the rollout says of it.
    pub(super) fn spec(&self) -> Value {
        json!([{ "name": "hook", "webhook": { "url": self.url, "secretRef": { "name": SECRET } } }])
    }

    /// Values of Serin's chart with which it may be called: it is on this machine.
    pub(super) fn serin(lab: &Lab) -> anyhow::Result<Value> {
        let file = lab.dir().join("notify.yaml");
        std::fs::write(&file, json!({ "allow": ["127.0.0.0/8"] }).to_string())?;
        Ok(json!({ "secrets": ["config-repo", SECRET], "extraArgs": ["--notify-file", file] }))
    }

    /// Makes the Secret with its key.
    pub(super) async fn admit(environment: &Environment) -> anyhow::Result<()> {
        let secrets: Api<Secret> = Api::namespaced(environment.client(), &environment.namespace());
        let secret = json!({ "metadata": { "name": SECRET }, "stringData": { "webhookKey": KEY } });
        secrets
            .create(&PostParams::default(), &serde_json::from_value(secret)?)
            .await
            .map(drop)
            .context("making the Secret of the webhook")
    }

    /// It was told these transitions of this revision in their order, each once, all signed; and nothing is left to be told.
    /// Whether a problem comes depends on how busy the machine is, but not that it is told when it begins and when it is over.
    pub(super) async fn was_told(
        &self,
        environment: &Environment,
        revision: &str,
        events: &[&str],
    ) -> anyhow::Result<()> {
        eventually("everything is told", SOON, async || {
            let status = environment.status().await?;
            let pending = status.notify.context("there is no outbox")?.pending;
            ensure!(pending.is_empty(), "{pending:?}");
            Ok(())
        })
        .await?;
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (mut told, mut problems) = (BTreeMap::new(), vec![]);
        // The first one was not taken.
        for (headers, body) in heard.iter().skip(1) {
            let header = |name: &str| {
                headers
                    .get(name)
                    .and_then(|value| value.to_str().ok())
                    .unwrap_or_default()
            };
            let signed = callout::signature(KEY.as_bytes(), header(callout::TIMESTAMP), body);
            ensure!(header(callout::SIGNATURE) == signed, "a signature is wrong");
            let body: Value = serde_json::from_slice(body)?;
            let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            ensure!(text("id") == header(callout::KEY), "{body}");
            let number: i64 = text("id").rsplit('-').next().unwrap_or_default().parse()?;
            if let Some(condition) = body.pointer("/problem/condition").and_then(Value::as_str) {
                let over = at_bool(&body, "/problem/over")?;
                problems.push((number, condition.to_owned(), over));
            }
            let twice = told.insert(number, (text("revision"), text("event")));
            ensure!(twice.is_none(), "{body} was told twice");
        }
        let told: Vec<_> = told
            .values()
            .filter(|(of, event)| of == revision && event != "Problem")
            .map(|(_, event)| event.as_str())
            .collect();
        ensure!(told == events, "of {revision} it was told {told:?}");
        problems.sort();
        let mut standing = BTreeSet::new();
        for (_, condition, over) in &problems {
            let turned = if *over {
                standing.remove(condition)
            } else {
                standing.insert(condition)
            };
            ensure!(turned, "it was told of problems {problems:?}");
        }
        ensure!(
            standing.is_empty(),
            "it was never told that {standing:?} is over: {problems:?}"
        );
        Ok(())
    }
}

fn at_bool(body: &Value, pointer: &str) -> anyhow::Result<bool> {
    let found = body.pointer(pointer).and_then(Value::as_bool);
    found.with_context(|| format!("there is no {pointer} in {body}"))
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> axum::http::StatusCode {
    let mut heard = receiver.heard.lock().unwrap_or_else(PoisonError::into_inner);
    heard.push((headers, body));
    if heard.len() == 1 {
        axum::http::StatusCode::SERVICE_UNAVAILABLE
    } else {
        axum::http::StatusCode::NO_CONTENT
    }
}
