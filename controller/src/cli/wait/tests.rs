//! What status means to one who waits, and a watch that breaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::{Query, State};
use axum::{Json, Router, routing};
use clap::Parser;
use serde_json::{Value, json};

use super::*;

fn status(value: Value) -> CanaryRolloutStatus {
    serde_json::from_value(value).unwrap()
}

fn entry(revision: &str, outcome: &str, commit: &str) -> Value {
    json!({
        "revision": revision, "outcome": outcome, "reason": "because", "canaryCommit": commit,
        "began": "2026-01-01T00:00:00Z", "ended": "2026-01-01T00:10:00Z", "commit": "answer",
    })
}

fn waiting(wanted: Wanted, revision: Option<&str>) -> Waiting {
    Waiting {
        wanted,
        revision: revision.map(str::to_owned),
        commit: None,
    }
}

#[test]
fn a_revision_that_nobody_has_seen_yet_is_waited_for() {
    let old = status(json!({
        "phase": "RolledBack", "revision": {"name": "1.0.1"}, "history": [entry("1.0.1", "RolledBack", "a")],
    }));
    assert_eq!(waiting(Wanted::Promoted, Some("1.1.0")).look(&old), None);
    let end = waiting(Wanted::Promoted, None).look(&old).unwrap();
    assert_eq!((end.outcome, end.reason.as_str()), (Outcome::RolledBack, "because"));
}

#[test]
fn without_a_name_it_is_the_one_on_trial_whatever_comes_after_it() {
    let mut waiting = waiting(Wanted::Promoted, None);
    let trial = status(json!({
        "phase": "Progressing", "revision": {"name": "1.1.0"}, "history": [entry("1.0.0", "Promoted", "a")],
    }));
    assert_eq!(waiting.look(&trial), None);
    let newer = status(json!({
        "phase": "Starting", "revision": {"name": "1.2.0"},
        "history": [entry("1.1.0", "Superseded", "b"), entry("1.0.0", "Promoted", "a")],
    }));
    assert_eq!(waiting.look(&newer).unwrap().outcome, Outcome::Superseded);
}

#[test]
fn one_who_waits_for_a_promotion_learns_of_the_rollback_before_git_has_it() {
    let failing = status(json!({
        "phase": "RollingBack", "revision": {"name": "1.1.0"},
        "rollback": {"revision": "1.1.0", "reason": "20 % of calls failed"},
    }));
    let end = waiting(Wanted::Promoted, Some("1.1.0")).look(&failing).unwrap();
    assert_eq!(
        (end.outcome, end.reason.as_str()),
        (Outcome::RolledBack, "20 % of calls failed")
    );
    for wanted in [Wanted::RolledBack, Wanted::Finished] {
        assert_eq!(waiting(wanted, Some("1.1.0")).look(&failing), None);
    }
}

#[test]
fn a_commit_tells_two_revisions_of_one_name_apart() {
    let before = status(json!({
        "phase": "Promoted", "revision": {"name": "1.1.0", "commit": "aaaa"},
        "history": [entry("1.1.0", "Promoted", "aaaa")],
    }));
    let mut of_commit = Waiting {
        commit: Some("bbbb".to_owned()),
        ..waiting(Wanted::Promoted, Some("1.1.0"))
    };
    assert_eq!(of_commit.look(&before), None);
    let after = status(json!({
        "phase": "RolledBack", "revision": {"name": "1.1.0", "commit": "bbbbbb"},
        "history": [entry("1.1.0", "RolledBack", "bbbbbb"), entry("1.1.0", "Promoted", "aaaa")],
    }));
    assert_eq!(of_commit.look(&after).unwrap().outcome, Outcome::RolledBack);
}

#[test]
fn every_end_has_an_exit_code_of_its_own() {
    use Outcome::{Promoted, RolledBack, Superseded, Withdrawn};
    let codes = |wanted| [Promoted, RolledBack, Withdrawn, Superseded].map(|outcome| outcome.code(wanted));
    assert_eq!(codes(Wanted::Promoted), [0, 3, 5, 5]);
    assert_eq!(codes(Wanted::RolledBack), [4, 0, 5, 5]);
    assert_eq!(codes(Wanted::Finished), [0, 0, 0, 0]);
}

fn rollout(version: usize, status: &Value) -> Value {
    json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "CanaryRollout",
        "metadata": {"name": "web", "namespace": "prod", "uid": "u", "resourceVersion": version.to_string()},
        "spec": {
            "service": {"name": "web", "port": 80}, "stable": {"deployment": "web"}, "canary": {"deployment": "web-canary"},
            "git": {"repository": "https://git.example.com/x.git", "path": "prod"},
        },
        "status": status,
    })
}

/// An API server whose every watch tells one more thing and breaks; at last it has nothing more to tell.
async fn api_server(told: &'static [fn() -> Value]) -> (Client, Arc<AtomicUsize>) {
    type Calls = State<(Arc<AtomicUsize>, &'static [fn() -> Value])>;
    async fn list(State((watches, told)): Calls, Query(query): Query<Vec<(String, String)>>) -> String {
        if query.iter().any(|(key, _)| key == "watch") {
            let nth = watches.fetch_add(1, Ordering::SeqCst) + 1;
            let Some(status) = told.get(nth) else {
                return std::future::pending().await;
            };
            return format!(
                "{}\n",
                json!({"type": "MODIFIED", "object": rollout(nth + 1, &status())})
            );
        }
        json!({
            "apiVersion": "serin.dev/v1alpha1", "kind": "CanaryRolloutList", "metadata": {"resourceVersion": "1"},
            "items": [rollout(1, &told[0]())],
        })
        .to_string()
    }
    async fn get(State((_, told)): Calls) -> Json<Value> {
        Json(rollout(1, &told[0]()))
    }
    client::install_tls();
    let watches = Arc::new(AtomicUsize::new(0));
    let path = "/apis/serin.dev/v1alpha1/namespaces/prod/canaryrollouts";
    let app = Router::new()
        .route(path, routing::get(list))
        .route(&format!("{path}/web"), routing::get(get))
        .with_state((watches.clone(), told));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let mut config = kube::Config::new(url.parse().unwrap());
    config.default_retry = false;
    (Client::try_from(config).unwrap(), watches)
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn args(more: &[&str]) -> Args {
    let line = ["serin", "web", "-n", "prod"].iter().chain(more);
    Line::try_parse_from(line).unwrap().args
}

#[tokio::test]
async fn a_watch_that_breaks_is_begun_again_until_the_revision_has_ended() {
    let (client, watches) = api_server(&[
        || json!({"phase": "Idle"}),
        || json!({"phase": "Progressing", "revision": {"name": "1.1.0"}, "message": "step 1 of 4"}),
        || {
            json!({
                "phase": "RolledBack", "revision": {"name": "1.1.0"}, "history": [entry("1.1.0", "RolledBack", "a")],
            })
        },
    ])
    .await;
    let code = wait(
        client,
        args(&["--for=promoted", "--revision", "1.1.0", "--timeout", "1m"]),
    );
    assert_eq!(code.await.unwrap(), 3);
    assert_eq!(watches.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn when_the_time_is_over_that_is_a_code_of_its_own_and_a_missing_rollout_another() {
    let (client, _) = api_server(&[|| json!({"phase": "Paused", "revision": {"name": "1.1.0"}})]).await;
    let code = wait(client.clone(), args(&["--timeout", "300ms"])).await.unwrap();
    assert_eq!(code, TIMED_OUT);
    let mut missing = args(&[]);
    missing.name = "other".to_owned();
    let error = wait(client, missing).await.unwrap_err();
    assert!(error.to_string().contains("prod/other"), "{error:#}");
}
