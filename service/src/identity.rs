//! Which version and revision this process is, as clients, metrics and logs see it.
//! It must not know where the values come from, nor what they mean to a rollout.

use std::fmt;
use std::str::FromStr;

use http::{HeaderMap, HeaderName, HeaderValue};
use thiserror::Error;

/// On every gRPC response, also on errors: the version that answered.
pub const VERSION_HEADER: HeaderName = HeaderName::from_static("x-served-by-version");
/// On every gRPC response, also on errors: the revision that answered.
pub const REVISION_HEADER: HeaderName = HeaderName::from_static("x-served-by-revision");

/// On every gRPC response, also on errors: the pod that answered.
pub const INSTANCE_HEADER: HeaderName = HeaderName::from_static("x-served-by");

/// A version, revision or pod's name that can also stand in response metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    text: String,
    header: HeaderValue,
}

/// A name that cannot stand in response metadata.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{0}` cannot be sent as metadata: use one or more printable ASCII characters, without spaces")]
pub struct NameError(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refused = || NameError(text.to_owned());
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(refused());
        }
        let header = HeaderValue::from_str(text).map_err(|_| refused())?;
        Ok(Self {
            text: text.to_owned(),
            header,
        })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What this process says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The version of the program (the image's tag).
    pub version: Name,
    /// The revision that was deployed: image and configuration together.
    pub revision: Name,
    /// This process among all of its revision: the pod's name.
    pub instance: Name,
}

impl Identity {
    /// Writes the identity into a response's metadata.
    pub(crate) fn stamp(&self, headers: &mut HeaderMap) {
        headers.insert(VERSION_HEADER, self.version.header.clone());
        headers.insert(REVISION_HEADER, self.revision.header.clone());
        headers.insert(INSTANCE_HEADER, self.instance.header.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_printable_ascii_without_spaces() {
        assert_eq!("1.2.0+abc".parse::<Name>().unwrap().as_str(), "1.2.0+abc");
        for refused in ["", "a b", "é", "a\nb"] {
            assert!(refused.parse::<Name>().is_err(), "{refused:?}");
        }
    }
}
