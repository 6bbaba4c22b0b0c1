//! The sampler against a Prometheus of this test's own.

use axum::http::StatusCode;
use serde_json::json;
use serin_core::analysis::{ArmSample, Counts, Sight};

use super::*;
use crate::prometheus::stand_in::{Reply, Store, Stored, matrix, prometheus};
use crate::prometheus::{CustomQuery, CustomTarget, PairQuery};

async fn tick(prometheus: &Prometheus, target: &Target, start: i64, end: i64) -> Result<Tick, SampleError> {
    let ticks = prometheus.ticks(target, &[(at(start), at(end))]).await;
    Ok(ticks?.remove(0))
}

/// What the error says of the question, whoever else asked it.
fn of_question(error: &SampleError) -> &SampleError {
    match error {
        SampleError::Shared(error) => error,
        error => error,
    }
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
        codes_apart: vec![],
        services: vec![],
        scrape_interval: SignedDuration::from_secs(10),
        began: at(0),
        custom: vec![],
    }
}

/// Two pods, one an arm: a call a second at each, every tenth of the canary's fails, every fifth of stable's is slow.
fn healthy(form: &str) -> Reply {
    let mut all = Vec::new();
    for (deployment, hash, pod) in [("svc-canary", "c1", "c"), ("svc", "s1", "s")] {
        let mut add = |name: &str, more: &[(&str, &str)], count: &dyn Fn(u64) -> u64| {
            let proxy = [
                ("namespace", "prod"),
                ("deployment", deployment),
                ("pod_template_hash", hash),
                ("pod", pod),
            ];
            let labels: Vec<_> = proxy.iter().chain(more).copied().collect();
            let samples: Vec<_> = (10u64..=20)
                .map(|t| (i64::try_from(t).unwrap() * 10_000, count(t * 10)))
                .collect();
            all.push(Stored::new(name, &labels, &samples));
        };
        let inbound = [("direction", "inbound"), ("srv_port", "50051")];
        let with = |more: [(&'static str, &'static str); 1]| [inbound[0], inbound[1], more[0]];
        add("proxy_build_info", &[], &|_| 1);
        add("response_total", &with([("classification", "success")]), &|t| t);
        if deployment == "svc-canary" {
            add("response_total", &with([("classification", "failure")]), &|t| t / 10);
        }
        let fast = if deployment == "svc-canary" { 10 } else { 8 };
        add("response_latency_ms_bucket", &with([("le", "500")]), &|t| t / 10 * fast);
        add("response_latency_ms_bucket", &with([("le", "+Inf")]), &|t| t);
    }
    Store(all).reply(form)
}

#[tokio::test]
async fn counts_both_arms_of_a_tick() {
    let (sampler, asked) = prometheus(healthy).await;
    let tick = tick(&sampler, &target(), 160, 180).await.unwrap();
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
    assert_eq!(asked.len(), 1);
    for form in asked.iter() {
        assert!(form.contains("[80000ms]") && form.contains("time=180.000"), "{form}");
    }
}

#[tokio::test]
async fn ticks_asked_for_together_are_the_ticks_asked_for_alone() {
    let (sampler, asked) = prometheus(healthy).await;
    let due: Vec<_> = (5..9).map(|i| (at(i * 20), at((i + 1) * 20))).collect();
    let together = sampler.ticks(&target(), &due).await.unwrap();
    assert_eq!(asked.lock().unwrap().len(), 1);
    let mut alone = Vec::new();
    for (start, end) in &due {
        alone.extend(sampler.ticks(&target(), &[(*start, *end)]).await.unwrap());
    }
    assert_eq!(together, alone);
    assert_eq!(sampler.ticks(&target(), &[]).await.unwrap(), []);
}

#[tokio::test]
async fn a_long_stretch_is_asked_for_in_pieces() {
    let (sampler, asked) = prometheus(healthy).await;
    let due: Vec<_> = (0..61).map(|i| (at(i * 20), at((i + 1) * 20))).collect();
    assert_eq!(sampler.ticks(&target(), &due).await.unwrap().len(), 61);
    assert_eq!(asked.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn an_empty_answer_is_blindness_not_an_error() {
    let (sampler, _) = prometheus(|_| matrix(&json!([]))).await;
    let tick = tick(&sampler, &target(), 160, 180).await.unwrap();
    assert_eq!(
        tick.canary,
        ArmSample {
            sight: Sight::Blind,
            counts: Counts {
                slow: vec![0],
                ..Counts::default()
            },
            pods: vec![],
        }
    );
}

async fn error(status: StatusCode, body: &'static str) -> SampleError {
    let (sampler, _) = prometheus(move |_| (status, body.to_owned())).await;
    tick(&sampler, &target(), 160, 180).await.unwrap_err()
}

#[tokio::test]
async fn a_partial_answer_is_an_error() {
    let body = r#"{"status":"success","data":{"resultType":"matrix","result":[]},"warnings":["store 2 is away"]}"#;
    let error = error(StatusCode::OK, body).await;
    assert!(
        matches!(of_question(&error), SampleError::Partial { warnings, .. } if warnings == &["store 2 is away"]),
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
        matches!(of_question(&error), SampleError::NotPrometheus { status: 502, .. }),
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
    let error = tick(&sampler, &target(), 160, 180).await.unwrap_err();
    assert!(
        matches!(of_question(&error), SampleError::Unreachable { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_never_answers_costs_no_more_than_the_timeout() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    // It takes connections and says nothing.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let metrics = Metrics::default();
    let sampler = Prometheus::with_timeout(&url, Duration::from_millis(50)).unwrap();
    let sampler = sampler.with_metrics(metrics.clone());
    let error = tick(&sampler, &target(), 160, 180).await.unwrap_err();
    assert!(matches!(of_question(&error), SampleError::TimedOut { .. }), "{error}");
    let counted = "serin_query_duration_seconds_count{outcome=\"TimedOut\"}";
    assert!(metrics.text().contains(counted), "{}", metrics.text());
}

#[test]
fn an_address_that_is_none_is_named() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let error = Prometheus::with_timeout("prometheus:no", Duration::from_secs(1)).unwrap_err();
    assert!(error.to_string().contains("prometheus:no"), "{error}");
}

fn checkout() -> CustomTarget {
    let pair = |arm: &str| PairQuery {
        bad: vec![format!("checkout_bad_{arm}")],
        total: vec![format!("checkout_all_{arm}")],
    };
    CustomTarget {
        field: "spec.analysis.metrics[0]".to_owned(),
        judged: true,
        query: CustomQuery::Counts {
            canary: pair("canary"),
            stable: pair("stable"),
        },
        backends: None,
    }
}

fn depth() -> CustomTarget {
    CustomTarget {
        field: "spec.analysis.metrics[1]".to_owned(),
        judged: true,
        query: CustomQuery::Value {
            canary: "queue_depth".to_owned(),
            stable: None,
        },
        backends: None,
    }
}

fn with_own() -> Target {
    Target {
        custom: vec![checkout(), depth()],
        ..target()
    }
}

/// A checkout a second on each arm, every tenth of the canary's bad; the queue is as deep as these say.
fn shop(form: &str, depths: &[i64]) -> Reply {
    let counter = |name: &str, each: i64| {
        let values: Vec<_> = (100..=200)
            .step_by(10)
            .map(|t| json!([t, (t / each).to_string()]))
            .collect();
        matrix(&json!([{"metric": {"__name__": name, "pod": "p"}, "values": values}]))
    };
    if form.contains("checkout_bad_canary") {
        counter("checkout_bad", 10)
    } else if form.contains("checkout_bad_stable") {
        matrix(&json!([]))
    } else if form.contains("checkout_all") {
        counter("checkout_all", 1)
    } else if form.contains("queue_depth") {
        let series = depths.iter().map(|depth| {
            let values: Vec<_> = (100..=200).step_by(20).map(|t| json!([t, depth.to_string()])).collect();
            json!({"metric": {"queue": depth.to_string()}, "values": values})
        });
        matrix(&json!(series.collect::<Vec<_>>()))
    } else {
        healthy(form)
    }
}

#[tokio::test]
async fn users_metrics_come_with_the_tick_arm_by_arm() {
    let (prometheus, asked) = prometheus(|form| shop(form, &[7])).await;
    let tick = tick(&prometheus, &with_own(), 160, 180).await.unwrap();
    let arms = tick.custom.counts[0];
    assert_eq!((arms.canary, arms.stable), (Tally::new(2, 20), Tally::new(0, 20)));
    assert_eq!(tick.custom.values[0].canary, Some(7.0));
    assert_eq!(tick.custom.unusable, []);
    // A subquery is aligned to the epoch, as ticks are.
    let asked = asked.lock().unwrap();
    assert!(
        asked
            .iter()
            .any(|form| form.contains("queue_depth") && form.contains("[20000ms:20000ms]")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn several_ticks_are_the_same_as_one_by_one_with_users_metrics_too() {
    let (prometheus, _) = prometheus(|form| shop(form, &[7])).await;
    let spans = [(at(140), at(160)), (at(160), at(180)), (at(180), at(200))];
    let together = prometheus.ticks(&with_own(), &spans).await.unwrap();
    for (span, tick) in spans.iter().zip(&together) {
        assert_eq!(
            std::slice::from_ref(tick),
            prometheus.ticks(&with_own(), &[*span]).await.unwrap()
        );
    }
}

#[tokio::test]
async fn several_series_where_one_number_is_meant_are_said_and_the_rest_goes_on() {
    let (prometheus, _) = prometheus(|form| shop(form, &[7, 9])).await;
    let tick = tick(&prometheus, &with_own(), 160, 180).await.unwrap();
    assert_eq!(
        (tick.canary.counts.requests, tick.custom.counts[0].canary.total),
        (22, 20)
    );
    let [unusable] = tick.custom.unusable.as_slice() else {
        panic!("{:?}", tick.custom)
    };
    assert_eq!(
        (unusable.metric, unusable.field.as_str()),
        (1, "spec.analysis.metrics[1].query")
    );
    assert!(unusable.problem.contains("2 series"), "{unusable:?}");
}

#[tokio::test]
async fn a_query_that_is_wrong_is_found_on_stable_before_a_start() {
    let interval = SignedDuration::from_secs(20);
    let check = async |answer: fn(&str) -> Reply| {
        let (prometheus, _) = prometheus(answer).await;
        let checked = prometheus.check(&with_own(), interval, at(200)).await;
        checked.map_err(|error| error.to_string())
    };
    assert_eq!(check(|form| shop(form, &[7])).await, Ok(()));
    let several = check(|form| shop(form, &[7, 8, 9])).await.unwrap_err();
    assert!(
        several.starts_with("spec.analysis.metrics[1].query: it gives 3 series"),
        "{several}"
    );
    let refused = check(|form| {
        if form.contains("checkout_all") {
            let error = json!({"status": "error", "errorType": "bad_data", "error": "unexpected end of input"});
            return (StatusCode::BAD_REQUEST, error.to_string());
        }
        shop(form, &[7])
    });
    let refused = refused.await.unwrap_err();
    assert_eq!(
        refused,
        "spec.analysis.metrics[0].total: Prometheus refuses it: unexpected end of input"
    );
    let swapped = check(|form| shop(&form.replace("checkout_bad_stable", "checkout_all"), &[7]).clone());
    assert_eq!(swapped.await, Ok(()), "as many bad ones as all are not more");
    let down = check(|_| (StatusCode::SERVICE_UNAVAILABLE, "down".to_owned()))
        .await
        .unwrap_err();
    assert!(
        !down.starts_with("spec."),
        "the server's fault is nobody's field: {down}"
    );
}
