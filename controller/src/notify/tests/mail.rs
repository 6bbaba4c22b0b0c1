//! A conversation with a mail server of our own.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::stand::{Office, said};
use crate::api::NotifyOn;

/// A server that takes mail, and keeps what it was told. The first time it has no time.
async fn server() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, heard) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
    let keep = heard.clone();
    tokio::spawn(async move {
        let mut busy = true;
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(stream, keep.clone(), std::mem::take(&mut busy)));
        }
    });
    (port, heard)
}

async fn converse(stream: TcpStream, heard: Arc<Mutex<Vec<String>>>, busy: bool) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut data = false;
    write.write_all(b"220 mail.example.com ESMTP\r\n").await.unwrap();
    while let Ok(Some(line)) = lines.next_line().await {
        let answer = match line.split([' ', ':']).next().unwrap_or_default() {
            "." if data => {
                data = false;
                "250 taken\r\n"
            }
            _ if data => "",
            "EHLO" => "250-mail.example.com\r\n250 8BITMIME\r\n",
            "MAIL" if busy => "451 come back later\r\n",
            "DATA" => {
                data = true;
                "354 go on\r\n"
            }
            "QUIT" => "221 bye\r\n",
            _ => "250 good\r\n",
        };
        heard.lock().unwrap().push(line);
        if write.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

const RECEIVERS: &str = "[{name: people, email: {from: 'Serin <serin@example.com>', to: ['Ada <ada@example.com>', ops@example.com], secretRef: {name: mail}}}]";

#[tokio::test]
async fn mail_is_sent_again_when_the_server_has_no_time_and_says_what_happened() {
    let (port, heard) = server().await;
    let url = format!("smtp://127.0.0.1:{port}");
    let mut office = Office::new("{}", RECEIVERS, &[("smtpUrl", &url)], false);
    office.decide(vec![
        said(NotifyOn::Started, "of this no mail is sent"),
        said(NotifyOn::RollingBack, "6 % fail"),
    ]);
    assert_eq!(office.outcome().await.failed, None);
    let heard = heard.lock().unwrap().join("\n");
    assert_eq!(heard.matches("MAIL FROM:<serin@example.com>").count(), 2, "{heard}");
    assert!(
        heard.contains("RCPT TO:<ada@example.com>\nRCPT TO:<ops@example.com>\nDATA"),
        "{heard}"
    );
    for line in [
        "From: Serin <serin@example.com>",
        "Subject: [prod-1] shop/user-service: 1.4.2 is being rolled back",
        "Auto-Submitted: auto-generated",
        "Message-ID: <0c5a-1.people@example.com>",
        "References: <0c5a.1795874400@example.com>",
        "Rollout:  shop/user-service",
        "serin status user-service -n shop",
    ] {
        assert!(heard.contains(line), "{line} in {heard}");
    }
}

#[tokio::test]
async fn a_mail_server_inside_of_the_cluster_is_not_called_for_a_rollout() {
    let (port, heard) = server().await;
    let url = format!("smtp://localhost:{port}");
    let mut office = Office::new("{}", RECEIVERS, &[("smtpUrl", &url)], true);
    office.decide(vec![said(NotifyOn::Promoted, "good")]);
    let why = office.outcome().await.failed.unwrap();
    assert!(why.contains("are not called for a rollout"), "{why}");
    assert!(heard.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_name_in_a_commit_puts_no_header_into_a_mail() {
    let office = Office::new("{}", RECEIVERS, &[], false);
    let mut evil = said(NotifyOn::Promoted, "good");
    evil.revision = "1\r\nBcc: evil@example.com".to_owned();
    let letter = office.letter(&evil, "people").unwrap();
    let crate::api::Channel::Email(spec) = &letter.receiver.channel else {
        unreachable!("the receiver is of e-mail")
    };
    let mail = super::super::email::message(spec, &letter).unwrap();
    let mail = String::from_utf8(mail.formatted()).unwrap();
    let head = mail.split("\r\n\r\n").next().unwrap();
    assert!(!head.lines().any(|line| line.starts_with("Bcc")), "{head}");
}
