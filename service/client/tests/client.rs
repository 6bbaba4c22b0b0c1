//! The client against the service itself, with faults on purpose.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed"
)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;
use user_client::{Client, Policy};
use user_proto::{CreateUserRequest, DeleteUserRequest, ListUsersRequest, UpdateUserRequest, User};
use user_service::{Config, Server};

async fn service(flags: &[&str]) -> String {
    service_with_http(flags).await.0
}

/// Where it answers gRPC and HTTP.
async fn service_with_http(flags: &[&str]) -> (String, SocketAddr) {
    let common = [
        "user-service",
        "--bind-address=127.0.0.1",
        "--grpc-port=0",
        "--http-port=0",
        "--database-url=sqlite::memory:",
        "--fault-seed=1",
    ];
    let server = Server::bind(Config::read([&common, flags].concat()).unwrap())
        .await
        .unwrap();
    let (address, http) = (server.grpc_address(), server.http_address());
    tokio::spawn(server.run(std::future::pending()));
    (format!("http://{address}"), http)
}

fn ada(number: usize) -> CreateUserRequest {
    let user = User {
        email: format!("ada{number}@example.com"),
        ..User::default()
    };
    CreateUserRequest {
        user: Some(user),
        ..CreateUserRequest::default()
    }
}

/// A policy under which chance alone fails no test.
fn patient() -> Policy {
    Policy {
        deadline: Duration::from_secs(20),
        tries: 10,
        first_pause: Duration::from_millis(1),
    }
}

#[tokio::test]
async fn a_users_whole_life() {
    let client = Client::new(service(&[]).await, patient()).unwrap();
    let user = client.create_user(ada(1)).await.unwrap();
    assert_eq!(client.get_user(&user.id).await.unwrap(), user);
    let change = UpdateUserRequest {
        user: Some(User {
            display_name: "Ada".to_owned(),
            ..user.clone()
        }),
        update_mask: None,
    };
    let changed = client.update_user(change).await.unwrap();
    assert_eq!(
        client.list_users(ListUsersRequest::default()).await.unwrap().users,
        std::slice::from_ref(&changed)
    );
    let gone = DeleteUserRequest {
        id: changed.id,
        etag: changed.etag,
    };
    client.delete_user(gone).await.unwrap();
    assert_eq!(client.get_user(user.id).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn calls_that_fail_now_and_then_succeed_and_nobody_is_created_twice() {
    let client = Client::new(service(&["--fault-error-rate=0.05"]).await, patient()).unwrap();
    for number in 0..200 {
        let user = client.create_user(ada(number)).await.unwrap();
        client.get_user(user.id).await.unwrap();
    }
    let request = ListUsersRequest {
        page_size: 1_000,
        ..ListUsersRequest::default()
    };
    assert_eq!(client.list_users(request).await.unwrap().users.len(), 200);
}

#[tokio::test]
async fn a_deadline_is_kept_whatever_the_service_does() {
    let policy = Policy {
        deadline: Duration::from_millis(200),
        ..patient()
    };
    let client = Client::new(service(&["--fault-latency=1h"]).await, policy).unwrap();
    let begun = Instant::now();
    let status = client.get_user("nobody").await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn in_an_outage_retries_stop() {
    let service = service(&["--fault-error-rate=1"]).await;
    let client = Client::new(service, patient()).unwrap();
    for _ in 0..100 {
        assert_eq!(client.get_user("nobody").await.unwrap_err().code(), Code::Unavailable);
    }
    let begun = Instant::now();
    for _ in 0..20 {
        client.get_user("nobody").await.unwrap_err();
    }
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "no pauses, as there are no retries"
    );
}

/// How many connections the service has accepted.
async fn connections(http: SocketAddr) -> u32 {
    let mut stream = TcpStream::connect(http).await.unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut metrics = String::new();
    stream.read_to_string(&mut metrics).await.unwrap();
    let name = "user_service_connections_accepted_total ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_end_by_their_age_and_no_call_is_lost() {
    let age = ["--max-connection-age=150ms", "--max-connection-age-grace=10s"];
    let (url, http) = service_with_http(&age).await;
    let client = Client::new(url, patient()).unwrap();
    let user = client.create_user(ada(1)).await.unwrap();
    while connections(http).await < 4 {
        for _ in 0..50 {
            assert_eq!(client.get_user(&user.id).await.unwrap(), user);
        }
    }
}
