//! Pull requests by the APIs of GitHub and GitLab, and the login of a GitHub App: against a server that takes what their reference
//! documents and nothing else, before a real Git host whose branch is protected.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::hosts::{Https, Ssh, run};
use super::protected::{protect, unprotect};
use super::*;

const TOKEN: &str = "a-token-of-its-own";

/// The API of a host; it knows the branches of the world's repository.
struct Api {
    kind: HostKind,
    folder: PathBuf,
    state: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// What was asked, as `METHOD path`.
    calls: Vec<String>,
    requests: Vec<Value>,
    /// What is answered instead.
    fails: Option<(u16, &'static str)>,
}

/// A protected repository at a host with an API.
struct Site {
    world: World,
    api: Arc<Api>,
    hosts: Hosts,
    https: Https,
}

/// A server of OpenSSH's that knows the repository by the path that the API has for it, as hosts do.
fn ssh(world: &World, path: &str) -> (Ssh, String) {
    let (ssh, folder) = (Ssh::start(world), world.folder.path().display().to_string());
    let serve = world.folder.path().join("serve");
    let script = format!("#!/bin/sh\ncd '{folder}' && eval \"$(echo \"$SSH_ORIGINAL_COMMAND\" | sed \"s#'/#'#\")\"\n");
    executable(&serve, &script);
    let keys = world.folder.path().join("sshd/authorized_keys");
    let key = fs::read_to_string(&keys).unwrap();
    fs::write(&keys, format!("command=\"{}\" {key}", serve.display())).unwrap();
    let host = ssh.url.strip_suffix(&format!("{folder}/origin.git")).unwrap();
    let url = format!("{host}/{path}");
    (ssh, url)
}

impl Site {
    async fn start(kind: HostKind) -> Self {
        // The controller's `main` and the CLI's do this first.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut world = World::new();
        let https = Https::start(&world, TOKEN).await;
        let path = match kind {
            HostKind::GitHub => "acme/config.git",
            HostKind::GitLab => "acme/team/config.git",
        };
        let link = world.folder.path().join(path);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(world.folder.path().join("origin.git"), link).unwrap();
        let address = https.url.strip_suffix("/origin.git").unwrap();
        world.repo = RepoSpec {
            url: format!("{address}/{path}"),
            ca: Some(https.ca.clone()),
            credentials: Credentials::Token {
                username: "ci".to_owned(),
                token: TOKEN.to_owned(),
            },
            ..world.repo.clone()
        };
        let api = Arc::new(Api {
            kind,
            folder: world.folder.path().to_owned(),
            state: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}{}", listener.local_addr().unwrap(), api.base());
        let router = Router::new().fallback(serve).with_state(api.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let host = Host {
            host: address.strip_prefix("https://").unwrap().to_owned(),
            kind,
            api: base,
        };
        let hosts = Hosts::with(vec![host]).unwrap();
        world.gitops = world.gitops.clone().with_hosts(hosts.clone());
        world.create("1.1.0", &[]).await.unwrap();
        protect(&world);
        Self {
            world,
            api,
            hosts,
            https,
        }
    }

    /// Another process over the same repository.
    fn restart(&mut self) {
        let folder = self.world.folder.path().join("cache");
        self.world.gitops = GitOps::new(folder, Identity::default())
            .with_pace(Pace::AT_ONCE)
            .with_hosts(self.hosts.clone());
    }

    async fn proposed(&self) -> (PullRequest, String) {
        let error = self.world.roll_back("1.1.0", None).await.unwrap_err();
        let text = error.to_string();
        assert!(!text.contains(TOKEN), "{text}");
        match error {
            Error::Proposed { request, .. } => (*request, text),
            error => panic!("{error}"),
        }
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.api.state.lock().unwrap().calls)
    }

    fn set_state(&self, state: &str) {
        for request in &mut self.api.state.lock().unwrap().requests {
            request["state"] = json!(state);
        }
    }
}

impl Api {
    fn base(&self) -> &'static str {
        match self.kind {
            HostKind::GitHub => "/api/v3",
            HostKind::GitLab => "/api/v4",
        }
    }

    /// Where requests are, as the reference says.
    fn requests(&self) -> &'static str {
        match self.kind {
            HostKind::GitHub => "/api/v3/repos/acme/config/pulls",
            HostKind::GitLab => "/api/v4/projects/acme%2Fteam%2Fconfig/merge_requests",
        }
    }

    fn has_branch(&self, name: &Value) -> bool {
        let reference = format!("refs/heads/{}", name.as_str().unwrap());
        let found = git(&self.folder.join("origin.git"), &["for-each-ref", &reference]);
        !found.is_empty()
    }

    fn list(&self, query: &str) -> Vec<Value> {
        let url = reqwest::Url::parse(&format!("http://h/?{query}")).unwrap();
        let asked: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let get = |name: &str| {
            let found = asked.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let known: &[&str] = match self.kind {
            HostKind::GitHub => &["head", "base", "state", "per_page"],
            HostKind::GitLab => &["source_branch", "target_branch", "per_page"],
        };
        assert!(asked.iter().all(|(key, _)| known.contains(&key.as_str())), "{asked:?}");
        let (branch, target) = match self.kind {
            HostKind::GitHub => {
                assert_eq!(get("state"), "all", "without it, only open ones are told");
                let head = get("head");
                (head.strip_prefix("acme:").expect("user:branch").to_owned(), get("base"))
            }
            HostKind::GitLab => (get("source_branch"), get("target_branch")),
        };
        assert_eq!(target, "main");
        let state = self.state.lock().unwrap();
        let of_branch = state
            .requests
            .iter()
            .filter(|request| request["branch"] == json!(branch));
        of_branch.cloned().collect()
    }

    fn open(&self, body: &Value) -> (StatusCode, Value) {
        let fields: Vec<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
        let (known, branch, target): (&[&str], _, _) = match self.kind {
            HostKind::GitHub => (&["base", "body", "head", "title"], &body["head"], &body["base"]),
            HostKind::GitLab => (
                &[
                    "description",
                    "remove_source_branch",
                    "source_branch",
                    "target_branch",
                    "title",
                ],
                &body["source_branch"],
                &body["target_branch"],
            ),
        };
        assert_eq!(fields, known, "as the reference has them");
        assert!(self.has_branch(branch) && target == "main", "{body}");
        let mut state = self.state.lock().unwrap();
        if state.requests.iter().any(|request| request["branch"] == *branch) {
            return match self.kind {
                HostKind::GitHub => (
                    StatusCode::UNPROCESSABLE_ENTITY,
                    json!({"message": "Validation Failed", "errors": [{"resource": "PullRequest", "code": "custom",
                        "message": "A pull request already exists for acme:x."}]}),
                ),
                HostKind::GitLab => (
                    StatusCode::CONFLICT,
                    json!({"message": ["Another open merge request already exists for this source branch: !1"]}),
                ),
            };
        }
        let request = match self.kind {
            HostKind::GitHub => json!({"number": 1, "html_url": "https://h/acme/config/pull/1", "state": "open",
                "merged_at": null, "branch": branch, "said": body}),
            HostKind::GitLab => json!({"iid": 1, "web_url": "https://h/acme/team/config/-/merge_requests/1",
                "state": "opened", "branch": branch, "said": body}),
        };
        state.requests.push(request.clone());
        (StatusCode::CREATED, request)
    }

    /// A token for the App's statement, if openssl says that it is signed with the App's key.
    fn exchange(&self, statement: &str) -> (StatusCode, Value) {
        let parts: Vec<&str> = statement.split('.').collect();
        let [head, claims, signature] = parts.as_slice() else {
            panic!("{statement}")
        };
        let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
        let (at, read) = (
            |name: &str| self.folder.join(name),
            |part: &str| serde_json::from_slice::<Value>(&decode(part)).unwrap(),
        );
        fs::write(at("signed"), format!("{head}.{claims}")).unwrap();
        fs::write(at("signature"), decode(signature)).unwrap();
        assert_eq!(read(head), json!({"alg": "RS256", "typ": "JWT"}));
        let claims = read(claims);
        let (from, until) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
        assert!(until - from <= 600 && claims["iss"] == "7", "{claims}");
        let verified = Command::new("openssl")
            .current_dir(&self.folder)
            .args([
                "dgst",
                "-sha256",
                "-verify",
                "app.pub",
                "-signature",
                "signature",
                "signed",
            ])
            .output()
            .unwrap();
        if verified.status.success() {
            (
                StatusCode::CREATED,
                json!({"token": TOKEN, "expires_at": "2099-01-01T00:00:00Z"}),
            )
        } else {
            (
                StatusCode::UNAUTHORIZED,
                json!({"message": "A JSON web token could not be decoded"}),
            )
        }
    }
}

async fn serve(State(api): State<Arc<Api>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let header = |name: &str| parts.headers.get(name).map_or("", |value| value.to_str().unwrap());
    let path = parts.uri.path();
    let fails = {
        let mut state = api.state.lock().unwrap();
        state.calls.push(format!("{} {path}", parts.method));
        state.fails
    };
    if let Some((status, words)) = fails {
        return (StatusCode::from_u16(status).unwrap(), words).into_response();
    }
    assert!(
        header("user-agent").starts_with("serin/"),
        "GitHub refuses who has no name"
    );
    if api.kind == HostKind::GitHub {
        assert_eq!(header("accept"), "application/vnd.github+json");
        assert_eq!(header("x-github-api-version"), "2022-11-28");
    }
    let bearer = header("authorization").strip_prefix("Bearer ").unwrap_or_default();
    let (status, answer) = if path == "/api/v3/app/installations/42/access_tokens" {
        assert_eq!(parts.method, Method::POST);
        api.exchange(bearer)
    } else if bearer != TOKEN {
        (StatusCode::UNAUTHORIZED, json!({"message": "Bad credentials"}))
    } else {
        assert_eq!(path, api.requests());
        if parts.method == Method::GET {
            (StatusCode::OK, json!(api.list(parts.uri.query().unwrap_or_default())))
        } else {
            assert_eq!(header("content-type"), "application/json");
            api.open(&serde_json::from_slice(&body).unwrap())
        }
    };
    let json = [(header::CONTENT_TYPE, "application/json")];
    (status, json, answer.to_string()).into_response()
}

/// A commit that people merge from its branch, while the host lets them.
fn merge(world: &World, branch: &str) {
    unprotect(world);
    let work = world.work();
    git(&work, &["pull", "-q", "--rebase", "origin", "main"]);
    git(&work, &["fetch", "-q", "origin", branch]);
    git(
        &work,
        &["merge", "-q", "--no-ff", "-m", "Merge pull request #1", "FETCH_HEAD"],
    );
    git(&work, &["push", "-q", "origin", "HEAD:main"]);
    protect(world);
}

#[tokio::test]
async fn a_refused_rollback_is_a_pull_request_that_is_opened_once_and_followed_until_it_lands() {
    for kind in [HostKind::GitHub, HostKind::GitLab] {
        let mut site = Site::start(kind).await;
        let list = site.api.requests();
        let (request, text) = site.proposed().await;
        let PullRequest::Open(address) = &request else {
            panic!("{request:?}")
        };
        assert!(text.contains(&format!("merge the pull request {address}")), "{text}");
        assert_eq!(site.calls(), [format!("GET {list}"), format!("POST {list}")]);
        let opened = site.api.state.lock().unwrap().requests[0].clone();
        let said = &opened["said"];
        assert_eq!(said["title"], "Roll back prod/web to 1.0.0 (1.1.0 failed)");
        let body = said.get("body").or(said.get("description")).unwrap().as_str().unwrap();
        assert!(
            body.contains("This reverts commit") && body.contains("Serin-Action: rollback"),
            "{body}"
        );

        assert_eq!(site.proposed().await.0, request, "asked again");
        assert_eq!(site.calls(), Vec::<String>::new(), "the host is not asked each time");
        site.restart();
        assert_eq!(site.proposed().await.0, request);
        assert_eq!(site.calls(), [format!("GET {list}")], "another process finds it");

        site.set_state("closed");
        site.restart();
        let (request, text) = site.proposed().await;
        assert!(
            matches!(request, PullRequest::Closed(_)) && text.contains("was closed"),
            "{text}"
        );
        assert_eq!(site.calls(), [format!("GET {list}")], "people's word is not overruled");

        merge(&site.world, opened["branch"].as_str().unwrap());
        let outcome = site.world.roll_back("1.1.0", None).await.unwrap();
        assert!(
            matches!(outcome, RollbackOutcome::AlreadyCommitted { .. }),
            "{outcome:?}"
        );
        assert_eq!(site.world.file(), VALUES);
    }
}

#[tokio::test]
async fn an_api_that_fails_leaves_the_branch_for_people_and_is_tried_again() {
    for kind in [HostKind::GitHub, HostKind::GitLab] {
        let mut site = Site::start(kind).await;
        for (status, words, says) in [
            (
                403,
                "{\"message\": \"Resource not accessible by integration\"}",
                "right to open",
            ),
            (401, "{\"message\": \"Bad credentials\"}", "does not accept the token"),
            (502, "<html>Bad gateway</html>", "HTTP 502"),
            (200, "garbage", "no list"),
        ] {
            site.api.state.lock().unwrap().fails = Some((status, words));
            site.restart();
            let (request, text) = site.proposed().await;
            let PullRequest::NotOpened(why) = request else {
                panic!("{request:?}")
            };
            assert!(why.contains(says) && text.contains("open one and merge it"), "{text}");
        }
        site.api.state.lock().unwrap().fails = None;
        site.restart();
        assert!(matches!(site.proposed().await.0, PullRequest::Open(_)));
    }
}

#[tokio::test]
async fn who_pushes_with_a_key_opens_pull_requests_with_a_token_of_its_own() {
    let mut site = Site::start(HostKind::GitLab).await;
    let (ssh, url) = ssh(&site.world, "acme/team/config.git");
    let (host, _) = place(&url);
    let known = site.hosts.all().first().unwrap().clone();
    site.hosts = Hosts::with(vec![Host { host, ..known }]).unwrap();
    site.world.repo = RepoSpec {
        url,
        credentials: Credentials::Ssh {
            private_key: ssh.key.clone(),
            known_hosts: ssh.known_hosts.clone(),
        },
        ca: None,
        ..site.world.repo.clone()
    };
    site.restart();
    assert_eq!(site.proposed().await.0, PullRequest::ByHand);
    assert_eq!(site.calls(), Vec::<String>::new());
    site.world.repo.api_token = Some(ApiToken(TOKEN.to_owned()));
    site.restart();
    let (request, _) = site.proposed().await;
    assert!(matches!(request, PullRequest::Open(_)), "{request:?}");
    // It comes before the one that pushes, which may do less.
    site.api.state.lock().unwrap().requests.clear();
    site.world.repo = RepoSpec {
        url: site.https.url.replace("origin.git", "acme/team/config.git"),
        credentials: Credentials::Token {
            username: "ci".to_owned(),
            token: TOKEN.to_owned(),
        },
        ca: Some(site.https.ca.clone()),
        api_token: Some(ApiToken("another-token".to_owned())),
        ..site.world.repo.clone()
    };
    let (host, _) = place(&site.world.repo.url);
    let known = site.hosts.all().first().unwrap().clone();
    site.hosts = Hosts::with(vec![Host { host, ..known }]).unwrap();
    site.restart();
    let (request, text) = site.proposed().await;
    assert!(
        matches!(&request, PullRequest::NotOpened(why) if why.contains("does not accept the token")),
        "{request:?}"
    );
    assert!(!text.contains("another-token"), "{text}");
}

#[tokio::test]
async fn a_token_goes_to_the_api_that_the_configuration_names_and_nowhere_else() {
    let mut site = Site::start(HostKind::GitHub).await;
    // A redirect is what a host could lead elsewhere with.
    site.api.state.lock().unwrap().fails = Some((302, ""));
    assert!(matches!(site.proposed().await.0, PullRequest::NotOpened(_)));
    site.calls();
    // A host that the configuration does not name.
    site.hosts = Hosts::default();
    site.restart();
    assert_eq!(site.proposed().await.0, PullRequest::ByHand);
    assert_eq!(site.calls(), Vec::<String>::new());
    for api in [
        "http://git.example.com/api/v4",
        "https://u:p@h/api",
        "https://h/?x=1",
        "h",
    ] {
        let host = Host {
            host: "git.example.com".to_owned(),
            kind: HostKind::GitLab,
            api: api.to_owned(),
        };
        assert!(Hosts::with(vec![host]).is_err(), "{api}");
    }
}

#[tokio::test]
async fn a_github_app_logs_in_with_a_signed_statement_and_a_new_key_takes_effect_at_once() {
    let mut site = Site::start(HostKind::GitHub).await;
    let folder = site.world.folder.path().to_owned();
    let key = |name: &str, form: &str| {
        run(&folder, "openssl", &["genrsa", form, "-out", name, "2048"]);
        AppKey {
            app: "7".to_owned(),
            installation: "42".to_owned(),
            private_key: fs::read_to_string(folder.join(name)).unwrap(),
        }
    };
    // As GitHub hands it out, and as tools write it.
    for (name, form) in [("app.key", "-traditional"), ("other.key", "-verbose")] {
        let app = key(name, form);
        run(&folder, "openssl", &["rsa", "-in", name, "-pubout", "-out", "app.pub"]);
        let now = crate::runtime::clock::now();
        for _ in 0..2 {
            site.world.repo.credentials = site.world.gitops.log_in(&site.world.repo, &app, now).await.unwrap();
        }
        let calls = site.calls();
        assert_eq!(
            calls,
            ["POST /api/v3/app/installations/42/access_tokens"],
            "kept for a while"
        );
        let later = now + Duration::from_secs(660);
        site.world.gitops.log_in(&site.world.repo, &app, later).await.unwrap();
        assert_eq!(site.calls().len(), 1, "and not for long");
        site.restart();
        assert!(matches!(site.proposed().await.0, PullRequest::Open(_)));
        site.calls();
    }
    // Another App's key.
    let wrong = key("wrong.key", "-traditional");
    let now = crate::runtime::clock::now();
    let error = site
        .world
        .gitops
        .log_in(&site.world.repo, &wrong, now)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("does not accept"), "{error}");
    let line = wrong.private_key.lines().nth(1).unwrap().to_owned();
    for private_key in [
        wrong.private_key.replace(&line, ""),
        "no key".to_owned(),
        site.world.repo.ca.clone().unwrap(),
    ] {
        let app = AppKey {
            private_key,
            ..wrong.clone()
        };
        let error = site.world.gitops.log_in(&site.world.repo, &app, now).await.unwrap_err();
        assert!(error.to_string().contains("must be an RSA key"), "{error}");
    }
    site.world.repo.url = "https://git.example.com/x.git".to_owned();
    let error = site
        .world
        .gitops
        .log_in(&site.world.repo, &wrong, now)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("no GitHub that the controller knows"),
        "{error}"
    );
}
