//! Which events there are of what happens, and that there are no more when it is decided again.

use serde_json::json;

use super::*;

fn rollout(message: &str) -> CanaryRollout {
    serde_json::from_value(json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "CanaryRollout",
        "metadata": {"name": "web", "namespace": "prod", "uid": "u-rollout", "resourceVersion": "7"},
        "spec": {
            "service": {"name": "web", "port": 80}, "stable": {"deployment": "web"}, "canary": {"deployment": "web-canary"},
            "git": {"repository": "https://git.example.com/config.git", "path": "prod"},
        },
        "status": {"phase": "Progressing", "message": message},
    }))
    .unwrap()
}

fn deployment(name: &str) -> Deployment {
    let metadata = json!({"name": name, "namespace": "prod", "uid": format!("u-{name}"), "resourceVersion": "3"});
    serde_json::from_value(json!({"metadata": metadata})).unwrap()
}

fn what(reason: &'static str, message: &'static str, nth: usize) -> What<'static> {
    What {
        kind: NoteKind::Warning,
        reason,
        message,
        nth,
    }
}

fn names(rollout: &CanaryRollout, what: What<'_>, arms: &[ObjectReference]) -> Vec<String> {
    let about = About { rollout, trial: None };
    let events = events(about, what, arms, clock::now());
    events.into_iter().filter_map(|event| event.metadata.name).collect()
}

#[test]
fn what_is_decided_again_on_the_same_status_makes_no_second_event() {
    let (stands, arms) = (rollout("step 1"), [reference(&deployment("web-canary"))]);
    let first = names(&stands, what("RollingBack", "1 of 9 calls failed", 0), &arms);
    let again = names(&stands, what("RollingBack", "2 of 10 calls failed", 0), &arms);
    assert_eq!(first, again);
    for other in [
        names(&stands, what("RollingBack", "1 of 9 calls failed", 1), &arms),
        names(&stands, what("Paused", "1 of 9 calls failed", 0), &arms),
        names(&rollout("step 2"), what("RollingBack", "1 of 9 calls failed", 0), &arms),
    ] {
        assert!(other.iter().all(|name| !first.contains(name)), "{other:?} {first:?}");
    }
}

#[test]
fn an_event_of_a_deployment_is_found_by_its_uid_and_names_the_rollout() {
    let (stands, canary) = (rollout("step 1"), reference(&deployment("web-canary")));
    let about = About {
        rollout: &stands,
        trial: Some("0a1b2c"),
    };
    let told = events(about, what("PodsLost", "two are left", 0), &[canary], clock::now());
    let [own, of_canary] = <[Event; 2]>::try_from(told).unwrap();
    let uid = |of: &Option<ObjectReference>| of.as_ref().and_then(|of| of.uid.clone());
    assert_eq!((uid(&own.regarding).as_deref(), own.related), (Some("u-rollout"), None));
    assert_eq!(uid(&of_canary.regarding).as_deref(), Some("u-web-canary"));
    assert_eq!(uid(&of_canary.related).as_deref(), Some("u-rollout"));
    let name = of_canary.metadata.name.unwrap();
    assert!(
        name.starts_with("web-canary.") && name.len() == "web-canary.".len() + 16,
        "{name}"
    );
    let regarding = of_canary.regarding.unwrap();
    assert_eq!(
        (regarding.kind.as_deref(), regarding.resource_version),
        (Some("Deployment"), None)
    );
    assert_eq!(of_canary.metadata.annotations.unwrap()[TRIAL_ANNOTATION], "0a1b2c");
}

#[test]
fn an_event_stands_on_the_deployments_that_it_concerns() {
    use Arm::{Canary, Stable};
    for reason in [
        "Starting",
        "Paused",
        "PodsLost",
        "Promoting",
        "RollingBack",
        "RolledBack",
    ] {
        assert_eq!(concerned(reason, false), [Canary], "{reason}");
    }
    assert_eq!(concerned("PromotionCommitted", true), [Stable]);
    assert_eq!(concerned("Promoted", true), [Stable, Canary]);
    assert_eq!(
        concerned("RollingBack", true),
        [Stable, Canary],
        "a promotion is taken back"
    );
    for reason in ["StepEntered", "HookAsked", "CommandDone", "PushRefused"] {
        assert!(concerned(reason, true).is_empty(), "{reason} is of the rollout alone");
    }
}

#[test]
fn the_last_event_that_may_be_told_says_so_and_none_comes_after_it() {
    assert_eq!(within(2, "two pods are lost").as_deref(), Some("two pods are lost"));
    let long = "語".repeat(2 * NOTE);
    let last = within(1, &long).unwrap();
    assert!(last.ends_with("Serin's log only"), "{last}");
    assert_eq!(last.chars().count(), NOTE, "the API server takes it");
    assert_eq!(within(0, "two pods are lost"), None);
}
