//! What is kept of rollouts, and how they are found.

use serde_json::json;

use super::*;

fn rollout(version: &str, deployment: &str) -> CanaryRollout {
    serde_json::from_value(json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "CanaryRollout",
        "metadata": {"name": "web", "namespace": "prod", "resourceVersion": version},
        "spec": {
            "service": {"name": "web", "port": 80}, "stable": {"deployment": deployment},
            "canary": {"deployment": "web-canary"},
            "git": {"repository": "https://git.example.com/config.git", "path": "prod", "secretRef": {"name": "config"}},
        },
    }))
    .unwrap()
}

fn key() -> Key {
    ObjectRef::new("web").within("prod")
}

/// As a watch that has listed this one.
fn told(rollouts: &Rollouts, rollout: CanaryRollout) {
    let mut kept = rollouts.write();
    kept.insert(Arc::new(rollout));
    kept.whole = true;
}

fn version_of(rollouts: &Rollouts) -> Option<String> {
    rollouts.get(&key())?.resource_version()
}

#[test]
fn a_write_of_our_own_is_never_unseen() {
    let rollouts = Rollouts::default();
    told(&rollouts, rollout("9", "web"));
    rollouts.put(rollout("10", "web"));
    told(&rollouts, rollout("9", "web"));
    assert_eq!(version_of(&rollouts).as_deref(), Some("10"));
    told(&rollouts, rollout("11", "web"));
    assert_eq!(version_of(&rollouts).as_deref(), Some("11"));
}

#[test]
fn a_write_whose_answer_was_lost_has_the_server_asked() {
    let rollouts = Rollouts::default();
    told(&rollouts, rollout("9", "web"));
    rollouts.doubt(&key());
    assert_eq!(version_of(&rollouts), None);
    told(&rollouts, rollout("10", "web"));
    assert_eq!(version_of(&rollouts), None, "another's write says nothing of ours");
    rollouts.put(rollout("11", "web"));
    assert_eq!(version_of(&rollouts).as_deref(), Some("11"));
}

#[test]
fn what_cannot_be_compared_is_not_kept() {
    let rollouts = Rollouts::default();
    told(&rollouts, rollout("a9", "web"));
    assert_eq!(version_of(&rollouts), None);
}

#[test]
fn a_rollout_is_found_by_what_it_names_now() {
    let rollouts = Rollouts::default();
    told(&rollouts, rollout("9", "web"));
    let of = |name| rollouts.of_deployment(Some("prod"), name);
    assert_eq!((of("web"), of("web-canary")), (vec![key()], vec![key()]));
    assert_eq!(rollouts.of_deployment(Some("dev"), "web"), []);
    assert_eq!(rollouts.of_route(Some("prod"), "web"), [key()]);
    let files = {
        let spec = rollout("9", "web").spec;
        access::files_of(&spec.git, &parse(&spec).unwrap().layout)
    };
    assert_eq!(rollouts.beside(&files).len(), 1);
    told(&rollouts, rollout("10", "other"));
    assert_eq!((of("web"), of("other")), (vec![], vec![key()]));
    rollouts.write().remove(&place_of(&key()));
    assert!(rollouts.beside(&files).is_empty() && of("other").is_empty());
    assert!(rollouts.read().by_file.is_empty() && rollouts.read().by_route.is_empty());
}

#[tokio::test]
async fn whoever_waits_for_samples_hears_of_an_abort_of_a_deletion_and_of_what_is_named() {
    let with = |version, metadata: serde_json::Value| {
        let mut told = serde_json::to_value(rollout(version, "web")).unwrap();
        let fields = told["metadata"].as_object_mut().unwrap();
        fields.extend(metadata.as_object().unwrap().clone());
        serde_json::from_value::<CanaryRollout>(told).unwrap()
    };
    let by_a_list = |rollout| vec![Event::Init, Event::InitApply(rollout), Event::InitDone];
    let ends = [
        json!({ "annotations": { "serin.dev/command": r#"{"id":"abort-1","verb":"abort","reason":""}"# } }),
        json!({ "deletionTimestamp": "2026-05-01T10:00:00Z" }),
    ];
    let ways = [|rollout| vec![Event::Apply(rollout)], by_a_list];
    for (end, way) in ends.iter().flat_map(|end| ways.map(|way| (end, way))) {
        let (rollouts, (reader, mut writer)) = (Rollouts::default(), store());
        let mut tell = |rollout: CanaryRollout| {
            for event in way(rollout) {
                writer.apply_watcher_event(&event);
                rollouts.take(Some(&event), &reader);
            }
        };
        let is_stirred = async || {
            let waiting = rollouts.clone();
            let mut waiting = tokio::spawn(async move { waiting.stirred(&key()).await });
            // It has come as far as it can.
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            let is_stirred = waiting.is_finished();
            waiting.abort();
            let _ = (&mut waiting).await;
            is_stirred
        };
        tell(with("9", json!({})));
        assert!(is_stirred().await, "nobody has looked at it");
        assert!(!is_stirred().await);
        let pause = json!({ "serin.dev/command": r#"{"id":"pause-1","verb":"pause","reason":""}"# });
        tell(with("10", json!({ "annotations": pause })));
        assert!(!is_stirred().await, "a pause can wait for samples");
        rollouts.stir(&rollouts.of_deployment(Some("prod"), "web"));
        assert!(is_stirred().await, "also when it waits only later");
        assert!(!is_stirred().await, "once");

        let waiting = rollouts.clone();
        let waiting = tokio::spawn(async move { waiting.stirred(&key()).await });
        tokio::task::yield_now().await;
        tell(with("11", end.clone()));
        waiting.await.unwrap();
    }
}
