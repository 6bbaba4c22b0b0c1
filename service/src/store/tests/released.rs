//! Two versions beside each other on one database, as during a canary: each one's statements on the other's schema, and on
//! what the other has written.
//!
//! `OLD` is what version 1 of the schema was released with, word for word. It stays until no such version can be deployed.

use sqlx::Row as _;

use super::*;
use crate::store::statements::GET;

struct Old {
    insert: &'static str,
    get: &'static str,
    update: &'static str,
    delete: &'static str,
    list: &'static str,
    schema: i64,
}

const OLD: Old = Old {
    insert: "INSERT INTO users (id, email, email_key, display_name, create_time, update_time, version) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
    get: "SELECT id, email, display_name, create_time, update_time, version FROM users WHERE id = $1",
    update: "UPDATE users SET email = COALESCE($3, email), email_key = COALESCE($4, email_key), \
             display_name = COALESCE($5, display_name), update_time = $6, version = version + 1 \
             WHERE id = $1 AND version = COALESCE($2, version) \
             RETURNING id, email, display_name, create_time, update_time, version",
    delete: "DELETE FROM users WHERE id = $1 AND version = COALESCE($2, version)",
    list: "SELECT id, email, display_name, create_time, update_time, version FROM users WHERE id > $1 ORDER BY id LIMIT $2",
    schema: 1,
};

/// The old version's life of a user, which meets `theirs`, a user of the new version.
macro_rules! old_life {
    ($connection:expr, $theirs:expr) => {{
        let (connection, theirs): (_, &User) = ($connection, $theirs);
        let (id, time) = ([9_u8; 16], 1_000_000_i64);
        let inserted = sqlx::query(OLD.insert)
            .bind(&id[..])
            .bind("Old@example.com")
            .bind("old@example.com")
            .bind("Old")
            .bind(time)
            .bind(time)
            .bind(1_i64)
            .execute(&mut *connection)
            .await
            .unwrap();
        assert_eq!(inserted.rows_affected(), 1);
        let row = sqlx::query(OLD.get)
            .bind(&theirs.id.to_bytes()[..])
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        assert_eq!(row.get::<String, _>(1), theirs.email);
        let changed = sqlx::query(OLD.update)
            .bind(&theirs.id.to_bytes()[..])
            .bind(Some(theirs.version))
            .bind(None::<&str>)
            .bind(None::<&str>)
            .bind(Some("Changed"))
            .bind(2 * time)
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        assert_eq!(changed.get::<i64, _>(5), theirs.version + 1);
        let all = sqlx::query(OLD.list)
            .bind(Vec::<u8>::new())
            .bind(10_i64)
            .fetch_all(&mut *connection)
            .await
            .unwrap();
        assert_eq!(all.len(), 2);
        let taken = sqlx::query(OLD.insert)
            .bind(&[8_u8; 16][..])
            .bind(&theirs.email)
            .bind(theirs.email.to_lowercase())
            .bind("")
            .bind(time)
            .bind(time)
            .bind(1_i64)
            .execute(&mut *connection)
            .await
            .unwrap_err();
        assert!(taken.as_database_error().unwrap().is_unique_violation(), "{taken}");
        let gone = sqlx::query(OLD.delete)
            .bind(&id[..])
            .bind(None::<i64>)
            .execute(&mut *connection)
            .await
            .unwrap();
        assert_eq!(gone.rows_affected(), 1);
    }};
}

#[tokio::test]
async fn the_old_versions_statements_work_on_the_new_schema() {
    for (name, store) in stores().await.0 {
        let request: RequestId = "c6b5b1f0".parse().unwrap();
        let (theirs, _) = store
            .create(somebody("new@example.com"), Some(&request), at(1))
            .await
            .unwrap();
        match &store {
            Store::Postgres(pool) => {
                let mut connection = pool.acquire().await.unwrap();
                old_life!(&mut *connection, &theirs);
            }
            Store::Sqlite(lanes) => {
                let mut lane = lanes.writer().await.unwrap();
                old_life!(lane.connection(), &theirs);
            }
        }
        let after = store.get(theirs.id).await.unwrap();
        assert_eq!(
            (after.display_name.as_str(), after.version),
            ("Changed", 2),
            "{name}: the new one reads what the old one wrote"
        );
    }
}

/// As where a person migrates, and the new version comes first: all works but what the new schema is for.
#[tokio::test]
async fn the_new_versions_statements_work_on_the_old_schema() {
    for (name, store) in databases().await.0 {
        store.migrate_to(OLD.schema, at(0)).await.unwrap();
        let user = create(&store, "ada@example.com", 1).await.unwrap();
        assert!(
            matches!(
                create(&store, "ADA@example.com", 2).await,
                Err(StoreError::EmailTaken(_))
            ),
            "{name}"
        );
        let user = store
            .update(user.id, Seen::Version(1), &email("b@example.com"), at(2))
            .await
            .unwrap();
        assert_eq!(
            store.list(None, 10).await.unwrap(),
            std::slice::from_ref(&user),
            "{name}"
        );
        store.ping().await.unwrap();
        let request: RequestId = "c6b5b1f0".parse().unwrap();
        let refused = store.create(somebody("c@example.com"), Some(&request), at(3)).await;
        assert!(
            matches!(refused, Err(StoreError::SchemaBehind(_))),
            "{name}: {refused:?}"
        );
        let told = tonic::Status::from(refused.unwrap_err());
        assert_eq!(
            told.code(),
            tonic::Code::Unavailable,
            "{name}: it is no fault of the code"
        );
        assert!(!told.message().contains("create_requests"), "{name}: {told}");
        store.delete(user.id, Seen::Version(2)).await.unwrap();
        assert_eq!(
            store.list(None, 10).await.unwrap(),
            [],
            "{name}: nothing of the refused one was kept"
        );
    }
}

#[tokio::test]
async fn a_schema_is_brought_further_once_and_never_back() {
    for (name, store) in databases().await.0 {
        store.migrate_to(OLD.schema, at(0)).await.unwrap();
        let user = create(&store, "ada@example.com", 1).await.unwrap();
        store.migrate(at(2)).await.unwrap();
        store.migrate(at(3)).await.unwrap();
        // A pod of the old version that starts again after the new one's migration.
        store.migrate_to(OLD.schema, at(4)).await.unwrap();
        assert_eq!(store.get(user.id).await.unwrap(), user, "{name}");
        let request: RequestId = "c6b5b1f0".parse().unwrap();
        store
            .create(somebody("new@example.com"), Some(&request), at(5))
            .await
            .unwrap();
    }
}

#[test]
fn what_is_asked_for_a_user_has_not_changed_since() {
    // Once it has, the statements above differ from the present ones, and the two tests are worth more.
    assert_eq!(GET, OLD.get);
}
