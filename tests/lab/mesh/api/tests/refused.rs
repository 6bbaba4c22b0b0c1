//! What is not there, and how that is said.

use linkerd2_proxy_api::{
    destination::DestinationProfile,
    outbound::{TrafficSpec, proxy_protocol},
};
use tonic::Code;

use super::{APEX, World, address, asking, authority, next, traffic};

#[tokio::test]
async fn what_is_not_there_is_refused_with_linkerds_codes() {
    let world = World::new().await;
    for (target, code) in [
        (None, Code::InvalidArgument),
        (Some(authority("nobody.shop.svc.cluster.local:80")), Code::NotFound),
        (Some(authority("example.com:443")), Code::NotFound),
        (Some(address([10, 96, 0, 9], 80)), Code::NotFound),
        (Some(address([10, 96, 0, 1], 0)), Code::InvalidArgument),
    ] {
        let got = world.outbound().get(traffic(target.clone())).await;
        assert_eq!(got.unwrap_err().code(), code, "{target:?}");
        let watched = world.outbound().watch(traffic(target.clone())).await;
        assert_eq!(watched.unwrap_err().code(), code, "{target:?}");
    }
    let nobody = TrafficSpec {
        source_workload: "nobody".to_owned(),
        target: Some(authority(APEX)),
    };
    assert_eq!(
        world.outbound().get(nobody).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    for (path, code) in [
        ("web.shop:80", Code::InvalidArgument),
        ("10.96.0.1:80", Code::InvalidArgument),
        ("nobody.shop.svc.cluster.local:80", Code::NotFound),
    ] {
        let got = world.destination().get(asking(path, "")).await;
        assert_eq!(got.unwrap_err().code(), code, "{path}");
    }
    for (path, code) in [
        ("web.shop:80", Code::InvalidArgument),
        ("nobody.shop.svc.cluster.local:80", Code::Unknown),
        ("10.9.9.9:80", Code::Unknown),
    ] {
        let got = world.destination().get_profile(asking(path, "")).await;
        assert_eq!(got.unwrap_err().code(), code, "{path}");
    }
    assert_eq!(world.port("shop:nobody", 80).await, Err(Code::NotFound));
    assert_eq!(world.port("nobody", 80).await, Err(Code::InvalidArgument));
    assert_eq!(
        world.port("shop:stable-5d8f-abcde", 0).await,
        Err(Code::InvalidArgument)
    );
}

#[tokio::test]
async fn a_port_that_the_service_does_not_have_is_forbidden_and_not_guessed() {
    let world = World::new().await;
    let mut stream = world.watch(address([10, 96, 0, 1], 81)).await;
    match next(&mut stream).await.protocol.unwrap().kind.unwrap() {
        proxy_protocol::Kind::Opaque(opaque) => assert!(!opaque.routes[0].rules[0].filters.is_empty()),
        other => panic!("{other:?}"),
    }
    let mut profile = world.profile("web.shop.svc.cluster.local:81", "").await;
    assert_eq!(next(&mut profile).await, DestinationProfile::default());
}
