//! The evidence of one metric, as people are shown it. Pure.

use serde::Serialize;

use crate::api::{EvidenceStatus, PodStatus};

/// How a metric stands. Having counted nothing is no good sign and no bad one, and looks like neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Stand {
    /// Nothing was counted: no data.
    NoData,
    /// There is enough to say nothing yet.
    Counting,
    /// It leans towards a failure: half of the way or more.
    Leaning,
    /// It failed the canary.
    Failed,
    /// It passed this step.
    Passed,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Evidence<'a> {
    pub(crate) metric: &'a str,
    pub(crate) arm: &'a str,
    pub(crate) stand: Stand,
    pub(crate) dry_run: bool,
    pub(crate) own: Count<'a>,
    pub(crate) other: Count<'a>,
    pub(crate) towards_fail: i32,
    pub(crate) towards_pass: i32,
    pub(crate) sentence: &'a str,
    pub(crate) pods: &'a [PodStatus],
}

#[derive(Debug, Serialize)]
pub(crate) struct Count<'a> {
    pub(crate) bad: i64,
    pub(crate) total: i64,
    /// In percent; none without calls.
    pub(crate) rate: Option<String>,
    pub(crate) range: Option<&'a str>,
}

pub(crate) fn of(evidence: &EvidenceStatus) -> Evidence<'_> {
    Evidence {
        metric: &evidence.metric,
        arm: &evidence.arm,
        stand: stand(evidence),
        dry_run: evidence.dry_run,
        own: count(evidence.bad, evidence.total, evidence.range.as_deref()),
        other: count(
            evidence.other_bad,
            evidence.other_total,
            evidence.other_range.as_deref(),
        ),
        towards_fail: evidence.towards_fail.clamp(0, 100),
        towards_pass: evidence.towards_pass.clamp(0, 100),
        sentence: &evidence.sentence,
        pods: &evidence.pods,
    }
}

fn stand(evidence: &EvidenceStatus) -> Stand {
    if evidence.towards_fail >= 100 {
        Stand::Failed
    } else if evidence.total == 0 {
        Stand::NoData
    } else if evidence.towards_fail >= 50 {
        Stand::Leaning
    } else if evidence.towards_pass >= 100 {
        Stand::Passed
    } else {
        Stand::Counting
    }
}

#[expect(clippy::cast_precision_loss, reason = "calls of one trial are fewer than 2^52")]
fn count(bad: i64, total: i64, range: Option<&str>) -> Count<'_> {
    Count {
        bad,
        total,
        rate: (total > 0).then(|| format!("{:.2} %", bad as f64 / total as f64 * 100.0)),
        range,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(total: i64, towards_fail: i32, towards_pass: i32) -> EvidenceStatus {
        EvidenceStatus {
            total,
            towards_fail,
            towards_pass,
            ..EvidenceStatus::default()
        }
    }

    #[test]
    fn no_data_is_neither_good_nor_bad() {
        assert_eq!(stand(&evidence(0, 0, 0)), Stand::NoData);
        assert_eq!(count(0, 0, None).rate, None);
        assert_eq!(stand(&evidence(100, 0, 20)), Stand::Counting);
        assert_eq!(stand(&evidence(100, 50, 0)), Stand::Leaning);
        assert_eq!(stand(&evidence(100, 0, 100)), Stand::Passed);
        assert_eq!(stand(&evidence(100, 100, 100)), Stand::Failed);
    }
}
