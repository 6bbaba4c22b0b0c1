//! `user.UserService`: from messages to the store and back, with the right status codes.
//! It must not know how users are kept, nor how calls are counted or made to fail.

mod request;

use std::sync::Arc;

use tonic::{Request, Response, Status};
use user_proto::user_service_server::{UserService, UserServiceServer};
use user_proto::{
    CreateUserRequest, DeleteUserRequest, GetUserRequest, ListUsersRequest, ListUsersResponse, UpdateUserRequest,
};

use crate::metrics::Metrics;
use crate::page::{self, UnknownToken};
use crate::store::{Store, StoreError, User};
use crate::validate::Violation;
use crate::{clock, grpc::request::Page};

/// The service over a store.
#[derive(Debug)]
pub(crate) struct Users<S> {
    store: S,
    metrics: Arc<Metrics>,
}

impl<S: Store> Users<S> {
    pub(crate) fn server(store: S, metrics: Arc<Metrics>) -> UserServiceServer<Self> {
        UserServiceServer::new(Self { store, metrics })
    }
}

#[tonic::async_trait]
impl<S: Store> UserService for Users<S> {
    async fn create_user(&self, request: Request<CreateUserRequest>) -> Result<Response<user_proto::User>, Status> {
        let user = request::create(request.into_inner())?;
        let user = self.store.create(user, clock::now()).await?;
        self.metrics.users_created.inc();
        Ok(Response::new(user.into()))
    }

    async fn get_user(&self, request: Request<GetUserRequest>) -> Result<Response<user_proto::User>, Status> {
        let GetUserRequest { id } = request.into_inner();
        let user = self.store.get(request::id("id", &id)?).await?;
        Ok(Response::new(user.into()))
    }

    async fn update_user(&self, request: Request<UpdateUserRequest>) -> Result<Response<user_proto::User>, Status> {
        let (id, seen, change) = request::update(request.into_inner())?;
        let user = self.store.update(id, seen, change, clock::now()).await?;
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

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::NotFound(_) => Self::not_found(message),
            StoreError::EmailTaken(_) => Self::already_exists(message),
            StoreError::Stale(_) => Self::aborted(message),
        }
    }
}

impl From<Violation> for Status {
    fn from(violation: Violation) -> Self {
        Self::invalid_argument(violation.to_string())
    }
}

impl From<UnknownToken> for Status {
    fn from(error: UnknownToken) -> Self {
        Self::invalid_argument(error.to_string())
    }
}
