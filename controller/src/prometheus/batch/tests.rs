//! Many targets against a Prometheus that selects as the real one does.

use axum::http::StatusCode;
use futures::future::join_all;
use serde_json::json;

use super::*;
use crate::linkerd::outbound;
use crate::prometheus::stand_in::{Asked, Reply, Store, Stored, prometheus};
use crate::prometheus::{ArmTarget, Backends, CustomQuery, CustomTarget, PairQuery, Prometheus};

const INTERVAL: SignedDuration = SignedDuration::from_secs(20);

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// The clients' view of a Service, as it is asked for alone.
fn backends(namespace: &str, service: &str) -> CustomTarget {
    let [canary, stable] = ["canary", "stable"].map(|arm| format!("{service}-{arm}"));
    let selectors = |backend: &str| {
        let [bad, total] = outbound::grpc_route().map(|query| {
            let query = query
                .replace("{{namespace}}", namespace)
                .replace("{{service}}", service);
            let query = query.replace("{{backend}}", backend);
            query.split(" + ").map(str::to_owned).collect()
        });
        PairQuery { bad, total }
    };
    CustomTarget {
        field: "spec.analysis.outbound".to_owned(),
        judged: false,
        query: CustomQuery::Counts {
            canary: selectors(&canary),
            stable: selectors(&stable),
        },
        backends: Some(Backends {
            counter: outbound::Counter::GrpcRoute,
            service: service.to_owned(),
            canary,
            stable,
        }),
    }
}

pub(super) fn target(namespace: &str, service: &str) -> Target {
    let arm = |deployment: String, hash: Option<&str>| ArmTarget {
        deployment,
        pod_template_hash: hash.map(str::to_owned),
    };
    Target {
        namespace: namespace.to_owned(),
        port: 50051,
        canary: arm(format!("{service}-canary"), Some("c1")),
        stable: arm(service.to_owned(), None),
        thresholds_ms: vec![500],
        extra_failure_codes: vec![],
        codes_apart: vec![],
        services: vec![service.to_owned(), format!("{service}-canary")],
        scrape_interval: SignedDuration::from_secs(10),
        began: at(0),
        custom: vec![backends(namespace, service)],
    }
}

/// Scrapes up to the second 300, of what grows by so much a second.
fn grows(a_second: u64) -> Vec<(i64, u64)> {
    (0i64..=30)
        .map(|t| (t * 10_000, t.unsigned_abs() * 10 * a_second))
        .collect()
}

/// A pod for each arm of a target; the canary's fails a tenth of its calls.
fn pods(target: &Target) -> Vec<Stored> {
    let namespace = target.namespace.as_str();
    let mut all = Vec::new();
    for (arm, hash) in [(&target.canary, "c1"), (&target.stable, "s1")] {
        let pod = format!("{}-0", arm.deployment);
        let proxy = [
            ("namespace", namespace),
            ("deployment", &arm.deployment),
            ("pod_template_hash", hash),
            ("pod", &pod),
        ];
        let mut add = |name: &str, more: &[(&str, &str)], a_second: u64| {
            let labels: Vec<_> = proxy.iter().chain(more).copied().collect();
            all.push(Stored::new(name, &labels, &grows(a_second)));
        };
        let inbound = [("direction", "inbound"), ("srv_port", "50051")];
        let ended = |how| [inbound[0], inbound[1], ("classification", how)];
        add("proxy_build_info", &[], 0);
        add("response_total", &ended("success"), 9);
        let bad = u64::from(arm.deployment == target.canary.deployment);
        add("response_total", &ended("failure"), bad);
        for le in ["500", "+Inf"] {
            add(
                "response_latency_ms_bucket",
                &[inbound[0], inbound[1], ("le", le)],
                9 + bad,
            );
        }
    }
    all
}

/// So many targets, ten in each namespace, and all that there is to see of them.
fn many(count: usize) -> (Vec<Target>, Store) {
    let name = |i: usize| (format!("ns-{}", i / 10), format!("svc-{i}"));
    let targets: Vec<_> = (0..count).map(name).map(|(ns, svc)| target(&ns, &svc)).collect();
    let store = Store(targets.iter().flat_map(pods).collect());
    (targets, store)
}

/// The canary's calls and failures in a tick.
fn calls(ticks: &[Tick]) -> (u64, u64) {
    let counts = &ticks.last().unwrap().canary.counts;
    (counts.requests, counts.failures)
}

/// All of them at once look at the time `now`, and have judged everything up to `since`.
async fn look(
    prometheus: &Prometheus,
    targets: &[Target],
    (since, now): (i64, i64),
) -> Vec<Result<Vec<Tick>, SampleError>> {
    let looks = targets
        .iter()
        .map(|target| prometheus.ticks_since(target, (at(since), at(now)), (INTERVAL, Turn::Later)));
    join_all(looks).await
}

fn asked_since(asked: &Asked, before: &mut usize) -> usize {
    let now = asked.lock().unwrap().len();
    now - std::mem::replace(before, now)
}

#[tokio::test]
async fn a_thousand_targets_are_a_handful_of_queries_an_interval() {
    let (targets, store) = many(1_000);
    let (prometheus, asked) = prometheus(move |form| store.reply(form)).await;
    let mut before = 0;
    // Nothing is due yet: that they are on trial is all that is said.
    assert!(
        look(&prometheus, &targets, (95, 100))
            .await
            .iter()
            .all(|t| t.as_ref().is_ok_and(Vec::is_empty))
    );
    assert_eq!(asked_since(&asked, &mut before), 0);

    // The first to ask asks for all.
    let first = prometheus
        .ticks_since(&targets[0], (at(95), at(130)), (INTERVAL, Turn::Later))
        .await
        .unwrap();
    assert_eq!(calls(&first), (200, 20));
    assert_eq!(
        asked_since(&asked, &mut before),
        8 * 3,
        "how large they are was not known"
    );
    for answer in look(&prometheus, &targets, (95, 130)).await {
        assert_eq!(calls(&answer.unwrap()), (200, 20));
    }
    assert_eq!(asked_since(&asked, &mut before), 0, "all were answered already");

    // All come at once.
    for answer in look(&prometheus, &targets, (120, 150)).await {
        let ticks = answer.unwrap();
        assert_eq!((ticks.len(), calls(&ticks)), (1, (200, 20)));
    }
    let queries = asked_since(&asked, &mut before);
    assert!(queries <= 6, "{queries}");
}

#[tokio::test]
async fn those_who_catch_up_with_the_same_ticks_do_it_together() {
    let (targets, store) = many(30);
    let (prometheus, asked) = prometheus(move |form| store.reply(form)).await;
    for answer in look(&prometheus, &targets, (100, 210)).await {
        let ticks = answer.unwrap();
        assert_eq!((ticks.len(), calls(&ticks)), (5, (200, 20)));
    }
    assert_eq!(asked.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn those_who_missed_a_few_more_ticks_are_asked_for_with_the_others_and_get_their_own() {
    let (targets, store) = many(30);
    let (prometheus, asked) = prometheus(move |form| store.reply(form)).await;
    let missed = |i: usize| if i == 0 { 5 } else { i % 3 + 1 };
    let looks = targets.iter().enumerate().map(|(i, target)| {
        let since = at(200 - 20 * i64::try_from(missed(i)).unwrap());
        prometheus.ticks_since(target, (since, at(210)), (INTERVAL, Turn::Later))
    });
    for (i, answer) in join_all(looks).await.into_iter().enumerate() {
        let ticks = answer.unwrap();
        assert_eq!((ticks.len(), calls(&ticks)), (missed(i), (200, 20)));
    }
    // One missed so many that the others would wait for it.
    assert_eq!(asked.lock().unwrap().len(), 2 * 3);
}

#[tokio::test]
async fn looks_that_came_to_nothing_find_their_ticks_when_they_are_made_again() {
    let (targets, store) = many(30);
    let (prometheus, asked) = prometheus(move |form| store.reply(form)).await;
    let mut before = 0;
    for (now, ticks, queries) in [(130, 1, 3), (130, 1, 0), (170, 3, 3), (170, 3, 0)] {
        for answer in look(&prometheus, &targets, (100, now)).await {
            let told = answer.unwrap();
            assert_eq!((told.len(), calls(&told)), (ticks, (200, 20)));
            assert!(told.is_sorted_by_key(|tick| tick.start));
        }
        assert_eq!(asked_since(&asked, &mut before), queries, "at {now}");
    }
}

#[tokio::test]
async fn another_interval_or_scrape_is_a_question_of_its_own() {
    let (mut targets, store) = many(2);
    targets[1].scrape_interval = SignedDuration::from_secs(5);
    let (prometheus, asked) = prometheus(move |form| store.reply(form)).await;
    assert!(look(&prometheus, &targets, (100, 130)).await.iter().all(Result::is_ok));
    assert_eq!(asked.lock().unwrap().len(), 6);
}

/// It refuses every question that has this in it.
fn but(store: &Store, poison: &str, form: &str) -> Reply {
    if form.contains(poison) {
        let error = json!({"status": "error", "errorType": "execution", "error": "too many samples"});
        return (StatusCode::UNPROCESSABLE_ENTITY, error.to_string());
    }
    store.reply(form)
}

#[tokio::test]
async fn one_target_that_cannot_be_answered_blinds_nobody_else_and_is_asked_for_alone_from_then_on() {
    let (targets, store) = many(200);
    let (prometheus, asked) = prometheus(move |form| but(&store, "svc-137-canary", form)).await;
    let mut before = 0;
    let is_right = |answers: Vec<Result<Vec<Tick>, SampleError>>| {
        for (i, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok(ticks) => assert_eq!(calls(&ticks), (200, 20)),
                Err(error) => assert_eq!(
                    (i, error.to_string().contains("too many samples")),
                    (137, true),
                    "{error}"
                ),
            }
        }
    };
    is_right(look(&prometheus, &targets, (100, 130)).await);
    let first = asked_since(&asked, &mut before);
    assert!(first <= 5 * 33, "{first}");
    let mut good = targets.clone();
    good.remove(137);
    assert_eq!(
        look(&prometheus, &good, (120, 150))
            .await
            .iter()
            .filter(|a| a.is_err())
            .count(),
        0
    );
    let _ = asked_since(&asked, &mut before);
    is_right(look(&prometheus, &targets, (120, 150)).await);
    let second = asked_since(&asked, &mut before);
    assert!(second <= 10, "{second}");
}

#[tokio::test]
async fn a_server_that_refuses_everything_is_asked_a_bounded_number_of_times_for_all() {
    let (targets, store) = many(300);
    let (prometheus, asked) = prometheus(move |form| but(&store, "", form)).await;
    assert!(look(&prometheus, &targets, (100, 130)).await.iter().all(Result::is_err));
    let queries = asked.lock().unwrap().len();
    assert!(queries <= 5 * 34, "{queries}");
}

#[tokio::test]
async fn a_server_that_is_away_is_called_once_for_all() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let metrics = crate::metrics::Metrics::default();
    let prometheus = Prometheus::new(&url).unwrap().with_metrics(metrics.clone());
    let (targets, _) = many(100);
    assert!(look(&prometheus, &targets, (100, 130)).await.iter().all(Result::is_err));
    let counted = "serin_query_duration_seconds_count{outcome=\"Unreachable\"} ";
    let text = metrics.text();
    let count = text.split(counted).nth(1).and_then(|rest| rest.lines().next());
    assert!(
        count.is_some_and(|count| count.parse::<usize>().unwrap() <= 5),
        "{text}"
    );
}

#[tokio::test]
async fn servers_share_nothing() {
    let (targets, store) = many(3);
    let well = store.clone();
    let (sick, _) = prometheus(move |form| but(&store, "", form)).await;
    let (well, _) = prometheus(move |form| well.reply(form)).await;
    assert!(look(&sick, &targets, (100, 130)).await.iter().all(Result::is_err));
    assert!(look(&well, &targets, (100, 130)).await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_series_without_the_bound_of_one_target_is_that_targets_error() {
    let (mut targets, store) = many(3);
    targets[1].thresholds_ms = vec![300];
    let (prometheus, _) = prometheus(move |form| store.reply(form)).await;
    let answers = look(&prometheus, &targets, (100, 130)).await;
    assert!(answers[0].is_ok() && answers[2].is_ok());
    assert!(
        answers[1]
            .as_ref()
            .is_err_and(|error| error.to_string().contains("300ms")),
        "{answers:?}"
    );
}
