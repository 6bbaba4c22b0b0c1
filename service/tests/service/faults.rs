//! Faults on purpose: they hit the service's calls, and nothing else.

use std::time::{Duration, Instant};

use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use user_proto::ListUsersRequest;

use crate::harness::{create, eventually, read, start};

#[tokio::test]
async fn at_rate_one_every_call_is_unavailable_and_says_who_failed_it() {
    let service = start(&["--fault-error-rate=1"]).await;
    let mut client = service.client().await;
    for _ in 0..20 {
        let status = read(&mut client, "nobody").await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(status.metadata().get("x-served-by-revision").unwrap(), "1.2.3-blue");
        assert_eq!(status.metadata().get("x-served-by-version").unwrap(), "1.2.3");
    }
    for line in [
        "grpc_server_handled_total{grpc_method=\"GetUser\",grpc_code=\"Unavailable\"} 20",
        "user_service_faults_injected_total{kind=\"error\"} 20",
    ] {
        eventually(line, async || service.counted(line).await).await;
    }
}

#[tokio::test]
async fn a_share_of_the_calls_fails_and_the_others_are_answered() {
    let service = start(&["--fault-error-rate=0.2"]).await;
    let mut client = service.client().await;
    let mut failed = 0;
    for _ in 0..500 {
        match client.list_users(ListUsersRequest::default()).await {
            Ok(_) => {}
            Err(status) if status.code() == Code::Unavailable => failed += 1,
            Err(status) => panic!("{status}"),
        }
    }
    assert!((60..=140).contains(&failed), "{failed} of 500");
}

#[tokio::test]
async fn a_call_that_fails_on_purpose_does_nothing() {
    let service = start(&["--fault-error-rate=1"]).await;
    create(&mut service.client().await, "ada@example.com")
        .await
        .unwrap_err();
    assert!(service.counted("user_service_users_created_total 0").await);
}

#[tokio::test]
async fn failures_have_the_code_that_is_asked_for() {
    let service = start(&["--fault-error-rate=1", "--fault-code=UNIMPLEMENTED"]).await;
    let status = read(&mut service.client().await, "nobody").await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn an_outage_begins_and_ends_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("down");
    let service = start(&["--fault-error-rate=1", &format!("--fault-while={}", file.display())]).await;
    let mut client = service.client().await;
    let mut lists = async || client.list_users(ListUsersRequest::default()).await.is_ok();
    assert!(lists().await);
    std::fs::write(&file, "").unwrap();
    assert!(!lists().await);
    std::fs::remove_file(&file).unwrap();
    assert!(lists().await);
}

#[tokio::test]
async fn latency_delays_each_call() {
    let service = start(&["--fault-latency=150ms"]).await;
    let mut client = service.client().await;
    for _ in 0..2 {
        let started = Instant::now();
        client.list_users(ListUsersRequest::default()).await.unwrap();
        assert!(started.elapsed() >= Duration::from_millis(150));
    }
}

#[tokio::test]
async fn health_and_probes_know_no_faults() {
    let service = start(&["--fault-error-rate=1", "--fault-latency=1h"]).await;
    let mut health = HealthClient::new(service.channel().await);
    let request = HealthCheckRequest {
        service: "user.UserService".to_owned(),
    };
    assert_eq!(health.check(request).await.unwrap().into_inner().status, 1);
    assert_eq!(service.get("/ready").await.0, 200);
}
