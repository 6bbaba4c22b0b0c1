//! What was counted in one interval. Integers only: differences of raw counters, never rates.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{CustomTick, PodCalls, Sent, Streams};

/// Calls that one arm answered in one tick.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Calls answered.
    pub requests: u64,
    /// Those that failed: Linkerd's classification `failure`, and the gRPC codes that the rollout adds. At most `requests`.
    pub failures: u64,
    /// For each bound that the analysis asks for, in its order: calls slower than its bound, each at most `requests`.
    pub slow: Vec<u64>,
}

impl Counts {
    /// Adds the other counts to these.
    pub fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.failures = self.failures.saturating_add(other.failures);
        if self.slow.len() < other.slow.len() {
            self.slow.resize(other.slow.len(), 0);
        }
        for (mine, theirs) in self.slow.iter_mut().zip(&other.slow) {
            *mine = mine.saturating_add(*theirs);
        }
    }
}

/// Whether an arm could be seen in a tick. Fresh scrapes without calls are *idle traffic*, not blindness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sight {
    /// At least one of the arm's pods had a fresh scrape.
    Fresh,
    /// No pod of the arm had a sample younger than three scrapes.
    Blind,
}

/// One arm in one tick.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArmSample {
    /// Whether the counts can be trusted to be all there is.
    pub sight: Sight,
    /// What was counted.
    pub counts: Counts,
    /// The same by pod, as far as calls and failures go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<PodCalls>,
}

/// Both arms over `(start, end]`. `end` is a multiple of the interval since the epoch, so that a restart computes
/// the very same ticks again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tick {
    /// Exclusive.
    pub start: Timestamp,
    /// Inclusive.
    pub end: Timestamp,
    /// The judged revision's pods.
    pub canary: ArmSample,
    /// Stable's pods.
    pub stable: ArmSample,
    /// What users' own metrics were.
    #[serde(default)]
    pub custom: CustomTick,
    /// Where the clients' proxies sent calls; none where nobody asked for it.
    #[serde(default)]
    pub sent: Sent,
    /// The calls that went on at its end.
    #[serde(default)]
    pub open: Streams,
}
