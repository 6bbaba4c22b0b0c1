//! From a call to its trace, its log lines and its number in the metrics: one id in all of them.

use std::process::Stdio;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};
use user_proto::GetUserRequest;
use user_proto::user_service_client::UserServiceClient;

use crate::harness::get;
use crate::process::program;

const PATIENCE: Duration = Duration::from_secs(20);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// The receiving side of OTLP.
struct Collector(mpsc::UnboundedSender<Span>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            for scope in resource.scope_spans {
                scope.spans.into_iter().for_each(|span| self.0.send(span).unwrap());
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_callers_trace_goes_on_into_spans_log_lines_and_exemplars() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, mut spans) = mpsc::unbounded_channel();
    let collector = Server::builder().add_service(TraceServiceServer::new(Collector(sender)));
    let collector = tokio::spawn(collector.serve_with_incoming(TcpIncoming::from(listener)));

    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("TRACE_RATIO", "0"),
        ("RUST_LOG", "user_service=debug"),
    ];
    let mut child = program(&env).stdout(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut line = async |wanted: &str| loop {
        let line = timeout(PATIENCE, log.next_line())
            .await
            .expect("it logs")
            .unwrap()
            .unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        if line["message"] == wanted {
            return line;
        }
    };
    let start = line("user-service starts").await;
    assert_eq!(line("ready").await["span"], Value::Null);
    let channel = Channel::from_shared(format!("http://{}", start["grpc"].as_str().unwrap())).unwrap();
    let mut client = UserServiceClient::new(channel.connect().await.unwrap());

    let mut request = Request::new(GetUserRequest {
        id: "nobody".to_owned(),
    });
    let traceparent = format!("00-{TRACE}-{PARENT}-01");
    request
        .metadata_mut()
        .insert("traceparent", traceparent.parse().unwrap());
    client.get_user(request).await.unwrap_err();
    assert_eq!(line("call ended").await["span"]["trace_id"], TRACE);

    let span = timeout(PATIENCE, spans.recv()).await.expect("a span comes").unwrap();
    assert_eq!(
        (hex(&span.trace_id).as_str(), hex(&span.parent_span_id).as_str()),
        (TRACE, PARENT)
    );
    assert_eq!(span.name, "user.UserService/GetUser");

    let metrics = get(start["http"].as_str().unwrap().parse().unwrap(), "/metrics")
        .await
        .1;
    for series in [
        "grpc_server_handled_total{grpc_method=\"GetUser\",grpc_code=\"NotFound\"} 1",
        "grpc_server_handling_seconds_bucket{",
    ] {
        let exemplar = format!("# {{trace_id=\"{TRACE}\"}}");
        assert!(
            metrics
                .lines()
                .any(|line| line.starts_with(series) && line.contains(&exemplar)),
            "{series} … {exemplar} is missing in\n{metrics}"
        );
    }
    collector.abort();
}
