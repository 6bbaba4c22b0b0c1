//! Asks hooks: by a signed POST, or by a Job. Knows `api` and the world outside; neither the state machine nor another adapter.
//!
//! # Guarantees
//! Everything that is sent for one occasion carries the same id, so that who is asked can tell repetitions; a Job has it in its name, so
//! that there is one. No secret is in an answer, a log or an error.

#[doc(hidden)]
pub mod fuzz;
mod http;
mod job;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use serin_core::rollout::{Commit, Occasion, Revision};

use crate::api::trial_id;
use crate::callout::hex;

pub use http::Post;
pub use job::Job;

/// What one try came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Yes.
    Passed,
    /// No, and why.
    Failed(String),
    /// It is not decided yet: to be asked again.
    Undecided {
        /// What was said.
        why: String,
        /// How long it wants to be left alone.
        after: Option<Duration>,
    },
    /// It could not be asked, or something went wrong there.
    Trouble {
        /// What.
        why: String,
        /// How long it wants to be left alone.
        after: Option<Duration>,
    },
}

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The cluster's name.
    pub cluster: String,
    /// The rollout's namespace.
    pub namespace: String,
    /// The rollout's name.
    pub rollout: String,
    /// The rollout's uid.
    pub uid: String,
    /// On trial, or just ended.
    pub revision: Revision,
    /// The commit that brought it, where it was found.
    pub commit: Option<Commit>,
    /// When its trial began.
    pub began: Timestamp,
    /// Which hook, and when.
    pub occasion: Occasion,
    /// The step's weight in percent, at points of a step.
    pub weight: Option<u8>,
}

impl Question {
    /// The same for every try of this occasion, and for no other.
    pub fn id(&self) -> String {
        let Occasion {
            hook,
            point,
            step,
            attempt,
        } = &self.occasion;
        let step = step.map_or_else(String::new, |step| step.to_string());
        let parts = [
            self.uid.as_str(),
            &self.began.to_string(),
            &self.revision.hash,
            hook,
            point.word(),
            &step,
            &attempt.to_string(),
        ];
        let hashed = digest(&SHA256, parts.join("\n").as_bytes());
        hex(hashed.as_ref().get(..16).unwrap_or_default())
    }

    /// What is sent.
    pub fn body(&self) -> Value {
        json!({
            "version": 1,
            "id": self.id(),
            "hook": self.occasion.hook,
            "point": self.occasion.point.word(),
            "step": self.step(),
            "weight": self.weight,
            "attempt": self.occasion.attempt,
            "cluster": self.cluster,
            "namespace": self.namespace,
            "rollout": self.rollout,
            "revision": self.revision.name,
            "commit": self.commit.as_ref().map(|commit| &commit.id),
            "trial": self.trial(),
            "began": self.began,
        })
    }

    /// The trial's id, as in status, events and commits.
    fn trial(&self) -> String {
        trial_id(&self.uid, self.began)
    }

    /// The number of the step, from 1.
    fn step(&self) -> Option<usize> {
        self.occasion.step.map(|step| step + 1)
    }
}
