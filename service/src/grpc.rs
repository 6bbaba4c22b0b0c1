//! `user.UserService`: from messages to the store and back, with the right status codes.
//! It must not know how users are kept, nor how calls are counted or made to fail.

mod request;
pub(crate) mod status;

use std::sync::Arc;

use tonic::{Request, Response, Status};
use user_proto::user_service_server::{UserService, UserServiceServer};
use user_proto::{
    CreateUserRequest, DeleteUserRequest, GetUserRequest, ListUsersRequest, ListUsersResponse, UpdateUserRequest,
};

use crate::metrics::Metrics;
use crate::page;
use crate::store::{Novelty, Store, User};
use crate::{clock, grpc::request::Page};

/// The service over a store.
#[derive(Debug)]
pub(crate) struct Users {
    store: Store,
    metrics: Arc<Metrics>,
}

impl Users {
    /// Requests of more than `max_message_bytes` are refused before they are read whole.
    pub(crate) fn server(store: Store, metrics: Arc<Metrics>, max_message_bytes: usize) -> UserServiceServer<Self> {
        UserServiceServer::new(Self { store, metrics }).max_decoding_message_size(max_message_bytes)
    }
}

#[tonic::async_trait]
impl UserService for Users {
    async fn create_user(&self, request: Request<CreateUserRequest>) -> Result<Response<user_proto::User>, Status> {
        let (user, request_id) = request::create(request.into_inner())?;
        let (user, novelty) = self.store.create(user, request_id.as_ref(), clock::now()).await?;
        if novelty == Novelty::New {
            self.metrics.users_created.inc();
        }
        Ok(Response::new(user.into()))
    }

    async fn get_user(&self, request: Request<GetUserRequest>) -> Result<Response<user_proto::User>, Status> {
        let GetUserRequest { id } = request.into_inner();
        let user = self.store.get(request::id("id", &id)?).await?;
        Ok(Response::new(user.into()))
    }

    async fn update_user(&self, request: Request<UpdateUserRequest>) -> Result<Response<user_proto::User>, Status> {
        let (id, seen, change) = request::update(request.into_inner())?;
        let user = self.store.update(id, seen, &change, clock::now()).await?;
        self.metrics.users_updated.inc();
        Ok(Response::new(user.into()))
    }

    async fn delete_user(&self, request: Request<DeleteUserRequest>) -> Result<Response<()>, Status> {
        let DeleteUserRequest { id, etag } = request.into_inner();
        let id = request::id("id", &id)?;
        self.store.delete(id, request::seen(&etag, id)?).await?;
        self.metrics.users_deleted.inc();
        Ok(Response::new(()))
    }

    async fn list_users(&self, request: Request<ListUsersRequest>) -> Result<Response<ListUsersResponse>, Status> {
        let Page { after, size } = request::page(&request.into_inner())?;
        // One more than asked for shows whether there is a next page.
        let mut users = self.store.list(after, size + 1).await?;
        let more = users.len() > size;
        users.truncate(size);
        let next_page_token = match users.last() {
            Some(last) if more => page::token_after(last.id),
            _ => String::new(),
        };
        Ok(Response::new(ListUsersResponse {
            users: users.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }
}

impl From<User> for user_proto::User {
    fn from(user: User) -> Self {
        let User {
            id,
            email,
            display_name,
            create_time,
            update_time,
            version,
        } = user;
        Self {
            id: id.to_string(),
            email,
            display_name,
            create_time: Some(timestamp(create_time)),
            update_time: Some(timestamp(update_time)),
            etag: request::etag(version),
        }
    }
}

fn timestamp(time: jiff::Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.as_second(),
        nanos: time.subsec_nanosecond(),
    }
}
