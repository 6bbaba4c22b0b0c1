//! What one process takes upon itself: places, sizes, deadlines, the age of connections.

use std::time::{Duration, Instant};

use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;
use user_proto::user_service_client::UserServiceClient;
use user_proto::{GetUserRequest, ListUsersRequest};

use crate::harness::{Service, create, eventually, read, start};

type Pooled = legacy::Client<HttpConnector, tonic::body::Body>;

#[tokio::test]
async fn calls_beyond_the_limit_are_refused_at_once_and_counted() {
    let service = start(&["--max-concurrent-calls=2", "--fault-latency=1h"]).await;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut client = service.client().await;
        waiting.push(tokio::spawn(async move { read(&mut client, "nobody").await }));
    }
    eventually("both places are taken", async || {
        service.counted("grpc_server_in_flight 2").await
    })
    .await;
    let status = read(&mut service.client().await, "nobody").await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.get_details_error_info().unwrap().reason, "OVERLOADED");
    assert!(status.get_details_retry_info().is_some());
    assert_eq!(status.metadata().get("x-served-by-version").unwrap(), "1.2.3");
    eventually("it is counted", async || {
        service.counted("user_service_calls_shed_total 1").await
            && service
                .counted("grpc_server_handled_total{grpc_method=\"GetUser\",grpc_code=\"ResourceExhausted\"} 1")
                .await
    })
    .await;
    assert_eq!(service.get("/ready").await.0, 200, "health has places of its own");
    for call in waiting {
        call.abort();
    }
}

#[tokio::test]
async fn a_call_ends_when_its_deadline_does_and_is_counted_so() {
    let service = start(&["--fault-latency=1h"]).await;
    // tonic's own channel reads the header as well, and its clock may be quicker.
    let mut client = pooled(&service);
    let mut request = Request::new(ListUsersRequest::default());
    request.metadata_mut().insert("grpc-timeout", "200m".parse().unwrap());
    let started = Instant::now();
    let status = client.list_users(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(started.elapsed() >= Duration::from_millis(190));
    let line = "grpc_server_handled_total{grpc_method=\"ListUsers\",grpc_code=\"DeadlineExceeded\"} 1";
    eventually(line, async || service.counted(line).await).await;
}

#[tokio::test]
async fn a_request_that_is_too_large_is_the_callers_fault() {
    let service = start(&["--max-message-bytes=1024"]).await;
    let mut client = service.client().await;
    let request = GetUserRequest { id: "x".repeat(2_000) };
    let status = client.get_user(request).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert_eq!(status.get_details_error_info().unwrap().reason, "MESSAGE_TOO_LARGE");
    assert!(
        status.message().starts_with("the request is too large: found 20"),
        "{status}"
    );
    assert!(
        status.get_details_retry_info().is_none(),
        "the same would be too large again"
    );
    create(&mut client, "ada@example.com").await.unwrap();
}

/// Without retries of what was sent: to be asked to connect again costs no call, and what is in flight may end.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_age_takes_no_new_calls_and_ends_those_in_flight() {
    let service = start(&[
        "--max-connection-age=100ms",
        "--max-connection-age-grace=1m",
        "--fault-latency=300ms",
    ])
    .await;
    let user = create(&mut service.client().await, "ada@example.com").await.unwrap();
    let mut client = pooled(&service);
    let again = "user_service_connections_accepted_total 4";
    eventually(again, async || {
        // Each takes longer than its connection may last.
        client.get_user(GetUserRequest { id: user.id.clone() }).await.unwrap();
        service.counted(again).await
    })
    .await;
}

/// A client that reads no deadline itself, and sends a call again that found its connection ended before it was sent, as gRPC has clients
/// do (transparent retries); tonic's channel leaves that to whoever calls. What was sent goes out once.
fn pooled(service: &Service) -> UserServiceClient<Pooled> {
    let channel = legacy::Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http();
    let origin = format!("http://{}", service.grpc).parse().unwrap();
    UserServiceClient::with_origin(channel, origin)
}

#[tokio::test]
async fn a_call_that_outlasts_its_connections_age_and_grace_is_cut() {
    let service = start(&[
        "--max-connection-age=100ms",
        "--max-connection-age-grace=200ms",
        "--fault-latency=1h",
    ])
    .await;
    let status = read(&mut service.client().await, "nobody").await.unwrap_err();
    assert!(matches!(status.code(), Code::Unavailable | Code::Unknown), "{status}");
}
