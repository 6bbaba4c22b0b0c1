//! The schema's history. It must not know the statements.
//!
//! Stable and canary use one database at the same time, and a rollback puts the older one in charge of what the newer one
//! has made of it. So a schema changes in two releases. One **expands**: new tables, new columns that may be empty; what
//! older versions ask still means the same. A later one **contracts**: it removes what no version asks for that may still be
//! deployed. The tests run each version's statements on the other's schema. What was released is never edited.

/// One step forward; there are none back, as an older version runs on the newer schema.
#[derive(Debug)]
pub(super) struct Migration {
    pub(super) version: i64,
    pub(super) sql: &'static str,
}

/// The schema that this version asks for.
pub(super) const NEWEST: i64 = 2;

/// The book of what was done.
pub(super) const BOOK: &str =
    "CREATE TABLE IF NOT EXISTS schema_migrations (version BIGINT PRIMARY KEY, applied_time BIGINT NOT NULL)";
pub(super) const PRESENT: &str = "SELECT CAST(COALESCE(MAX(version), 0) AS BIGINT) FROM schema_migrations";
pub(super) const DONE: &str = "INSERT INTO schema_migrations (version, applied_time) VALUES ($1, $2)";

pub(super) const SQLITE: [Migration; 2] = [
    Migration {
        version: 1,
        sql: include_str!("../../migrations/sqlite/0001_users.sql"),
    },
    Migration {
        version: 2,
        sql: include_str!("../../migrations/sqlite/0002_create_requests.sql"),
    },
];

pub(super) const POSTGRES: [Migration; 2] = [
    Migration {
        version: 1,
        sql: include_str!("../../migrations/postgres/0001_users.sql"),
    },
    Migration {
        version: 2,
        sql: include_str!("../../migrations/postgres/0002_create_requests.sql"),
    },
];
