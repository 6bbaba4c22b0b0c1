//! Stopping: readiness goes first, calls in flight are finished, nothing holds the process up for ever.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use user_proto::ListUsersRequest;
use user_service::ServerError;

use crate::harness::{ended, eventually, get, read, start};

#[tokio::test]
async fn draining_finishes_a_call_in_flight() {
    let service = start(&["--fault-latency=1500ms"]).await;
    let mut client = service.client().await;
    let call = tokio::spawn(async move { client.list_users(ListUsersRequest::default()).await });
    eventually("the call has come", async || {
        service.counted("grpc_server_in_flight 1").await
    })
    .await;

    let grpc = service.grpc;
    let running = service.stop();
    eventually("no new connection is accepted", async || {
        TcpStream::connect(grpc).await.is_err()
    })
    .await;
    assert!(
        !call.is_finished(),
        "the call is still in flight when the port is closed"
    );
    assert!(call.await.unwrap().is_ok());
    ended(running).await.unwrap();
}

#[tokio::test]
async fn while_draining_it_is_not_ready_and_still_answers() {
    let service = start(&["--shutdown-drain=4s"]).await;
    let mut client = service.client().await;
    let mut health = HealthClient::new(service.channel().await);
    let (grpc, http) = (service.grpc, service.http);
    let running = service.stop();

    eventually("readiness is off", async || get(http, "/ready").await.0 == 503).await;
    assert_eq!(get(http, "/ready").await, (503, "draining\n".to_owned()));
    assert_eq!(get(http, "/health").await.0, 200);
    for name in ["", "user.UserService"] {
        let request = HealthCheckRequest {
            service: name.to_owned(),
        };
        assert_eq!(
            health.check(request).await.unwrap().into_inner().status,
            2,
            "NOT_SERVING for {name:?}"
        );
    }
    assert!(client.list_users(ListUsersRequest::default()).await.is_ok());
    assert!(
        TcpStream::connect(grpc).await.is_ok(),
        "clients that have not heard yet are still let in"
    );
    ended(running).await.unwrap();
}

#[tokio::test]
async fn who_watches_health_learns_of_the_stop_and_does_not_hold_it_up() {
    let service = start(&[]).await;
    let mut health = HealthClient::new(service.channel().await);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, 1);

    let running = service.stop();
    assert_eq!(watch.message().await.unwrap().unwrap().status, 2);
    assert_eq!(watch.message().await.unwrap(), None);
    timeout(Duration::from_secs(10), ended(running))
        .await
        .expect("well before SHUTDOWN_GRACE")
        .unwrap();
}

#[tokio::test]
async fn calls_that_outlast_the_grace_are_cut_off_and_reported() {
    let service = start(&["--fault-latency=1h", "--shutdown-grace=100ms"]).await;
    let mut client = service.client().await;
    let call = tokio::spawn(async move { read(&mut client, "nobody").await });
    eventually("the call has come", async || {
        service.counted("grpc_server_in_flight 1").await
    })
    .await;
    let error = ended(service.stop()).await.unwrap_err();
    assert!(matches!(error, ServerError::GraceExpired { calls: 1, .. }), "{error}");
    call.abort();
}

#[tokio::test]
async fn an_idle_service_stops_at_once() {
    let service = start(&["--shutdown-grace=1h"]).await;
    let mut client = service.client().await;
    assert_eq!(read(&mut client, "nobody").await.unwrap_err().code(), Code::NotFound);
    ended(service.stop()).await.unwrap();
}
