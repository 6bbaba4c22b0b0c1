//! Clients of the API, over real sockets, of a table that is given as values.

mod discovery;
mod refused;

use std::{net::Ipv4Addr, sync::Arc};

use linkerd2_proxy_api::{
    destination::{DestinationProfile, GetDestination, Update, destination_client::DestinationClient},
    inbound::{PortSpec, Server as InboundServer, inbound_server_policies_client::InboundServerPoliciesClient},
    meta::{Metadata, metadata},
    outbound::{
        OutboundPolicy, TrafficSpec, backend::endpoint_discovery, failure_accrual, grpc_route, http_route,
        outbound_policies_client::OutboundPoliciesClient, proxy_protocol, traffic_spec,
    },
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    time::{Duration, timeout},
};
use tonic::{Code, Streaming, transport::Channel};

use super::Api;
use crate::{
    kubelet::sidecar::INJECT_ANNOTATION,
    mesh::{
        fabric::Fabric,
        profile::Profile,
        route::{Kind, Route},
        table::Objects,
    },
};

const SOON: Duration = Duration::from_secs(10);
const APEX: &str = "web.shop.svc.cluster.local:80";

/// A mesh of one Service with two arms, and its API.
struct World {
    fabric: Arc<Fabric>,
    objects: Objects,
    channel: Channel,
    _api: Api,
}

fn pod(arm: &str, ip: [u8; 4], changes: &Value) -> Arc<k8s_openapi::api::core::v1::Pod> {
    let mut pod = json!({
        "metadata": {
            "name": format!("{arm}-5d8f-abcde"), "namespace": "shop", "uid": arm,
            "labels": {"arm": arm, "pod-template-hash": "5d8f"}, "annotations": {INJECT_ANNOTATION: "enabled"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{arm}-5d8f"), "uid": "r", "controller": true,
            }],
        },
        "spec": {"serviceAccountName": "web", "containers": [{
            "name": "a", "ports": [{"name": "grpc", "containerPort": 50051}, {"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
        }]},
        "status": {"podIP": Ipv4Addr::from(ip).to_string(), "conditions": [{"type": "Ready", "status": "True"}]},
    });
    for (pointer, value) in changes.as_object().into_iter().flatten() {
        *pod.pointer_mut(pointer).unwrap() = value.clone();
    }
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn service(name: &str, arm: &str, ip: &str, more: &Value) -> Arc<k8s_openapi::api::core::v1::Service> {
    let mut port = json!({"port": 80, "targetPort": "grpc"});
    if let Some(protocol) = more.get("appProtocol") {
        port["appProtocol"] = protocol.clone();
    }
    let object = json!({
        "metadata": {"name": name, "namespace": "shop", "annotations": more.get("annotations")},
        "spec": {"selector": {"arm": arm}, "clusterIP": ip, "ports": [port]},
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

fn split(stable: u32, canary: u32) -> Value {
    json!([{"backendRefs": [
        {"name": "web-stable", "namespace": "shop", "port": 80, "weight": stable},
        {"name": "web-canary", "namespace": "shop", "port": 80, "weight": canary},
    ]}])
}

impl World {
    async fn new() -> Self {
        let fabric = Fabric::new(None);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let api = Api::start(&fabric, listener, None).unwrap();
        let channel = Channel::from_shared(format!("http://{}", api.address())).unwrap();
        let mut world = Self {
            fabric,
            objects: Objects::default(),
            channel: channel.connect_lazy(),
            _api: api,
        };
        world.objects.services = vec![
            service("web", "stable", "10.96.0.1", &json!({})),
            service("web-stable", "stable", "10.96.0.2", &json!({})),
            service("web-canary", "canary", "10.96.0.3", &json!({})),
        ];
        world.objects.pods = vec![
            pod("stable", [10, 0, 0, 1], &json!({})),
            pod("canary", [10, 0, 0, 2], &json!({})),
        ];
        world.publish();
        world
    }

    fn publish(&self) {
        self.fabric.publish(&self.objects);
    }

    fn set_route(&mut self, kind: Kind, rules: &Value) {
        let parent = json!({"kind": "Service", "group": "core", "name": "web", "port": 80});
        let spec = json!({"parentRefs": [parent], "rules": rules});
        self.objects.routes = vec![Route::read(kind, "shop", "web-route", "", &spec).unwrap()];
        self.publish();
    }

    fn set_profile(&mut self, namespace: &str, spec: &Value) {
        let profile = Profile::read(namespace, "web.shop.svc.cluster.local", spec);
        self.objects.profiles = profile.into_iter().collect();
        self.publish();
    }

    fn outbound(&self) -> OutboundPoliciesClient<Channel> {
        OutboundPoliciesClient::new(self.channel.clone())
    }

    async fn watch(&self, target: traffic_spec::Target) -> Streaming<OutboundPolicy> {
        self.outbound().watch(traffic(Some(target))).await.unwrap().into_inner()
    }

    async fn policy(&self) -> OutboundPolicy {
        let spec = traffic(Some(authority(APEX)));
        self.outbound().get(spec).await.unwrap().into_inner()
    }

    fn destination(&self) -> DestinationClient<Channel> {
        DestinationClient::new(self.channel.clone())
    }

    async fn endpoints(&self, path: &str) -> Streaming<Update> {
        self.destination().get(asking(path, "")).await.unwrap().into_inner()
    }

    async fn profile(&self, path: &str, token: &str) -> Streaming<DestinationProfile> {
        self.destination()
            .get_profile(asking(path, token))
            .await
            .unwrap()
            .into_inner()
    }

    async fn port(&self, workload: &str, port: u32) -> Result<InboundServer, Code> {
        let workload = workload.to_owned();
        let spec = PortSpec { workload, port };
        let mut client = InboundServerPoliciesClient::new(self.channel.clone());
        client
            .get_port(spec)
            .await
            .map(tonic::Response::into_inner)
            .map_err(|status| status.code())
    }
}

fn authority(authority: &str) -> traffic_spec::Target {
    traffic_spec::Target::Authority(authority.to_owned())
}

fn address(ip: [u8; 4], port: u16) -> traffic_spec::Target {
    traffic_spec::Target::Addr(std::net::SocketAddr::from((ip, port)).into())
}

fn traffic(target: Option<traffic_spec::Target>) -> TrafficSpec {
    TrafficSpec {
        source_workload: "{\"ns\":\"shop\", \"pod\":\"client\"}\n".to_owned(),
        target,
    }
}

fn asking(path: &str, token: &str) -> GetDestination {
    GetDestination {
        scheme: "k8s".to_owned(),
        path: path.to_owned(),
        context_token: token.to_owned(),
    }
}

async fn next<T>(stream: &mut Streaming<T>) -> T {
    let message = timeout(SOON, stream.message()).await.expect("nothing came");
    message.unwrap().expect("the stream has ended")
}

fn routes(
    policy: &OutboundPolicy,
) -> (
    Vec<linkerd2_proxy_api::outbound::GrpcRoute>,
    Option<failure_accrual::Kind>,
) {
    match policy
        .protocol
        .as_ref()
        .and_then(|protocol| protocol.kind.clone())
        .unwrap()
    {
        proxy_protocol::Kind::Grpc(grpc) => (grpc.routes, grpc.failure_accrual.and_then(|accrual| accrual.kind)),
        other => panic!("{other:?}"),
    }
}

fn http_routes(policy: &OutboundPolicy) -> Vec<linkerd2_proxy_api::outbound::HttpRoute> {
    match policy
        .protocol
        .as_ref()
        .and_then(|protocol| protocol.kind.clone())
        .unwrap()
    {
        proxy_protocol::Kind::Detect(detect) => detect.http2.unwrap().routes,
        proxy_protocol::Kind::Http2(http2) => http2.routes,
        other => panic!("{other:?}"),
    }
}

/// The backends of each rule by where their endpoints are found, with their weights; `fail` where a share fails.
fn weights(policy: &OutboundPolicy) -> Vec<Vec<(String, u32)>> {
    let (routes, _) = routes(policy);
    let rules = routes.iter().flat_map(|route| &route.rules);
    rules
        .map(|rule| match rule.backends.as_ref().unwrap().kind.as_ref().unwrap() {
            grpc_route::distribution::Kind::RandomAvailable(all) => all
                .backends
                .iter()
                .map(|weighted| {
                    let backend = weighted.backend.as_ref().unwrap();
                    let place = backend.backend.as_ref().and_then(found_at);
                    assert_eq!(place.is_some(), backend.filters.is_empty(), "{backend:?}");
                    (place.unwrap_or_else(|| "fail".to_owned()), weighted.weight)
                })
                .collect(),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn found_at(backend: &linkerd2_proxy_api::outbound::Backend) -> Option<String> {
    use linkerd2_proxy_api::outbound::backend::Kind as Backend;
    let Some(Backend::Balancer(balancer)) = &backend.kind else {
        return None;
    };
    match balancer.discovery.as_ref()?.kind.as_ref()? {
        endpoint_discovery::Kind::Dst(dst) => Some(dst.path.clone()),
    }
}

fn arms(stable: u32, canary: u32) -> Vec<Vec<(String, u32)>> {
    let at = |name: &str| format!("{name}.shop.svc.cluster.local:80");
    vec![vec![(at("web-stable"), stable), (at("web-canary"), canary)]]
}

fn resource(metadata: Option<&Metadata>) -> (String, String, String) {
    match metadata.and_then(|metadata| metadata.kind.clone()).unwrap() {
        metadata::Kind::Resource(resource) => (resource.group, resource.kind, resource.name),
        metadata::Kind::Default(name) => (String::new(), "default".to_owned(), name),
    }
}

#[tokio::test]
async fn a_watch_sees_each_change_of_weights_in_order_and_both_of_them() {
    let mut world = World::new().await;
    let steps = [(100, 0), (95, 5), (75, 25), (50, 50), (1, 99_999), (100, 0)];
    world.set_route(Kind::Grpc, &split(100, 0));
    let mut by_name = world.watch(authority(APEX)).await;
    let mut by_address = world.watch(address([10, 96, 0, 1], 80)).await;
    // Nothing is read meanwhile, so whoever kept only the latest would show only that.
    for (stable, canary) in steps {
        world.set_route(Kind::Grpc, &split(stable, canary));
        // What does not concern the Service is not told.
        world.objects.pods.pop();
        world.publish();
    }
    for stream in [&mut by_name, &mut by_address] {
        for (stable, canary) in steps {
            let policy = next(stream).await;
            assert_eq!(weights(&policy), arms(stable, canary));
            let parent = ("core".to_owned(), "Service".to_owned(), "web".to_owned());
            assert_eq!(resource(policy.metadata.as_ref()), parent);
            let (routes, _) = routes(&policy);
            let route = (
                "gateway.networking.k8s.io".to_owned(),
                "GRPCRoute".to_owned(),
                "web-route".to_owned(),
            );
            assert_eq!(resource(routes[0].metadata.as_ref()), route);
        }
    }
    world.fabric.stop();
    assert!(
        by_name.message().await.unwrap().is_none(),
        "with the mesh its streams end"
    );
}

#[tokio::test]
async fn what_the_api_tells_is_the_policy_that_the_labs_own_proxies_obey() {
    let mut world = World::new().await;
    world.objects.services[0] = service(
        "web",
        "stable",
        "10.96.0.1",
        &json!({"annotations": {
            "balancer.linkerd.io/failure-accrual": "consecutive",
            "balancer.linkerd.io/failure-accrual-consecutive-max-failures": "3",
        }}),
    );
    let mut rules = split(90, 10);
    rules.as_array_mut().unwrap().push(json!({
        "matches": [{"method": {"service": "a.B", "method": "C"}, "headers": [{"name": "x-canary", "value": "always"}]}],
        "backendRefs": [{"name": "web-canary", "port": 80}, {"name": "nobody", "port": 80, "weight": 3}],
    }));
    world.set_route(Kind::Grpc, &rules);
    let policy = world.policy().await;
    let mut all = arms(90, 10);
    all.push(vec![
        ("web-canary.shop.svc.cluster.local:80".to_owned(), 1),
        ("fail".to_owned(), 3),
    ]);
    assert_eq!(weights(&policy), all);
    let (routes, accrual) = routes(&policy);
    assert_eq!(routes.len(), 1, "one object is one route");
    let matched = &routes[0].rules[1].matches[0];
    let rpc = matched.rpc.as_ref().unwrap();
    assert_eq!((rpc.service.as_str(), rpc.method.as_str()), ("a.B", "C"));
    assert_eq!(matched.headers[0].name, "x-canary");
    match accrual.unwrap() {
        failure_accrual::Kind::ConsecutiveFailures(failures) => assert_eq!(failures.max_failures, 3),
        failure_accrual::Kind::Unified(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_http_route_and_a_service_without_routes_are_told_as_http() {
    let mut world = World::new().await;
    let routes = http_routes(&world.policy().await);
    assert_eq!(
        resource(routes[0].metadata.as_ref()),
        (String::new(), "default".to_owned(), "http".to_owned())
    );
    match routes[0].rules[0].backends.as_ref().unwrap().kind.as_ref().unwrap() {
        http_route::distribution::Kind::FirstAvailable(first) => {
            let backend = first.backends[0].backend.as_ref().unwrap();
            assert_eq!(found_at(backend).unwrap(), APEX);
        }
        other => panic!("{other:?}"),
    }
    for kind in [Kind::Http, Kind::Policy] {
        world.set_route(kind, &split(80, 20));
        let policy = world.policy().await;
        let routes = http_routes(&policy);
        let named = (kind.group().to_owned(), "HTTPRoute".to_owned(), "web-route".to_owned());
        assert_eq!(resource(routes[0].metadata.as_ref()), named);
        match routes[0].rules[0].backends.as_ref().unwrap().kind.as_ref().unwrap() {
            http_route::distribution::Kind::RandomAvailable(all) => {
                let weights: Vec<_> = all.backends.iter().map(|backend| backend.weight).collect();
                assert_eq!(weights, [80, 20]);
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            policy.protocol.unwrap().kind,
            Some(proxy_protocol::Kind::Detect(_))
        ));
    }
    // A port that says what it speaks leaves nothing to detect.
    let http2 = json!({"appProtocol": "kubernetes.io/h2c"});
    world.objects.services[0] = service("web", "stable", "10.96.0.1", &http2);
    world.publish();
    let kind = world.policy().await.protocol.unwrap().kind;
    assert!(matches!(kind, Some(proxy_protocol::Kind::Http2(_))), "{kind:?}");
}
