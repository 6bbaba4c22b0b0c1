//! Gates on the way of a rollout: a Job before the first weight, and somebody who is asked before the promotion.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, ensure};
use axum::{Router, body::Bytes, extract::State, http::HeaderMap, http::StatusCode, routing::post};
use k8s_openapi::api::{batch::v1::Job, core::v1::Secret};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use lab::{
    Lab,
    kubelet::images::Image,
    site::{Detours, Environment, Setup},
};
use serde_json::{Value, json};
use serin::callout;
use tokio::{net::TcpListener, sync::watch};

use super::{
    site::site,
    witness::{PROMOTION, ROLLBACK, weights},
};
use crate::story::{SOON, eventually};

const KEY: &str = "sixteen bytes or more";
const SECRET: &str = "gates";
const SMOKE: &str = "registry.example.com/smoke:1";

pub(super) async fn story(lab: Arc<Lab>) -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let hooks = json!([
        { "name": "smoke", "at": ["BeforeRollout"], "timeout": "2m", "job": { "template": smoke() } },
        { "name": "window", "at": ["BeforePromotion"], "timeout": "5m", "onFailure": "Pause", "http": gate.spec() },
        { "name": "told", "at": ["AfterPromotion", "OnRollback"], "timeout": "2m", "http": gate.spec() },
    ]);
    // Longer than a controller is gone.
    let plan = json!({ "blindDeadline": "90s", "steps": [
        { "weight": 50, "hold": "2s", "atMost": "90s" },
        { "weight": 100, "hold": "2s", "atMost": "90s" },
    ] });
    let setup = Setup {
        values: json!({ "rollout": { "plan": plan, "hooks": hooks } }),
        own_serin: true,
    };
    let file = lab.dir().join("hooks-notify.yaml");
    std::fs::write(&file, json!({ "allow": ["127.0.0.0/8"] }).to_string())?;
    let serin = json!({
        "secrets": ["config-repo", SECRET], "hooks": { "jobs": true }, "extraArgs": ["--notify-file", file],
    });
    // It runs as a process of this machine: a shell is all that it takes.
    let script = r#"test "$SERIN_POINT" = BeforeRollout && test "$SERIN_REVISION" != 1.1.1"#;
    lab.images.add(SMOKE, Image::new("/bin/sh").arg("-c").arg(script));
    let environment = Environment::start_with(&site(&lab).await?, "hooks", setup, &serin, Detours::default()).await?;
    admit(&environment).await?;

    gate.say(StatusCode::FORBIDDEN);
    environment.commit("1.1.0", None).await?;
    let status = environment.until_phase("Paused", "1.1.0", PROMOTION).await?;
    let said = status.message.unwrap_or_default();
    ensure!(
        said.contains("hook window (BeforePromotion) failed: HTTP 403: so it is"),
        "{said}"
    );
    ensure!(weights(&environment)? == [0, 50, 100], "{:?}", weights(&environment)?);

    gate.say(StatusCode::ACCEPTED);
    environment.order("resume").await?;
    // Killed while it waits for an answer: its successor asks in the same words.
    gate.heard_again(1).await?;
    let serin = environment.serin.as_ref().context("it has no Serin of its own")?;
    serin.kill().await?;
    serin.ready().await?;
    let so_far = gate.heard().len();
    gate.heard_more_than(so_far).await?;
    gate.say(StatusCode::OK);
    environment.until_phase("Promoted", "1.1.0", PROMOTION).await?;
    eventually("the end is told", SOON, async || {
        let told = occasions(&gate.heard())?;
        let expected = [
            "told AfterPromotion 0",
            "window BeforePromotion 0",
            "window BeforePromotion 1",
        ];
        ensure!(told == expected, "{told:?}");
        Ok(())
    })
    .await?;
    let first = gate
        .heard()
        .iter()
        .filter(|(_, body)| *at(body, "attempt") == 0 && at(body, "hook") == "window")
        .count();
    ensure!(first == 1, "what was answered was asked {first} times");
    one_job(&environment, 1, "Complete").await?;

    environment.commit("1.1.1", None).await?;
    let status = environment.until_phase("RolledBack", "1.1.1", ROLLBACK).await?;
    let reason = status.rollback.and_then(|rollback| rollback.reason).unwrap_or_default();
    ensure!(
        reason.starts_with("hook smoke (BeforeRollout) failed: the Job user-service-")
            && reason.contains("BackoffLimitExceeded"),
        "{reason}"
    );
    ensure!(
        weights(&environment)? == [0, 50, 100, 75, 50, 0],
        "a revision whose smoke test failed got traffic: {:?}",
        weights(&environment)?
    );
    eventually("the rollback is told", SOON, async || {
        let told = gate.heard();
        let of = |(_, body): &&(HeaderMap, Value)| at(body, "point") == "OnRollback" && at(body, "revision") == "1.1.1";
        let count = told.iter().filter(of).count();
        ensure!(count == 1, "{count} times");
        Ok(())
    })
    .await?;
    one_job(&environment, 2, "Failed").await
}

fn smoke() -> Value {
    json!({
        "metadata": { "annotations": { "linkerd.io/inject": "disabled" } },
        "spec": { "template": {
            "metadata": { "annotations": { "linkerd.io/inject": "disabled" } },
            "spec": { "containers": [{ "name": "smoke", "image": SMOKE }] },
        } },
    })
}

fn at<'v>(body: &'v Value, key: &str) -> &'v Value {
    body.get(key).unwrap_or(&Value::Null)
}

/// What was asked, each occasion once, by hook, point and attempt; each has an id of its own.
fn occasions(heard: &[(HeaderMap, Value)]) -> anyhow::Result<Vec<String>> {
    let mut ids = BTreeMap::new();
    for (_, body) in heard {
        let text = |key: &str| at(body, key).as_str().unwrap_or_default().to_owned();
        let occasion = format!("{} {} {}", text("hook"), text("point"), at(body, "attempt"));
        let other = ids.insert(occasion.clone(), text("id"));
        ensure!(other.is_none_or(|other| other == text("id")), "{occasion} had two ids");
    }
    Ok(ids.into_keys().collect())
}

/// So many Jobs were made in all, and one of them ended so.
async fn one_job(environment: &Environment, count: usize, end: &str) -> anyhow::Result<()> {
    let jobs: Api<Job> = Api::namespaced(environment.client(), &environment.namespace());
    let of = ListParams::default().labels("serin.dev/hook=smoke");
    let jobs = jobs.list(&of).await.context("listing Jobs")?.items;
    ensure!(jobs.len() == count, "{} Jobs were made", jobs.len());
    let ended = jobs.iter().filter(|job| {
        let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|one| one.type_ == end && one.status == "True"))
    });
    let ended: Vec<_> = ended.collect();
    ensure!(ended.len() == 1, "{} Jobs are {end}", ended.len());
    let owners = ended
        .iter()
        .filter_map(|job| job.metadata.owner_references.as_ref())
        .flatten();
    ensure!(
        owners.map(|owner| owner.kind.as_str()).eq(["CanaryRollout"]),
        "a Job is nobody's"
    );
    Ok(())
}

async fn admit(environment: &Environment) -> anyhow::Result<()> {
    let secrets: Api<Secret> = Api::namespaced(environment.client(), &environment.namespace());
    let secret = json!({ "metadata": { "name": SECRET }, "stringData": { "webhookKey": KEY } });
    let secret = serde_json::from_value(secret)?;
    let made = secrets.create(&PostParams::default(), &secret).await;
    made.map(drop).context("making the Secret of the gates")
}

/// Somebody who is asked, and says what he was told to say.
#[derive(Clone)]
struct Gate {
    url: String,
    heard: watch::Sender<Vec<(HeaderMap, Value)>>,
    says: Arc<Mutex<StatusCode>>,
}

impl Gate {
    async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listening")?;
        let gate = Self {
            url: format!("http://{}/gate", listener.local_addr()?),
            heard: watch::Sender::default(),
            says: Arc::new(Mutex::new(StatusCode::OK)),
        };
        let app = Router::new().route("/gate", post(take)).with_state(gate.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(gate)
    }

    fn spec(&self) -> Value {
        json!({ "url": self.url, "secretRef": { "name": SECRET } })
    }

    fn say(&self, status: StatusCode) {
        *self.says.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    fn heard(&self) -> Vec<(HeaderMap, Value)> {
        self.heard.borrow().clone()
    }

    /// Waits until this attempt was asked.
    async fn heard_again(&self, attempt: u32) -> anyhow::Result<()> {
        self.wait(|heard| heard.iter().any(|(_, body)| *at(body, "attempt") == attempt))
            .await
    }

    async fn heard_more_than(&self, count: usize) -> anyhow::Result<()> {
        self.wait(|heard| heard.len() > count).await
    }

    async fn wait(&self, holds: impl FnMut(&Vec<(HeaderMap, Value)>) -> bool) -> anyhow::Result<()> {
        let mut heard = self.heard.subscribe();
        let mut holds = holds;
        let waited = tokio::time::timeout(PROMOTION, heard.wait_for(|heard| holds(heard))).await;
        waited
            .context("the gate was not asked")?
            .map(drop)
            .context("the gate is gone")
    }
}

async fn take(State(gate): State<Gate>, headers: HeaderMap, body: Bytes) -> (StatusCode, &'static str) {
    let header = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let signed = callout::signature(KEY.as_bytes(), header(callout::TIMESTAMP), &body);
    let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
    if header(callout::SIGNATURE) != signed || Some(header(callout::KEY)) != at(&sent, "id").as_str() {
        return (StatusCode::UNAUTHORIZED, "the signature is wrong");
    }
    // What is told of an end is taken whatever the gates say.
    let tells = at(&sent, "hook") == "told";
    gate.heard.send_modify(|heard| heard.push((headers.clone(), sent)));
    let says = *gate.says.lock().unwrap_or_else(PoisonError::into_inner);
    (
        if tells { StatusCode::NO_CONTENT } else { says },
        if tells { "" } else { "so it is" },
    )
}
