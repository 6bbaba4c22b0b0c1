//! What is kept of a user, and what can be asked for. It must not know where it is kept.

use std::str::FromStr;

use jiff::Timestamp;
use thiserror::Error;

use super::UserId;

/// A user as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) id: UserId,
    pub(crate) email: String,
    pub(crate) display_name: String,
    /// Whole microseconds, as databases keep no more.
    pub(crate) create_time: Timestamp,
    pub(crate) update_time: Timestamp,
    /// Starts at 1, and rises by one with each change.
    pub(crate) version: i64,
}

impl User {
    /// A user that is created `now`.
    pub(super) fn new(user: NewUser, now: Timestamp, random: u128) -> Self {
        let NewUser { email, display_name } = user;
        let now = micros(now);
        Self {
            id: UserId::new(now, random),
            email,
            display_name,
            create_time: now,
            update_time: now,
            version: 1,
        }
    }
}

/// The time without what databases would cut off.
pub(super) fn micros(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

/// An address as it is compared: the case of its ASCII letters makes no other address.
pub(super) fn email_key(email: &str) -> String {
    email.to_ascii_lowercase()
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
    Version(i64),
}

/// What a client calls one request to create a user, however often it sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestId(String);

/// A text that cannot name a request.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("must be at most 64 printable ASCII characters without spaces, such as a UUID")]
pub(crate) struct NotARequestId;

impl RequestId {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RequestId {
    type Err = NotARequestId;

    fn from_str(text: &str) -> Result<Self, NotARequestId> {
        let is_one = (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_one {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotARequestId)
        }
    }
}
