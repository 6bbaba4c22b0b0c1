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
