//! Several processes on one database, each with connections of its own.

use super::*;

/// Two stores on one database, as stable and canary have it; they start at the same time.
async fn pairs() -> (Vec<(&'static str, [Store; 2])>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let urls = [
        ("file", format!("sqlite://{}/users.db", folder.path().display())),
        ("PostgreSQL", Postgres::shared().database().await),
    ];
    let mut pairs = Vec::new();
    for (name, url) in urls {
        let url: DatabaseUrl = url.parse().unwrap();
        let start = async || {
            let store = Store::open(&url, 4).await.unwrap();
            store.migrate(at(0)).await.unwrap();
            store
        };
        let (stable, canary) = tokio::join!(start(), start());
        pairs.push((name, [stable, canary]));
    }
    (pairs, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_process_writes_the_other_reads() {
    for (name, [stable, canary]) in pairs().await.0 {
        let user = create(&stable, "ada@example.com", 1).await.unwrap();
        assert_eq!(canary.get(user.id).await.unwrap(), user, "{name}");
        assert!(
            matches!(
                create(&canary, "ADA@example.com", 2).await,
                Err(StoreError::EmailTaken(_))
            ),
            "{name}"
        );
        canary.delete(user.id, Seen::Any).await.unwrap();
        assert!(
            matches!(stable.get(user.id).await, Err(StoreError::NotFound(_))),
            "{name}"
        );
    }
}

/// A lock that is not waited for would look like a bad canary.
#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_write_at_once_fail_no_call() {
    for (name, stores) in pairs().await.0 {
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..400 {
            let store = stores[number % 2].clone();
            calls.spawn(async move {
                let user = create(&store, &format!("user{number}@example.com"), 1).await?;
                store
                    .update(
                        user.id,
                        Seen::Version(1),
                        &email(&format!("new{number}@example.com")),
                        at(2),
                    )
                    .await?;
                store.get(user.id).await
            });
        }
        let failed: Vec<_> = calls.join_all().await.into_iter().filter_map(Result::err).collect();
        assert!(failed.is_empty(), "{name}: {failed:?}");
        assert_eq!(stores[0].list(None, 1_000).await.unwrap().len(), 400, "{name}");
    }
}
