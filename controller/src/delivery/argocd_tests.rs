//! What Argo CD's Application says, read from objects as Argo CD writes them.

use super::*;

const WEB: Of<'_> = Of {
    namespace: "prod",
    name: "web",
};

fn sha(c: char) -> String {
    c.to_string().repeat(40)
}

fn now() -> Timestamp {
    "2026-11-25T10:00:00Z".parse().unwrap()
}

fn application() -> Value {
    json!({
        "metadata": { "name": "web-prod" },
        "spec": {
            "destination": { "server": "https://kubernetes.default.svc", "namespace": "prod" },
            "syncPolicy": { "automated": { "selfHeal": true } },
        },
        "status": {
            "sync": { "status": "Synced", "revision": sha('b') },
            "operationState": {
                "phase": "Succeeded", "startedAt": "2026-11-25T09:50:00Z", "message": "successfully synced",
                "syncResult": { "revision": sha('a') },
            },
            "resources": [
                { "group": "apps", "kind": "Deployment", "namespace": "prod", "name": "web" },
                { "group": "serin.dev", "kind": "CanaryRollout", "namespace": "prod", "name": "web" },
            ],
        },
    })
}

/// An Application that differs in these places.
fn with(changes: &[(&str, Value)]) -> Value {
    let mut application = application();
    for (pointer, value) in changes {
        let (parent, last) = pointer.rsplit_once('/').unwrap();
        application.pointer_mut(parent).unwrap()[last.replace("~1", "/")] = value.clone();
    }
    application
}

fn report(application: &Value) -> Report {
    read("web-prod", application, None, now())
}

#[test]
fn only_the_application_that_applies_the_rollout_is_refreshed() {
    assert!(applies(&application(), WEB));
    assert!(!applies(&application(), Of { name: "other", ..WEB }));
    assert!(!applies(
        &application(),
        Of {
            namespace: "dev",
            ..WEB
        }
    ));
    assert!(!applies(
        &with(&[("/spec/destination/server", json!("https://10.0.0.1"))]),
        WEB
    ));
    assert!(!applies(&with(&[("/status", json!({}))]), WEB));
}

#[test]
fn what_was_synced_with_success_is_applied_and_a_later_commit_that_is_in_sync_too() {
    let both = report(&application());
    assert_eq!((both.applied, both.blocked), (vec![sha('a'), sha('b')], None));
    let behind = report(&with(&[("/status/sync/status", json!("OutOfSync"))]));
    assert_eq!((behind.applied, behind.seen), (vec![sha('a')], vec![sha('b')]));
    let running = report(&with(&[
        ("/status/operationState/phase", json!("Running")),
        ("/status/operationState/startedAt", json!("2026-11-25T09:59:50Z")),
    ]));
    assert_eq!((running.applied, running.blocked), (vec![], None), "not before its end");
}

#[test]
fn each_commit_of_several_sources_counts_and_no_version_of_a_chart_does() {
    let several = json!({ "status": "Synced", "revisions": [sha('c'), "1.2.3", sha('d')] });
    let report = report(&with(&[
        ("/status/sync", several),
        (
            "/status/operationState/syncResult",
            json!({ "revisions": ["1.2.3", sha('c')] }),
        ),
    ]));
    assert_eq!(report.applied, [sha('c'), sha('c'), sha('d')]);
}

#[test]
fn of_a_hydrated_application_the_commit_counts_that_it_was_made_of() {
    let hydrated = |synced: char, phase: &str| {
        let mut application = with(&[
            ("/status/sync/revision", json!(sha(synced))),
            ("/status/operationState/syncResult/revision", json!(sha(synced))),
            (
                "/status/sourceHydrator",
                json!({
                    "currentOperation": { "phase": phase, "message": "helm: no such chart" },
                    "lastSuccessfulOperation": { "drySHA": sha('d'), "hydratedSHA": sha('e') },
                }),
            ),
        ]);
        application["spec"]["sourceHydrator"] = json!({ "syncSource": { "targetBranch": "env/prod" } });
        report(&application)
    };
    assert_eq!(hydrated('e', "Hydrated").applied, [sha('d')]);
    assert_eq!(hydrated('f', "Hydrating").applied, [""; 0], "an older one is synced");
    let failed = hydrated('f', "Failed").blocked.unwrap();
    assert_eq!(failed.reason, "HydrationFailed");
    assert!(failed.words.contains("no such chart"), "{failed}");
}

#[test]
fn what_blocks_a_sync_is_named_with_what_to_do_about_it() {
    let operation = |phase: &str, message: &str, retries: i64| {
        let state = json!({ "phase": phase, "message": message, "startedAt": "2026-11-25T09:50:00Z",
            "retryCount": retries, "syncResult": { "revision": sha('0') } });
        with(&[("/status/operationState", state)])
    };
    let condition =
        |kind: &str, message: &str| with(&[("/status/conditions", json!([{ "type": kind, "message": message }]))]);
    for (application, reason, says) in [
        (
            operation("Running", "waiting for completion of hook batch/Job/migrate", 0),
            "OperationRunning",
            "batch/Job/migrate",
        ),
        (
            operation("Running", "one or more objects failed to apply. Retrying attempt #3", 3),
            "OperationRetries",
            "syncPolicy.retry.refresh: true",
        ),
        (
            operation("Running", "Sync operation blocked by sync window", 0),
            "SyncWindow",
            "manualSync",
        ),
        (
            operation("Failed", "one or more objects failed to apply", 5),
            "SyncFailed",
            "argocd app sync web-prod",
        ),
        (
            operation(
                "Error",
                "ComparisonError: revision is not signed, but a signature is required",
                0,
            ),
            "SignatureRequired",
            "spec.git.signing",
        ),
        (
            condition("ComparisonError", "Failed to load target state: helm"),
            "ApplicationError",
            "helm",
        ),
        (
            condition(
                "ComparisonError",
                "Target revision abc in Git is not signed, but a signature is required",
            ),
            "SignatureRequired",
            "spec.git.signing",
        ),
        (
            with(&[(
                "/metadata/annotations",
                json!({ "argocd.argoproj.io/skip-reconcile": "true" }),
            )]),
            "ReconcileSkipped",
            "skip-reconcile",
        ),
    ] {
        let blocked = report(&application).blocked.unwrap();
        assert_eq!(blocked.reason, reason, "{blocked}");
        assert!(
            blocked.words.contains(says) && blocked.words.contains("web-prod"),
            "{blocked}"
        );
    }
    let warning = condition("OrphanedResourceWarning", "2 orphans");
    assert_eq!(report(&warning).blocked, None);
}

#[test]
fn what_would_hold_a_commit_that_was_compared_is_known() {
    assert_eq!(report(&application()).held, None);
    for policy in [json!({}), json!({ "automated": { "enabled": false } })] {
        let held = report(&with(&[("/spec/syncPolicy", policy)])).held.unwrap();
        assert_eq!(held.reason, "NoAutoSync");
    }
}

#[test]
fn a_window_is_in_the_way_of_a_sync_that_does_not_begin() {
    let window = json!({ "kind": "deny", "schedule": "0 22 * * *", "duration": "8h", "applications": ["web-*"] });
    let held = |project: &Value, changes: &[(&str, Value)]| {
        let report = read("web-prod", &with(changes), Some(project), now());
        report.held.map(|held| held.to_string())
    };
    let project = json!({ "spec": { "syncWindows": [window] } });
    let behind = ("/status/sync/status", json!("OutOfSync"));
    let words = held(&project, std::slice::from_ref(&behind)).unwrap();
    assert!(
        words.contains("deny `0 22 * * *` for 8h") && words.contains("manualSync"),
        "{words}"
    );
    assert_eq!(held(&project, &[]), None, "it is in sync");
    let running = ("/status/operationState/phase", json!("Running"));
    assert_eq!(held(&project, &[behind.clone(), running]), None, "it has begun");
    let ordered = ("/operation", json!({ "sync": {} }));
    assert_eq!(held(&project, &[behind.clone(), ordered]), None, "it is about to begin");
    let others = json!({ "spec": { "syncWindows": [{ "kind": "deny", "applications": ["api-*"] }] } });
    assert_eq!(held(&others, &[behind]), None, "the window is about others");
}
