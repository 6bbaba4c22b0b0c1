//! What a status keeps of announcements until they are delivered. Knows no receiver.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is told, and to whom: written with the transition that it tells of, and taken out when it was delivered or given up.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NotifyStatus {
    /// How many announcements there were: the last one's number.
    pub count: i64,
    /// Not delivered to all of their receivers yet, oldest first: 20 at most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<AnnouncementStatus>,
    /// Problems that are told only after a while, were told, and go on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub told: Vec<String>,
    /// Messages that are brought up to date.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub threads: Vec<ThreadStatus>,
}

/// One announcement.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AnnouncementStatus {
    /// Its number.
    pub id: i64,
    /// What happened, by the names of `spec.notify[].events`.
    pub event: String,
    /// When.
    pub at: Option<Timestamp>,
    /// The revision.
    pub revision: String,
    /// The trial, by when it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trial: Option<Timestamp>,
    /// The step, such as `2/4`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The canary's share in percent.
    pub weight: i32,
    /// Why, and what comes next.
    pub message: String,
    /// Of a problem: the condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Of a problem: since when there is or was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Of a problem: whether it is over.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub over: bool,
    /// The commit that brought the revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Who committed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The first line of its message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Who still has to be told.
    pub receivers: Vec<String>,
}

/// A message that is brought up to date.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ThreadStatus {
    /// The receiver.
    pub receiver: String,
    /// The trial that it tells of, by when it began.
    pub trial: Timestamp,
    /// The receiver's name for the place.
    pub channel: String,
    /// The receiver's name for the message.
    pub message: String,
}

impl ThreadStatus {
    /// Puts this message in the place of the one that its receiver had of its trial.
    pub fn replace_in(self, threads: &mut Vec<Self>) {
        threads.retain(|known| !known.is_of(&self.receiver, self.trial));
        threads.push(self);
    }

    /// Whether it is a receiver's of a trial.
    pub fn is_of(&self, receiver: &str, trial: Timestamp) -> bool {
        self.receiver == receiver && self.trial == trial
    }
}
