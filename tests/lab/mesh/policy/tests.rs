//! Which backends calls get, drawn many times.

use rand::{SeedableRng as _, rngs::SmallRng};
use serde_json::{Value, json};

use super::*;
use crate::mesh::route::Kind;

fn service(name: &str) -> ServicePort {
    ServicePort {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        port: 80,
    }
}

fn route(kind: Kind, name: &str, rules: &Value) -> Route {
    let parent = json!({"kind": "Service", "group": "core", "name": "web", "port": 80});
    Route::read(kind, "shop", name, "", &json!({"parentRefs": [parent], "rules": rules})).unwrap()
}

fn backend(name: &str, weight: u32) -> Value {
    json!({"name": name, "port": 80, "weight": weight})
}

fn policy(routes: &[Route]) -> Policy {
    let routes: Vec<_> = routes.iter().collect();
    Policy::new(&service("web"), &routes, |s| s.name != "missing")
}

fn weighted(stable: u32, canary: u32) -> Policy {
    let rule = json!([{"backendRefs": [backend("stable", stable), backend("canary", canary)]}]);
    policy(&[route(Kind::Grpc, "r", &rule)])
}

fn name(backend: &Backend) -> String {
    match &backend.target {
        Target::Service(service) => service.name.clone(),
        Target::Missing(_) => "fail".to_owned(),
    }
}

fn shares(policy: &Policy, calls: u32, available: impl Fn(&ServicePort) -> bool + Copy) -> Vec<(String, u32)> {
    let mut rng = SmallRng::seed_from_u64(7);
    let mut counts = std::collections::BTreeMap::new();
    let rule = policy.rule("/a.B/C", &HeaderMap::new()).unwrap();
    for _ in 0..calls {
        let got = match rule.choose(&mut rng, available) {
            Choice::Take(backend) => name(backend),
            Choice::Wait(backend) => format!("wait for {}", name(backend)),
            Choice::Nothing => "nothing".to_owned(),
        };
        *counts.entry(got).or_default() += 1;
    }
    counts.into_iter().collect()
}

fn only(name: &str, calls: u32) -> Vec<(String, u32)> {
    vec![(name.to_owned(), calls)]
}

#[test]
fn weights_are_obeyed_within_binomial_bounds() {
    let counts = shares(&weighted(90, 10), 10_000, |_| true);
    // Four standard deviations around 1,000.
    assert!((880..=1_120).contains(&counts[0].1), "{counts:?}");
    assert_eq!(counts[0].1 + counts[1].1, 10_000);
}

#[test]
fn an_unready_backends_share_goes_to_the_others() {
    assert_eq!(
        shares(&weighted(10, 90), 100, |s| s.name != "canary"),
        only("stable", 100)
    );
}

#[test]
fn an_unready_backends_share_never_goes_to_one_of_weight_zero() {
    let counts = shares(&weighted(100, 0), 100, |s| s.name != "stable");
    assert_eq!(counts, only("wait for stable", 100));
}

#[test]
fn a_single_backend_gets_everything_even_at_weight_zero() {
    let rules = json!([{"backendRefs": [backend("canary", 0)]}]);
    let policy = policy(&[route(Kind::Grpc, "r", &rules)]);
    assert_eq!(shares(&policy, 100, |_| true), only("canary", 100));
    assert!(!policy.is_poison());
}

#[test]
fn all_zero_weights_are_poison() {
    assert!(weighted(0, 0).is_poison());
    assert!(!weighted(1, 0).is_poison());
}

#[test]
fn a_missing_services_share_fails() {
    let rules = json!([{"backendRefs": [backend("stable", 50), backend("missing", 50)]}]);
    let counts = shares(&policy(&[route(Kind::Grpc, "r", &rules)]), 1_000, |_| true);
    assert_eq!(counts[0].0, "fail");
    assert!((430..=570).contains(&counts[0].1), "{counts:?}");
}

#[test]
fn a_grpc_route_beats_an_http_route() {
    let to = |name: &str| json!([{"backendRefs": [backend(name, 1)]}]);
    let policy = policy(&[route(Kind::Http, "a", &to("http")), route(Kind::Grpc, "b", &to("grpc"))]);
    assert_eq!(shares(&policy, 10, |_| true), only("grpc", 10));
}

#[test]
fn a_header_match_goes_before_a_rule_without() {
    let rules = json!([
        {"backendRefs": [backend("stable", 1)]},
        {"matches": [{"headers": [{"name": "x-canary", "value": "1"}]}], "backendRefs": [backend("canary", 1)]},
    ]);
    let policy = policy(&[route(Kind::Grpc, "r", &rules)]);
    let mut headers = HeaderMap::new();
    let to = |headers: &HeaderMap| name(&policy.rule("/a.B/C", headers).unwrap().backends[0]);
    assert_eq!(to(&headers), "stable");
    headers.insert("x-canary", "1".parse().unwrap());
    assert_eq!(to(&headers), "canary");
}

#[test]
fn without_a_route_calls_go_to_the_service_itself() {
    assert_eq!(shares(&policy(&[]), 10, |_| true), only("web", 10));
}

#[test]
fn a_service_is_called_by_long_and_short_names() {
    for authority in ["web.shop.svc.cluster.local:80", "web.shop.svc:80", "web.shop", "web:80"] {
        assert_eq!(
            ServicePort::parse(authority, "shop"),
            Some(service("web")),
            "{authority}"
        );
    }
    for authority in ["127.0.0.1:80", "example.com.:80", "a.b.c:80", "web:port"] {
        assert_eq!(ServicePort::parse(authority, "shop"), None, "{authority}");
    }
}
