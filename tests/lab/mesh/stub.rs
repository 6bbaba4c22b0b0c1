//! A user service for tests: it says who it is, and answers as it is told. It must not know who calls.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status, transport::Server};
use user_proto::{
    CreateUserRequest, DeleteUserRequest, GetUserRequest, ListUsersRequest, ListUsersResponse, UpdateUserRequest, User,
    user_service_server::{UserService, UserServiceServer},
};

/// A running service. When it is dropped, it ends with all its connections, as a process that is killed does.
#[derive(Debug)]
pub(crate) struct Stub {
    pub(crate) calls: Arc<AtomicU64>,
    runtime: Option<Runtime>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

const REVISION: &str = "x-served-by-revision";

#[derive(Debug, Clone)]
struct Answers {
    revision: &'static str,
    code: Code,
    calls: Arc<AtomicU64>,
}

impl Stub {
    /// All calls are answered with this code. Users with the id `slow` take a minute, those with the id `late` a tenth of a second.
    /// Whoever watches its health keeps a stream.
    pub(crate) async fn start(address: impl Into<SocketAddr>, revision: &'static str, code: Code) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let address = address.into();
        let listener = runtime.spawn(TcpListener::bind(address)).await.unwrap().unwrap();
        let calls = Arc::new(AtomicU64::new(0));
        let answers = Answers {
            revision,
            code,
            calls: Arc::clone(&calls),
        };
        let (_, health) = tonic_health::server::health_reporter();
        let server = Server::builder()
            .add_service(UserServiceServer::new(answers))
            .add_service(health);
        let serve = server.serve_with_incoming(TcpListenerStream::new(listener));
        runtime.spawn(async move { serve.await.unwrap() });
        let runtime = Some(runtime);
        Self { calls, runtime }
    }
}

impl Answers {
    fn answer<T>(&self, message: T) -> Result<Response<T>, Status> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let revision = self.revision.parse().unwrap();
        if self.code == Code::Ok {
            let mut response = Response::new(message);
            response.metadata_mut().insert(REVISION, revision);
            return Ok(response);
        }
        let mut status = Status::new(self.code, "as told");
        status.metadata_mut().insert(REVISION, revision);
        Err(status)
    }
}

#[tonic::async_trait]
impl UserService for Answers {
    async fn create_user(&self, request: Request<CreateUserRequest>) -> Result<Response<User>, Status> {
        let mut user = request.into_inner().user.unwrap_or_default();
        user.id.clone_from(&user.email);
        self.answer(user)
    }

    async fn get_user(&self, request: Request<GetUserRequest>) -> Result<Response<User>, Status> {
        let id = request.into_inner().id;
        match id.as_str() {
            "slow" => tokio::time::sleep(Duration::from_mins(1)).await,
            "late" => tokio::time::sleep(Duration::from_millis(100)).await,
            _ => {}
        }
        self.answer(User { id, ..User::default() })
    }

    async fn update_user(&self, _: Request<UpdateUserRequest>) -> Result<Response<User>, Status> {
        self.answer(User::default())
    }

    async fn delete_user(&self, _: Request<DeleteUserRequest>) -> Result<Response<()>, Status> {
        self.answer(())
    }

    async fn list_users(&self, _: Request<ListUsersRequest>) -> Result<Response<ListUsersResponse>, Status> {
        self.answer(ListUsersResponse::default())
    }
}
