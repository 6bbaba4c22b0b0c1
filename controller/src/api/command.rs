//! The command that an operator gives a rollout, as it stands in the annotation. Text and values only; it must not know what a
//! command does.
//!
//! There is one way to write it, key by key in this order and without spaces: so the admission policy of the chart can tell in
//! CEL, which reads no JSON, whose the command is and what it asks for.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use serin_core::rollout::{Command, Verb};

use super::COMMAND_ANNOTATION;

/// The longest id of a command, in characters: it comes back in status.
const LONGEST_ID: usize = 64;
/// What is kept of a command's reason, in characters: it goes into status, an event and a commit.
pub const LONGEST_REASON: usize = 1024;
/// What is kept of its sender's name, in characters.
const LONGEST_NAME: usize = 256;

/// A command as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its own: a command is carried out once. Letters, digits, `.`, `_`, `:` and `-`, at most 64.
    pub id: String,
    /// `promote`, `promote-full`, `approve`, `pause`, `resume`, `abort` or `retry`.
    pub verb: String,
    /// The name of who gives it, as the API server knows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why, in words.
    #[serde(default)]
    pub reason: String,
}

impl Order {
    /// A new one; no two of a rollout are numbered alike.
    pub fn new(verb: Verb, by: String, reason: String, number: u64) -> Self {
        Self {
            id: format!("{}-{number:016x}", verb.word()),
            verb: verb.word().to_owned(),
            by: Some(by),
            reason,
        }
    }

    /// The merge patch of a rollout that gives it.
    pub fn patch(&self) -> Value {
        json!({ "metadata": { "annotations": { COMMAND_ANNOTATION: self.write() } } })
    }

    /// An annotation's text as a command; nothing if it is none.
    pub fn parse(annotation: &str) -> Option<Command> {
        let order: Self = serde_json::from_str(annotation).ok()?;
        if order.id.chars().count() > LONGEST_ID {
            return None;
        }
        let cut = |text: String, longest| text.chars().take(longest).collect();
        let verb = Verb::ALL.into_iter().find(|verb| verb.word() == order.verb)?;
        Some(Command {
            id: order.id,
            verb,
            reason: cut(order.reason, LONGEST_REASON),
            by: order.by.map(|by| cut(by, LONGEST_NAME)),
        })
    }

    /// As it stands in the annotation.
    ///
    /// # Panics
    /// Never: strings can always be written as JSON.
    #[expect(clippy::expect_used, reason = "the message states the invariant")]
    pub fn write(&self) -> String {
        serde_json::to_string(self).expect("strings can always be written as JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_it_was_written() {
        for verb in Verb::ALL {
            let order = Order {
                id: "a-1".into(),
                verb: verb.word().into(),
                by: Some("ann@example.com".into()),
                reason: "it \"looks\" wrong".into(),
            };
            let command = Order::parse(&order.write()).unwrap();
            assert_eq!((command.id, command.verb), (order.id, verb));
            assert_eq!((command.by, command.reason), (order.by, order.reason));
        }
    }

    #[test]
    fn has_one_way_of_writing() {
        let order = Order {
            id: "a-1".into(),
            verb: "abort".into(),
            by: Some("ann".into()),
            reason: "say \"no\"".into(),
        };
        let text = r#"{"id":"a-1","verb":"abort","by":"ann","reason":"say \"no\""}"#;
        assert_eq!(order.write(), text);
    }

    #[test]
    fn what_names_two_senders_or_no_known_verb_is_none() {
        for text in [
            r#"{"id":"a","verb":"abort","by":"ann","by":"bob","reason":""}"#,
            r#"{"id":"a","verb":"destroy","reason":""}"#,
            "abort",
            "",
        ] {
            assert_eq!(Order::parse(text), None, "{text}");
        }
    }
}
