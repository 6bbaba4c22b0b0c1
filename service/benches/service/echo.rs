//! The bare server that user-service is compared with: tonic's own router and one method that answers with a constant.

use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use user_proto::user_service_server::{UserService, UserServiceServer};
use user_proto::{
    CreateUserRequest, DeleteUserRequest, GetUserRequest, ListUsersRequest, ListUsersResponse, UpdateUserRequest, User,
};

struct Echo;

#[tonic::async_trait]
impl UserService for Echo {
    async fn create_user(&self, _: Request<CreateUserRequest>) -> Result<Response<User>, Status> {
        Err(Status::unimplemented("an echo"))
    }

    /// As large as a user.
    async fn get_user(&self, request: Request<GetUserRequest>) -> Result<Response<User>, Status> {
        let time = Some(prost_types::Timestamp {
            seconds: 1_700_000_000,
            nanos: 123_456_000,
        });
        Ok(Response::new(User {
            id: request.into_inner().id,
            email: "user1234@example.com".to_owned(),
            display_name: "Somebody".to_owned(),
            create_time: time,
            update_time: time,
            etag: "v1".to_owned(),
        }))
    }

    async fn update_user(&self, _: Request<UpdateUserRequest>) -> Result<Response<User>, Status> {
        Err(Status::unimplemented("an echo"))
    }

    async fn delete_user(&self, _: Request<DeleteUserRequest>) -> Result<Response<()>, Status> {
        Err(Status::unimplemented("an echo"))
    }

    async fn list_users(&self, _: Request<ListUsersRequest>) -> Result<Response<ListUsersResponse>, Status> {
        Err(Status::unimplemented("an echo"))
    }
}

/// Says where it listens, and serves until it is killed.
pub(crate) async fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{{\"grpc\":\"{}\"}}", listener.local_addr().unwrap());
    println!("{{\"message\":\"ready\"}}");
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder().add_service(UserServiceServer::new(Echo));
    server.serve_with_incoming(incoming).await.unwrap();
}
