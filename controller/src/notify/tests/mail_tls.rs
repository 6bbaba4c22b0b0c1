//! Conversations with mail servers behind TLS: from the start and by STARTTLS, with a certificate of a private authority.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::stand::{Office, said};
use crate::api::NotifyOn;
use crate::gitops::tests::hosts::{authority, tls};

/// How a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// TLS from the start.
    Wrapped,
    /// In the clear until `STARTTLS`.
    Upgraded,
    /// In the clear, and it knows nothing else.
    Plain,
}

struct MailServer {
    port: u16,
    ca: String,
    /// What it was told: in the clear, and within TLS.
    heard: Arc<Mutex<[Vec<String>; 2]>>,
}

impl MailServer {
    async fn start(kind: Kind) -> Self {
        let pki = tempfile::tempdir().unwrap();
        authority(pki.path());
        let (acceptor, ca) = (
            tls(pki.path()),
            std::fs::read_to_string(pki.path().join("ca.crt")).unwrap(),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard: Arc<Mutex<[Vec<String>; 2]>> = Arc::default();
        let keep = heard.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, kind, acceptor.clone(), keep.clone()));
            }
        });
        Self { port, ca, heard }
    }

    fn heard(&self) -> [String; 2] {
        self.heard.lock().unwrap().clone().map(|lines| lines.join("\n"))
    }
}

async fn serve(stream: TcpStream, kind: Kind, tls: TlsAcceptor, heard: Arc<Mutex<[Vec<String>; 2]>>) {
    let stream = match kind {
        Kind::Wrapped => stream,
        Kind::Upgraded | Kind::Plain => {
            let offer = if kind == Kind::Upgraded {
                "250 STARTTLS\r\n"
            } else {
                "250 8BITMIME\r\n"
            };
            match converse(stream, "220 mail ESMTP\r\n", offer, (&heard, 0)).await {
                Some(stream) => stream,
                None => return,
            }
        }
    };
    // Whoever does not trust us hangs up here.
    let Ok(stream) = tls.accept(stream).await else { return };
    let greeting = if kind == Kind::Wrapped {
        "220 mail ESMTP\r\n"
    } else {
        ""
    };
    converse(stream, greeting, "250 AUTH PLAIN\r\n", (&heard, 1)).await;
}

/// Speaks until the end, or until TLS is to begin: then the stream is given back.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    greeting: &str,
    offer: &str,
    (heard, layer): (&Mutex<[Vec<String>; 2]>, usize),
) -> Option<S> {
    let mut stream = BufReader::new(stream);
    stream.get_mut().write_all(greeting.as_bytes()).await.ok()?;
    let (mut line, mut data) = (String::new(), false);
    loop {
        line.clear();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let said = line.trim_end().to_owned();
        heard.lock().unwrap()[layer].push(said.clone());
        let answer = match said.split([' ', ':']).next().unwrap_or_default() {
            "." if data => {
                data = false;
                "250 taken\r\n".to_owned()
            }
            _ if data => String::new(),
            "EHLO" => format!("250-mail\r\n{offer}"),
            "AUTH" => "235 welcome\r\n".to_owned(),
            "DATA" => {
                data = true;
                "354 go on\r\n".to_owned()
            }
            "STARTTLS" => "220 go on\r\n".to_owned(),
            _ => "250 good\r\n".to_owned(),
        };
        stream.get_mut().write_all(answer.as_bytes()).await.ok()?;
        if said == "STARTTLS" {
            return Some(stream.into_inner());
        }
    }
}

const RECEIVERS: &str =
    "[{name: people, email: {from: serin@example.com, to: [ops@example.com], secretRef: {name: mail}}}]";

/// Why the mail was not sent, if so.
async fn sent(server: &MailServer, scheme: &str, query: &str, trusts: bool) -> Option<String> {
    let url = format!("{scheme}://serin:pass-word@127.0.0.1:{}{query}", server.port);
    let mut secret = vec![("smtpUrl", url.as_str())];
    if trusts {
        secret.push(("ca.crt", &server.ca));
    }
    let mut office = Office::new("{}", RECEIVERS, &secret, false);
    office.decide(vec![said(NotifyOn::RollingBack, "6 % fail")]);
    office.outcome().await.failed
}

#[tokio::test]
async fn mail_goes_by_tls_from_the_start_to_a_server_of_a_private_authority() {
    let server = MailServer::start(Kind::Wrapped).await;
    assert_eq!(sent(&server, "smtps", "", true).await, None);
    let [clear, inside] = server.heard();
    assert_eq!(clear, "");
    for line in ["AUTH PLAIN", "MAIL FROM:<serin@example.com>", "6 % fail"] {
        assert!(inside.contains(line), "{line} in {inside}");
    }
}

#[tokio::test]
async fn mail_and_its_password_go_only_after_starttls_has_made_it_private() {
    let server = MailServer::start(Kind::Upgraded).await;
    assert_eq!(sent(&server, "smtp", "?tls=required", true).await, None);
    let [clear, inside] = server.heard();
    let words: Vec<_> = clear.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(words, ["EHLO", "STARTTLS"], "{clear}");
    for line in ["AUTH PLAIN", "MAIL FROM:<serin@example.com>", "6 % fail"] {
        assert!(inside.contains(line), "{line} in {inside}");
    }
}

#[tokio::test]
async fn nothing_is_told_to_a_server_that_nobody_vouches_for_or_that_knows_no_tls() {
    for (kind, scheme, query) in [(Kind::Wrapped, "smtps", ""), (Kind::Upgraded, "smtp", "?tls=required")] {
        let server = MailServer::start(kind).await;
        let why = sent(&server, scheme, query, false).await.unwrap();
        assert!(why.contains("certificate"), "{kind:?}: {why}");
        assert_eq!(server.heard()[1], "", "{kind:?}");
    }
    let server = MailServer::start(Kind::Plain).await;
    let why = sent(&server, "smtp", "?tls=required", true).await.unwrap();
    assert!(why.to_lowercase().contains("tls"), "{why}");
    let [clear, _] = server.heard();
    assert!(!clear.contains("AUTH") && !clear.contains("MAIL"), "{clear}");
}
