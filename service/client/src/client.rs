//! The client: every call has a deadline, and is made again where that is safe. It must not know what its caller does.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tonic::transport::{Channel, Endpoint, Error};
use tonic::{Request, Response, Status};
use user_proto::user_service_client::UserServiceClient;
use user_proto::{
    CreateUserRequest, DeleteUserRequest, GetUserRequest, ListUsersRequest, ListUsersResponse, UpdateUserRequest, User,
};

use crate::retry::{Budget, Twice, is_too_late, may_help, pause};

/// How long a call may take, and how often it is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// From the call to its answer, with all tries and pauses.
    pub deadline: Duration,
    /// The most tries, the first one included.
    pub tries: u32,
    /// Before the second try; before each further one twice as long, more or less.
    pub first_pause: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(2),
            tries: 4,
            first_pause: Duration::from_millis(25),
        }
    }
}

/// A client of `user.UserService`. Clones share its connection and its budget of retries.
#[derive(Clone, Debug)]
pub struct Client {
    service: UserServiceClient<Channel>,
    policy: Policy,
    budget: Arc<Budget>,
}

impl Client {
    /// A client that connects when it is needed, and again whenever it has lost its connection.
    ///
    /// # Errors
    /// If `url` is not one, such as `http://user-service:50051`.
    pub fn new(url: impl Into<String>, policy: Policy) -> Result<Self, Error> {
        let endpoint = Endpoint::from_shared(url.into())?
            .connect_timeout(policy.deadline)
            .tcp_nodelay(true)
            // A connection whose peer has gone without a word is found, and not waited for until each call's deadline.
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(5));
        Ok(Self::over(endpoint.connect_lazy(), policy))
    }

    /// A client over a channel that is there already.
    pub fn over(channel: Channel, policy: Policy) -> Self {
        Self {
            service: UserServiceClient::new(channel),
            policy,
            budget: Arc::new(Budget::full()),
        }
    }

    /// Creates a user. A request without an id gets one, so that tries again create nobody twice.
    ///
    /// # Errors
    /// See `user.proto`; UNAVAILABLE and RESOURCE_EXHAUSTED after the last try only.
    pub async fn create_user(&self, mut request: CreateUserRequest) -> Result<User, Status> {
        if request.request_id.is_empty() {
            request.request_id = format!("{:032x}", rand::random::<u128>());
        }
        self.call(Twice::IsOnce, request, async |mut service, request| {
            service.create_user(request).await
        })
        .await
    }

    /// Reads a user.
    ///
    /// # Errors
    /// See [`Self::create_user`].
    pub async fn get_user(&self, id: impl Into<String>) -> Result<User, Status> {
        let request = GetUserRequest { id: id.into() };
        self.call(Twice::IsOnce, request, async |mut service, request| {
            service.get_user(request).await
        })
        .await
    }

    /// Changes a user. Where it is unknown whether it was done, it is not tried again: read the user, and decide.
    ///
    /// # Errors
    /// See [`Self::create_user`].
    pub async fn update_user(&self, request: UpdateUserRequest) -> Result<User, Status> {
        self.call(Twice::IsTwice, request, async |mut service, request| {
            service.update_user(request).await
        })
        .await
    }

    /// Deletes a user. Where it is unknown whether it was done, it is not tried again.
    ///
    /// # Errors
    /// See [`Self::create_user`].
    pub async fn delete_user(&self, request: DeleteUserRequest) -> Result<(), Status> {
        self.call(Twice::IsTwice, request, async |mut service, request| {
            service.delete_user(request).await
        })
        .await
    }

    /// Reads a page of users.
    ///
    /// # Errors
    /// See [`Self::create_user`].
    pub async fn list_users(&self, request: ListUsersRequest) -> Result<ListUsersResponse, Status> {
        self.call(Twice::IsOnce, request, async |mut service, request| {
            service.list_users(request).await
        })
        .await
    }

    async fn call<Q: Clone, A>(
        &self,
        twice: Twice,
        message: Q,
        attempt: impl AsyncFn(UserServiceClient<Channel>, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, Status> {
        let Policy {
            deadline,
            tries,
            first_pause,
        } = self.policy;
        let deadline = Instant::now() + deadline;
        for failed in 1.. {
            let mut request = Request::new(message.clone());
            // The service should not work on for somebody who has gone.
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
            let status = match timeout_at(deadline, attempt(self.service.clone(), request)).await {
                Ok(Ok(answer)) => {
                    self.budget.succeeded();
                    return Ok(answer.into_inner());
                }
                Ok(Err(status)) if !is_too_late(&status) => status,
                Ok(Err(_)) | Err(_) => return Err(Status::deadline_exceeded("no answer in time")),
            };
            let again = may_help(&status, twice);
            if !again || !self.budget.failed() || failed >= tries {
                return Err(status);
            }
            let pause = pause(&status, first_pause, failed, rand::random());
            if Instant::now() + pause >= deadline {
                return Err(status);
            }
            sleep(pause).await;
        }
        Err(Status::unavailable("there was no try"))
    }
}
