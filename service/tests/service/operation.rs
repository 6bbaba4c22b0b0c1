//! What operators and their tools see: health, reflection, probes, metrics, who answered.

use tokio_stream::{self as stream};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use user_proto::ListUsersRequest;
use user_service::ServerError;

use crate::harness::{config, create, eventually, read, start};

fn assert_identified(metadata: &MetadataMap) {
    assert_eq!(metadata.get("x-served-by-version").unwrap(), "1.2.3");
    assert_eq!(metadata.get("x-served-by-revision").unwrap(), "1.2.3-blue");
}

async fn reflect(channel: Channel, question: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(question),
    };
    let mut client = ServerReflectionClient::new(channel);
    let response = client.server_reflection_info(stream::once(request)).await.unwrap();
    assert_identified(response.metadata());
    response
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap()
}

#[tokio::test]
async fn every_response_says_who_answered_also_a_failed_one() {
    let service = start(&[]).await;
    let mut client = service.client().await;
    let listed = client.list_users(ListUsersRequest::default()).await.unwrap();
    assert_identified(listed.metadata());
    let failed = read(&mut client, "").await.unwrap_err();
    assert_eq!(failed.code(), Code::InvalidArgument);
    assert_identified(failed.metadata());
}

#[tokio::test]
async fn health_is_told_for_the_service_and_for_the_whole() {
    let service = start(&[]).await;
    let mut health = HealthClient::new(service.channel().await);
    for name in ["", "user.UserService"] {
        let response = health
            .check(HealthCheckRequest {
                service: name.to_owned(),
            })
            .await
            .unwrap();
        assert_identified(response.metadata());
        assert_eq!(response.into_inner().status, 1, "SERVING for {name:?}");
    }
    let unknown = health
        .check(HealthCheckRequest {
            service: "user.Nobody".to_owned(),
        })
        .await
        .unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test]
async fn reflection_lists_the_service_and_describes_it() {
    let service = start(&[]).await;
    let listed = reflect(service.channel().await, MessageRequest::ListServices(String::new())).await;
    let MessageResponse::ListServicesResponse(listed) = listed else {
        panic!("{listed:?}")
    };
    let mut names: Vec<_> = listed.service.into_iter().map(|service| service.name).collect();
    names.sort();
    assert_eq!(
        names,
        [
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "user.UserService"
        ]
    );

    let symbol = MessageRequest::FileContainingSymbol("user.UserService.GetUser".to_owned());
    let described = reflect(service.channel().await, symbol).await;
    assert!(
        matches!(described, MessageResponse::FileDescriptorResponse(_)),
        "{described:?}"
    );
}

#[tokio::test]
async fn probes_answer_on_the_side_port() {
    let service = start(&[]).await;
    assert_eq!(service.get("/health").await, (200, "alive\n".to_owned()));
    assert_eq!(service.get("/ready").await, (200, "serving\n".to_owned()));
    assert_eq!(service.get("/other").await.0, 404);
}

#[tokio::test]
async fn calls_are_counted_with_the_status_that_the_client_gets() {
    let service = start(&[]).await;
    let mut client = service.client().await;
    create(&mut client, "ada@example.com").await.unwrap();
    read(&mut client, "nobody").await.unwrap_err();

    for line in [
        "grpc_server_handled_total{grpc_method=\"CreateUser\",grpc_code=\"OK\"} 1",
        "grpc_server_handled_total{grpc_method=\"GetUser\",grpc_code=\"NotFound\"} 1",
        "grpc_server_handling_seconds_count{grpc_method=\"CreateUser\"} 1",
        "grpc_server_in_flight 0",
        "user_service_users_created_total 1",
        "user_service_build_info{version=\"1.2.3\",revision=\"1.2.3-blue\"} 1",
    ] {
        eventually(line, async || service.counted(line).await).await;
    }
}

#[tokio::test]
async fn a_call_that_its_client_gives_up_is_counted_as_canceled() {
    let service = start(&["--fault-latency=1h"]).await;
    let mut client = service.client().await;
    let given_up = tokio::spawn(async move { read(&mut client, "nobody").await });
    eventually("the call has come", async || {
        service.counted("grpc_server_in_flight 1").await
    })
    .await;
    given_up.abort();
    let line = "grpc_server_handled_total{grpc_method=\"GetUser\",grpc_code=\"Canceled\"} 1";
    eventually(line, async || service.counted(line).await).await;
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented_and_makes_no_series_of_its_own() {
    let service = start(&[]).await;
    let mut grpc = tonic::client::Grpc::new(service.channel().await);
    grpc.ready().await.unwrap();
    let path = "/user.UserService/Fly".parse().unwrap();
    let codec = tonic_prost::ProstCodec::<ListUsersRequest, ListUsersRequest>::default();
    let status = grpc
        .unary(Request::new(ListUsersRequest::default()), path, codec)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    let line = "grpc_server_handled_total{grpc_method=\"Unknown\",grpc_code=\"Unimplemented\"} 1";
    eventually(line, async || service.counted(line).await).await;
}

#[tokio::test]
async fn a_port_in_use_stops_the_start_and_the_message_says_which() {
    let service = start(&[]).await;
    let port = format!("--http-port={}", service.http.port());
    let error = user_service::Server::bind(config(&[&port])).await.unwrap_err();
    assert!(matches!(
        error,
        ServerError::Bind {
            variable: "HTTP_PORT",
            ..
        }
    ));
    assert!(error.to_string().contains(&service.http.to_string()), "{error}");
}
