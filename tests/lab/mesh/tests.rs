//! The data path with real sockets, real gRPC servers, and a table that is given as values.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};
use user_proto::{GetUserRequest, ListUsersRequest, user_service_client::UserServiceClient};

use super::{
    fabric::Fabric,
    route::{Kind, Route},
    table::Objects,
};
use crate::{
    kubelet::sidecar::{INJECT_ANNOTATION, PodInfo},
    mesh::stub::Stub,
    net::Net,
    prometheus::PROXY_METRICS_PORT,
    wait::eventually,
};

mod traps;

const PORT: u16 = 50_051;
/// What a proxy has to begin.
const STARTED: Duration = Duration::from_secs(10);

/// A client, two arms, and a mesh around them.
struct World {
    net: Net,
    fabric: Arc<Fabric>,
    objects: Objects,
    client: Ipv4Addr,
    stable: Ipv4Addr,
    canary: Ipv4Addr,
}

impl Drop for World {
    fn drop(&mut self) {
        self.fabric.stop();
    }
}

fn pod(arm: &str, ip: Ipv4Addr, ready: bool) -> Pod {
    let object = json!({
        "metadata": {
            "name": format!("{arm}-5d8f-abcde"), "namespace": "shop", "uid": arm,
            "labels": {"arm": arm, "pod-template-hash": "5d8f"}, "annotations": {INJECT_ANNOTATION: "enabled"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{arm}-5d8f"), "uid": "r", "controller": true,
            }],
        },
        "spec": {"containers": [{"name": "a", "ports": [{"name": "grpc", "containerPort": PORT}]}]},
        "status": {
            "podIP": ip.to_string(),
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
        },
    });
    serde_json::from_value(object).unwrap()
}

fn route(kind: Kind, rules: &Value) -> Route {
    let parent = json!({"kind": "Service", "group": "core", "name": "web", "port": 80});
    Route::read(
        kind,
        "shop",
        "web",
        "",
        &json!({"parentRefs": [parent], "rules": rules}),
    )
    .unwrap()
}

fn split(stable: u32, canary: u32) -> Value {
    json!([{"backendRefs": [
        {"name": "web-stable", "namespace": "shop", "port": 80, "weight": stable},
        {"name": "web-canary", "namespace": "shop", "port": 80, "weight": canary},
    ]}])
}

impl World {
    fn new() -> Self {
        crate::install_crypto();
        let net = Net::choose().unwrap();
        let fabric = Fabric::new(Some(7));
        let [client, stable, canary] = [(); 3].map(|()| net.pod_address());
        for (arm, ip) in [("client", client), ("stable", stable), ("canary", canary)] {
            fabric.start_proxy(&PodInfo::new(&pod(arm, ip, true), ip), super::OUTBOUND_PORT);
        }
        let mut world = Self {
            net,
            fabric,
            objects: Objects::default(),
            client,
            stable,
            canary,
        };
        let service = |name: &str, arm: &str| {
            let object = json!({
                "metadata": {"name": name, "namespace": "shop"},
                "spec": {"selector": {"arm": arm}, "ports": [{"port": 80, "targetPort": "grpc"}]},
            });
            Arc::new(serde_json::from_value(object).unwrap())
        };
        world.objects.services = vec![
            service("web", "stable"),
            service("web-stable", "stable"),
            service("web-canary", "canary"),
        ];
        world.set_ready(true, true);
        world
    }

    fn set_ready(&mut self, stable: bool, canary: bool) {
        let pods = [pod("stable", self.stable, stable), pod("canary", self.canary, canary)];
        self.objects.pods = pods.map(Arc::new).to_vec();
        self.fabric.publish(&self.objects);
    }

    fn set_route(&mut self, kind: Kind, rules: &Value) {
        self.objects.routes = vec![route(kind, rules)];
        self.fabric.publish(&self.objects);
    }

    async fn arms(&self, stable: Code, canary: Code) -> (Stub, Stub) {
        let start = |ip: Ipv4Addr, revision, code| Stub::start(SocketAddr::from((ip, PORT)), revision, code);
        (
            start(self.stable, "stable", stable).await,
            start(self.canary, "canary", canary).await,
        )
    }

    fn connect(&self) -> UserServiceClient<Channel> {
        let proxy = Endpoint::from_shared(format!("http://{}:{}", self.client, super::OUTBOUND_PORT)).unwrap();
        let origin = "http://web.shop.svc.cluster.local:80".parse().unwrap();
        UserServiceClient::new(proxy.origin(origin).connect_lazy())
    }

    /// The samples of a pod's proxy that have all these words.
    async fn samples(&self, ip: Ipv4Addr, words: &[&str]) -> Vec<(String, String)> {
        let url = format!("http://{ip}:{PROXY_METRICS_PORT}/metrics");
        // One that was just started listens a moment later.
        let answer = eventually("the proxy answers", STARTED, async || Ok(reqwest::get(&url).await?)).await;
        let text = answer.unwrap().text().await.unwrap();
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples
            .filter(|line| words.iter().all(|word| line.contains(word)))
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').unwrap();
                (name.to_owned(), value.to_owned())
            })
            .collect()
    }

    /// The sum of these counters.
    async fn sum(&self, ip: Ipv4Addr, words: &[&str]) -> u64 {
        let samples = self.samples(ip, words).await;
        samples.iter().map(|(_, value)| value.parse::<u64>().unwrap()).sum()
    }
}

async fn list(client: &UserServiceClient<Channel>) -> Result<String, Status> {
    call(client, Request::new(ListUsersRequest::default())).await
}

/// Who answered.
async fn call(client: &UserServiceClient<Channel>, request: Request<ListUsersRequest>) -> Result<String, Status> {
    let response = client.clone().list_users(request).await?;
    Ok(response
        .metadata()
        .get("x-served-by-revision")
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_are_obeyed_and_both_views_count_what_was_served() {
    let mut world = World::new();
    world.set_route(Kind::Grpc, &split(80, 20));
    let (stable, canary) = world.arms(Code::Ok, Code::Unavailable).await;
    let client = world.connect();
    let calls = (0..1_000).map(|_| list(&client));
    let mut failures = 0;
    for answer in futures::future::join_all(calls).await {
        match answer {
            Ok(who) => assert_eq!(who, "stable"),
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable);
                assert_eq!(status.metadata().get("x-served-by-revision").unwrap(), "canary");
                failures += 1;
            }
        }
    }
    // Four standard deviations around 200.
    assert!((150..=250).contains(&failures), "{failures}");
    let (served, failed) = (
        stable.calls.load(Ordering::Relaxed),
        canary.calls.load(Ordering::Relaxed),
    );
    assert_eq!((served, failed), (1_000 - failures, failures));

    let ok = r#"classification="success",grpc_status="0",error="""#;
    let unavailable = r#"classification="failure",grpc_status="14",error="""#;
    let inbound = r#"srv_port="50051""#;
    let to_stable = r#"dst_deployment="stable""#;
    let to_canary = r#"authority="web-canary.shop.svc.cluster.local:80""#;
    for (ip, words, count) in [
        (world.stable, ["response_total{", inbound, ok], served),
        (world.canary, ["response_total{", inbound, unavailable], failed),
        (world.canary, ["request_total{", inbound, ""], failed),
        (
            world.canary,
            ["response_latency_ms_bucket{", inbound, "le=\"+Inf\""],
            failed,
        ),
        (world.client, ["response_total{", to_stable, ok], served),
        (world.client, ["response_total{", to_canary, unavailable], failed),
    ] {
        assert_eq!(world.sum(ip, &words).await, count, "{words:?}");
    }
    let statuses = "outbound_grpc_route_backend_response_statuses_total{";
    let words = [
        statuses,
        "backend_name=\"web-canary\"",
        "grpc_status=\"UNAVAILABLE\",error=\"\"",
    ];
    assert_eq!(world.sum(world.client, &words).await, failed);
    let words = [
        "outbound_grpc_route_request_statuses_total{",
        "grpc_status=\"OK\",error=\"\"",
    ];
    assert_eq!(world.sum(world.client, &words).await, served);
    assert_eq!(
        world
            .sum(world.client, &["outbound_grpc_route_backend_requests_total{"])
            .await,
        served + failed
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_sends_a_call_to_the_canary() {
    let mut world = World::new();
    let mut rules = split(100, 0);
    rules.as_array_mut().unwrap().push(json!({
        "matches": [{"headers": [{"name": "x-canary", "value": "always"}]}],
        "backendRefs": [{"name": "web-canary", "port": 80}],
    }));
    world.set_route(Kind::Grpc, &rules);
    let _arms = world.arms(Code::Ok, Code::Ok).await;
    let client = world.connect();
    for _ in 0..20 {
        assert_eq!(list(&client).await.unwrap(), "stable");
        let mut request = Request::new(ListUsersRequest::default());
        request.metadata_mut().insert("x-canary", "always".parse().unwrap());
        assert_eq!(call(&client, request).await.unwrap(), "canary");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unready_or_unreachable_canarys_share_goes_to_stable() {
    let mut world = World::new();
    world.set_route(Kind::Grpc, &split(10, 90));
    let (_stable, canary) = world.arms(Code::Ok, Code::Ok).await;
    let client = world.connect();
    world.set_ready(true, false);
    for _ in 0..50 {
        assert_eq!(list(&client).await.unwrap(), "stable");
    }
    world.set_ready(true, true);
    while list(&client).await.unwrap() != "canary" {}
    // It dies, and is still ready as far as anybody knows.
    drop(canary);
    let mut failed = 0;
    for _ in 0..200 {
        failed += u32::from(list(&client).await.is_err());
    }
    assert!(failed <= 2, "{failed} calls failed though stable was there");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_endpoint_a_call_fails_soon_and_shows_as_an_error_of_its_backend() {
    let mut world = World::new();
    // The one of weight 0 is ready, and gets nothing.
    world.set_route(Kind::Grpc, &split(0, 100));
    let _arms = world.arms(Code::Ok, Code::Ok).await;
    world.set_ready(true, false);
    let status = list(&world.connect()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let words = [
        "outbound_grpc_route_backend_response_statuses_total{",
        "web-canary",
        "error=\"FAIL_FAST\"",
    ];
    assert_eq!(world.sum(world.client, &words).await, 1);
    assert_eq!(
        world
            .sum(world.client, &["response_total{", "direction=\"outbound\""])
            .await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_services_share_fails_under_the_name_fail() {
    let mut world = World::new();
    world.set_route(Kind::Grpc, &json!([{"backendRefs": [{"name": "nobody", "port": 80}]}]));
    let status = list(&world.connect()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let words = [
        "outbound_grpc_route_backend_response_statuses_total{",
        r#"backend_kind="default",backend_namespace="",backend_name="fail""#,
        r#"grpc_status="UNAVAILABLE",error="""#,
    ];
    assert_eq!(world.sum(world.client, &words).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_an_http_route_a_grpc_failure_shows_as_200() {
    let mut world = World::new();
    world.set_route(Kind::Http, &split(0, 100));
    let _arms = world.arms(Code::Ok, Code::Internal).await;
    list(&world.connect()).await.unwrap_err();
    let words = [
        "outbound_http_route_backend_response_statuses_total{",
        "route_kind=\"HTTPRoute\"",
        "http_status=\"200\"",
    ];
    assert_eq!(world.sum(world.client, &words).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_route_calls_go_to_the_service_and_new_weights_act_at_once() {
    let mut world = World::new();
    let _arms = world.arms(Code::Ok, Code::Ok).await;
    let client = world.connect();
    assert_eq!(list(&client).await.unwrap(), "stable");
    assert_eq!(
        world
            .sum(
                world.client,
                &["outbound_http_route_request_statuses_total{", "route_kind=\"default\""]
            )
            .await,
        1
    );
    for (stable, canary, who) in [(0, 100, "canary"), (100, 0, "stable")] {
        world.set_route(Kind::Grpc, &split(stable, canary));
        assert_eq!(list(&client).await.unwrap(), who);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_the_client_gives_up_reaches_the_server_as_a_cancel_and_is_no_failure() {
    let mut world = World::new();
    world.set_route(Kind::Grpc, &split(100, 0));
    let _arms = world.arms(Code::Ok, Code::Ok).await;
    let mut client = world.connect();
    let slow = client.get_user(GetUserRequest { id: "slow".to_owned() });
    assert!(tokio::time::timeout(Duration::from_millis(200), slow).await.is_err());
    let words = [
        "outbound_grpc_route_backend_response_statuses_total{",
        "grpc_status=\"UNKNOWN\",error=\"\"",
    ];
    let end = tokio::time::Instant::now() + Duration::from_secs(10);
    while world.sum(world.client, &words).await < 1 {
        assert!(tokio::time::Instant::now() < end, "the cancel was not counted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(
        world
            .sum(world.stable, &["response_total{", "srv_port=\"50051\""])
            .await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_pods_proxy_answers_nobody_and_a_new_one_counts_from_zero() {
    let mut world = World::new();
    world.set_route(Kind::Grpc, &split(100, 0));
    let _arms = world.arms(Code::Ok, Code::Ok).await;
    let client = world.connect();
    list(&client).await.unwrap();
    world.fabric.stop_proxy(world.client);
    list(&client).await.unwrap_err();
    let own = PodInfo::new(&pod("client", world.client, true), world.client);
    world.fabric.start_proxy(&own, super::OUTBOUND_PORT);
    assert_eq!(world.sum(world.client, &["outbound"]).await, 0);
    list(&client).await.unwrap();
    assert!(world.net.number() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxys_own_port_counts_as_inbound() {
    let world = World::new();
    world.samples(world.client, &[]).await;
    let samples = world
        .samples(world.client, &["response_total{", "srv_port=\"4191\""])
        .await;
    assert_eq!(samples.len(), 1);
    assert_eq!(samples[0].1, "1");
    let labels = r#"status_code="200",classification="success",grpc_status="",error="""#;
    assert!(samples[0].0.contains(labels), "{}", samples[0].0);
}

/// What a real proxy showed, by name: the labels of each series, in their order, and the bounds.
fn shapes(text: &str) -> std::collections::BTreeMap<String, std::collections::BTreeSet<Vec<String>>> {
    let mut shapes = std::collections::BTreeMap::<_, std::collections::BTreeSet<_>>::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (name, rest) = line
            .split_once('{')
            .unwrap_or((line.split(' ').next().unwrap_or(""), ""));
        let labels = rest.rsplit_once('}').map_or("", |(labels, _)| labels);
        // No value of a label has a comma with a quote before it.
        let mut shape: Vec<String> = labels
            .split("\",")
            .filter_map(|label| Some(label.split_once('=')?.0.to_owned()))
            .collect();
        if let Some((_, bound)) = labels.split_once("le=\"") {
            shape.push(bound.split('"').next().unwrap_or_default().to_owned());
        }
        shapes.entry(name.to_owned()).or_default().insert(shape);
    }
    shapes
}

/// Names, labels, their order and the histograms' bounds are those of a real proxy, wherever that one showed the metric.
#[tokio::test]
async fn the_metrics_look_as_those_of_a_real_proxy() {
    let mut world = World::new();
    world.set_route(Kind::Grpc, &split(50, 50));
    let _arms = world.arms(Code::Ok, Code::Unavailable).await;
    let client = world.connect();
    for _ in 0..40 {
        let _ = list(&client).await;
    }
    let real = shapes(include_str!("../../fixtures/linkerd-proxy-scrape.txt"));
    let mut compared = 0;
    for ip in [world.client, world.canary] {
        let url = format!("http://{ip}:{PROXY_METRICS_PORT}/metrics");
        // The second look shows the first one, which came in on the proxy's own port.
        reqwest::get(&url).await.unwrap().text().await.unwrap();
        let text = reqwest::get(&url).await.unwrap().text().await.unwrap();
        // Except for what says that this is no real proxy.
        for (name, shapes) in shapes(&text).into_iter().filter(|(name, _)| name != "proxy_build_info") {
            let Some(known) = real.get(&name) else { continue };
            for mut shape in shapes {
                // The real one ran without an identity service, so it could not say who called.
                for label in shape.iter_mut().filter(|label| *label == "client_id") {
                    "no_tls_reason".clone_into(label);
                }
                assert!(known.contains(&shape), "{name}{shape:?} is none of {known:#?}");
                compared += 1;
            }
        }
    }
    assert!(compared > 100, "only {compared} series could be compared");
}
