//! What caches keep, and when they are believed.

use serde_json::json;

use super::*;

fn set(name: &str, of: &str) -> ReplicaSet {
    serde_json::from_value(json!({ "metadata": {
        "name": name, "namespace": "prod",
        "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": of, "uid": "u", "controller": true }],
    } }))
    .unwrap()
}

/// Nothing of these tests asks the API server.
fn cache() -> Cache<ReplicaSet> {
    let nowhere = kube::Config::new("http://127.0.0.1:9".parse().unwrap());
    Cache::new(&Client::try_from(nowhere).unwrap(), Asked::ByAnother(owner), |_| {})
}

fn names(cache: &Cache<ReplicaSet>, of: &str) -> Option<Vec<String>> {
    let sets = cache.read(Reads::Kept, "prod", of)?;
    Some(sets.iter().map(|set| set.name_any()).collect())
}

fn told(cache: &Cache<ReplicaSet>, events: impl IntoIterator<Item = Event<ReplicaSet>>) {
    for event in events {
        cache.kept.write().unwrap().take(&event, cache.asked);
    }
}

/// One that has listed this set of the Deployment `web`, and nothing else.
fn with_one_set() -> Cache<ReplicaSet> {
    let cache = cache();
    told(
        &cache,
        [Event::Init, Event::InitApply(set("web-1", "web")), Event::InitDone],
    );
    cache
}

#[tokio::test]
async fn the_api_server_is_asked_until_a_list_is_whole() {
    let cache = cache();
    told(&cache, [Event::Init, Event::InitApply(set("web-1", "web"))]);
    assert_eq!(names(&cache, "web"), None);
    assert!(!cache.is_settled());
    told(&cache, [Event::InitDone]);
    assert!(cache.is_settled());
    assert_eq!(names(&cache, "web"), Some(vec!["web-1".to_owned()]));
    assert_eq!(names(&cache, "other"), Some(vec![]));
    assert!(cache.read(Reads::Direct, "prod", "web").is_none());
    assert_eq!(cache.read(Reads::Kept, "dev", "web").map(|sets| sets.len()), Some(0));
}

#[tokio::test]
async fn keeps_what_came_and_forgets_what_went() {
    let cache = with_one_set();
    told(
        &cache,
        [Event::Apply(set("web-2", "web")), Event::Apply(set("web-1", "other"))],
    );
    assert_eq!(names(&cache, "web"), Some(vec!["web-2".to_owned()]));
    assert_eq!(names(&cache, "other"), Some(vec!["web-1".to_owned()]));
    told(&cache, [Event::Delete(set("web-2", "web"))]);
    assert_eq!(names(&cache, "web"), Some(vec![]));
    // A new list replaces all of it.
    told(&cache, [Event::Init, Event::InitDone]);
    assert_eq!(names(&cache, "other"), Some(vec![]));
    assert!(cache.kept.read().unwrap().objects.by_other.is_empty());
}

#[tokio::test]
async fn what_belongs_to_nobody_any_more_is_asked_for_by_nobody() {
    let cache = with_one_set();
    let mut orphan = set("web-1", "web");
    orphan.metadata.owner_references = None;
    told(&cache, [Event::Apply(orphan.clone())]);
    assert_eq!(names(&cache, "web"), Some(vec![]));
    told(&cache, [Event::Delete(orphan), Event::Apply(set("web-1", "web"))]);
    assert_eq!(names(&cache, "web"), Some(vec!["web-1".to_owned()]));
}

#[tokio::test]
async fn a_watch_that_fails_is_not_believed_until_it_tells_something_again() {
    let cache = cache();
    told(&cache, [Event::Init, Event::InitDone]);
    cache.kept.write().unwrap().doubt();
    assert_eq!(names(&cache, "web"), None);
    told(&cache, [Event::Apply(set("web-1", "web"))]);
    assert_eq!(names(&cache, "web"), Some(vec!["web-1".to_owned()]));
}
