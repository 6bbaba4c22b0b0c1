//! What a store promises, on each database.

mod glances;
mod released;
mod shared;

#[path = "../../tests/postgres/mod.rs"]
mod postgres_server;

use std::collections::BTreeSet;

use jiff::Timestamp;

use self::postgres_server::Postgres;
use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn somebody(email: &str) -> NewUser {
    NewUser {
        email: email.to_owned(),
        display_name: "Ada".to_owned(),
    }
}

fn email(text: &str) -> Change {
    Change {
        email: Some(text.to_owned()),
        display_name: None,
    }
}

/// An empty database of each kind, without a schema; the folder is the file's.
async fn databases() -> (Vec<(&'static str, Store)>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let urls = [
        ("memory", "sqlite::memory:".to_owned()),
        ("file", format!("sqlite://{}/users.db", folder.path().display())),
        ("PostgreSQL", Postgres::shared().database().await),
    ];
    let mut stores = Vec::new();
    for (name, url) in urls {
        stores.push((name, Store::open(&url.parse().unwrap(), 4).await.unwrap()));
    }
    (stores, folder)
}

/// The same with the newest schema.
async fn stores() -> (Vec<(&'static str, Store)>, tempfile::TempDir) {
    let (stores, folder) = databases().await;
    for (_, store) in &stores {
        store.migrate(at(0)).await.unwrap();
    }
    (stores, folder)
}

async fn create(store: &Store, email: &str, second: i64) -> Result<User, StoreError> {
    store
        .create(somebody(email), None, at(second))
        .await
        .map(|(user, _)| user)
}

#[tokio::test]
async fn an_address_has_one_owner_whatever_its_case() {
    for (name, store) in stores().await.0 {
        create(&store, "Ada@example.com", 1).await.unwrap();
        let again = create(&store, "ada@EXAMPLE.com", 2).await;
        assert!(
            matches!(&again, Err(StoreError::EmailTaken(email)) if email == "ada@EXAMPLE.com"),
            "{name}: {again:?}"
        );
    }
}

#[tokio::test]
async fn an_address_given_up_is_free_again() {
    for (_, store) in stores().await.0 {
        let first = create(&store, "ada@example.com", 1).await.unwrap();
        store
            .update(first.id, Seen::Any, &email("new@example.com"), at(2))
            .await
            .unwrap();
        let second = create(&store, "ada@example.com", 3).await.unwrap();
        store.delete(second.id, Seen::Any).await.unwrap();
        create(&store, "ada@example.com", 4).await.unwrap();
    }
}

#[tokio::test]
async fn the_own_address_may_change_its_case() {
    for (name, store) in stores().await.0 {
        let user = create(&store, "Ada@example.com", 1).await.unwrap();
        let user = store
            .update(user.id, Seen::Any, &email("ADA@example.com"), at(2))
            .await
            .unwrap();
        assert_eq!(
            (user.email.as_str(), user.display_name.as_str()),
            ("ADA@example.com", "Ada"),
            "{name}"
        );
        assert_eq!(
            (user.create_time, user.update_time, user.version),
            (at(1), at(2), 2),
            "{name}"
        );
        assert_eq!(store.get(user.id).await.unwrap(), user, "{name}");
    }
}

#[tokio::test]
async fn a_refused_change_changes_nothing() {
    for (name, store) in stores().await.0 {
        let user = create(&store, "ada@example.com", 1).await.unwrap();
        create(&store, "bob@example.com", 2).await.unwrap();
        let taken = store.update(user.id, Seen::Any, &email("Bob@example.com"), at(3)).await;
        assert!(
            matches!(&taken, Err(StoreError::EmailTaken(email)) if email == "Bob@example.com"),
            "{name}: {taken:?}"
        );
        assert_eq!(store.get(user.id).await.unwrap(), user, "{name}");
    }
}

#[tokio::test]
async fn of_two_changes_of_one_state_the_second_is_stale() {
    for (name, store) in stores().await.0 {
        let user = create(&store, "ada@example.com", 1).await.unwrap();
        let seen = Seen::Version(user.version);
        store
            .update(user.id, seen, &email("a@example.com"), at(2))
            .await
            .unwrap();
        let second = store.update(user.id, seen, &email("b@example.com"), at(3)).await;
        assert!(matches!(second, Err(StoreError::Stale(_))), "{name}: {second:?}");
        assert!(
            matches!(store.delete(user.id, seen).await, Err(StoreError::Stale(_))),
            "{name}"
        );
        assert!(store.delete(user.id, Seen::Version(2)).await.is_ok(), "{name}");
        for seen in [seen, Seen::Any] {
            assert!(
                matches!(store.delete(user.id, seen).await, Err(StoreError::NotFound(_))),
                "{name}"
            );
        }
    }
}

#[tokio::test]
async fn pages_have_the_order_of_creation_and_each_user_once() {
    for (name, store) in stores().await.0 {
        let mut ids = Vec::new();
        for second in 0..7 {
            ids.push(
                create(&store, &format!("user{second}@example.com"), second)
                    .await
                    .unwrap()
                    .id,
            );
        }
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = store.list(after, 3).await.unwrap();
            assert!(page.len() <= 3, "{name}");
            seen.extend(page.iter().map(|user| user.id));
            match page.last() {
                Some(last) => after = Some(last.id),
                None => break,
            }
        }
        assert_eq!(seen, ids, "{name}");
    }
}

#[tokio::test]
async fn a_request_made_again_creates_nobody_and_gets_the_first_answer() {
    for (name, store) in stores().await.0 {
        let request: RequestId = "c6b5b1f0".parse().unwrap();
        let create = async |email: &str, second| store.create(somebody(email), Some(&request), at(second)).await;
        let (user, novelty) = create("ada@example.com", 1).await.unwrap();
        assert_eq!(novelty, Novelty::New, "{name}");
        store
            .update(user.id, Seen::Any, &email("new@example.com"), at(2))
            .await
            .unwrap();
        assert_eq!(
            create("ada@example.com", 3).await.unwrap(),
            (user.clone(), Novelty::Repeated),
            "{name}"
        );
        assert_eq!(store.list(None, 10).await.unwrap().len(), 1, "{name}");
        let other = create("bob@example.com", 4).await;
        assert!(matches!(other, Err(StoreError::RequestReused)), "{name}: {other:?}");

        assert_eq!(store.forget_requests(at(1)).await.unwrap(), 0, "{name}");
        assert_eq!(store.forget_requests(at(2)).await.unwrap(), 1, "{name}");
        assert_eq!(
            create("ada@example.com", 5).await.unwrap().1,
            Novelty::New,
            "{name}: it was forgotten"
        );
    }
}

#[tokio::test]
async fn a_request_that_was_refused_may_be_made_again() {
    for (name, store) in stores().await.0 {
        let request: RequestId = "c6b5b1f0".parse().unwrap();
        let owner = create(&store, "ada@example.com", 1).await.unwrap();
        let refused = store.create(somebody("ada@example.com"), Some(&request), at(2)).await;
        assert!(matches!(refused, Err(StoreError::EmailTaken(_))), "{name}: {refused:?}");
        store.delete(owner.id, Seen::Any).await.unwrap();
        let made = store.create(somebody("ada@example.com"), Some(&request), at(3)).await;
        assert_eq!(made.unwrap().1, Novelty::New, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_made_many_times_at_once_creates_one_user() {
    for (name, store) in stores().await.0 {
        let mut calls = tokio::task::JoinSet::new();
        for second in 0..16 {
            let store = store.clone();
            calls.spawn(async move {
                let request: RequestId = "c6b5b1f0".parse().unwrap();
                store
                    .create(somebody("ada@example.com"), Some(&request), at(second))
                    .await
                    .unwrap()
            });
        }
        let answers = calls.join_all().await;
        let ids: BTreeSet<_> = answers.iter().map(|(user, _)| user.id).collect();
        let made = answers.iter().filter(|(_, novelty)| *novelty == Novelty::New).count();
        assert_eq!((ids.len(), made), (1, 1), "{name}: {answers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_changes_of_one_state_at_once_one_is_made() {
    for (name, store) in stores().await.0 {
        let user = create(&store, "ada@example.com", 1).await.unwrap();
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..16 {
            let (store, id) = (store.clone(), user.id);
            calls.spawn(async move {
                let change = email(&format!("ada{number}@example.com"));
                store.update(id, Seen::Version(1), &change, at(2)).await
            });
        }
        let answers = calls.join_all().await;
        let stale = answers
            .iter()
            .filter(|answer| matches!(answer, Err(StoreError::Stale(_))))
            .count();
        assert_eq!(stale, 15, "{name}: {answers:?}");
        assert_eq!(store.get(user.id).await.unwrap().version, 2, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_is_unavailable_and_one_that_returns_is_used_again() {
    let server = Postgres::start();
    let store = Store::open(&server.database().await.parse().unwrap(), 4).await.unwrap();
    store.migrate(at(0)).await.unwrap();
    let user = create(&store, "ada@example.com", 1).await.unwrap();
    server.down();
    for answer in [store.get(user.id).await, create(&store, "bob@example.com", 2).await] {
        assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    }
    server.up();
    assert_eq!(store.get(user.id).await.unwrap(), user);
    create(&store, "bob@example.com", 3).await.unwrap();
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_unavailable() {
    let url = "sqlite:///no/such/folder/users.db".parse().unwrap();
    let refused = Store::open(&url, 1).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
}
