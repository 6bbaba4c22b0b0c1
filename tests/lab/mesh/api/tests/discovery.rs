//! What servers and their endpoints are told to be.

use std::collections::BTreeMap;

use linkerd2_proxy_api::{
    destination::{Update, WeightedAddr, tls_identity, update},
    inbound::{
        PortSpec, Server as InboundServer, authn, inbound_server_policies_client::InboundServerPoliciesClient,
        proxy_protocol as inbound_protocol,
    },
};
use serde_json::json;

use super::{APEX, World, next, pod, resource};

#[tokio::test]
async fn endpoints_come_and_go_with_what_names_them() {
    let mut world = World::new().await;
    let mut stream = world.endpoints("web-canary.shop.svc.cluster.local:80").await;
    let added = |update: Update| match update.update {
        Some(update::Update::Add(set)) => set,
        other => panic!("{other:?}"),
    };
    let set = added(next(&mut stream).await);
    assert_eq!(set.metric_labels["service"], "web-canary");
    let [only] = set.addrs.as_slice() else {
        panic!("{set:?}")
    };
    let WeightedAddr {
        addr,
        weight,
        metric_labels,
        tls_identity,
        protocol_hint,
        ..
    } = only.clone();
    assert_eq!(
        std::net::SocketAddr::try_from(addr.unwrap()).unwrap().to_string(),
        "10.0.0.2:50051"
    );
    assert_eq!(weight, 10_000);
    let labels: BTreeMap<_, _> = metric_labels
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let named = [
        ("control_plane_ns", "linkerd"),
        ("deployment", "canary"),
        ("pod", "canary-5d8f-abcde"),
        ("pod_template_hash", "5d8f"),
        ("serviceaccount", "web"),
        ("zone", ""),
        ("zone_locality", "unknown"),
    ];
    assert_eq!(labels, named.into());
    let name = tls_identity::Strategy::DnsLikeIdentity(tls_identity::DnsLikeIdentity {
        name: "web.shop.serviceaccount.identity.linkerd.cluster.local".to_owned(),
    });
    assert_eq!(tls_identity.unwrap().strategy, Some(name));
    assert!(protocol_hint.unwrap().protocol.is_some());

    world.objects.pods.push(pod("canary", [10, 0, 0, 3], &json!({})));
    world.publish();
    assert_eq!(
        added(next(&mut stream).await).addrs.len(),
        1,
        "only the new one is told"
    );
    world.objects.pods[1] = pod(
        "canary",
        [10, 0, 0, 2],
        &json!({"/status/conditions/0/status": "False"}),
    );
    world.publish();
    match next(&mut stream).await.update {
        Some(update::Update::Remove(set)) => {
            let gone: Vec<_> = set
                .addrs
                .into_iter()
                .map(|addr| std::net::SocketAddr::try_from(addr).unwrap())
                .collect();
            assert_eq!(gone, ["10.0.0.2:50051".parse().unwrap()]);
        }
        other => panic!("{other:?}"),
    }
    // One that is not in the mesh has no identity.
    world.objects.pods[1] = pod("canary", [10, 0, 0, 4], &json!({"/metadata/annotations": {}}));
    world.publish();
    let outside = added(next(&mut stream).await).addrs.remove(0);
    assert_eq!((outside.tls_identity, outside.protocol_hint), (None, None));
}

#[tokio::test]
async fn a_profile_on_the_apex_appears_and_goes_and_the_clients_own_goes_first() {
    let mut world = World::new().await;
    let mut stream = world.profile(APEX, "{\"ns\":\"clients\"}\n").await;
    let mut by_address = world.profile("10.96.0.1:80", "").await;
    let none = next(&mut stream).await;
    assert_eq!(none.fully_qualified_name, "web.shop.svc.cluster.local");
    assert!(none.routes.is_empty() && none.dst_overrides.is_empty() && none.profile_ref.is_none());
    assert_eq!(next(&mut by_address).await, none);

    let route = json!({"name": "all", "condition": {"pathRegex": ".*"}, "isRetryable": true});
    world.set_profile("shop", &json!({"routes": [route]}));
    let found = next(&mut stream).await;
    assert!(found.routes[0].is_retryable);
    let named = (
        "linkerd.io".to_owned(),
        "ServiceProfile".to_owned(),
        "web.shop.svc.cluster.local".to_owned(),
    );
    assert_eq!(resource(found.profile_ref.as_ref()), named);
    assert_eq!(next(&mut by_address).await, found);

    let over =
        |name: &str, weight: u32| json!({"authority": format!("{name}.shop.svc.cluster.local"), "weight": weight});
    world.set_profile(
        "clients",
        &json!({"dstOverrides": [over("web-stable", 7), over("web-canary", 3)]}),
    );
    let found = next(&mut stream).await;
    let overrides: Vec<_> = found
        .dst_overrides
        .iter()
        .map(|dst| (dst.authority.as_str(), dst.weight))
        .collect();
    let (stable, canary) = (
        "web-stable.shop.svc.cluster.local:80",
        "web-canary.shop.svc.cluster.local:80",
    );
    assert_eq!(overrides, [(stable, 70_000), (canary, 30_000)]);
    assert_eq!(next(&mut by_address).await, none, "it is for clients of its namespace");

    world.objects.profiles.clear();
    world.publish();
    assert_eq!(next(&mut stream).await, none);
}

#[tokio::test]
async fn a_pod_that_is_called_by_its_address_is_its_own_endpoint() {
    let world = World::new().await;
    let mut stream = world.profile("10.0.0.2:50051", "").await;
    let found = next(&mut stream).await;
    assert_eq!(found.fully_qualified_name, "");
    let endpoint = found.endpoint.unwrap();
    assert_eq!(endpoint.metric_labels["pod"], "canary-5d8f-abcde");
    assert!(endpoint.tls_identity.is_some());
}

#[tokio::test]
async fn servers_let_in_what_their_pod_says_and_probes_always() {
    let mut world = World::new().await;
    let permits = |server: &InboundServer| -> Vec<authn::Permit> {
        let all = server.authorizations.iter();
        all.map(|authz| authz.authentication.clone().unwrap().permit.unwrap())
            .collect()
    };
    let routes = |server: &InboundServer| -> Vec<String> {
        match server.protocol.clone().unwrap().kind.unwrap() {
            inbound_protocol::Kind::Detect(detect) => detect
                .http_routes
                .iter()
                .map(|route| resource(route.metadata.as_ref()).2)
                .collect(),
            other => panic!("{other:?}"),
        }
    };
    let server = world.port("shop:stable-5d8f-abcde", 50_051).await.unwrap();
    assert_eq!(server.labels["name"], "all-unauthenticated");
    assert!(matches!(permits(&server)[..], [authn::Permit::Unauthenticated(_)]));
    assert_eq!(routes(&server), ["default"]);
    let probed = world
        .port("{\"ns\":\"shop\",\"pod\":\"stable-5d8f-abcde\"}", 8080)
        .await
        .unwrap();
    assert_eq!(routes(&probed), ["default", "probe"]);

    let spec = PortSpec {
        workload: "shop:stable-5d8f-abcde".to_owned(),
        port: 8080,
    };
    let mut client = InboundServerPoliciesClient::new(world.channel.clone());
    let mut stream = client.watch_port(spec).await.unwrap().into_inner();
    assert_eq!(next(&mut stream).await, probed);
    let strict = json!({"/metadata/annotations": {"config.linkerd.io/default-inbound-policy": "all-authenticated"}});
    world.objects.pods[0] = pod("stable", [10, 0, 0, 1], &strict);
    world.publish();
    let server = next(&mut stream).await;
    assert_eq!(server.labels["name"], "all-authenticated");
    assert!(matches!(permits(&server)[..], [authn::Permit::MeshTls(_)]));
    assert_eq!(routes(&server), ["default", "probe"]);
    world.objects.pods.clear();
    world.publish();
    assert!(stream.message().await.unwrap().is_none(), "the pod is gone");
}
