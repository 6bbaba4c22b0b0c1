//! A running service and what talks to it. It must not know what a test claims.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;
use tonic::transport::Channel;
use user_proto::user_service_client::UserServiceClient;
use user_proto::{CreateUserRequest, GetUserRequest, User};
use user_service::{Config, Server, ServerError};

use crate::postgres::Postgres;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) type Client = UserServiceClient<Channel>;

pub(crate) struct Service {
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), ServerError>>,
    /// Where its file is, if it has one.
    _folder: Option<tempfile::TempDir>,
}

/// Makes a test of each of these functions for each kind of database; they take a [`Service`].
macro_rules! on_each_database {
    ($($claim:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test] async fn $claim() { super::$claim($crate::harness::start_on_a_file(&[]).await).await })*
        }

        mod on_postgres {
            $(#[tokio::test] async fn $claim() { super::$claim($crate::harness::start_on_postgres(&[]).await).await })*
        }
    };
}
pub(crate) use on_each_database;

/// Starts a service with a file of SQLite.
pub(crate) async fn start_on_a_file(flags: &[&str]) -> Service {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("--database-url=sqlite://{}/users.db", folder.path().display());
    let service = start(&[&[url.as_str()], flags].concat()).await;
    Service {
        _folder: Some(folder),
        ..service
    }
}

/// Starts a service with a database of the tests' PostgreSQL.
pub(crate) async fn start_on_postgres(flags: &[&str]) -> Service {
    let url = format!("--database-url={}", Postgres::shared().database().await);
    start(&[&[url.as_str()], flags].concat()).await
}

pub(crate) fn config(flags: &[&str]) -> Config {
    let common = [
        "user-service",
        "--bind-address=127.0.0.1",
        "--grpc-port=0",
        "--http-port=0",
        "--shutdown-drain=0s",
        "--database-url=sqlite::memory:",
    ];
    let names = [
        "--service-version=1.2.3",
        "--service-revision=1.2.3-blue",
        "--fault-seed=1",
    ];
    // A flag given twice is refused, so a test's own flags replace the common ones.
    let name = |flag: &&str| flag.split('=').next().unwrap().to_owned();
    let own: Vec<_> = flags.iter().map(name).collect();
    let kept = common.iter().chain(&names).filter(|flag| !own.contains(&name(flag)));
    Config::read(kept.chain(flags)).unwrap()
}

/// Starts a service, and returns when it is ready.
pub(crate) async fn start(flags: &[&str]) -> Service {
    let service = begin(flags).await;
    eventually("the service is ready", async || service.get("/ready").await.0 == 200).await;
    service
}

/// Starts a service that may not get ready.
pub(crate) async fn begin(flags: &[&str]) -> Service {
    let server = Server::bind(config(flags)).await.unwrap();
    let (grpc, http) = (server.grpc_address(), server.http_address());
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));
    Service {
        grpc,
        http,
        stop,
        running,
        _folder: None,
    }
}

impl Service {
    pub(crate) async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.grpc))
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    pub(crate) async fn client(&self) -> Client {
        UserServiceClient::new(self.channel().await)
    }

    /// Status and body that the HTTP port answers with.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        get(self.http, path).await
    }

    /// Whether the metrics have exactly this line.
    pub(crate) async fn counted(&self, line: &str) -> bool {
        self.get("/metrics").await.1.lines().any(|found| found == line)
    }

    /// Asks it to stop; the handle is ready when it has.
    pub(crate) fn stop(self) -> JoinHandle<Result<(), ServerError>> {
        self.stop.send(()).unwrap();
        self.running
    }
}

/// Status and body that an HTTP port answers with.
pub(crate) async fn get(http: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(http).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let status = response.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = response.split_once("\r\n\r\n").unwrap();
    (status, body.to_owned())
}

/// Waits for a service that was asked to stop.
pub(crate) async fn ended(running: JoinHandle<Result<(), ServerError>>) -> Result<(), ServerError> {
    timeout(PATIENCE, running).await.expect("the service stops").unwrap()
}

/// Waits until something is true, but not for ever.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "it did not come true that {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) async fn create(client: &mut Client, email: &str) -> Result<User, Status> {
    let user = User {
        email: email.to_owned(),
        display_name: "Somebody".to_owned(),
        ..User::default()
    };
    Ok(client
        .create_user(CreateUserRequest {
            user: Some(user),
            ..CreateUserRequest::default()
        })
        .await?
        .into_inner())
}

pub(crate) async fn read(client: &mut Client, id: &str) -> Result<User, Status> {
    Ok(client
        .get_user(GetUserRequest { id: id.to_owned() })
        .await?
        .into_inner())
}
