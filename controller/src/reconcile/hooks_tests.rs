use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde_json::json;
use serin_core::rollout::{Baseline, HookAnswer, HookPoint, HookRun, Preflight, Revision, Run, Starting};
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::api::parse;
use crate::callout::Secret;

/// Longer than anything takes here.
const DEADLINE: Duration = Duration::from_secs(30);

fn rollout(hook: &serde_json::Value) -> CanaryRollout {
    let rollout = json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "CanaryRollout",
        "metadata": { "name": "web", "namespace": "shop", "uid": "0c5a" },
        "spec": {
            "service": { "name": "web", "port": 80 }, "stable": { "deployment": "web" }, "canary": { "deployment": "web-canary" },
            "git": { "repository": "https://git.example.com/config.git", "path": "prod" }, "hooks": [hook],
        },
    });
    serde_json::from_value(rollout).unwrap()
}

fn http(url: &str, retries: Option<i32>) -> serde_json::Value {
    json!({
        "name": "gate", "at": ["BeforeRollout"], "retries": retries, "http": { "url": url, "secretRef": { "name": "s" } },
    })
}

fn occasion() -> Occasion {
    Occasion {
        hook: "gate".into(),
        point: HookPoint::BeforeRollout,
        step: None,
        attempt: 0,
    }
}

/// A start that waits for its gate, or has its answer.
fn starting(parsed: &Parsed, answer: Option<HookAnswer>) -> Phase {
    let revision = |name: &str| Revision {
        name: name.into(),
        hash: name.into(),
    };
    let at = Timestamp::UNIX_EPOCH;
    let mut run = Run::begin(revision("1.1.0"), revision("1.0.0"), None, &parsed.plan, at);
    run.hooks = vec![HookRun {
        occasion: occasion(),
        since: at,
        answer,
    }];
    Phase::Starting(Starting {
        run,
        preflight: Preflight::Passed,
        baseline: Baseline::Frozen,
        since: at,
    })
}

/// Without Jobs, with a key for every hook, and impatient.
fn hooks() -> (Hooks, UnboundedReceiver<Key>) {
    crate::runtime::client::install_tls();
    let guard = Guard::open();
    let secret = [("webhookKey".to_owned(), b"0123456789abcdef".to_vec())];
    let secrets: Secrets = Arc::new(move |_, name| {
        let secret = Secret::new(name, secret.clone().into());
        Box::pin(async move { Ok(secret) })
    });
    let nobody = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    let (desk, news) = Desk::new();
    let asker = Asker {
        client: Client::try_from(nobody).unwrap(),
        secrets,
        http: guard.client().unwrap(),
        guard,
        jobs: false,
        places: places(),
        patience: Backoff {
            first: Duration::from_millis(1),
            longest: Duration::from_millis(10),
        },
    };
    let hooks = Hooks {
        tasks: Arc::default(),
        asker: Arc::new(asker),
        desk,
    };
    (hooks, news)
}

/// Counts requests, and answers them all alike.
async fn server(status: StatusCode) -> (String, Arc<AtomicUsize>) {
    let count = Arc::<AtomicUsize>::default();
    let counted = count.clone();
    let app = Router::new().fallback(move || async move {
        counted.fetch_add(1, Ordering::SeqCst);
        (status, "so it is")
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, count)
}

/// Asks, and waits for what is not pending.
async fn answered(
    hooks: &Hooks,
    news: &mut UnboundedReceiver<Key>,
    rollout: &CanaryRollout,
    phase: &Phase,
) -> HookView {
    let parsed = parse(&rollout.spec).unwrap();
    hooks.ask(rollout, "prod", phase, &parsed, &occasion());
    loop {
        let woken = tokio::time::timeout(DEADLINE, news.recv()).await;
        woken.expect("there is an answer in time").unwrap();
        match hooks.view(rollout, "prod", phase).pop() {
            Some((about, view)) if !matches!(view, HookView::Pending(_)) => {
                assert_eq!(about, occasion());
                return view;
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn an_occasion_is_asked_once_and_its_answer_is_kept_until_status_has_it() {
    let (url, count) = server(StatusCode::OK).await;
    let rollout = rollout(&http(&url, None));
    let parsed = parse(&rollout.spec).unwrap();
    let (waits, passed) = (starting(&parsed, None), starting(&parsed, Some(HookAnswer::Passed)));
    let (hooks, mut news) = hooks();
    assert_eq!(answered(&hooks, &mut news, &rollout, &waits).await, HookView::Passed);
    hooks.ask(&rollout, "prod", &waits, &parsed, &occasion());
    // A status that could not be written: it is decided again.
    hooks.keep_only(&rollout, "prod", [&waits, &passed]);
    assert_eq!(hooks.view(&rollout, "prod", &waits).len(), 1);
    hooks.keep_only(&rollout, "prod", [&passed, &passed]);
    assert_eq!(hooks.view(&rollout, "prod", &waits), []);
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn trouble_is_tried_again_as_often_as_the_hook_says() {
    let (url, count) = server(StatusCode::SERVICE_UNAVAILABLE).await;
    let rollout = rollout(&http(&url, Some(2)));
    let waits = starting(&parse(&rollout.spec).unwrap(), None);
    let (hooks, mut news) = hooks();
    let failed = HookView::Failed("HTTP 503: so it is; given up after 3 tries".to_owned());
    assert_eq!(answered(&hooks, &mut news, &rollout, &waits).await, failed);
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn no_job_is_made_where_none_may_be() {
    let job = json!({ "template": { "spec": { "template": { "spec": { "containers": [{ "name": "a" }] } } } } });
    let rollout = rollout(&json!({ "name": "gate", "at": ["BeforeRollout"], "job": job }));
    let waits = starting(&parse(&rollout.spec).unwrap(), None);
    let (hooks, mut news) = hooks();
    let HookView::Failed(why) = answered(&hooks, &mut news, &rollout, &waits).await else {
        panic!("it is no answer")
    };
    assert!(why.contains("allows no Jobs"), "{why}");
}

#[test]
fn waits_double_up_to_a_limit_and_a_wish_is_the_least() {
    let seconds = Duration::from_secs;
    assert_eq!(wait(PATIENCE, 1, None, 1.0), seconds(2));
    assert_eq!(wait(PATIENCE, 3, None, 1.0), seconds(8));
    assert_eq!(wait(PATIENCE, 40, None, 1.0), seconds(30));
    assert_eq!(wait(PATIENCE, 40, None, 0.0), seconds(15));
    assert_eq!(wait(PATIENCE, 1, Some(seconds(7)), 1.0), seconds(7));
    assert_eq!(wait(PATIENCE, 40, Some(seconds(1)), 1.0), seconds(30));
    assert_eq!(wait(PATIENCE, 1, Some(seconds(86_400)), 1.0), LONGEST);
}
