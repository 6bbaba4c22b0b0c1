//! The evidence of one metric, as the page shows it. Pure.

use serde::Serialize;

use crate::api::{EvidenceStatus, PodStatus};

/// How a metric stands. Having counted nothing is no good sign and no bad one, and looks like neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Stand {
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
pub(super) struct Evidence<'a> {
    metric: &'a str,
    arm: &'a str,
    stand: Stand,
    dry_run: bool,
    own: Count<'a>,
    other: Count<'a>,
    towards_fail: i32,
    towards_pass: i32,
    sentence: &'a str,
    pods: &'a [PodStatus],
}

#[derive(Debug, Serialize)]
struct Count<'a> {
    bad: i64,
    total: i64,
    /// In percent; none without calls.
    rate: Option<String>,
    range: Option<&'a str>,
}

pub(super) fn of(evidence: &EvidenceStatus) -> Evidence<'_> {
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
