//! How users are kept: the words that all stores share. It must not know gRPC.

mod id;
mod memory;

use jiff::Timestamp;
use thiserror::Error;

pub(crate) use id::UserId;
pub(crate) use memory::MemoryStore;

/// A user as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) id: UserId,
    pub(crate) email: String,
    pub(crate) display_name: String,
    pub(crate) create_time: Timestamp,
    pub(crate) update_time: Timestamp,
    /// Starts at 1, and rises by one with each change.
    pub(crate) version: u64,
}

/// A user that is to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewUser {
    pub(crate) email: String,
    pub(crate) display_name: String,
}

/// The fields to change; `None` leaves one as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) email: Option<String>,
    pub(crate) display_name: Option<String>,
}

/// The state in which the caller last saw a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It does not matter.
    Any,
    /// Only this version.
    Version(u64),
}

impl Seen {
    fn is(self, version: u64) -> bool {
        match self {
            Self::Any => true,
            Self::Version(seen) => seen == version,
        }
    }
}

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum StoreError {
    #[error("no user has the id {0}")]
    NotFound(UserId),
    #[error("another user has the e-mail address {0}")]
    EmailTaken(String),
    #[error("user {0} has changed since it was read; read it again, then retry")]
    Stale(UserId),
}

/// Keeps users. An e-mail address belongs to one user at most, whatever the case of its ASCII letters.
pub(crate) trait Store: Send + Sync + 'static {
    fn create(&self, user: NewUser, now: Timestamp) -> impl Future<Output = Result<User, StoreError>> + Send;

    fn get(&self, id: UserId) -> impl Future<Output = Result<User, StoreError>> + Send;

    fn update(
        &self,
        id: UserId,
        seen: Seen,
        change: Change,
        now: Timestamp,
    ) -> impl Future<Output = Result<User, StoreError>> + Send;

    fn delete(&self, id: UserId, seen: Seen) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// At most `limit` users in the order of their ids, from the first one after `after`.
    fn list(&self, after: Option<UserId>, limit: usize) -> impl Future<Output = Result<Vec<User>, StoreError>> + Send;
}
