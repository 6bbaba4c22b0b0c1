//! The state machine's memory as status carries it: kept as compressed text, as of thousands of rollouts few are looked at in a second,
//! and the tree of values that the text stands for would take many times its room. Must not know what is remembered.
//!
//! Two memories are equal when their values are, whatever the order of their keys was: the text is always written in one way, and
//! compressed in one way.

use std::fmt;
use std::sync::Arc;

use lz4_flex::block::{compress_prepend_size, decompress_size_prepended};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// What is remembered. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Memory(Arc<[u8]>);

impl Memory {
    /// Remembers this.
    ///
    /// # Errors
    /// What JSON has no words for.
    pub fn of<T: Serialize>(remembered: &T) -> serde_json::Result<Self> {
        serde_json::to_value(remembered).map(Self::of_value)
    }

    /// What is remembered.
    ///
    /// # Errors
    /// It is something else.
    pub fn read<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_slice(&self.text()?)
    }

    fn of_value(mut value: Value) -> Self {
        value.sort_all_objects();
        Self(compress_prepend_size(value.to_string().as_bytes()).into())
    }

    fn text(&self) -> serde_json::Result<Vec<u8>> {
        decompress_size_prepended(&self.0).map_err(serde::de::Error::custom)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text().map_err(|_| fmt::Error)?;
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

impl Serialize for Memory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value: Value = self.read().map_err(serde::ser::Error::custom)?;
        value.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Memory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::of_value)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn is_the_same_whatever_the_order_of_its_keys_was() {
        let read = |text: &str| serde_json::from_str::<Memory>(text).unwrap();
        let one = read(r#"{"b": [1, {"y": "\"", "x": null}], "a": 1.5}"#);
        assert_eq!(one, read(r#"{"a": 1.5, "b": [1, {"x": null, "y": "\""}]}"#));
        assert_eq!(
            one,
            Memory::of(&json!({ "b": [1, { "y": "\"", "x": null }], "a": 1.5 })).unwrap()
        );
        assert_ne!(one, read(r#"{"a": 1.5, "b": []}"#));
        assert_eq!(serde_json::to_value(&one).unwrap()["b"][1]["y"], json!("\""));
    }

    #[test]
    fn gives_back_what_was_remembered_and_nothing_else() {
        let memory = Memory::of(&vec![1_u64, u64::MAX]).unwrap();
        assert_eq!(memory.read::<Vec<u64>>().unwrap(), [1, u64::MAX]);
        assert!(memory.read::<String>().is_err());
    }
}
