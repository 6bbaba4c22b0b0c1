//! What a status says of hooks that are asked. Knows nobody who is asked.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A hook that was asked in the trial.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HookStatus {
    /// Its name in the spec.
    pub name: String,
    /// When it is asked: a word of `spec.hooks[].at`.
    pub point: String,
    /// At points of a step: the step's number, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<i32>,
    /// How often a person has had it asked again.
    #[serde(default, skip_serializing_if = "is_none_yet")]
    pub attempt: i32,
    /// Waiting: it is being asked, and nothing was heard yet. Asked: it could not say, or could not be reached, and is asked again.
    /// Passed, Failed, TimedOut. PassedOver: a person went past it, or it was taken out of the spec. Dropped: the trial came to an end
    /// before the answer.
    pub state: String,
    /// Since when an answer is waited for.
    pub since: Timestamp,
    /// Until when it is waited for, while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// What a no, or no answer in time, does at a gate: RollBack, Pause or Continue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<String>,
    /// The last answer in words: the first line, 160 bytes at most.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub answer: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_none_yet(attempt: &i32) -> bool {
    *attempt == 0
}
