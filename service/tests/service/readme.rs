//! The README's lines for grpcurl, which asks the service itself how to write a message: so does this.

use std::collections::BTreeMap;

use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorProto};
use serde_json::Value;
use tokio_stream as stream;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::harness::{Service, start};

/// The arguments of each line that calls grpcurl; single quotes hold a word together, a backslash holds two lines together.
fn lines() -> Vec<Vec<String>> {
    let text = include_str!("../../README.md").replace("\\\n", " ");
    let lines = text.lines().filter(|line| line.starts_with("grpcurl "));
    lines
        .map(|line| {
            let line = line.split(" #").next().unwrap();
            let mut words = Vec::new();
            for (number, part) in line.split('\'').enumerate() {
                if number % 2 == 1 {
                    words.push(part.to_owned());
                } else {
                    words.extend(part.split_whitespace().map(str::to_owned));
                }
            }
            words
        })
        .collect()
}

async fn file_of(service: &Service, symbol: &str) -> FileDescriptorProto {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol(symbol.to_owned())),
    };
    let mut client = ServerReflectionClient::new(service.channel().await);
    let mut answers = client
        .server_reflection_info(stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::FileDescriptorResponse(files) = answer else {
        panic!("{symbol}: {answer:?}")
    };
    FileDescriptorProto::decode(files.file_descriptor_proto.first().unwrap().as_slice()).unwrap()
}

/// Whether the message has each field that the JSON names, by its own name or its name in JSON.
fn assert_fits(messages: &BTreeMap<String, DescriptorProto>, message: &str, json: &Value) {
    let known = &messages[message];
    for (key, value) in json.as_object().unwrap() {
        let field = known
            .field
            .iter()
            .find(|field| field.name() == key || field.json_name() == key)
            .unwrap_or_else(|| panic!("{message} has no field `{key}`"));
        if value.is_object() {
            assert_fits(messages, field.type_name(), value);
        }
    }
}

#[tokio::test]
async fn each_line_for_grpcurl_names_what_reflection_knows() {
    let service = start(&[]).await;
    let mut methods = Vec::new();
    for line in lines() {
        let Some((target, what)) = line
            .iter()
            .position(|word| word == "localhost:50051")
            .map(|at| line.split_at(at))
        else {
            panic!("no address in {line:?}")
        };
        let Some((name, method)) = what[1].rsplit_once('/') else {
            assert!(matches!(what[1].as_str(), "list" | "describe"), "{line:?}");
            if let Some(symbol) = what.get(2) {
                file_of(&service, symbol).await;
            }
            continue;
        };
        let file = file_of(&service, name).await;
        let package = format!(".{}", file.package());
        let of = file
            .service
            .iter()
            .find(|service| name.ends_with(service.name()))
            .unwrap();
        let found = of.method.iter().find(|known| known.name() == method);
        let input = found
            .unwrap_or_else(|| panic!("{name} has no method {method}"))
            .input_type();
        let messages = file
            .message_type
            .iter()
            .map(|message| (format!("{package}.{}", message.name()), message.clone()))
            .collect();
        let data = target.iter().position(|word| word == "-d").unwrap() + 1;
        assert_fits(&messages, input, &serde_json::from_str(&target[data]).unwrap());
        methods.push(method.to_owned());
    }
    assert_eq!(methods, ["CreateUser", "GetUser", "UpdateUser", "ListUsers", "Check"]);
}
