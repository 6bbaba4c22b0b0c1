//! Users that are looked up in a file of SQLite without a lane.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::store::glance::{Glances, Unclear};

/// What is told without waiting for anything.
fn at_once<T>(answer: impl Future<Output = T>) -> Option<T> {
    match pin!(answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

fn lanes(store: &Store) -> &Lanes {
    match store {
        Store::Sqlite(lanes) => lanes,
        Store::Postgres(_) => panic!("it is a file of SQLite"),
    }
}

struct File(tempfile::TempDir);

impl File {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("users.db")
    }

    async fn store(&self, connections: u32) -> Store {
        let url = format!("sqlite://{}", self.path().display()).parse().unwrap();
        Store::open(&url, connections).await.unwrap()
    }

    async fn with_schema(&self, connections: u32) -> Store {
        let store = self.store(connections).await;
        store.migrate(at(0)).await.unwrap();
        store
    }
}

#[tokio::test]
async fn a_user_is_told_at_once_while_every_lane_is_taken() {
    let file = File::new();
    let store = file.with_schema(4).await;
    let user = create(&store, "ada@example.com", 1).await.unwrap();
    let gone = create(&store, "bob@example.com", 2).await.unwrap().id;
    store.delete(gone, Seen::Any).await.unwrap();

    let mut taken = vec![lanes(&store).writer().await.unwrap()];
    for _ in 0..4 {
        taken.push(lanes(&store).reader().await.unwrap());
    }
    assert_eq!(
        at_once(store.get(user.id)).expect("nobody is waited for").unwrap(),
        user
    );
    let nobody = at_once(store.get(gone)).expect("nobody is waited for");
    assert!(
        matches!(&nobody, Err(StoreError::NotFound(id)) if *id == gone),
        "{nobody:?}"
    );
}

#[tokio::test]
async fn a_user_is_told_at_once_while_another_process_writes() {
    let file = File::new();
    let (stable, canary) = (file.with_schema(4).await, file.with_schema(4).await);
    let user = create(&stable, "ada@example.com", 1).await.unwrap();
    let mut writer = lanes(&canary).writer().await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE; UPDATE users SET display_name = 'Bob', version = 2")
        .execute(writer.connection())
        .await
        .unwrap();
    assert_eq!(at_once(stable.get(user.id)).unwrap().unwrap(), user, "as it was before");
    sqlx::raw_sql("COMMIT").execute(writer.connection()).await.unwrap();
    let after = at_once(stable.get(user.id)).unwrap().unwrap();
    assert_eq!((after.display_name.as_str(), after.version), ("Bob", 2));
}

/// The canary brings the schema further while stable, of the version before, goes on.
#[tokio::test]
async fn users_are_told_at_once_on_a_schema_that_has_changed_meanwhile() {
    let file = File::new();
    let (stable, canary) = (file.store(4).await, file.store(4).await);
    stable.migrate_to(1, at(0)).await.unwrap();
    let user = create(&stable, "ada@example.com", 1).await.unwrap();
    assert_eq!(at_once(stable.get(user.id)).unwrap().unwrap(), user);

    canary.migrate(at(2)).await.unwrap();
    assert_eq!(at_once(stable.get(user.id)).unwrap().unwrap(), user);

    let mut writer = lanes(&canary).writer().await.unwrap();
    sqlx::raw_sql("ALTER TABLE users ADD COLUMN nickname TEXT; CREATE INDEX by_name ON users (display_name)")
        .execute(writer.connection())
        .await
        .unwrap();
    assert_eq!(at_once(stable.get(user.id)).unwrap().unwrap(), user);
}

#[tokio::test]
async fn without_a_schema_a_lane_says_what_is_wrong_and_with_one_it_is_not_needed() {
    let file = File::new();
    let store = file.store(4).await;
    let id = UserId::new(at(1), 1);
    let behind = store.get(id).await;
    assert!(matches!(behind, Err(StoreError::SchemaBehind(_))), "{behind:?}");
    store.migrate(at(0)).await.unwrap();
    let user = create(&store, "ada@example.com", 1).await.unwrap();
    assert_eq!(at_once(store.get(user.id)).unwrap().unwrap(), user);
}

/// Then some calls take a lane.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_that_look_at_the_same_moment_get_their_users_all_the_same() {
    let file = File::new();
    let store = file.with_schema(1).await;
    let user = create(&store, "ada@example.com", 1).await.unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (store, id) = (store.clone(), user.id);
        calls.spawn(async move {
            let mut users = Vec::new();
            for _ in 0..200 {
                users.push(store.get(id).await.unwrap());
            }
            users
        });
    }
    let answers = calls.join_all().await.concat();
    assert_eq!(answers.len(), 16 * 200);
    assert!(answers.iter().all(|answer| *answer == user));
}

/// As a disk does that fails for a while: what is read no more makes no user that is not there.
#[tokio::test]
async fn a_connection_that_has_failed_is_used_again_once_it_is_opened_anew() {
    let file = File::new();
    let store = file.with_schema(1).await;
    let mut users = Vec::new();
    for second in 0..200 {
        users.push(
            create(&store, &format!("user{second}@example.com"), second)
                .await
                .unwrap(),
        );
    }
    // What was written goes from the log to the file itself, which no longer is in any connection's memory then.
    let mut writer = lanes(&store).writer().await.unwrap();
    let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
    sqlx::raw_sql(checkpoint).execute(writer.connection()).await.unwrap();
    drop(writer);

    let glances = Glances::closed(&file.path(), 1, 1024);
    assert!(matches!(glances.user(users[0].id), Err(Unclear)), "it is closed still");
    glances.mend();
    assert_eq!(glances.user(users[0].id).unwrap().as_ref(), users.first());
    let whole = std::fs::read(file.path()).unwrap();
    let handle = std::fs::File::options().write(true).open(file.path()).unwrap();
    handle.set_len(4096).unwrap();
    assert!(matches!(glances.user(users[199].id), Err(Unclear)));
    assert!(!glances.are_open());

    std::fs::write(file.path(), whole).unwrap();
    glances.mend();
    assert_eq!(glances.user(users[199].id).unwrap().as_ref(), users.last());
}

/// The look after the database each second mends what has failed.
#[tokio::test]
async fn a_ping_opens_what_has_failed() {
    let file = File::new();
    let store = file.with_schema(1).await;
    let user = create(&store, "ada@example.com", 1).await.unwrap();
    lanes(&store).close_glances();
    assert_eq!(at_once(store.get(user.id)).map(drop), None);
    assert_eq!(store.get(user.id).await.unwrap(), user, "a lane tells");
    store.ping().await.unwrap();
    assert_eq!(at_once(store.get(user.id)).unwrap().unwrap(), user);
}
