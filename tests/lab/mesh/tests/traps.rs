//! The traps of Linkerd: each shown first, as calls and counters of the mesh, and then Serin's answer, by the very route that it
//! writes, the queries that it asks and the test that it applies. What the preflight says of them stands in the end-to-end stories.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serin::{
    api::RouteKindSpec,
    linkerd::promql::{self, Arm},
    traffic::{Kind as Written, RouteSpec},
};
use serin_core::{
    Weight,
    analysis::{Deviation, Following, Sent, Sides, Streams},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::*;
use crate::mesh::profile::Profile;

/// The route that Serin writes for a weight.
fn serins(kind: Written, percent: i64) -> Value {
    let spec = RouteSpec {
        kind,
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        adopted: false,
        apex: "web".to_owned(),
        port: 80,
        stable_service: "web-stable".to_owned(),
        canary_service: "web-canary".to_owned(),
        testers: None,
        owner: OwnerReference::default(),
    };
    kind.generated(&spec, Weight::try_from(percent).unwrap())
}

impl World {
    fn set_serins(&mut self, kind: Kind, written: Written, percent: i64) {
        let object = serins(written, percent);
        let route = Route::read(kind, "shop", "web", "", &object["spec"]).unwrap();
        self.objects.routes = vec![route];
        self.fabric.publish(&self.objects);
    }

    /// So many calls, and who answered them; `None` for those that failed.
    async fn answers(&self, calls: usize) -> BTreeMap<Option<String>, usize> {
        let client = self.connect();
        let mut answers = BTreeMap::new();
        for _ in 0..calls {
            *answers.entry(list(&client).await.ok()).or_default() += 1;
        }
        answers
    }

    /// What a query of Serin's finds in the counters of one pod's proxy, with the labels that the scrape adds.
    async fn found(&self, ip: Ipv4Addr, deployment: &str, query: &str) -> u64 {
        let (name, matchers) = query.trim_end_matches('}').split_once('{').unwrap();
        let matchers: Vec<_> = labels(matchers);
        let samples = self.samples(ip, &[&format!("{name}{{")]).await;
        let holds = |series: &str| {
            let (_, of) = series.trim_end_matches('}').split_once('{').unwrap();
            let mut has: BTreeMap<_, _> = labels(of).into_iter().map(|(label, _, value)| (label, value)).collect();
            for (label, value) in [
                ("namespace", "shop"),
                ("deployment", deployment),
                ("pod_template_hash", "5d8f"),
            ] {
                has.insert(label.to_owned(), value.to_owned());
            }
            matchers.iter().all(|(label, operator, value)| {
                let is = has.get(label).map_or("", String::as_str);
                match operator.as_str() {
                    "=" => is == value,
                    "!=" => is != value,
                    // Alternatives of literals; the only other thing is how a bound may be spelled.
                    "=~" => value
                        .split('|')
                        .any(|one| is == one.replace("(\\\\.0)?", "").replace("\\\\", "")),
                    other => panic!("Serin asks with {other}, which this test can't read"),
                }
            })
        };
        let found = samples.iter().filter(|(series, _)| holds(series));
        found.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
    }

    /// The arm's calls, as Serin counts them.
    async fn responses(&self, ip: Ipv4Addr, arm: &str, failures: bool) -> u64 {
        let query = promql::inbound_responses(of(arm), PORT);
        let query = if failures {
            query.replace('}', ",classification=\"failure\"}")
        } else {
            query
        };
        self.found(ip, arm, &query).await
    }

    /// What Serin makes of where the client's proxy sent the calls.
    async fn deviation(&self, percent: i64) -> Option<Deviation> {
        let query = promql::outbound_requests("shop", &["web", "web-stable", "web-canary"], PORT);
        let to = |arm: &str| query.replace('}', &format!(",dst_deployment=\"{arm}\"}}"));
        let sent = Sent {
            canary: self.found(self.client, "client", &to("canary")).await,
            stable: self.found(self.client, "client", &to("stable")).await,
        };
        let mut following = Following::default();
        following.observe(sent, Weight::try_from(percent).unwrap(), Sides::Both, 4);
        following.deviation()
    }

    /// Answers that have begun and not ended, as Serin counts them.
    async fn open(&self, ip: Ipv4Addr, arm: &str) -> u64 {
        let begun = promql::inbound_latency(of(arm), PORT, &[]).replace("le=~\"\\\\+Inf\"", "le=\"+Inf\"");
        self.found(ip, arm, &begun).await - self.responses(ip, arm, false).await
    }
}

fn of(arm: &str) -> Arm<'_> {
    Arm {
        namespace: "shop",
        deployment: arm,
        pod_template_hashes: &["5d8f"],
    }
}

/// Labels or matchers: a name, an operator, a value. No value of them has a comma after a quote.
fn labels(text: &str) -> Vec<(String, String, String)> {
    let one = |label: &str| {
        let (name, value) = label.split_once('"')?;
        let end = name.find(['=', '!'])?;
        let (name, operator) = name.split_at(end);
        Some((
            name.to_owned(),
            operator.to_owned(),
            value.trim_end_matches('"').to_owned(),
        ))
    };
    text.split("\",").filter_map(one).collect()
}

fn only(who: &str, calls: usize) -> BTreeMap<Option<String>, usize> {
    [(Some(who.to_owned()), calls)].into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_backend_of_weight_zero_gets_everything_so_serin_always_names_both() {
    let mut world = World::new();
    let _arms = world.arms(Code::Ok, Code::Ok).await;
    let alone = json!([{"backendRefs": [{"name": "web-canary", "port": 80, "weight": 0}]}]);
    world.set_route(Kind::Grpc, &alone);
    assert_eq!(world.answers(50).await, only("canary", 50));
    for (kind, written) in [
        (Kind::Grpc, Written::GrpcRoute),
        (Kind::Http, Written::HttpRoute),
        (Kind::Policy, Written::PolicyHttpRoute),
    ] {
        world.set_serins(kind, written, 0);
        assert_eq!(world.answers(50).await, only("stable", 50), "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_all_zeros_a_rollback_is_ignored_so_serin_never_writes_them() {
    let mut world = World::new();
    let _arms = world.arms(Code::Ok, Code::Ok).await;
    world.set_route(Kind::Grpc, &split(0, 100));
    assert_eq!(world.answers(5).await, only("canary", 5));
    world.set_route(Kind::Grpc, &split(0, 0));
    world.set_route(Kind::Grpc, &split(100, 0));
    assert_eq!(world.answers(20).await, only("canary", 20), "the rollback does nothing");

    let mut world = World::new();
    let _arms = world.arms(Code::Ok, Code::Ok).await;
    for percent in (0..=100).rev() {
        world.set_serins(Kind::Grpc, Written::GrpcRoute, percent);
        if percent % 20 == 10 {
            world.answers(2).await;
        }
    }
    assert_eq!(world.answers(20).await, only("stable", 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_makes_the_route_inert_and_serin_sees_that_no_traffic_follows() {
    let mut world = World::new();
    let _arms = world.arms(Code::Ok, Code::Ok).await;
    let routes = json!({"routes": [{"name": "all", "condition": {"pathRegex": ".*"}}]});
    world.objects.profiles = vec![Profile::read("shop", "web.shop.svc.cluster.local", &routes).unwrap()];
    world.set_serins(Kind::Grpc, Written::GrpcRoute, 50);
    assert_eq!(world.answers(60).await, only("stable", 60));
    // Without the profile the destination in use stays as it is.
    world.objects.profiles.clear();
    world.fabric.publish(&world.objects);
    assert_eq!(world.answers(20).await, only("stable", 20));
    let deviation = world.deviation(50).await.expect("80 calls of which none followed");
    assert_eq!((deviation.sent.canary, deviation.sent.stable), (0, 80));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_route_takes_an_http_routes_calls_and_serin_sees_it() {
    let mut world = World::new();
    let _arms = world.arms(Code::Ok, Code::Ok).await;
    world.set_serins(Kind::Http, Written::HttpRoute, 50);
    world.objects.routes.push(route(Kind::Grpc, &split(100, 0)));
    world.fabric.publish(&world.objects);
    assert_eq!(world.answers(60).await, only("stable", 60));
    assert!(world.deviation(50).await.is_some());
    // That is why it writes a GRPCRoute unless it is told otherwise.
    assert_eq!(RouteKindSpec::default(), RouteKindSpec::GrpcRoute);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_share_of_a_missing_service_fails_unseen_by_the_backends_name_and_serin_misses_the_calls() {
    let mut world = World::new();
    let _arms = world.arms(Code::Ok, Code::Ok).await;
    world
        .objects
        .services
        .retain(|service| service.metadata.name.as_deref() != Some("web-canary"));
    world.set_serins(Kind::Grpc, Written::GrpcRoute, 50);
    let answers = world.answers(100).await;
    let failed = answers.get(&None).copied().unwrap_or_default();
    assert!((25..=75).contains(&failed), "{answers:?}");
    let by_name = "outbound_grpc_route_backend_response_statuses_total{backend_name=\"web-canary\"}";
    assert_eq!(world.found(world.client, "client", by_name).await, 0);
    assert!(world.deviation(50).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn fast_failures_make_latency_look_better_and_serin_counts_them_as_failures() {
    let mut world = World::new();
    let _arms = world.arms(Code::Ok, Code::Unavailable).await;
    let client = world.connect();
    let late = async || {
        let request = GetUserRequest { id: "late".to_owned() };
        drop(client.clone().get_user(request).await);
    };
    world.set_serins(Kind::Grpc, Written::GrpcRoute, 0);
    for _ in 0..6 {
        late().await;
    }
    world.set_route(Kind::Grpc, &split(0, 100));
    for _ in 0..3 {
        late().await;
        list(&client).await.unwrap_err();
    }
    let within = async |ip: Ipv4Addr, arm: &str| {
        let bucket = format!("response_latency_ms_bucket{{direction=\"inbound\",srv_port=\"{PORT}\",le=\"50\"}}");
        world.found(ip, arm, &bucket).await
    };
    let (stable, canary) = (
        within(world.stable, "stable").await,
        within(world.canary, "canary").await,
    );
    assert!(
        stable < canary,
        "of 6 calls each: {stable} of stable, {canary} of the canary are fast"
    );
    assert_eq!(world.responses(world.canary, "canary", true).await, 6);
    assert_eq!(world.responses(world.stable, "stable", true).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_first_frame_was_fast_is_fast_however_long_it_takes() {
    let mut world = World::new();
    let _arms = world.arms(Code::Ok, Code::Ok).await;
    world.set_serins(Kind::Grpc, Written::GrpcRoute, 0);
    let stream = world.watch_health().await;
    let all = "response_latency_ms_bucket{direction=\"inbound\",srv_port=\"50051\",le=\"+Inf\"}";
    assert_eq!(world.found(world.stable, "stable", all).await, 1);
    assert_eq!(world.responses(world.stable, "stable", false).await, 0, "it goes on");
    drop(stream);
}

#[tokio::test(flavor = "multi_thread")]
async fn scrapes_count_as_inbound_calls_and_serin_asks_for_the_services_port_only() {
    let mut world = World::new();
    let _arms = world.arms(Code::Ok, Code::Ok).await;
    world.set_serins(Kind::Grpc, Written::GrpcRoute, 0);
    world.answers(3).await;
    for _ in 0..5 {
        world.samples(world.stable, &[]).await;
    }
    let any = "response_total{direction=\"inbound\"}";
    assert!(world.found(world.stable, "stable", any).await >= 8);
    assert_eq!(world.responses(world.stable, "stable", false).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_an_http_route_clients_see_200_and_serin_asks_the_servers_too() {
    let mut world = World::new();
    let _arms = world.arms(Code::Ok, Code::Internal).await;
    world.set_serins(Kind::Http, Written::HttpRoute, 100);
    world.answers(20).await;
    let ok = "outbound_http_route_backend_response_statuses_total{http_status=\"200\"}";
    assert_eq!(world.found(world.client, "client", ok).await, 20);
    let failed = world.responses(world.canary, "canary", true).await;
    assert!(failed >= 19, "{failed} of 20 failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tripped_breaker_hides_a_bad_canary_and_serin_misses_the_calls() {
    let mut world = World::new();
    let _arms = world.arms(Code::Ok, Code::Unavailable).await;
    // On an arm's Service it does nothing.
    world.annotate("web-canary");
    world.set_serins(Kind::Grpc, Written::GrpcRoute, 50);
    let answers = world.answers(100).await;
    assert!(answers[&None] >= 25, "{answers:?}");

    let mut world = World::new();
    let _arms = world.arms(Code::Ok, Code::Unavailable).await;
    world.annotate("web");
    world.set_serins(Kind::Grpc, Written::GrpcRoute, 50);
    let answers = world.answers(100).await;
    // Three in a row trip it, for a minute.
    assert_eq!(answers[&None], 3, "{answers:?}");
    assert!(world.deviation(50).await.is_some(), "97 % look fine");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_in_flight_stay_where_they_are_and_serin_counts_them_as_old() {
    let mut world = World::new();
    let _arms = world.arms(Code::Ok, Code::Ok).await;
    world.set_serins(Kind::Grpc, Written::GrpcRoute, 0);
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(world.watch_health().await);
    }
    world.set_serins(Kind::Grpc, Written::GrpcRoute, 100);
    let answers = world.answers(20).await;
    assert_eq!(answers, only("canary", 20), "calls that begin go by the weight");
    streams.push(world.watch_health().await);
    let open = Streams {
        canary: world.open(world.canary, "canary").await,
        stable: world.open(world.stable, "stable").await,
    };
    assert_eq!(open, Streams { canary: 1, stable: 4 });
    assert_eq!(open.old(Weight::FULL), 4);
    drop(streams);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_full_weight_dead_canary_pods_fail_no_call_as_serin_leaves_one_on_stable() {
    let mut world = World::new();
    let (_stable, canary) = world.arms(Code::Ok, Code::Ok).await;
    // Nothing is left on stable: the proxies have nowhere to go.
    world.set_route(Kind::Grpc, &split(0, 100_000));
    world.answers(5).await;
    drop(canary);
    let answers = world.answers(5).await;
    assert_eq!(answers.get(&None), Some(&5), "{answers:?}");

    world.set_serins(Kind::Grpc, Written::GrpcRoute, 100);
    // Each retry of the connection may cost the call that makes it nothing at all.
    assert_eq!(world.answers(200).await, only("stable", 200));
    world.set_ready(true, false);
    assert_eq!(world.answers(50).await, only("stable", 50));
}

impl World {
    fn annotate(&mut self, service: &str) {
        for object in &mut self.objects.services {
            if object.metadata.name.as_deref() == Some(service) {
                let annotations = [
                    ("balancer.linkerd.io/failure-accrual", "consecutive"),
                    ("balancer.linkerd.io/failure-accrual-consecutive-max-failures", "3"),
                    ("balancer.linkerd.io/failure-accrual-consecutive-min-penalty", "60s"),
                ];
                let owned = annotations.map(|(key, value)| (key.to_owned(), value.to_owned()));
                Arc::make_mut(object).metadata.annotations = Some(owned.into());
            }
        }
    }

    /// A stream that goes on; its first message has come.
    async fn watch_health(&self) -> tonic::Streaming<tonic_health::pb::HealthCheckResponse> {
        let proxy = Endpoint::from_shared(format!("http://{}:{}", self.client, crate::mesh::OUTBOUND_PORT)).unwrap();
        let origin = "http://web.shop.svc.cluster.local:80".parse().unwrap();
        let mut health = HealthClient::new(proxy.origin(origin).connect_lazy());
        let request = HealthCheckRequest { service: String::new() };
        let mut stream = health.watch(request).await.unwrap().into_inner();
        stream.message().await.unwrap();
        stream
    }
}
