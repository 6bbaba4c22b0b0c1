//! Anything that takes JSON: each request is signed, and carries a key that is the same for every try. Must not know when a letter is
//! tried again.
//!
//! The signature is HMAC-SHA256, with the Secret's key, over the text of `Serin-Timestamp`, a full stop and the body. Who receives it
//! computes the same, compares in constant time, refuses a timestamp of more than five minutes ago, and takes each
//! `Idempotency-Key` once.

use reqwest::Url;
use reqwest::header::CONTENT_TYPE;
use ring::hmac;
use serde_json::{Value, json};

use super::letter::Letter;
use super::post::{Failure, Means, Sent};
use crate::api::WebhookSpec;

/// When it was sent: seconds since 1970.
pub const TIMESTAMP: &str = "Serin-Timestamp";
/// `v1=` and the signature in hexadecimal.
pub const SIGNATURE: &str = "Serin-Signature";
/// The same for every try.
pub const KEY: &str = "Idempotency-Key";
/// A shorter key could be guessed.
const SHORTEST: usize = 16;

pub(super) async fn send(means: &Means<'_>, spec: &WebhookSpec, letter: &Letter) -> Result<Sent, Failure> {
    let url = Url::parse(&spec.url).map_err(|error| Failure::Never(format!("{} is no address: {error}", spec.url)))?;
    means.check(&url)?;
    let key = means.secret.text("webhookKey")?;
    if key.len() < SHORTEST {
        return Err(Failure::Never(format!(
            "`webhookKey` must have at least {SHORTEST} bytes"
        )));
    }
    let body = body(letter).to_string();
    let timestamp = means.now.as_second().to_string();
    let request = means
        .client
        .post(url)
        .header(CONTENT_TYPE, "application/json")
        .header(KEY, letter.key())
        .header(SIGNATURE, signature(key.as_bytes(), &timestamp, body.as_bytes()))
        .header(TIMESTAMP, timestamp)
        .body(body);
    means.send(request).await?;
    Ok(Sent::default())
}

/// What is said.
pub(super) fn body(letter: &Letter) -> Value {
    let said = &letter.announcement;
    json!({
        "version": 1,
        "id": letter.key(),
        "event": said.event,
        "at": said.at,
        "cluster": letter.cluster,
        "namespace": letter.namespace,
        "rollout": letter.rollout,
        "revision": said.revision,
        "trial": said.trial,
        "step": said.step,
        "weight": said.weight,
        "title": letter.title(),
        "message": said.message,
        "text": letter.text(str::to_owned),
        "problem": said.problem.as_ref().map(|problem| json!({
            "condition": problem,
            "since": said.since,
            "over": said.over,
        })),
        "commit": said.commit.as_ref().map(|id| json!({ "id": id, "author": said.author, "subject": said.subject })),
        "link": letter.link(),
    })
}

/// The signature of a body that is sent at this time.
pub fn signature(key: &[u8], timestamp: &str, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in [timestamp.as_bytes(), b".", body] {
        context.update(part);
    }
    let signed = context.sign();
    format!("v1={}", super::hex(signed.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_hmac_sha256_over_timestamp_stop_and_body() {
        // Made with: printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef
        let known = "v1=9eb18f493f8ec135d9eb2dad817c369bb4e9cbfa818657897a7437c1cd8c3a23";
        assert_eq!(signature(b"0123456789abcdef", "1700000000", br#"{"a":1}"#), known);
    }
}
