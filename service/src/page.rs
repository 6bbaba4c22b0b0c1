//! The token with which a client asks for the next page. It must not know how pages are read.
//!
//! It holds the key of the last user returned, not a count: users that come and go between two pages make none
//! appear twice or be left out. Stable and canary read each other's tokens, hence the version in front.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;

use crate::store::UserId;

const VERSION: u8 = 1;

/// A page token that this service never gave out.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not a page token")]
pub(crate) struct UnknownToken;

/// The token for the page that starts after `last`.
pub(crate) fn token_after(last: UserId) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend(last.to_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The user after which the asked page starts; `None` for the first page.
pub(crate) fn start_of(token: &str) -> Result<Option<UserId>, UnknownToken> {
    if token.is_empty() {
        return Ok(None);
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| UnknownToken)?;
    match bytes.split_first() {
        Some((&VERSION, key)) => key
            .try_into()
            .map(|key| Some(UserId::from_bytes(key)))
            .map_err(|_| UnknownToken),
        _ => Err(UnknownToken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_back_to_its_user() {
        let id = UserId::from_bytes([7; 16]);
        assert_eq!(start_of(&token_after(id)), Ok(Some(id)));
        assert_eq!(start_of(""), Ok(None));
    }

    #[test]
    fn tokens_of_others_are_refused() {
        let other_version = URL_SAFE_NO_PAD.encode([9; 17]);
        let too_short = URL_SAFE_NO_PAD.encode([VERSION, 1, 2]);
        for token in ["2", "not a token", "AAAA", &other_version, &too_short] {
            assert_eq!(start_of(token), Err(UnknownToken), "{token}");
        }
    }
}
