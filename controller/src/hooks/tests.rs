//! A hook over a real connection: what it is sent, and what its answers mean.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use serde_json::Value;
use serin_core::rollout::HookPoint;

use super::*;
use crate::api::{HttpHookSpec, SecretRef};
use crate::callout::{Guard, KEY, SIGNATURE, Secret, TIMESTAMP, signature};

const SECRET: &str = "0123456789abcdef";

pub(super) fn question(attempt: u32) -> Question {
    Question {
        cluster: "prod".into(),
        namespace: "shop".into(),
        rollout: "web".into(),
        uid: "0c5a".into(),
        revision: Revision {
            name: "1.1.0".into(),
            hash: "abc".into(),
        },
        commit: Some(Commit {
            id: "c".repeat(40),
            author: "jenkins".into(),
            subject: "canary 1.1.0".into(),
        }),
        began: Timestamp::UNIX_EPOCH,
        occasion: Occasion {
            hook: "smoke".into(),
            point: HookPoint::Step,
            step: Some(1),
            attempt,
        },
        weight: Some(25),
    }
}

type Seen = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// Answers everything with this status, `Retry-After` and body.
async fn server(answer: (u16, Option<&'static str>, &'static str)) -> (String, Seen) {
    let seen = Seen::default();
    let take = move |State(seen): State<Seen>, headers: HeaderMap, body: Bytes| async move {
        seen.lock().unwrap().push((headers, body));
        let (status, after, body) = answer;
        let mut response: Response = (StatusCode::from_u16(status).unwrap(), body).into_response();
        if let Some(after) = after {
            response.headers_mut().insert("retry-after", after.parse().unwrap());
        }
        response
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/gate", listener.local_addr().unwrap());
    let app = Router::new().fallback(take).with_state(seen.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, seen)
}

async fn ask(guard: &Guard, url: Option<&str>, secret: &[(&str, &str)]) -> Reply {
    crate::runtime::client::install_tls();
    let values: BTreeMap<_, _> = secret
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
        .collect();
    let post = Post {
        client: &guard.client().unwrap(),
        guard,
        secret: &Secret::new("hook", values),
        spec: &HttpHookSpec {
            url: url.map(str::to_owned),
            secret_ref: SecretRef { name: "hook".into() },
        },
    };
    post.ask(&question(0), Timestamp::from_second(1_700_000_000).unwrap())
        .await
}

async fn answered(answer: (u16, Option<&'static str>, &'static str)) -> Reply {
    let (url, _) = server(answer).await;
    ask(&Guard::open(), Some(&url), &[("webhookKey", SECRET)]).await
}

#[tokio::test]
async fn a_hook_is_sent_what_it_has_to_know_signed_and_with_the_id_of_the_occasion() {
    let (url, seen) = server((204, None, "")).await;
    let reply = ask(&Guard::open(), None, &[("webhookKey", SECRET), ("webhookUrl", &url)]).await;
    assert_eq!(reply, Reply::Passed);
    let (headers, body) = seen.lock().unwrap().remove(0);
    let header = |name: &str| headers.get(name).unwrap().to_str().unwrap().to_owned();
    assert_eq!(
        header(SIGNATURE),
        signature(SECRET.as_bytes(), &header(TIMESTAMP), &body)
    );
    let sent: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(header(KEY), sent["id"]);
    let expected = json!({
        "version": 1, "id": question(0).id(), "hook": "smoke", "point": "Step", "step": 2, "weight": 25, "attempt": 0,
        "cluster": "prod", "namespace": "shop", "rollout": "web", "revision": "1.1.0", "commit": "c".repeat(40),
        "trial": crate::api::trial_id("0c5a", Timestamp::UNIX_EPOCH), "began": "1970-01-01T00:00:00Z",
    });
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn two_hundreds_pass_what_is_not_decided_or_in_trouble_is_asked_again_and_the_rest_fails() {
    assert_eq!(answered((200, None, "fine")).await, Reply::Passed);
    let why = |why: &str| why.to_owned();
    let seven = Some(Duration::from_secs(7));
    for status in [202, 425] {
        let undecided = Reply::Undecided {
            why: format!("HTTP {status}: wait"),
            after: seven,
        };
        assert_eq!(answered((status, Some("7"), "wait")).await, undecided);
    }
    for status in [429, 500, 503] {
        let trouble = Reply::Trouble {
            why: format!("HTTP {status}: busy"),
            after: seven,
        };
        assert_eq!(answered((status, Some("7"), "busy\nvery")).await, trouble);
    }
    assert_eq!(
        answered((403, None, "no: \u{7}closed\n<html>")).await,
        Reply::Failed(why("HTTP 403: no: closed"))
    );
    // No redirect is followed: it could lead inside.
    assert_eq!(answered((302, None, "")).await, Reply::Failed(why("HTTP 302")));
}

#[tokio::test]
async fn who_is_not_there_is_asked_again_and_who_is_inside_is_not_asked() {
    let nobody = ask(&Guard::open(), Some("http://127.0.0.1:1/"), &[("webhookKey", SECRET)]).await;
    assert!(matches!(nobody, Reply::Trouble { .. }), "{nobody:?}");
    for url in [
        "http://169.254.169.254/latest/meta-data",
        "http://127.0.0.1:1/",
        "http://localhost:1/",
    ] {
        let inside = ask(&Guard::default(), Some(url), &[("webhookKey", SECRET)]).await;
        let Reply::Failed(why) = &inside else {
            panic!("{url}: {inside:?}")
        };
        assert!(why.contains("addresses of the cluster"), "{why}");
    }
}

#[tokio::test]
async fn without_a_key_nothing_is_sent_and_a_secret_address_is_not_repeated() {
    let (url, seen) = server((200, None, "")).await;
    let none = ask(&Guard::open(), Some(&url), &[]).await;
    assert!(matches!(none, Reply::Trouble { .. }), "it may be put in yet: {none:?}");
    let short = ask(&Guard::open(), Some(&url), &[("webhookKey", "short")]).await;
    assert!(matches!(short, Reply::Failed(_)), "{short:?}");
    let wrong = ask(
        &Guard::open(),
        None,
        &[("webhookKey", SECRET), ("webhookUrl", "ftp://token@host/")],
    )
    .await;
    let Reply::Failed(why) = &wrong else {
        panic!("{wrong:?}")
    };
    assert!(!why.contains("token"), "{why}");
    assert!(seen.lock().unwrap().is_empty());
}

#[test]
fn an_id_is_of_one_occasion_alone() {
    let other = |edit: fn(&mut Question)| {
        let mut question = question(0);
        edit(&mut question);
        question.id()
    };
    let ids = [
        other(|_| {}),
        other(|q| q.occasion.attempt = 1),
        other(|q| q.occasion.step = None),
        other(|q| q.occasion.point = HookPoint::OnRollback),
        other(|q| q.occasion.hook = "other".into()),
        other(|q| q.began = Timestamp::from_second(1).unwrap()),
        other(|q| q.uid = "0c5b".into()),
        other(|q| q.revision.hash = "abd".into()),
    ];
    let unique: std::collections::HashSet<_> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len());
    assert_eq!(ids[0], question(0).id());
}
