//! The lines about Prometheus: a server of the story's own stands before the real one, and says one thing otherwise.

use std::sync::Arc;

use anyhow::Context as _;
use axum::{Json, Router, extract::State, routing::post};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::Ground;

/// What is said otherwise: of a query's text and the real answer's `data`.
type Twist = fn(&str, &mut Value);

struct Relay {
    to: String,
    twist: Twist,
}

/// Every query is sent on as it came; the answer comes back twisted.
async fn relay(to: &str, twist: Twist) -> anyhow::Result<String> {
    let relay = Arc::new(Relay {
        to: format!("{to}/api/v1/query"),
        twist,
    });
    let app = Router::new().route("/api/v1/query", post(ask)).with_state(relay);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(url)
}

async fn ask(State(relay): State<Arc<Relay>>, form: String) -> Json<Value> {
    let sent = reqwest::Client::new()
        .post(&relay.to)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form.clone())
        .send();
    let mut answer: Value = match sent.await {
        Ok(response) => response.json().await.unwrap_or_default(),
        Err(error) => json!({ "status": "error", "errorType": "relay", "error": error.to_string() }),
    };
    if let Some(data) = answer.get_mut("data") {
        (relay.twist)(&form, data);
    }
    Json(answer)
}

fn series(data: &mut Value) -> impl Iterator<Item = &mut Value> {
    data.get_mut("result")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

/// Adds to the value of a vector's or a scalar's sample.
fn add(sample: Option<&mut Value>, seconds: f64) {
    let Some(value) = sample.and_then(|sample| sample.get_mut(1)) else {
        return;
    };
    let number: f64 = value.as_str().and_then(|text| text.parse().ok()).unwrap_or_default();
    *value = json!((number + seconds).to_string());
}

pub(super) async fn lines(ground: &Ground) -> anyhow::Result<()> {
    let gone = ground.check("http://127.0.0.1:1").await?;
    gone.says("fail", "Prometheus answers", "127.0.0.1:1")?;
    let untwisted = ground.check(&relay(&ground.prometheus, |_, _| {}).await?).await?;
    anyhow::ensure!(
        untwisted.others().is_empty(),
        "the relay changes something: {:#?}",
        untwisted.others()
    );
    let cases: [(&str, &str, &str, Twist); 6] = [
        ("fail", "clocks agree", "s off", |query, data| {
            if query.contains("time%28%29") {
                add(data.get_mut("result"), 30.0);
            }
        }),
        (
            "fail",
            "scrapes the proxies of both arms",
            "proxy_build_info of user-service-",
            |query, data| {
                if query.contains("timestamp")
                    && let Some(all) = data.get_mut("result").and_then(Value::as_array_mut)
                {
                    all.clear();
                }
            },
        ),
        ("warn", "samples are fresh", "more than three scrapes", |query, data| {
            if query.contains("timestamp") {
                series(data).for_each(|of| add(of.get_mut("value"), -60.0));
            }
        }),
        (
            "fail",
            "the labels that Serin reads",
            "lacks pod_template_hash",
            |_, data| {
                for of in series(data).filter_map(|of| of.get_mut("metric")?.as_object_mut()) {
                    of.remove("pod_template_hash");
                }
            },
        ),
        (
            "warn",
            "the labels that Serin reads",
            "no call to look at",
            |query, data| {
                if query.contains("response_total")
                    && !query.contains("increase")
                    && let Some(all) = data.get_mut("result").and_then(Value::as_array_mut)
                {
                    all.clear();
                }
            },
        ),
        ("warn", "clients call through the mesh", "25.0 %", |query, data| {
            if query.contains("increase") {
                let share = json!([{ "metric": {}, "value": [0, "0.25"] }]);
                *data = json!({ "resultType": "vector", "result": share });
            }
        }),
    ];
    for (status, claim, why, twist) in cases {
        let url = relay(&ground.prometheus, twist).await?;
        let checked = ground.check(&url).await?;
        checked
            .says(status, claim, why)
            .with_context(|| format!("the case {why:?}"))?;
    }
    Ok(())
}
