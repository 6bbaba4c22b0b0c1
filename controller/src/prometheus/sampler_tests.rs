//! The sampler against a Prometheus of this test's own.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::{Value, json};
use serin_core::analysis::{Counts, Sight};

use super::*;

type Asked = Arc<Mutex<Vec<String>>>;

/// A server that answers each query by this function of the decoded form.
async fn prometheus(answer: impl Fn(&str) -> (StatusCode, String) + Send + Sync + 'static) -> (Prometheus, Asked) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let asked = Asked::default();
    let (heard, answer) = (Arc::clone(&asked), Arc::new(answer));
    let app = Router::new().route(
        "/api/v1/query",
        post(move |form: String| {
            let form = form
                .replace("%5B", "[")
                .replace("%5D", "]")
                .replace("%22", "\"")
                .replace("%3D", "=");
            heard.lock().unwrap().push(form.clone());
            let answer = Arc::clone(&answer);
            async move { answer(&form) }
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (Prometheus::with_timeout(&url, Duration::from_secs(5)).unwrap(), asked)
}

fn matrix(result: &Value) -> (StatusCode, String) {
    (
        StatusCode::OK,
        json!({"status": "success", "data": {"resultType": "matrix", "result": result}}).to_string(),
    )
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn target() -> Target {
    Target {
        namespace: "prod".to_owned(),
        port: 50051,
        canary: ArmTarget {
            deployment: "svc-canary".to_owned(),
            pod_template_hash: Some("c1".to_owned()),
        },
        stable: ArmTarget {
            deployment: "svc".to_owned(),
            pod_template_hash: None,
        },
        thresholds_ms: vec![500],
        extra_failure_codes: vec![],
        services: vec![],
        scrape_interval: SignedDuration::from_secs(10),
        began: at(0),
    }
}

/// Two pods, one an arm: a call a second at each, every tenth of the canary's fails, every fifth of stable's is slow.
fn healthy(form: &str) -> (StatusCode, String) {
    let canary = form.contains("svc-canary");
    let pod = if canary { "c" } else { "s" };
    let grow = |each: i64| {
        (100..=200)
            .step_by(10)
            .map(|t| json!([t, (t / each).to_string()]))
            .collect::<Vec<_>>()
    };
    let one = |labels: Value, each: i64| {
        let mut labels = labels;
        labels["pod"] = json!(pod);
        json!({"metric": labels, "values": grow(each)})
    };
    if form.contains("proxy_build_info") {
        return matrix(&json!([one(json!({"__name__": "proxy_build_info"}), 1_000)]));
    }
    if form.contains("response_latency_ms_bucket") {
        let bucket = |le: &str, values: Vec<Value>| json!({"metric": {"__name__": "response_latency_ms_bucket", "pod": pod, "le": le}, "values": values});
        let fast = if canary { 10 } else { 8 };
        let values = |of: i64| {
            (100..=200)
                .step_by(10)
                .map(|t| json!([t, (t / 10 * of).to_string()]))
                .collect()
        };
        return matrix(&json!([bucket("500", values(fast)), bucket("+Inf", values(10))]));
    }
    let total = |classification: &str, each| {
        one(
            json!({"__name__": "response_total", "classification": classification, "grpc_status": ""}),
            each,
        )
    };
    let mut all = vec![total("success", 1)];
    if canary {
        all.push(total("failure", 10));
    }
    matrix(&json!(all))
}

#[tokio::test]
async fn counts_both_arms_of_a_tick() {
    let (sampler, asked) = prometheus(healthy).await;
    let tick = sampler.tick(&target(), at(160), at(180)).await.unwrap();
    assert_eq!((tick.start, tick.end), (at(160), at(180)));
    assert_eq!(
        tick.canary.counts,
        Counts {
            requests: 22,
            failures: 2,
            slow: vec![0]
        }
    );
    assert_eq!(
        tick.stable.counts,
        Counts {
            requests: 20,
            failures: 0,
            slow: vec![4]
        }
    );
    assert_eq!((tick.canary.sight, tick.stable.sight), (Sight::Fresh, Sight::Fresh));
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 6);
    for form in asked.iter() {
        assert!(form.contains("[80000ms]") && form.contains("time=180.000"), "{form}");
    }
}

#[tokio::test]
async fn ticks_asked_for_together_are_the_ticks_asked_for_alone() {
    let (sampler, asked) = prometheus(healthy).await;
    let due: Vec<_> = (5..9).map(|i| (at(i * 20), at((i + 1) * 20))).collect();
    let together = sampler.ticks(&target(), &due).await.unwrap();
    assert_eq!(asked.lock().unwrap().len(), 6);
    let mut alone = Vec::new();
    for (start, end) in &due {
        alone.push(sampler.tick(&target(), *start, *end).await.unwrap());
    }
    assert_eq!(together, alone);
    assert_eq!(sampler.ticks(&target(), &[]).await.unwrap(), []);
}

#[tokio::test]
async fn a_long_stretch_is_asked_for_in_pieces() {
    let (sampler, asked) = prometheus(healthy).await;
    let due: Vec<_> = (0..61).map(|i| (at(i * 20), at((i + 1) * 20))).collect();
    assert_eq!(sampler.ticks(&target(), &due).await.unwrap().len(), 61);
    assert_eq!(asked.lock().unwrap().len(), 3 * 6);
}

#[tokio::test]
async fn an_empty_answer_is_blindness_not_an_error() {
    let (sampler, _) = prometheus(|_| matrix(&json!([]))).await;
    let tick = sampler.tick(&target(), at(160), at(180)).await.unwrap();
    assert_eq!(
        tick.canary,
        ArmSample {
            sight: Sight::Blind,
            counts: Counts {
                slow: vec![0],
                ..Counts::default()
            }
        }
    );
}

async fn error(status: StatusCode, body: &'static str) -> SampleError {
    let (sampler, _) = prometheus(move |_| (status, body.to_owned())).await;
    sampler.tick(&target(), at(160), at(180)).await.unwrap_err()
}

#[tokio::test]
async fn a_partial_answer_is_an_error() {
    let body = r#"{"status":"success","data":{"resultType":"matrix","result":[]},"warnings":["store 2 is away"]}"#;
    let error = error(StatusCode::OK, body).await;
    assert!(
        matches!(&error, SampleError::Partial { warnings, .. } if warnings == &["store 2 is away"]),
        "{error}"
    );
}

#[tokio::test]
async fn a_refusal_says_why() {
    let body = r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#;
    let error = error(StatusCode::BAD_REQUEST, body).await;
    assert!(
        error.to_string().ends_with("refused a query (bad_data): parse error"),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_no_prometheus_is_named_as_such() {
    let error = error(StatusCode::BAD_GATEWAY, "<html>no upstream</html>").await;
    assert!(
        matches!(error, SampleError::NotPrometheus { status: 502, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_is_away_is_unreachable() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let sampler = Prometheus::with_timeout(&url, Duration::from_secs(5)).unwrap();
    let error = sampler.tick(&target(), at(160), at(180)).await.unwrap_err();
    assert!(matches!(error, SampleError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_never_answers_costs_no_more_than_the_timeout() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    // It takes connections and says nothing.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let sampler = Prometheus::with_timeout(&url, Duration::from_millis(50)).unwrap();
    let error = sampler.tick(&target(), at(160), at(180)).await.unwrap_err();
    assert!(matches!(error, SampleError::TimedOut { .. }), "{error}");
}

#[test]
fn an_address_that_is_none_is_named() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let error = Prometheus::with_timeout("prometheus:no", Duration::from_secs(1)).unwrap_err();
    assert!(error.to_string().contains("prometheus:no"), "{error}");
}
