//! What a verdict says: whose counts were judged, how it stands, and the evidence. Must not know how it is come to.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::PodEvidence;
use super::sequential::{Interval, Tally, percent};

/// Whose counts are judged; the other arm is what it is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Judged {
    /// The canary, while it is on trial.
    #[default]
    Canary,
    /// Stable, while it takes over the promoted revision.
    Stable,
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Canary => "canary",
            Self::Stable => "stable",
        })
    }
}

/// What one metric says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// Such as `success-rate` or `latency-500ms`, or the name of the user's own.
    pub metric: String,
    /// Whose calls were judged.
    pub arm: Judged,
    /// Calls that count against the arm, since the trial began; of a value, ticks outside of its limits.
    pub bad: u64,
    /// All its calls since then; of a value, ticks in which it had one.
    pub total: u64,
    /// The same of the arm that it is compared with.
    pub other: Tally,
    /// Where the judged arm's share of bad calls lies, and the other's; `None` of an arm without calls, and of a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Range>,
    /// See `range`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_range: Option<Range>,
    /// How far the evidence has come towards a failure, in percent of the logarithm that it takes; 100 is a failure.
    pub towards_fail: u8,
    /// How far it has come towards passing this step, likewise.
    pub towards_pass: u8,
    /// Whether it is reported only.
    pub dry_run: bool,
    /// Of the success rate: the pods with the most failures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<PodEvidence>,
    /// A sentence that a person understands.
    pub sentence: String,
}

/// An always-valid interval for a share of calls at the level α, in millionths, rounded outwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The lower end.
    pub low: u32,
    /// The upper end.
    pub high: u32,
}

impl Range {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "limited to 0 to a million"
    )]
    /// Of an arm with these calls.
    pub(super) fn of(calls: Tally, interval: Interval) -> Option<Self> {
        let millionths = |share: f64| share.clamp(0.0, 1.0) * 1e6;
        (calls.total > 0).then(|| Self {
            low: millionths(interval.low).floor() as u32,
            high: millionths(interval.high).ceil() as u32,
        })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [low, high] = [self.low, self.high].map(|share| percent(f64::from(share) / 1e6));
        write!(f, "{low} to {high}")
    }
}

/// What the counts say so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Proven to be within the margins, on this step's counts.
    Pass,
    /// Worse than it may be.
    Fail,
    /// The other arm breaks the objective as well: nobody is to blame, and nothing goes on.
    Hold,
    /// Nothing is proven.
    Inconclusive,
}

/// The outcome with what led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What the counts say.
    pub outcome: Outcome,
    /// Whether something speaks against the judged arm: an unproven step does not go on then.
    pub suspect: bool,
    /// Per metric, the deciding one first.
    pub evidence: Vec<Evidence>,
}

impl Outcome {
    /// `pass`, `fail`, `hold` or `inconclusive`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Hold => "hold",
            Self::Inconclusive => "inconclusive",
        }
    }
}
