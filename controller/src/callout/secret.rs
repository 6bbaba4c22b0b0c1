//! What a Secret holds, without ever printing it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;

use super::Failure;

/// What a Secret holds. It is never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret {
    name: String,
    values: BTreeMap<String, Vec<u8>>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({}, …)", self.name)
    }
}

impl Secret {
    /// A Secret of this name, with these keys and values.
    pub fn new(name: impl Into<String>, values: BTreeMap<String, Vec<u8>>) -> Self {
        Self {
            name: name.into(),
            values,
        }
    }

    /// The value of a key that may be left out.
    pub fn bytes(&self, key: &str) -> Option<&[u8]> {
        self.values.get(key).map(Vec::as_slice)
    }

    /// The value of a key, without the white space around it.
    ///
    /// # Errors
    /// When there is none; it may be put in yet.
    pub fn text(&self, key: &str) -> Result<String, Failure> {
        let value = self.values.get(key).and_then(|value| std::str::from_utf8(value).ok());
        match value.map(str::trim) {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            _ => Err(Failure::Later {
                why: format!("the Secret {} has no `{key}`", self.name),
                after: None,
            }),
        }
    }
}

/// Reads a Secret of a namespace, or one of the controller's own, by its name.
pub type Secrets = Arc<dyn Fn(Option<String>, String) -> BoxFuture<'static, anyhow::Result<Secret>> + Send + Sync>;
