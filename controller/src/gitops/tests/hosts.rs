//! Real Git hosts on ports of their own: git's HTTP backend behind TLS with a token, OpenSSH's server, and hosts that misbehave.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::serve::Listener;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::*;

/// Runs a program of the system; it must succeed.
pub(super) fn run(dir: &Path, program: &str, args: &[&str]) -> String {
    let output = Command::new(program).current_dir(dir).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// A certificate authority with one certificate for 127.0.0.1; the folder gets `ca.crt`, `host.crt` and `host.key`.
pub(crate) fn authority(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    let openssl = |args: &str| run(dir, "openssl", &args.split(' ').collect::<Vec<_>>());
    let new = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!(
        "{new} -x509 -days 2 -subj /CN=Test-authority -keyout ca.key -out ca.crt"
    ));
    openssl(&format!("{new} -subj /CN=127.0.0.1 -keyout host.key -out host.csr"));
    fs::write(dir.join("san"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl("x509 -req -in host.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile san -out host.crt");
}

/// git's HTTP backend behind TLS; it serves the world's repository to whoever has the token.
pub(crate) struct Https {
    pub(crate) url: String,
    pub(crate) ca: String,
    token: Arc<Mutex<String>>,
    /// While it is gone: how many were turned away so far.
    gone: Arc<Mutex<Option<usize>>>,
    task: tokio::task::JoinHandle<()>,
}

struct Site {
    root: PathBuf,
    token: Arc<Mutex<String>>,
}

impl Https {
    pub(crate) async fn start(world: &World, token: &str) -> Self {
        let root = world.folder.path().to_owned();
        git(&root.join("origin.git"), &["config", "http.receivepack", "true"]);
        let pki = root.join("pki");
        authority(&pki);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let token = Arc::new(Mutex::new(token.to_owned()));
        let gone: Arc<Mutex<Option<usize>>> = Arc::default();
        let site = Site {
            root,
            token: token.clone(),
        };
        let router = Router::new().fallback(serve).with_state(Arc::new(site));
        let door = Door {
            listener,
            tls: tls(&pki),
            gone: gone.clone(),
        };
        let task = tokio::spawn(async move { axum::serve(door, router).await.unwrap() });
        Self {
            url: format!("https://127.0.0.1:{port}/origin.git"),
            ca: fs::read_to_string(pki.join("ca.crt")).unwrap(),
            token,
            gone,
            task,
        }
    }

    /// From now on every connection is closed at once.
    pub(crate) fn leave(&self) {
        *self.gone.lock().unwrap() = Some(0);
    }

    pub(crate) fn come_back(&self) {
        *self.gone.lock().unwrap() = None;
    }

    /// How many connections were closed since it left.
    pub(crate) fn turned_away(&self) -> usize {
        self.gone.lock().unwrap().unwrap_or_default()
    }

    /// From now on this token, and no other, is let in.
    pub(super) fn rotate(&self, token: &str) {
        token.clone_into(&mut self.token.lock().unwrap());
    }
}

impl Drop for Https {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A server's side of TLS, with what [`authority`] made.
pub(crate) fn tls(pki: &Path) -> TlsAcceptor {
    let certificates = vec![CertificateDer::from_pem_file(pki.join("host.crt")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(pki.join("host.key")).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

struct Door {
    listener: TcpListener,
    tls: TlsAcceptor,
    gone: Arc<Mutex<Option<usize>>>,
}

impl Listener for Door {
    type Io = tokio_rustls::server::TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (stream, address) = self.listener.accept().await.unwrap();
            if let Some(turned_away) = self.gone.lock().unwrap().as_mut() {
                *turned_away += 1;
                continue;
            }
            // Whoever does not trust us hangs up here.
            if let Ok(stream) = self.tls.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

async fn serve(State(site): State<Arc<Site>>, request: Request) -> Response {
    // As hosts do: who has a token may call himself a user, or an App.
    let is_let_in = ["ci", "x-access-token"].iter().any(|user| {
        let pair = format!("{user}:{}", site.token.lock().unwrap());
        let wanted = format!("Basic {}", BASE64_STANDARD.encode(pair));
        let given = request.headers().get(header::AUTHORIZATION);
        given.is_some_and(|given| given == wanted.as_str())
    });
    if !is_let_in {
        let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"config\"")];
        return (StatusCode::UNAUTHORIZED, challenge, "a token is needed\n").into_response();
    }
    backend(&site.root, request).await
}

/// One request to `git http-backend`, by the rules of CGI.
async fn backend(root: &Path, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let header = |name: HeaderName| parts.headers.get(name).map_or("", |value| value.to_str().unwrap());
    let mut child = tokio::process::Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", root)
        .env("REMOTE_USER", "ci")
        .env("REQUEST_METHOD", parts.method.as_str())
        .env("PATH_INFO", parts.uri.path())
        .env("QUERY_STRING", parts.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", header(header::CONTENT_TYPE))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header(header::CONTENT_ENCODING))
        .env("GIT_PROTOCOL", header(HeaderName::from_static("git-protocol")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feed = async move {
        // It answers a bad request without reading it.
        let _ = stdin.write_all(&body).await;
    };
    let ((), output) = tokio::join!(feed, child.wait_with_output());
    let output = output.unwrap().stdout;
    let end = output.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let mut response = Response::new(Body::from(output[end + 4..].to_vec()));
    for line in std::str::from_utf8(&output[..end]).unwrap().lines() {
        let (name, value) = line.split_once(": ").unwrap();
        if name == "Status" {
            *response.status_mut() = value[..3].parse().unwrap();
        } else {
            let name: HeaderName = name.parse().unwrap();
            response.headers_mut().insert(name, value.parse().unwrap());
        }
    }
    response
}

/// OpenSSH's server for the user who runs the tests, with a key that may log in.
pub(super) struct Ssh {
    pub(super) url: String,
    pub(super) key: String,
    pub(super) known_hosts: String,
    server: Child,
    folder: PathBuf,
}

impl Ssh {
    pub(super) fn start(world: &World) -> Self {
        let setup = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/lab/setup/openssh.sh");
        let sshd = run(world.folder.path(), setup.to_str().unwrap(), &[]);
        let folder = world.folder.path().join("sshd");
        fs::create_dir(&folder).unwrap();
        keypair(&folder, "host");
        keypair(&folder, "user");
        let user = run(&folder, "id", &["-un"]);
        fs::copy(folder.join("user.pub"), folder.join("authorized_keys")).unwrap();
        // Between choosing a port and listening on it somebody else may take it.
        for _ in 0..5 {
            let port = std::net::TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            if let Some(server) = Self::serve(sshd.trim(), &folder, port) {
                let host = fs::read_to_string(folder.join("host.pub")).unwrap();
                return Self {
                    url: format!(
                        "ssh://{}@127.0.0.1:{port}{}/origin.git",
                        user.trim(),
                        world.folder.path().display()
                    ),
                    key: fs::read_to_string(folder.join("user")).unwrap(),
                    known_hosts: format!("[127.0.0.1]:{port} {host}"),
                    server,
                    folder,
                };
            }
        }
        panic!(
            "sshd does not start: {}",
            fs::read_to_string(folder.join("log")).unwrap()
        );
    }

    fn serve(sshd: &str, folder: &Path, port: u16) -> Option<Child> {
        let at = |name: &str| folder.join(name).display().to_string();
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nPermitUserRC no\n",
            at("host"),
            at("authorized_keys")
        );
        fs::write(folder.join("config"), config).unwrap();
        let mut server = Command::new(sshd)
            .args(["-D", "-e", "-f", &at("config")])
            .stdin(Stdio::null())
            .stderr(fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while std::time::Instant::now() < deadline && server.try_wait().unwrap().is_none() {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(server);
            }
            std::thread::yield_now();
        }
        drop(server.kill());
        drop(server.wait());
        None
    }

    /// From now on another key, and no other, is let in; the answer is its private half.
    pub(super) fn rotate(&self) -> String {
        keypair(&self.folder, "next");
        fs::copy(self.folder.join("next.pub"), self.folder.join("authorized_keys")).unwrap();
        fs::read_to_string(self.folder.join("next")).unwrap()
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

/// A new Ed25519 key pair `name`, `name.pub` in the folder.
pub(super) fn keypair(folder: &Path, name: &str) {
    run(
        folder,
        "ssh-keygen",
        &["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", name],
    );
}

/// What a host does with every connection.
#[derive(Debug, Clone, Copy)]
pub(super) enum Habit {
    /// Accepts it and says nothing.
    Hang,
    /// Closes it at once.
    Drop,
    /// Begins an answer and closes in the middle.
    Break,
    /// Answers with this.
    Say(&'static str),
}

/// A host that is no Git server; the answer is its port.
pub(super) async fn misbehaving(habit: Habit) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(misbehave(stream, habit));
        }
    });
    port
}

async fn misbehave<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, habit: Habit) {
    let mut buffer = [0; 4096];
    match habit {
        Habit::Hang => while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {},
        Habit::Drop => {}
        Habit::Break | Habit::Say(_) => {
            let words = match habit {
                Habit::Say(words) => words,
                _ => {
                    "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\nContent-Length: 1000\r\n\r\n001e# service=git-upload-pack\n"
                }
            };
            drop(stream.read(&mut buffer).await);
            drop(stream.write_all(words.as_bytes()).await);
            drop(stream.shutdown().await);
        }
    }
}
