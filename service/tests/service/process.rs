//! The program: what it refuses, what it logs, and how it answers to signals.

use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use user_proto::user_service_client::UserServiceClient;
use user_proto::{CreateUserRequest, GetUserRequest, ListUsersRequest, User};

use crate::resources::{memory_of, raise_open_files};

const PATIENCE: Duration = Duration::from_secs(20);

/// The program with an environment of only these variables.
pub(crate) fn program(env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_user-service"));
    command.env_clear().envs([
        ("BIND_ADDRESS", "127.0.0.1"),
        ("GRPC_PORT", "0"),
        ("HTTP_PORT", "0"),
        ("DATABASE_URL", "sqlite::memory:"),
    ]);
    command
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// The program, ready.
struct Started {
    child: Child,
    log: Lines<BufReader<ChildStdout>>,
    until_ready: Vec<Value>,
    channel: Endpoint,
}

impl Started {
    async fn with(env: &[(&str, &str)]) -> Self {
        let mut child = program(env).stdout(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut until_ready, mut grpc): (Vec<Value>, _) = (vec![], None);
        while until_ready.last().is_none_or(|line| line["message"] != "ready") {
            let line = timeout(PATIENCE, log.next_line())
                .await
                .expect("the program gets ready")
                .unwrap()
                .unwrap();
            let line: Value = serde_json::from_str(&line).expect("each line is one JSON object");
            grpc = grpc.or_else(|| line["grpc"].as_str().map(str::to_owned));
            until_ready.push(line);
        }
        let channel = Channel::from_shared(format!("http://{}", grpc.unwrap())).unwrap();
        Self {
            child,
            log,
            until_ready,
            channel,
        }
    }
}

async fn output(env: &[(&str, &str)]) -> Output {
    timeout(PATIENCE, program(env).output())
        .await
        .expect("the program ends")
        .unwrap()
}

#[tokio::test]
async fn a_wrong_value_stops_the_start_and_the_message_names_the_variable() {
    for (variable, value) in [
        ("FAULT_ERROR_RATE", "20"),
        ("FAULT_LATENCY", "800"),
        ("GRPC_PORT", "grpc"),
        ("BIND_ADDRESS", "here"),
        ("SERVICE_REVISION", "a b"),
        ("RUST_LOG", "user_service=loud"),
        ("MAX_CONNECTION_AGE", "5"),
    ] {
        let output = output(&[(variable, value)]).await;
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{variable}: {message}");
        assert!(
            message.contains(variable) && message.contains(value),
            "{variable}: {message}"
        );
    }
}

#[tokio::test]
async fn sigterm_under_load_ends_the_program_with_success_and_loses_no_call() {
    let env = [
        ("FAULT_LATENCY", "20ms"),
        ("SHUTDOWN_DRAIN", "300ms"),
        ("SERVICE_VERSION", "9.9.9"),
        ("RUST_LOG", "user_service=debug"),
    ];
    let Started {
        mut child,
        mut log,
        until_ready,
        channel,
    } = Started::with(&env).await;
    assert!(
        until_ready
            .iter()
            .any(|line| line["level"] == "WARN" && line["message"].to_string().contains("FAULTS ARE ON"))
    );
    assert!(until_ready.iter().any(|line| line["version"] == "9.9.9"));

    let channel = channel.connect().await.unwrap();
    // Each caller goes on until the connection is closed, as a client would that has not heard of the drain.
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let mut client = UserServiceClient::new(channel.clone());
            tokio::spawn(async move {
                let mut answered = 0;
                while client.list_users(ListUsersRequest::default()).await.is_ok() {
                    answered += 1;
                }
                answered
            })
        })
        .collect();

    let pid = child.id().unwrap();
    let killed = Command::new("sh")
        .args(["-c", &format!("kill -TERM {pid}")])
        .status()
        .await
        .unwrap();
    assert!(killed.success());
    let mut handled = Vec::new();
    while let Some(line) = timeout(PATIENCE, log.next_line())
        .await
        .expect("the program ends")
        .unwrap()
    {
        let line: Value = serde_json::from_str(&line).expect("each line is one JSON object");
        if line["message"] == "call ended" {
            handled.push(line["code"].as_str().unwrap().to_owned());
        }
    }
    let status = timeout(PATIENCE, child.wait())
        .await
        .expect("the program ends")
        .unwrap();
    assert!(status.success(), "{status}");

    // Each caller ends with a call that never got there. All that did get there were answered.
    let mut answered = 0;
    for caller in callers {
        answered += timeout(PATIENCE, caller).await.expect("the caller ends").unwrap();
    }
    assert!(answered >= 8, "{answered}");
    assert!(handled.iter().all(|code| code == "Ok"), "{handled:?}");
    assert_eq!(handled.len(), answered);
}

/// What the dev environment lets the service have.
const MOST_MEMORY: u64 = 64 << 20;
const USERS: usize = 10_000;
const CONNECTIONS: usize = 1_000;
const CALLERS: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_users_and_a_thousand_connections_fit_into_the_memory_of_the_dev_environment() {
    raise_open_files();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/users.db", folder.path().display());
    let Started {
        child,
        mut log,
        channel,
        ..
    } = Started::with(&[("DATABASE_URL", &url)]).await;
    // Nobody else reads it, and a full pipe would hold the program up.
    let log = tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(UserServiceClient::new(channel.connect().await.unwrap()));
    }
    // A few callers at a time: what is measured is what the service holds, not how many calls it can take at once.
    let mut callers = JoinSet::new();
    for (caller, some) in clients.chunks(CONNECTIONS / CALLERS).enumerate() {
        let mut some = some.to_vec();
        callers.spawn(async move {
            let mut last = String::new();
            for number in 0..USERS / CALLERS {
                let user = User {
                    email: format!("{caller}-{number}@example.com"),
                    display_name: "Somebody".to_owned(),
                    ..User::default()
                };
                let request = CreateUserRequest {
                    user: Some(user),
                    ..CreateUserRequest::default()
                };
                let connection = number % some.len();
                last = some[connection].create_user(request).await.unwrap().into_inner().id;
            }
            for client in &mut some {
                client.get_user(GetUserRequest { id: last.clone() }).await.unwrap();
            }
        });
    }
    callers.join_all().await;
    let held = memory_of(child.id().unwrap());
    assert!(held < MOST_MEMORY, "{} MiB", held >> 20);
    assert_eq!(clients.len(), CONNECTIONS, "all of them are still connected");
    log.abort();
}
