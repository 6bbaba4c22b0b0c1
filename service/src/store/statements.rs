//! What is asked of both databases, in one dialect that both understand. It must not know who asks, nor why.

use jiff::Timestamp;
use sqlx::{Connection as _, Error, Row as _};

use super::error::is_taken;
use super::user::{Change, RequestId, Seen, User, email_key, micros};
use super::{UserId, migrations};

/// The columns of a user, in the order in which they are read.
macro_rules! user_columns {
    () => {
        "id, email, display_name, create_time, update_time, version"
    };
}

pub(super) const INSERT: &str = "INSERT INTO users (id, email, email_key, display_name, create_time, update_time, version) \
     VALUES ($1, $2, $3, $4, $5, $6, $7)";
pub(super) const GET: &str = concat!("SELECT ", user_columns!(), " FROM users WHERE id = $1");
pub(super) const UPDATE: &str = concat!(
    "UPDATE users SET email = COALESCE($3, email), email_key = COALESCE($4, email_key), \
     display_name = COALESCE($5, display_name), update_time = $6, version = version + 1 \
     WHERE id = $1 AND version = COALESCE($2, version) RETURNING ",
    user_columns!()
);
pub(super) const DELETE: &str = "DELETE FROM users WHERE id = $1 AND version = COALESCE($2, version)";
pub(super) const LIST: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM users WHERE id > $1 ORDER BY id LIMIT $2"
);
const PING: &str = "SELECT version FROM schema_migrations LIMIT 1";

// Since schema 2. Only creates with a request id need it.
const REMEMBER: &str = "INSERT INTO create_requests (request_id, user_id, email, display_name, create_time) \
     VALUES ($1, $2, $3, $4, $5) ON CONFLICT (request_id) DO NOTHING";
const RECALL: &str = "SELECT user_id, email, display_name, create_time, create_time, CAST(1 AS BIGINT) FROM create_requests WHERE request_id = $1";
const FORGET: &str = "DELETE FROM create_requests WHERE create_time < $1";

/// How a create ended.
#[derive(Debug)]
pub(super) enum Created {
    Now,
    /// What the same request has created before.
    Before(User),
    EmailTaken,
}

/// How an update ended.
#[derive(Debug)]
pub(super) enum Updated {
    Now(User),
    EmailTaken,
    /// There is no such user in such a state.
    NotSo,
}

fn version_of(seen: Seen) -> Option<i64> {
    match seen {
        Seen::Any => None,
        Seen::Version(version) => Some(version),
    }
}

/// What a row says that no user can be.
fn unreadable(column: &str, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::ColumnDecode {
        index: column.to_owned(),
        source: why.into(),
    }
}

fn time(column: &str, micros: i64) -> Result<Timestamp, Error> {
    Timestamp::from_microsecond(micros).map_err(|error| unreadable(column, error))
}

macro_rules! statements {
    ($name:ident, $Connection:ty, $Row:ty, begin: $begin:literal, alone: $alone:literal, migrations: $migrations:path) => {
        pub(super) mod $name {
            use super::*;

            fn user(row: &$Row) -> Result<User, Error> {
                let id: &[u8] = row.try_get(0)?;
                let id = id
                    .try_into()
                    .map_err(|error| unreadable("id", Box::new(error) as Box<_>))?;
                Ok(User {
                    id: UserId::from_bytes(id),
                    email: row.try_get(1)?,
                    display_name: row.try_get(2)?,
                    create_time: time("create_time", row.try_get(3)?)?,
                    update_time: time("update_time", row.try_get(4)?)?,
                    version: row.try_get(5)?,
                })
            }

            pub(in crate::store) async fn get(connection: &mut $Connection, id: UserId) -> Result<Option<User>, Error> {
                let row = sqlx::query(GET)
                    .bind(&id.to_bytes()[..])
                    .fetch_optional(connection)
                    .await?;
                row.as_ref().map(user).transpose()
            }

            pub(in crate::store) async fn list(
                connection: &mut $Connection,
                after: Option<UserId>,
                limit: usize,
            ) -> Result<Vec<User>, Error> {
                // Nothing comes before what is empty.
                let after = after.map(|id| id.to_bytes().to_vec()).unwrap_or_default();
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                let rows = sqlx::query(LIST)
                    .bind(after)
                    .bind(limit)
                    .fetch_all(connection)
                    .await?;
                rows.iter().map(user).collect()
            }

            pub(in crate::store) async fn create(
                connection: &mut $Connection,
                new: &User,
                request: Option<&RequestId>,
            ) -> Result<Created, Error> {
                let Some(request) = request else {
                    return insert(connection, new).await;
                };
                let mut transaction = connection.begin_with($begin).await?;
                // First, as the same request made twice at once must wait here for the other one's end.
                let remembered = sqlx::query(REMEMBER)
                    .bind(request.as_str())
                    .bind(&new.id.to_bytes()[..])
                    .bind(&new.email)
                    .bind(&new.display_name)
                    .bind(new.create_time.as_microsecond())
                    .execute(&mut *transaction)
                    .await?;
                if remembered.rows_affected() == 0 {
                    let row = sqlx::query(RECALL)
                        .bind(request.as_str())
                        .fetch_one(&mut *transaction)
                        .await?;
                    let earlier = user(&row)?;
                    transaction.rollback().await?;
                    return Ok(Created::Before(earlier));
                }
                let created = insert(&mut transaction, new).await?;
                match created {
                    Created::Now => transaction.commit().await?,
                    _ => transaction.rollback().await?,
                }
                Ok(created)
            }

            async fn insert(connection: &mut $Connection, new: &User) -> Result<Created, Error> {
                let User {
                    id,
                    email,
                    display_name,
                    create_time,
                    update_time,
                    version,
                } = new;
                let inserted = sqlx::query(INSERT)
                    .bind(&id.to_bytes()[..])
                    .bind(email)
                    .bind(email_key(email))
                    .bind(display_name)
                    .bind(create_time.as_microsecond())
                    .bind(update_time.as_microsecond())
                    .bind(*version)
                    .execute(connection)
                    .await;
                match inserted {
                    Ok(_) => Ok(Created::Now),
                    Err(error) if is_taken(&error) => Ok(Created::EmailTaken),
                    Err(error) => Err(error),
                }
            }

            pub(in crate::store) async fn update(
                connection: &mut $Connection,
                id: UserId,
                seen: Seen,
                change: &Change,
                now: Timestamp,
            ) -> Result<Updated, Error> {
                let Change { email, display_name } = change;
                let updated = sqlx::query(UPDATE)
                    .bind(&id.to_bytes()[..])
                    .bind(version_of(seen))
                    .bind(email.as_deref())
                    .bind(email.as_deref().map(email_key))
                    .bind(display_name.as_deref())
                    .bind(micros(now).as_microsecond())
                    .fetch_optional(connection)
                    .await;
                match updated {
                    Ok(Some(row)) => user(&row).map(Updated::Now),
                    Ok(None) => Ok(Updated::NotSo),
                    Err(error) if is_taken(&error) => Ok(Updated::EmailTaken),
                    Err(error) => Err(error),
                }
            }

            /// How many there were: one or none.
            pub(in crate::store) async fn delete(
                connection: &mut $Connection,
                id: UserId,
                seen: Seen,
            ) -> Result<u64, Error> {
                let deleted = sqlx::query(DELETE)
                    .bind(&id.to_bytes()[..])
                    .bind(version_of(seen))
                    .execute(connection)
                    .await?;
                Ok(deleted.rows_affected())
            }

            pub(in crate::store) async fn forget_requests(
                connection: &mut $Connection,
                before: Timestamp,
            ) -> Result<u64, Error> {
                Ok(sqlx::query(FORGET)
                    .bind(before.as_microsecond())
                    .execute(connection)
                    .await?
                    .rows_affected())
            }

            pub(in crate::store) async fn ping(connection: &mut $Connection) -> Result<(), Error> {
                sqlx::query(PING).execute(connection).await.map(drop)
            }

            pub(in crate::store) async fn migrate(
                connection: &mut $Connection,
                version: i64,
                now: Timestamp,
            ) -> Result<(), Error> {
                // Those who start at the same time wait here, and find it done.
                let mut transaction = connection.begin_with($begin).await?;
                sqlx::raw_sql($alone).execute(&mut *transaction).await?;
                sqlx::raw_sql(migrations::BOOK).execute(&mut *transaction).await?;
                let row = sqlx::query(migrations::PRESENT)
                    .fetch_one(&mut *transaction)
                    .await?;
                let present: i64 = row.try_get(0)?;
                for step in $migrations
                    .iter()
                    .filter(|step| present < step.version && step.version <= version)
                {
                    sqlx::raw_sql(step.sql).execute(&mut *transaction).await?;
                    sqlx::query(migrations::DONE)
                        .bind(step.version)
                        .bind(now.as_microsecond())
                        .execute(&mut *transaction)
                        .await?;
                    tracing::info!(
                        version = step.version,
                        "the database's schema was brought further"
                    );
                }
                if present > version {
                    tracing::info!(
                        present,
                        own = version,
                        "the database's schema is newer than this version: that is fine"
                    );
                }
                transaction.commit().await
            }
        }
    };
}

statements!(in_sqlite, sqlx::SqliteConnection, sqlx::sqlite::SqliteRow,
    begin: "BEGIN IMMEDIATE", alone: "SELECT 1", migrations: migrations::SQLITE);
statements!(in_postgres, sqlx::PgConnection, sqlx::postgres::PgRow,
    begin: "BEGIN", alone: "SELECT pg_advisory_xact_lock(5275147266018713)", migrations: migrations::POSTGRES);
