//! A GitHub App's login: a short-lived statement signed with the App's key, exchanged for a token of one installation. It must not
//! know what the token is for.

use std::fmt;

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use reqwest::{Client, Method, StatusCode, Url};
use rustls::SignatureScheme;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::json;

use super::{ask, below, github, refused};

/// A token serves an hour; one that is taken back meanwhile is noticed after this.
const KEPT: SignedDuration = SignedDuration::from_mins(10);
/// Clocks differ.
const SLACK: SignedDuration = SignedDuration::from_secs(60);
/// GitHub takes no statement that holds longer than ten minutes.
const HOLDS: SignedDuration = SignedDuration::from_mins(9);

/// Which App, installed where, and its private key. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct AppKey {
    /// The App's id, or its client id.
    pub app: String,
    /// A number.
    pub installation: String,
    /// RSA, as PEM (PKCS #1, as GitHub hands it out, or PKCS #8).
    pub private_key: String,
}

impl fmt::Debug for AppKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppKey")
            .field("app", &self.app)
            .field("installation", &self.installation)
            .finish_non_exhaustive()
    }
}

/// Tokens of installations, for as long as they are kept.
#[derive(Default)]
pub(super) struct Tokens(Vec<Kept>);

struct Kept {
    api: String,
    key: AppKey,
    token: String,
    since: Timestamp,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.0.len())
    }
}

impl Tokens {
    /// Found by the key too: a Secret with another one takes effect at once.
    pub(super) fn get(&mut self, api: &str, key: &AppKey, now: Timestamp) -> Option<String> {
        self.0
            .retain(|kept| now.duration_since(kept.since) < KEPT && kept.since <= now);
        let kept = self.0.iter().find(|kept| kept.api == api && kept.key == *key)?;
        Some(kept.token.clone())
    }

    pub(super) fn keep(&mut self, api: &str, key: &AppKey, token: &str, now: Timestamp) {
        self.0.push(Kept {
            api: api.to_owned(),
            key: key.clone(),
            token: token.to_owned(),
            since: now,
        });
    }
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

/// Asks the host for a token of the installation.
pub(super) async fn exchange(client: &Client, api: &Url, key: &AppKey, now: Timestamp) -> anyhow::Result<String> {
    let is_number = !key.installation.is_empty() && key.installation.chars().all(|c| c.is_ascii_digit());
    anyhow::ensure!(
        is_number,
        "the installation's id is {:?}, and it must be a number",
        key.installation
    );
    let statement = statement(key, now)?;
    let url = below(
        api,
        ["app", "installations", key.installation.as_str(), "access_tokens"],
    )?;
    let request = github::headers(client.request(Method::POST, url)).bearer_auth(&statement);
    let (status, answer) = ask(request).await?;
    if status != StatusCode::CREATED {
        return Err(refused("exchanging the App's statement for a token", status, &answer));
    }
    let Token { token } = serde_json::from_value(answer).context("reading the token")?;
    Ok(token)
}

/// A JSON Web Token, signed as RS256: who the App is, and for how long this may be believed.
fn statement(key: &AppKey, now: Timestamp) -> anyhow::Result<String> {
    let part = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let (from, until) = (now.checked_sub(SLACK)?, now.checked_add(HOLDS)?);
    let head = part(json!({ "alg": "RS256", "typ": "JWT" }));
    let claims = part(json!({ "iat": from.as_second(), "exp": until.as_second(), "iss": key.app }));
    let signed = format!("{head}.{claims}");
    let signature = sign(&key.private_key, signed.as_bytes())?;
    Ok(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
}

/// With the RSA of the TLS library: its signatures over SHA-256 are those of RS256.
fn sign(private_key: &str, message: &[u8]) -> anyhow::Result<Vec<u8>> {
    let unusable = "the App's private key cannot be used: it must be an RSA key in PEM form, as GitHub hands it out";
    // What the libraries say of a key is not repeated: it may hold some of it.
    let der = PrivateKeyDer::from_pem_slice(private_key.as_bytes()).map_err(|_| anyhow::anyhow!(unusable))?;
    let provider = rustls::crypto::ring::default_provider();
    let key = provider
        .key_provider
        .load_private_key(der)
        .map_err(|_| anyhow::anyhow!(unusable))?;
    let signer = key
        .choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256])
        .context(unusable)?;
    signer.sign(message).context("signing as the App")
}
