//! The lines of a file of samples, as JSON has them. Must not know their order.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serin_core::rollout::replay::{Asked, RecordedMetric};

/// The first line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Header {
    pub(super) format: String,
    pub(super) interval: String,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stable_earlier: Option<String>,
    #[serde(default)]
    pub(super) bounds_ms: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) metrics: Vec<Metric>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) lines: Option<usize>,
}

/// A metric of the user's own: `bad` and `total`, or `query`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metric {
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bad: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) total: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) query: Option<String>,
}

/// The values of a tick.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ValuesLine {
    pub(super) tick: Timestamp,
    pub(super) values: BTreeMap<String, Value>,
}

/// As Prometheus writes numbers: in quotes, so that no reader rounds them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Value {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) canary: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stable: Option<String>,
}

/// Whether a line has values, before it is read as one of the two kinds.
#[derive(Deserialize)]
pub(super) struct Peek {
    #[serde(default)]
    pub(super) values: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Arm {
    Canary,
    Stable,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Line {
    pub(super) tick: Timestamp,
    pub(super) arm: Arm,
    pub(super) pod: String,
    pub(super) total: u64,
    pub(super) failed: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) slow: Vec<u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) codes: BTreeMap<u8, u64>,
    /// By metric: the bad ones, and all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) own: BTreeMap<String, [u64; 2]>,
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub(super) seen: bool,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_true(seen: &bool) -> bool {
    *seen
}

impl Metric {
    pub(super) fn of(metric: &RecordedMetric) -> Self {
        let (bad, total, query) = match metric.asked.clone() {
            Asked::Counts { bad, total } => (Some(bad), Some(total), None),
            Asked::Value { query } => (None, None, Some(query)),
        };
        Self {
            name: metric.name.clone(),
            bad,
            total,
            query,
        }
    }

    /// The metric, or what is wrong with it.
    pub(super) fn recorded(&self) -> Result<RecordedMetric, String> {
        let asked = match (self.bad.clone(), self.total.clone(), self.query.clone()) {
            (Some(bad), Some(total), None) => Asked::Counts { bad, total },
            (None, None, Some(query)) => Asked::Value { query },
            _ => {
                return Err(format!("the metric {} needs `bad` and `total`, or `query`", self.name));
            }
        };
        Ok(RecordedMetric {
            name: self.name.clone(),
            asked,
        })
    }
}
