//! The page over rollouts in memory: what it shows, what it lets pass, and what a hostile cluster can't do to it.

use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{Method, Request};
use futures::StreamExt as _;
use jiff::Timestamp;
use kube::Client;
use kube::client::Body as KubeBody;
use serde_json::Value;
use tower::{BoxError, Service};

use super::*;
use crate::api::{COMMAND_ANNOTATION, CanaryRollout, Order};
use crate::runtime::lease::Leadership;

/// What nothing may ever run or show as markup.
const HOSTILE: &str = "</script><img src=x onerror=alert(1)>\"'`${alert(1)}&lt;\u{202e}\u{0}\n\ndata: {}\n\n";

fn rollout(name: &str, subject: &str) -> CanaryRollout {
    serde_json::from_value(json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "CanaryRollout",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "service": {"name": "web", "port": 80}, "stable": {"deployment": "web"}, "canary": {"deployment": "web-canary"},
            "plan": {"steps": [{"weight": 5, "hold": "2m"}, {"weight": 50, "hold": "2m", "approval": "Required"},
                               {"weight": 100, "hold": "10m", "atMost": "30m", "onInconclusive": "Pause"}]},
            "git": {"repository": "https://github.com/shop/config.git", "branch": "main", "path": "prod",
                    "secretRef": {"name": "config-repo"}},
        },
        "status": {
            "phase": "Progressing", "step": "2/3", "message": subject, "verdict": "inconclusive", "stable": "1.0.0",
            "next": "2026-11-20T10:02:00Z",
            "weight": {"wanted": 50, "observed": 5},
            "revision": {"name": "1.1.0", "commit": "0123456789abcdef", "author": subject, "subject": subject},
            "evidence": [
                {"metric": "success-rate", "arm": "canary", "bad": 1, "total": 400, "otherBad": 2, "otherTotal": 7600,
                 "range": "0.0 % to 1.4 %", "towardsFail": 3, "towardsPass": 71, "sentence": subject,
                 "pods": [{"pod": subject, "bad": 1, "total": 200}]},
                {"metric": "latency-500ms", "arm": "canary", "sentence": "no calls on canary yet"},
            ],
            "latency": {"asOf": "2026-11-20T10:01:01Z", "canary": {"p50Ms": 12, "p95Ms": 48, "p99Ms": 90}},
            "hooks": [{"name": "window", "point": "Step", "step": 2, "state": "Asked", "since": "2026-11-20T10:01:00Z",
                       "until": "2026-11-20T10:11:00Z", "onFailure": "Pause", "answer": subject}],
            "samples": {"boundsMs": [500], "ticks": [
                {"end": "2026-11-20T10:01:40Z", "weight": 5, "canary": {"requests": 10, "failures": 1, "slow": [0]},
                 "stable": {"requests": 190, "failures": 0, "slow": [1]}}]},
            "forecast": {"message": "soon", "steps": [
                {"step": 2, "weight": 50, "calls": 480, "time": "48s", "decides": true}, {"step": 3, "weight": 100, "decides": false}]},
            "history": [{"revision": "1.0.0", "outcome": "Promoted", "began": "2026-11-19T10:00:00Z", "ended": "2026-11-19T10:20:00Z",
                         "duration": "20m", "requests": 9000, "reason": subject, "commit": "89abcdef"}],
            "promotion": {"revision": "1.0.0", "commit": "89abcdef", "pushedAt": "2026-11-19T10:15:00Z", "endedAt": "2026-11-19T10:20:00Z"},
            "lastCommand": {"id": "pause-1", "verb": "pause", "by": subject, "accepted": false, "message": subject},
            "conditions": [
                {"type": "Ready", "status": "True", "reason": "Reconciled", "message": "", "lastTransitionTime": "2026-11-20T09:00:00Z"},
                {"type": "GitPending", "status": "True", "reason": "HostTimedOut", "message": subject,
                 "lastTransitionTime": "2026-11-20T10:00:00Z"}],
        },
    }))
    .unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// An API server that knows one token of a person who may steer, and one of a person who may not; it keeps what is written.
#[derive(Clone, Default)]
struct ApiServer {
    token: Option<String>,
    written: Arc<Mutex<Vec<(String, String, Value)>>>,
}

impl ApiServer {
    fn client(&self) -> Client {
        Client::new(self.clone(), "default")
    }

    fn answer(&self, method: &Method, path: &str, body: Value) -> (u16, Value) {
        if path.ends_with("/tokenreviews") {
            let name = match body["spec"]["token"].as_str() {
                Some("anns") => "ann@example.com",
                Some("bobs") => "bob@example.com",
                _ => return (201, review("TokenReview", &body, &json!({"authenticated": false}))),
            };
            let status = json!({"authenticated": true, "user": {"username": name, "groups": ["staff"], "extra": {"scope": ["x"]}}});
            return (201, review("TokenReview", &body, &status));
        }
        if path.ends_with("/subjectaccessreviews") {
            assert_eq!(body["spec"]["groups"], json!(["staff"]));
            assert_eq!(body["spec"]["extra"], json!({"scope": ["x"]}));
            let asked = &body["spec"]["resourceAttributes"];
            assert_eq!(
                (
                    &asked["verb"],
                    &asked["resource"],
                    &asked["group"],
                    &asked["namespace"],
                    &asked["name"]
                ),
                (
                    &"patch".into(),
                    &"canaryrollouts".into(),
                    &"serin.dev".into(),
                    &"shop".into(),
                    &"web".into()
                )
            );
            let allowed = body["spec"]["user"] == "ann@example.com";
            return (201, review("SubjectAccessReview", &body, &json!({"allowed": allowed})));
        }
        assert_eq!(*method, Method::PATCH, "{path}");
        let token = self.token.clone().unwrap_or_default();
        let refused = body["metadata"]["annotations"][COMMAND_ANNOTATION]
            .to_string()
            .contains("promote-full");
        self.written.lock().unwrap().push((token, path.to_owned(), body));
        if refused {
            let message = "ann@example.com may not promote-full";
            return (
                403,
                json!({"kind": "Status", "status": "Failure", "message": message, "reason": "Forbidden", "code": 403}),
            );
        }
        (200, serde_json::to_value(rollout("web", "a subject")).unwrap())
    }
}

fn review(kind: &str, body: &Value, status: &Value) -> Value {
    json!({"kind": kind, "metadata": {}, "spec": body["spec"], "status": status})
}

impl Service<Request<KubeBody>> for ApiServer {
    type Response = axum::http::Response<KubeBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<KubeBody>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = axum::body::to_bytes(Body::new(body), LARGEST_BODY).await?;
            let body = serde_json::from_slice(&body)?;
            let (code, answer) = server.answer(&head.method, head.uri.path(), body);
            let answer = KubeBody::from(serde_json::to_vec(&answer)?);
            Ok(axum::http::Response::builder().status(code).body(answer)?)
        })
    }
}

struct Site {
    board: Board,
    server: ApiServer,
    stop: CancellationToken,
    router: Router,
}

fn site(sharing: Sharing) -> Site {
    let (board, server, stop) = (Board::default(), ApiServer::default(), CancellationToken::new());
    board.put(rollout("web", "a subject"), at(0));
    let replica = Replica {
        identity: "serin-0_1".to_owned(),
        sharing,
        shard_of: |count, _| count.shards().last().unwrap(),
    };
    let people = server.clone();
    let steering = Steering::with(server.client(), move |token| {
        let token = Some(token.to_str()?.to_owned());
        Ok(ApiServer {
            token,
            ..people.clone()
        }
        .client())
    });
    let router = router(Page::new(board.clone(), replica, steering, stop.clone()));
    Site {
        board,
        server,
        stop,
        router,
    }
}

impl Site {
    async fn send(&self, request: Request<Body>) -> Response {
        self.router.clone().call(request).await.unwrap()
    }

    async fn get(&self, path: &str) -> Response {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    async fn give(&self, token: Option<&str>, body: &Value) -> (StatusCode, Value) {
        let mut request = Request::post("/api/rollouts/shop/web/commands").header("content-type", "application/json");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response = self.send(request.body(Body::from(body.to_string())).unwrap()).await;
        (response.status(), json_of(response).await)
    }
}

async fn text(response: Response) -> String {
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn json_of(response: Response) -> Value {
    serde_json::from_str(&text(response).await).unwrap()
}

#[tokio::test]
async fn the_list_shows_every_rollout_and_the_one_all_of_it() {
    let site = site(Sharing::unchallenged());
    let mut list = json_of(site.get("/api/rollouts").await).await;
    list["at"] = Value::Null;
    insta::assert_json_snapshot!("list", list);
    let mut one = json_of(site.get("/api/rollouts/shop/web").await).await;
    one["at"] = Value::Null;
    insta::assert_json_snapshot!("rollout", one);
    let none = site.get("/api/rollouts/shop/other").await;
    assert_eq!(none.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_follower_says_who_leads() {
    let list = json_of(site(Sharing::of_a_follower("serin-1_2")).get("/api/rollouts").await).await;
    assert_eq!(
        list["replica"],
        json!({"identity": "serin-0_1", "leads": false, "leader": "serin-1_2"})
    );
}

#[tokio::test]
async fn a_page_says_who_has_which_shard_and_who_has_the_rollouts() {
    let terms = vec![Leadership::unchallenged(), Leadership::never()];
    let site = site(Sharing::with(terms, vec![None, Some("serin-1_2".to_owned())]));
    let list = json_of(site.get("/api/rollouts").await).await;
    let shards = json!([{"shard": 0, "holder": "serin-0_1"}, {"shard": 1, "holder": "serin-1_2"}]);
    assert_eq!(
        list["replica"],
        json!({"identity": "serin-0_1", "leads": true, "leader": null, "shards": shards})
    );
    let one = json_of(site.get("/api/rollouts/shop/web").await).await;
    assert_eq!(one["shard"], shards[1]);
}

#[tokio::test]
async fn every_answer_forbids_what_the_page_does_not_need() {
    let site = site(Sharing::unchallenged());
    for path in [
        "/",
        "/rollouts/shop/web",
        "/assets/page.css",
        "/api/rollouts",
        "/api/rollouts/shop/none",
        "/api/events",
    ] {
        let response = site.get(path).await;
        for (name, value) in HEADERS {
            assert_eq!(response.headers().get(&name).unwrap(), value, "{name} of {path}");
        }
    }
}

/// What can make markup or script of text.
const SINKS: [&str; 14] = [
    "innerHTML",
    "outerHTML",
    "insertAdjacentHTML",
    "document.write",
    "eval(",
    "Function(",
    "DOMParser",
    "createContextualFragment",
    "setHTML",
    "srcdoc",
    "javascript:",
    "localStorage",
    "sessionStorage",
    "document.cookie",
];

#[test]
fn the_pages_own_files_have_no_place_for_markup_and_nothing_from_outside() {
    for (path, kind, text) in assets::ASSETS {
        for sink in SINKS {
            assert!(!text.contains(sink), "{path} has {sink}");
        }
        let outside = text.replace("http://www.w3.org/2000/svg", "");
        assert!(
            !outside.contains("http:") && !outside.contains("https:"),
            "{path} names another host"
        );
        if kind.starts_with("text/html") {
            for inline in ["<style", " style=", " onclick", "<script>"] {
                assert!(
                    !text.contains(inline),
                    "{path} has {inline}, which the content policy refuses"
                );
            }
        }
    }
}

#[tokio::test]
async fn hostile_names_and_subjects_stay_data() {
    let site = site(Sharing::unchallenged());
    let before = text(site.get("/rollouts/shop/web").await).await;
    site.board.put(rollout("web", HOSTILE), at(1));
    site.board.put(rollout(HOSTILE, HOSTILE), at(1));
    assert_eq!(
        text(site.get("/rollouts/shop/web").await).await,
        before,
        "nothing of the cluster stands in a page"
    );

    let response = site.get("/api/rollouts/shop/web").await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    let one = json_of(response).await;
    assert_eq!(one["rollout"]["message"], HOSTILE);
    assert_eq!(one["rollout"]["revision"]["subject"], HOSTILE);
    let list = json_of(site.get("/api/rollouts").await).await;
    let names: Vec<_> = list["rollouts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["name"])
        .collect();
    assert!(names.contains(&&Value::from(HOSTILE)), "{names:?}");

    // Nor does it end an event, or begin one of its own.
    let mut events = site
        .get("/api/rollouts/shop/web/events")
        .await
        .into_body()
        .into_data_stream();
    let event = String::from_utf8(events.next().await.unwrap().unwrap().to_vec()).unwrap();
    let data = event
        .strip_prefix("data: ")
        .and_then(|event| event.strip_suffix("\n\n"))
        .unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(data).unwrap()["rollout"]["message"],
        HOSTILE
    );
}

async fn next(events: &mut axum::body::BodyDataStream) -> Option<Value> {
    let bytes = events.next().await?.unwrap();
    let event = String::from_utf8(bytes.to_vec()).unwrap();
    Some(serde_json::from_str(event.strip_prefix("data: ").unwrap().trim_end()).unwrap())
}

#[tokio::test]
async fn who_looks_on_sees_each_change_and_the_end() {
    let site = site(Sharing::unchallenged());
    let mut events = site
        .get("/api/rollouts/shop/web/events")
        .await
        .into_body()
        .into_data_stream();
    assert_eq!(next(&mut events).await.unwrap()["rollout"]["message"], "a subject");
    site.board.put(rollout("other", "not asked for"), at(1));
    site.board.put(rollout("web", "changed"), at(1));
    assert_eq!(next(&mut events).await.unwrap()["rollout"]["message"], "changed");
    site.board.remove(&Key {
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
    });
    assert_eq!(next(&mut events).await.unwrap(), json!({"gone": true}));
    site.stop.cancel();
    assert_eq!(next(&mut events).await, None, "the replica can stop");
}

#[tokio::test]
async fn a_seat_is_free_again_when_its_reader_goes() {
    let site = site(Sharing::unchallenged());
    let mut readers = Vec::new();
    for _ in 0..READERS {
        readers.push(site.get("/api/events").await);
    }
    let refused = site.get("/api/events").await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    readers.pop();
    assert_eq!(site.get("/api/events").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_command_is_given_in_the_persons_name_and_with_their_token() {
    let site = site(Sharing::of_a_follower("serin-1_2"));
    let (status, said) = site
        .give(
            Some("anns"),
            &json!({"verb": "abort", "reason": "support is \"called\""}),
        )
        .await;
    assert_eq!(
        (status, &said["user"]),
        (StatusCode::ACCEPTED, &"ann@example.com".into())
    );
    let written = site.server.written.lock().unwrap().clone();
    let [(token, path, body)] = written.as_slice() else {
        panic!("one write, and not {written:?}")
    };
    assert_eq!(token, "Bearer anns");
    assert_eq!(path, "/apis/serin.dev/v1alpha1/namespaces/shop/canaryrollouts/web");
    let command = Order::parse(body["metadata"]["annotations"][COMMAND_ANNOTATION].as_str().unwrap()).unwrap();
    assert_eq!(
        (command.verb.word(), command.by.as_deref()),
        ("abort", Some("ann@example.com"))
    );
    assert_eq!(
        (command.reason.as_str(), &command.id),
        ("support is \"called\"", &said["id"].as_str().unwrap().to_owned())
    );
}

#[tokio::test]
async fn nobody_steers_whom_kubernetes_does_not_let() {
    let site = site(Sharing::unchallenged());
    let abort = json!({"verb": "abort"});
    for (token, body, expected) in [
        (None, &abort, StatusCode::UNAUTHORIZED),
        (Some("forged"), &abort, StatusCode::UNAUTHORIZED),
        (Some("bobs"), &abort, StatusCode::FORBIDDEN),
        (Some("anns"), &json!({"verb": "destroy"}), StatusCode::BAD_REQUEST),
        (
            Some("anns"),
            &json!({"verb": "abort", "reason": "x".repeat(1025)}),
            StatusCode::BAD_REQUEST,
        ),
    ] {
        let (status, said) = site.give(token, body).await;
        assert_eq!(status, expected, "{token:?} {body}: {said}");
        assert!(!said.to_string().contains("forged"), "a token is told to nobody");
    }
    assert!(site.server.written.lock().unwrap().is_empty());
    // The admission policy knows more than the right to patch.
    let (status, said) = site.give(Some("anns"), &json!({"verb": "promote-full"})).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(
        said["error"].as_str().unwrap().contains("may not promote-full"),
        "{said}"
    );
}

#[tokio::test]
async fn a_form_of_another_site_is_no_command() {
    let site = site(Sharing::unchallenged());
    let request = Request::post("/api/rollouts/shop/web/commands")
        .header("authorization", "Bearer anns")
        .header("content-type", "text/plain")
        .body(Body::from(r#"{"verb":"abort"}"#))
        .unwrap();
    assert_eq!(site.send(request).await.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(site.server.written.lock().unwrap().is_empty());
}
