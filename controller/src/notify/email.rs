//! E-mail by SMTP: one plain-text message for each announcement. Must not know when a letter is tried again.

use std::time::Duration;

use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use percent_encoding::percent_decode_str;
use reqwest::Url;

use super::letter::Letter;
use super::news::cut;
use super::post::{Failure, Means, Sent};
use crate::api::EmailSpec;
use crate::callout::{Guard, Inside};

/// The key of the Secret with a private authority's certificates, which are trusted beside the system's.
const CA: &str = "ca.crt";
/// The longest wait for one answer of the server.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) async fn send(means: &Means<'_>, spec: &EmailSpec, letter: &Letter) -> Result<Sent, Failure> {
    let message = message(spec, letter)?;
    let server = Server::parse(&means.secret.text("smtpUrl")?)?;
    let transport = server.transport(means.guard, means.secret.bytes(CA)).await?;
    match transport.send(message).await {
        Ok(_) => Ok(Sent::default()),
        Err(error) if error.is_permanent() => Err(Failure::Never(format!("the mail server refuses it: {error}"))),
        Err(error) => Err(Failure::Later {
            why: format!("the mail server did not take it: {:#}", anyhow::Error::new(error)),
            after: None,
        }),
    }
}

/// The message. The same one has the same id, so that who gets it twice is shown it once.
pub(super) fn message(spec: &EmailSpec, letter: &Letter) -> Result<Message, Failure> {
    let mailbox = |text: &str| {
        let parsed = text.parse::<Mailbox>();
        parsed.map_err(|error| Failure::Never(format!("{text:?} is no address of a mailbox: {error}")))
    };
    let from = mailbox(&spec.from)?;
    let domain = from.email.domain().to_owned();
    let id = format!("<{}.{}@{domain}>", letter.key(), letter.receiver.id.replace(':', "."));
    let mut builder = Message::builder()
        .from(from)
        .subject(cut(&format!("[{}] {}", letter.cluster, letter.title()), 200))
        .header(AutoSubmitted)
        .message_id(Some(id));
    if let Some(trial) = letter.announcement.trial {
        // One conversation for each trial.
        let trial = format!("<{}.{}@{domain}>", letter.uid, trial.as_second());
        builder = builder.references(trial.clone()).in_reply_to(trial);
    }
    for to in &spec.to {
        builder = builder.to(mailbox(to)?);
    }
    builder
        .body(body(letter))
        .map_err(|error| Failure::Never(format!("the message can't be written: {error}")))
}

fn body(letter: &Letter) -> String {
    let said = &letter.announcement;
    let lines = [
        Some(letter.text(str::to_owned)),
        Some(String::new()),
        Some(format!("Cluster:  {}", letter.cluster)),
        Some(format!("Rollout:  {}/{}", letter.namespace, letter.rollout)),
        Some(format!("Revision: {}", said.revision)),
        said.step
            .as_ref()
            .map(|step| format!("Step:     {step}, {} % on the canary", said.weight)),
        said.commit.as_ref().map(|commit| {
            let (author, subject) = (said.author.as_deref(), said.subject.as_deref());
            format!(
                "Commit:   {commit} {} ({})",
                subject.unwrap_or_default(),
                author.unwrap_or_default()
            )
        }),
        letter.link().map(|link| format!("See:      {link}")),
        Some(format!("\nserin status {} -n {}\n", letter.rollout, letter.namespace)),
    ];
    lines.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

/// Nobody's automatic answer is wanted (RFC 3834).
#[derive(Debug, Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// The mail server, as its address says.
#[derive(Debug, PartialEq, Eq)]
struct Server {
    host: String,
    port: u16,
    security: Security,
    credentials: Option<(String, String)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Security {
    /// TLS from the start.
    Wrapped,
    /// `STARTTLS`, or nothing is sent.
    Upgraded,
    /// None; only without credentials.
    Plain,
}

impl Server {
    fn parse(url: &str) -> Result<Self, Failure> {
        // The address holds a password, and is not repeated.
        let never = |why: &str| Failure::Never(format!("`smtpUrl` {why}"));
        let url = Url::parse(url).map_err(|error| never(&format!("is no address: {error}")))?;
        let host = url
            .host_str()
            .filter(|host| !host.is_empty())
            .ok_or_else(|| never("names no host"))?;
        let tls = url
            .query_pairs()
            .find(|(key, _)| key == "tls")
            .map(|(_, value)| value.into_owned());
        let security = match (url.scheme(), tls.as_deref()) {
            ("smtps", None) => Security::Wrapped,
            ("smtp", Some("required")) => Security::Upgraded,
            ("smtp", None) => Security::Plain,
            _ => return Err(never("begins with smtps://, or with smtp:// and ends in ?tls=required")),
        };
        let decode = |text: &str| decoded(text).ok_or_else(|| never("has a user or password that is not well encoded"));
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => Some((decode(user)?, decode(password.unwrap_or_default())?)),
        };
        if security == Security::Plain && credentials.is_some() {
            return Err(never(
                "would send the password in the clear; use smtps://, or add ?tls=required",
            ));
        }
        let port = match security {
            Security::Wrapped => 465,
            Security::Upgraded => 587,
            Security::Plain => 25,
        };
        Ok(Self {
            host: host.to_owned(),
            port: url.port().unwrap_or(port),
            security,
            credentials,
        })
    }

    /// A connection to an address that may be called.
    async fn transport(&self, guard: &Guard, ca: Option<&[u8]>) -> Result<AsyncSmtpTransport<Tokio1Executor>, Failure> {
        let later = |why: String| Failure::Later { why, after: None };
        let addresses = match tokio::time::timeout(TIMEOUT, guard.resolve(&self.host, self.port)).await {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) if error.is::<Inside>() => return Err(Failure::Never(error.to_string())),
            Ok(Err(error)) => return Err(later(format!("finding the mail server {}: {error}", self.host))),
            Err(_) => return Err(later(format!("finding the mail server {} took too long", self.host))),
        };
        let address = addresses
            .first()
            .ok_or_else(|| later(format!("{} has no address", self.host)))?;
        let tls = || {
            let mut builder = TlsParameters::builder(self.host.clone());
            if let Some(ca) = ca {
                let trusted = Certificate::from_pem(ca);
                builder =
                    builder.add_root_certificate(trusted.map_err(|_| later(format!("`{CA}` is no certificate")))?);
            }
            builder.build().map_err(|error| Failure::Never(error.to_string()))
        };
        let tls = match self.security {
            Security::Wrapped => Tls::Wrapper(tls()?),
            Security::Upgraded => Tls::Required(tls()?),
            Security::Plain => Tls::None,
        };
        // By address: a name would be resolved again, and could be another one then. The certificate is the name's.
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address.ip().to_string())
            .port(self.port)
            .timeout(Some(TIMEOUT))
            .tls(tls);
        if let Some((user, password)) = &self.credentials {
            builder = builder.credentials(Credentials::new(user.clone(), password.clone()));
        }
        Ok(builder.build())
    }
}

/// What stands behind each `%` has to be a byte: the library would leave it as it is.
fn decoded(text: &str) -> Option<String> {
    let is_byte =
        |after: &str| matches!(after.as_bytes(), [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    let decoded = text.split('%').skip(1).all(is_byte).then(|| percent_decode_str(text))?;
    decoded.decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_address_says_how_it_is_spoken_to_and_no_password_goes_in_the_clear() {
        let server = Server::parse("smtps://ser%40in:p%3Ass@mail.example.com").unwrap();
        assert_eq!((server.port, &server.security), (465, &Security::Wrapped));
        assert_eq!(server.credentials, Some(("ser@in".to_owned(), "p:ss".to_owned())));
        let server = Server::parse("smtp://u:p@mail.example.com:2525?tls=required").unwrap();
        assert_eq!((server.port, &server.security), (2525, &Security::Upgraded));
        assert_eq!(Server::parse("smtp://relay.example.com").unwrap().port, 25);
        for bad in [
            "smtp://u:secret@mail.example.com",
            "smtp://u:secret@h?tls=opportunistic",
            "https://u:secret@h",
            "smtps://u:secret%zz@h",
            "secret",
        ] {
            let why = format!("{:?}", Server::parse(bad).unwrap_err());
            assert!(!why.contains("secret"), "{why}");
        }
    }
}
