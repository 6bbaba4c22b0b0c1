//! Why a store did not do what it was asked, and what is worth another try. It must not know what was asked.

use std::time::Duration;

use sqlx::Error;
use sqlx::error::DatabaseError;
use thiserror::Error;

use super::UserId;

/// Why a store did not do what it was asked.
#[derive(Debug, Error)]
pub(crate) enum StoreError {
    #[error("no user has the id {0}")]
    NotFound(UserId),
    #[error("another user has the e-mail address {0}")]
    EmailTaken(String),
    #[error("user {0} has changed since it was read; read it again, then retry")]
    Stale(UserId),
    #[error("this request id was used to create another user")]
    RequestReused,
    /// It is gone, or too busy: the same may succeed later.
    #[error("the database does not answer: {0}")]
    Unavailable(#[source] Error),
    /// It lacks a table or column that this needs: nobody has migrated it so far.
    #[error("the database's schema is older than this version needs: {0}")]
    SchemaBehind(#[source] Error),
    /// A mistake of ours, or data that is no longer what we wrote.
    #[error("the database does not do what it should: {0}")]
    Broken(#[source] Error),
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        if is_unavailable(&error) {
            Self::Unavailable(error)
        } else if is_schema_behind(&error) {
            Self::SchemaBehind(error)
        } else {
            Self::Broken(error)
        }
    }
}

/// Whether an insert or update met another user's address.
pub(super) fn is_taken(error: &Error) -> bool {
    matches!(error, Error::Database(error) if error.is_unique_violation())
}

/// Whether the connection or the whole database can't be used now.
pub(super) fn is_unavailable(error: &Error) -> bool {
    match error {
        Error::Io(_)
        | Error::Tls(_)
        | Error::Protocol(_)
        | Error::PoolTimedOut
        | Error::PoolClosed
        | Error::WorkerCrashed => true,
        Error::Database(error) => is_contended(error.as_ref()) || is_out_of_service(error.as_ref()),
        _ => false,
    }
}

/// Others were at the same rows or the same file: nothing was done, and the next try may get through.
fn is_contended(error: &dyn DatabaseError) -> bool {
    const SQLITE_BUSY: i64 = 5;
    const SQLITE_LOCKED: i64 = 6;
    match code(error) {
        Code::Sqlite(code) => matches!(code, SQLITE_BUSY | SQLITE_LOCKED),
        // serialization_failure, deadlock_detected, lock_not_available
        Code::Postgres(code) => matches!(code.as_str(), "40001" | "40P01" | "55P03"),
    }
}

fn is_out_of_service(error: &dyn DatabaseError) -> bool {
    match code(error) {
        // READONLY, IOERR, FULL, CANTOPEN, PROTOCOL
        Code::Sqlite(code) => matches!(code, 8 | 10 | 13 | 14 | 15),
        // Connections, resources, an operator's word (a shutdown, a statement that takes too long), a failover to a replica that only reads.
        Code::Postgres(code) => ["08", "53", "57"].iter().any(|class| code.starts_with(class)) || code == "25006",
    }
}

/// Whether a table or column is not there. Statements are fixed, so that it is the schema that lags behind.
fn is_schema_behind(error: &Error) -> bool {
    let Error::Database(error) = error else { return false };
    match code(error.as_ref()) {
        // SQLite has one code for all that a statement may get wrong, and tells these two in words.
        Code::Sqlite(1) => ["no such table", "no such column"]
            .iter()
            .any(|words| error.message().starts_with(words)),
        Code::Sqlite(_) => false,
        // undefined_table, undefined_column
        Code::Postgres(code) => matches!(code.as_str(), "42P01" | "42703"),
    }
}

enum Code {
    /// The primary result code.
    Sqlite(i64),
    Postgres(String),
}

fn code(error: &dyn DatabaseError) -> Code {
    let text = error.code().unwrap_or_default();
    match text.parse::<i64>() {
        // SQLSTATE has five characters always; the extended codes of SQLite have the primary one in their low byte.
        Ok(code) if text.len() < 5 => Code::Sqlite(code & 0xff),
        _ => Code::Postgres(text.into_owned()),
    }
}

/// How often the same is asked again.
#[derive(Debug)]
pub(super) struct Tries {
    left: u32,
    /// Whether it may have been done though the answer never came.
    is_read: bool,
    pause: Duration,
}

impl Tries {
    /// What reads may be asked again also when a connection broke, as one does that waited in a pool while its server went.
    pub(super) fn of_a_read() -> Self {
        Self {
            left: 2,
            is_read: true,
            pause: Duration::from_millis(2),
        }
    }

    /// Only what certainly was not done is asked again.
    pub(super) fn of_a_write() -> Self {
        Self {
            is_read: false,
            ..Self::of_a_read()
        }
    }

    /// Whether to ask again; it is time to when this returns.
    pub(super) async fn another(&mut self, error: &Error) -> bool {
        let helps = match error {
            Error::Database(error) if is_contended(error.as_ref()) => true,
            Error::PoolTimedOut | Error::PoolClosed => false,
            error => self.is_read && is_unavailable(error),
        };
        if !helps || self.left == 0 {
            return false;
        }
        self.left -= 1;
        // Those who met at a lock should not meet there again.
        tokio::time::sleep(self.pause.mul_f64(rand::random_range(0.5..1.5))).await;
        self.pause *= 4;
        true
    }
}
