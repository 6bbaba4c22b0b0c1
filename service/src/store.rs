//! Where users are kept: in PostgreSQL, or in a file of SQLite that several processes may share. It must not know gRPC.
//!
//! Both databases get the same statements (`statements`); what differs between them stands in `postgres` and `sqlite`.

mod error;
mod glance;
mod id;
mod migrations;
mod postgres;
mod sqlite;
mod statements;
#[cfg(test)]
mod tests;
mod url;
mod user;

use jiff::Timestamp;
use sqlx::PgPool;

pub(crate) use self::error::StoreError;
use self::error::Tries;
pub(crate) use self::id::UserId;
use self::sqlite::Lanes;
use self::statements::{Created, in_postgres, in_sqlite};
pub use self::url::{DatabaseUrl, DatabaseUrlError};
pub(crate) use self::user::{Change, NewUser, RequestId, Seen, User};

/// Keeps users. An e-mail address belongs to one user at most, whatever the case of its ASCII letters. Clones share it.
#[derive(Clone, Debug)]
pub(crate) enum Store {
    Postgres(PgPool),
    Sqlite(Lanes),
}

/// Asks either database, again where that may help. `$access` says which of SQLite's connections may do it.
macro_rules! ask {
    ($store:expr, $access:ident, $tries:expr, $query:ident($($argument:expr),*)) => {{
        let mut tries = $tries;
        loop {
            let answer = match $store {
                Store::Postgres(pool) => match pool.acquire().await {
                    Ok(mut connection) => in_postgres::$query(&mut connection, $($argument),*).await,
                    Err(error) => Err(error),
                },
                Store::Sqlite(lanes) => match lanes.$access().await {
                    Ok(mut lane) => {
                        let answer = in_sqlite::$query(lane.connection(), $($argument),*).await;
                        lane.judge(&answer);
                        answer
                    }
                    Err(error) => Err(error),
                },
            };
            match answer {
                Err(error) if tries.another(&error).await => {}
                answer => break answer.map_err(StoreError::from),
            }
        }
    }};
}

impl Store {
    /// Opens what the address names. A file is opened at once, a server is reached when it is needed.
    pub(crate) async fn open(url: &DatabaseUrl, connections: u32) -> Result<Self, StoreError> {
        Ok(match url {
            DatabaseUrl::Postgres(options) => Self::Postgres(postgres::pool(options, connections)),
            DatabaseUrl::Sqlite(file) => Self::Sqlite(Lanes::open(file, connections).await?),
        })
    }

    /// Brings the schema to this version's, unless it is there or beyond: a newer version may run beside this one.
    pub(crate) async fn migrate(&self, now: Timestamp) -> Result<(), StoreError> {
        self.migrate_to(migrations::NEWEST, now).await
    }

    async fn migrate_to(&self, version: i64, now: Timestamp) -> Result<(), StoreError> {
        ask!(self, writer, Tries::of_a_write(), migrate(version, now))
    }

    /// Whether the database answers.
    pub(crate) async fn ping(&self) -> Result<(), StoreError> {
        ask!(self, reader, Tries::of_a_read(), ping())?;
        if let Self::Sqlite(lanes) = self {
            lanes.mend().await;
        }
        Ok(())
    }

    /// Keeps a new user. With a request id that was there before, what that request made is returned, and nothing is made.
    pub(crate) async fn create(
        &self,
        user: NewUser,
        request: Option<&RequestId>,
        now: Timestamp,
    ) -> Result<(User, Novelty), StoreError> {
        let user = User::new(user, now, rand::random());
        match ask!(self, writer, Tries::of_a_write(), create(&user, request))? {
            Created::Now => Ok((user, Novelty::New)),
            Created::Before(earlier)
                if (&earlier.email, &earlier.display_name) == (&user.email, &user.display_name) =>
            {
                Ok((earlier, Novelty::Repeated))
            }
            Created::Before(_) => Err(StoreError::RequestReused),
            Created::EmailTaken => Err(StoreError::EmailTaken(user.email)),
        }
    }

    pub(crate) async fn get(&self, id: UserId) -> Result<User, StoreError> {
        if let Self::Sqlite(lanes) = self
            && let Ok(found) = lanes.glance(id)
        {
            return found.ok_or(StoreError::NotFound(id));
        }
        ask!(self, reader, Tries::of_a_read(), get(id))?.ok_or(StoreError::NotFound(id))
    }

    pub(crate) async fn update(
        &self,
        id: UserId,
        seen: Seen,
        change: &Change,
        now: Timestamp,
    ) -> Result<User, StoreError> {
        match ask!(self, writer, Tries::of_a_write(), update(id, seen, change, now))? {
            statements::Updated::Now(user) => Ok(user),
            statements::Updated::EmailTaken => Err(StoreError::EmailTaken(change.email.clone().unwrap_or_default())),
            statements::Updated::NotSo => Err(self.why_not(id, seen).await),
        }
    }

    pub(crate) async fn delete(&self, id: UserId, seen: Seen) -> Result<(), StoreError> {
        match ask!(self, writer, Tries::of_a_write(), delete(id, seen))? {
            0 => Err(self.why_not(id, seen).await),
            _ => Ok(()),
        }
    }

    /// Why there was no such user in such a state.
    async fn why_not(&self, id: UserId, seen: Seen) -> StoreError {
        match (seen, self.get(id).await) {
            (Seen::Version(_), Ok(_)) => StoreError::Stale(id),
            // Without a version to compare, it was gone at that moment.
            (Seen::Any, Ok(_)) => StoreError::NotFound(id),
            (_, Err(error)) => error,
        }
    }

    /// At most `limit` users in the order of their ids, from the first one after `after`.
    pub(crate) async fn list(&self, after: Option<UserId>, limit: usize) -> Result<Vec<User>, StoreError> {
        ask!(self, reader, Tries::of_a_read(), list(after, limit))
    }

    /// Forgets the requests made before this moment.
    pub(crate) async fn forget_requests(&self, before: Timestamp) -> Result<u64, StoreError> {
        ask!(self, writer, Tries::of_a_write(), forget_requests(before))
    }
}

/// Whether a create made its user now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Novelty {
    New,
    Repeated,
}
