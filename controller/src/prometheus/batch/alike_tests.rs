//! Whatever a server holds, asking together and asking alone give the same ticks.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::SignedDuration;
use proptest::prelude::*;
use serin_core::analysis::Tick;

use super::question::{Subject, queries};
use super::sorting::Sorting;
use super::tests::{at, target};
use crate::linkerd::promql;
use crate::prometheus::answer::{Series, decode};
use crate::prometheus::own::{Own, Pair};
use crate::prometheus::raw::Raw;
use crate::prometheus::stand_in::{Store, Stored, matrix};
use crate::prometheus::target::{Seen, Span, Target};
use crate::prometheus::{ArmTarget, CustomQuery, PairQuery};

/// A tick, or what is wrong with it: bounds that no proxy has are an error, alone as together.
type Told = Result<Tick, String>;

fn told(target: &Target, seen: &Seen, ticks: &[Span]) -> Vec<Told> {
    let tick = |tick: &Span| target.tick(seen, *tick).map_err(|error| error.to_string());
    ticks.iter().map(tick).collect()
}

/// What counting one target alone gives, by the questions for one arm.
fn alone(store: &Store, target: &Target, ticks: &[Span]) -> Vec<Told> {
    let (start, end) = (ticks[0].0, ticks[ticks.len() - 1].1);
    let window = end.duration_since(start) + target.lookback();
    let ask = |selector: &str| -> Vec<Series> {
        let (_, body) = matrix(&store.select(&promql::over(selector, window), end.as_millisecond()));
        decode(body.as_bytes()).unwrap()
    };
    let arm = |arm: &ArmTarget| -> Vec<Series> {
        let answers = target.queries(arm, window).into_iter();
        let answers = answers.map(|query| matrix(&store.select(&query, end.as_millisecond())).1);
        answers.flat_map(|body| decode(body.as_bytes()).unwrap()).collect()
    };
    let pair = |query: &PairQuery| Pair {
        bad: query.bad.iter().flat_map(|selector| ask(selector)).collect(),
        total: query.total.iter().flat_map(|selector| ask(selector)).collect(),
    };
    let own = target.custom.iter().map(|one| match &one.query {
        CustomQuery::Counts { canary, stable } => Own::Counts {
            canary: pair(canary),
            stable: pair(stable),
        },
        _ => panic!("it asks for counts only"),
    });
    let services: Vec<&str> = target.services.iter().map(String::as_str).collect();
    let seen = Seen {
        canary: arm(&target.canary),
        stable: arm(&target.stable),
        clients: ask(&promql::outbound_requests(&target.namespace, &services, target.port)),
        own: own.collect(),
    };
    told(target, &seen, ticks)
}

/// What counting them together gives, and with somebody who missed so many seconds more.
fn together(store: &Store, targets: &[Arc<Target>], ticks: &[Span], more: i64) -> Vec<Vec<Told>> {
    let (start, end) = (ticks[0].0, ticks[ticks.len() - 1].1);
    let lookback = targets[0].lookback();
    let window = end.duration_since(start) + lookback + SignedDuration::from_secs(more);
    let mut sorting = Sorting::new(targets);
    let mut subjects = BTreeSet::new();
    for (subject, query) in queries(targets, window) {
        subjects.insert(subject as usize);
        for series in store.select(&query, end.as_millisecond()).as_array().unwrap() {
            sorting.take(subject, &Raw::read(series.to_string().as_bytes()).unwrap());
        }
    }
    assert!(subjects.contains(&(Subject::Backends as usize)));
    let sorted = sorting.finish().into_iter();
    sorted
        .zip(targets)
        .map(|(mut one, target)| {
            one.seen.cut(start - lookback);
            told(target, &one.seen, ticks)
        })
        .collect()
}

/// Labels of which every combination may be seen, and more than any target asks for.
fn stored() -> impl Strategy<Value = Stored> {
    let pick = |all: &'static [&'static str]| prop::sample::select(all);
    let whose = (
        pick(&["a", "b"]),
        pick(&["web", "web-canary", "api"]),
        pick(&["c1", "c2", ""]),
        pick(&["p0", "p1"]),
        pick(&["", "r1"]),
    );
    let what = (
        pick(&[
            "proxy_build_info",
            "process_start_time_seconds",
            "response_total",
            "response_latency_ms_bucket",
            "request_total",
            "outbound_grpc_route_backend_response_statuses_total",
            "outbound_http_route_backend_response_statuses_total",
        ]),
        pick(&["500", "500.0", "100", "1000", "+Inf"]),
        pick(&["50051", "8080"]),
        pick(&["success", "failure"]),
        pick(&["0", "14", "12", ""]),
        pick(&["", "probe", "default"]),
        pick(&["inbound", "inbound", "outbound"]),
    );
    let scrapes = prop::collection::vec((3i64..14, 0u64..30, 0u8..12), 1..30);
    (whose, what, scrapes).prop_map(
        |((ns, deployment, hash, pod, replica), (name, le, port, how, code, route, direction), scrapes)| {
            let (mut at, mut value, mut samples) = (20_000, 0, Vec::new());
            for (gap, grown, luck) in scrapes {
                at += gap * 1_000 + 7;
                value = if luck == 0 { grown } else { value + grown };
                samples.push((at, value));
            }
            let scraped = [
                ("namespace", ns),
                ("deployment", deployment),
                ("pod_template_hash", hash),
                ("pod", pod),
            ];
            let mut labels: Vec<(&str, &str)> = scraped.to_vec();
            labels.push(("prometheus_replica", replica));
            match name {
                "response_total" | "response_latency_ms_bucket" => {
                    labels.extend([
                        ("direction", direction),
                        ("srv_port", port),
                        ("route_name", route),
                        ("client_id", code),
                    ]);
                    if name == "response_total" {
                        labels.extend([("classification", how), ("grpc_status", code), ("status_code", "200")]);
                    } else {
                        labels.push(("le", le));
                    }
                }
                "request_total" => labels.extend([
                    ("direction", "outbound"),
                    ("dst_namespace", ns),
                    ("dst_service", deployment),
                    ("target_port", port),
                    ("dst_deployment", deployment),
                    ("dst_pod_template_hash", hash),
                ]),
                _ if name.starts_with("outbound") => {
                    let status = if how == "failure" { "UNAVAILABLE" } else { "OK" };
                    labels.extend([
                        ("parent_kind", "Service"),
                        ("parent_namespace", ns),
                        ("parent_name", if route == "probe" { "api" } else { "web" }),
                        ("backend_namespace", ns),
                        (
                            "backend_name",
                            if deployment == "web" {
                                "web-stable"
                            } else {
                                "web-canary"
                            },
                        ),
                        ("grpc_status", if route.is_empty() { "" } else { status }),
                        ("error", if route.is_empty() { how } else { "" }),
                        ("zone", code),
                    ]);
                }
                _ => {}
            }
            Stored::new(name, &labels, &samples)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn ticks_of_many_asked_for_together_are_the_ticks_asked_for_alone(
        all in prop::collection::vec(stored(), 0..160), ticks in 1i64..4, more in prop::sample::select(vec![0, 20, 60]),
        bounds in prop::sample::select(vec![vec![500], vec![1000, 100]])
    ) {
        // A server has each series once.
        let mut labels = BTreeSet::new();
        let store = Store(all.into_iter().filter(|one| labels.insert(one.labels.clone())).collect());
        let ticks: Vec<_> = (0..ticks).map(|i| (at(100 + i * 20), at(120 + i * 20))).collect();
        let of = |namespace: &str, service: &str, port: u16, hash: &str| {
            let mut target = target(namespace, service);
            target.port = port;
            target.canary.pod_template_hash = Some(hash.to_owned());
            target
        };
        let mut targets = vec![
            of("a", "web", 50051, "c1"),
            of("b", "web", 8080, "c2"),
            of("a", "api", 50051, "c1"),
            of("a", "web", 50051, "c2"),
        ];
        targets[1].thresholds_ms = bounds;
        targets[2].services.clear();
        targets[3].extra_failure_codes = vec![12];
        let targets: Vec<_> = targets.into_iter().map(Arc::new).collect();
        for (target, got) in targets.iter().zip(together(&store, &targets, &ticks, more)) {
            prop_assert_eq!(got, alone(&store, target, &ticks));
        }
    }
}
