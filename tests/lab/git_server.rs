//! The server of config repositories: git's own smart HTTP with tokens, and outages on demand. It must not know what is in the
//! repositories.

mod cgi;
mod repository;

use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    serve::Listener,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::sleep,
};

pub use self::repository::Repository;
use crate::{net::Net, process::Program, tools::Tools};

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Fetch and push.
    ReadWrite,
    /// Fetch; a push is answered with 403.
    ReadOnly,
}

/// What clients of the server meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// It works.
    None,
    /// Every request is answered with 503.
    Unavailable,
    /// Every connection is closed at once.
    Refused,
    /// Requests are not answered until the outage is over.
    Silent,
}

/// A running server. It ends when it is dropped.
#[derive(Debug)]
pub struct GitServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    token: String,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    /// Bare repositories, `<name>.git` each.
    root: PathBuf,
    home: PathBuf,
    backend: PathBuf,
    git: PathBuf,
    log: PathBuf,
    tokens: RwLock<BTreeMap<String, Access>>,
    outage: watch::Sender<Outage>,
}

impl GitServer {
    /// Starts the server; `token` may push.
    pub async fn start(tools: &Tools, net: &Net, dir: &Path, token: &str) -> anyhow::Result<Self> {
        let (root, home) = (dir.join("git/repositories"), dir.join("git/home"));
        fs::create_dir_all(&root)?;
        fs::create_dir_all(&home)?;
        let listener = net.listen().await.context("starting the Git server")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            root,
            home,
            backend: tools.git_http_backend.clone(),
            git: tools.git.clone(),
            log: dir.join("logs/git-http-backend.log"),
            tokens: RwLock::new([(token.to_owned(), Access::ReadWrite)].into()),
            outage: watch::Sender::new(Outage::None),
        });
        let router = Router::new().fallback(serve).with_state(shared.clone());
        let door = Door {
            listener,
            outage: shared.outage.subscribe(),
        };
        let task = tokio::spawn(async move {
            let _ = axum::serve(door, router).await;
        });
        Ok(Self {
            shared,
            address,
            token: token.to_owned(),
            task,
        })
    }

    /// Makes a bare repository `<name>.git` with the branch main, whose first commit has the files of `seed`.
    pub async fn create(&self, name: &str, seed: &Path) -> anyhow::Result<Repository> {
        let path = self.shared.root.join(format!("{name}.git"));
        let git = self.shared.git();
        Repository::create(git, path, seed, &self.shared.home)
            .await
            .with_context(|| format!("making the repository {name} from {}", seed.display()))
    }

    /// The URL that clients use; the token is the password of any user.
    pub fn url(&self, name: &str) -> String {
        format!("http://{}/{name}.git", self.address)
    }

    /// The URL with the token in it.
    pub fn url_with_token(&self, name: &str) -> String {
        format!("http://lab:{}@{}/{name}.git", self.token, self.address)
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The token that may push.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Lets another token in, or changes what it may do.
    pub fn allow(&self, token: &str, access: Access) {
        self.shared
            .tokens
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(token.to_owned(), access);
    }

    /// Takes a token's access away.
    pub fn revoke(&self, token: &str) {
        self.shared
            .tokens
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(token);
    }

    /// Begins or ends an outage, for all repositories.
    pub fn set_outage(&self, outage: Outage) {
        self.shared.outage.send_replace(outage);
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    /// git without anybody's personal settings.
    fn git(&self) -> Program {
        isolated(Program::new(&self.git), &self.home)
    }

    fn access(&self, header: Option<&str>) -> Option<Access> {
        let token = basic_password(header?)?;
        self.tokens
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&token)
            .copied()
    }
}

fn isolated(program: Program, home: &Path) -> Program {
    program
        .clean_env()
        .env("HOME", home)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C.UTF-8")
}

/// The password of HTTP Basic credentials.
fn basic_password(header: &str) -> Option<String> {
    let (scheme, encoded) = header.split_once(' ')?;
    let text = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (_, password) = text.split_once(':')?;
    scheme.eq_ignore_ascii_case("basic").then(|| password.to_owned())
}

async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let mut outage = shared.outage.subscribe();
    if outage
        .wait_for(|outage| *outage != Outage::Silent)
        .await
        .is_ok_and(|outage| *outage == Outage::Unavailable)
    {
        return answer(StatusCode::SERVICE_UNAVAILABLE, "the server is down for maintenance\n");
    }
    let authorization = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let Some(access) = shared.access(authorization) else {
        let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"config repositories\"")];
        return (StatusCode::UNAUTHORIZED, challenge, "a token is needed\n").into_response();
    };
    if access == Access::ReadOnly && is_push(request.uri()) {
        return answer(StatusCode::FORBIDDEN, "this token may not push\n");
    }
    match cgi::run(&shared, request).await {
        Ok(response) => response,
        Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error:#}\n")),
    }
}

fn is_push(uri: &axum::http::Uri) -> bool {
    uri.path().ends_with("/git-receive-pack") || uri.query().is_some_and(|q| q.contains("service=git-receive-pack"))
}

fn answer(status: StatusCode, text: &str) -> Response {
    let mut response = Response::new(Body::from(text.to_owned()));
    *response.status_mut() = status;
    response
}

/// A listener that turns everybody away during an outage.
struct Door {
    listener: TcpListener,
    outage: watch::Receiver<Outage>,
}

impl Listener for Door {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok(_) if *self.outage.borrow() == Outage::Refused => {}
                Ok(accepted) => return accepted,
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_what_stands_after_the_first_colon() {
        let header = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        assert_eq!(basic_password(&header("any:se:cret")).as_deref(), Some("se:cret"));
        assert_eq!(basic_password(&header("nothing")), None);
        assert_eq!(basic_password("Bearer abc"), None);
    }

    #[test]
    fn both_requests_of_a_push_are_seen_as_one() {
        assert!(is_push(&"/a.git/info/refs?service=git-receive-pack".parse().unwrap()));
        assert!(is_push(&"/a.git/git-receive-pack".parse().unwrap()));
        assert!(!is_push(&"/a.git/info/refs?service=git-upload-pack".parse().unwrap()));
    }
}
