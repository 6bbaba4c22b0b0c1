//! How a request says that it is Serin's. The signature is HMAC-SHA256, with a Secret's key, over the text of `Serin-Timestamp`, a full
//! stop and the body. Who receives it computes the same, compares in constant time, refuses a timestamp of more than five minutes ago,
//! and takes each `Idempotency-Key` once.

use jiff::Timestamp;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, RequestBuilder, Url};
use ring::hmac;

use super::{Failure, Secret, hex};

/// When it was sent: seconds since 1970.
pub const TIMESTAMP: &str = "Serin-Timestamp";
/// `v1=` and the signature in hexadecimal.
pub const SIGNATURE: &str = "Serin-Signature";
/// The same for every try.
pub const KEY: &str = "Idempotency-Key";
/// A shorter key could be guessed.
const SHORTEST: usize = 16;

/// A POST of JSON, signed with `webhookKey` of the Secret; `id` is the same for every try.
///
/// # Errors
/// When there is no such key, or one that could be guessed.
pub fn sign(
    client: &Client,
    url: Url,
    secret: &Secret,
    (id, body): (&str, String),
    now: Timestamp,
) -> Result<RequestBuilder, Failure> {
    let key = secret.text("webhookKey")?;
    if key.len() < SHORTEST {
        return Err(Failure::Never(format!(
            "`webhookKey` must have at least {SHORTEST} bytes"
        )));
    }
    let timestamp = now.as_second().to_string();
    Ok(client
        .post(url)
        .header(CONTENT_TYPE, "application/json")
        .header(KEY, id)
        .header(SIGNATURE, signature(key.as_bytes(), &timestamp, body.as_bytes()))
        .header(TIMESTAMP, timestamp)
        .body(body))
}

/// The signature of a body that is sent at this time.
pub fn signature(key: &[u8], timestamp: &str, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in [timestamp.as_bytes(), b".", body] {
        context.update(part);
    }
    let signed = context.sign();
    format!("v1={}", hex(signed.as_ref()))
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
