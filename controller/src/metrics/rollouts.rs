//! The series of single rollouts, made from what the board knows at each scrape: those of a rollout that is gone are gone with it.
//! Only the replica that has a rollout's shard has them, so that sums over replicas count nothing twice.

use std::fmt;
use std::sync::Arc;

use kube::ResourceExt as _;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::ShardOf;
use crate::api::{CanaryRollout, CanaryRolloutStatus, EvidenceStatus};
use crate::board::Board;
use crate::runtime::shards::Sharing;

/// Every metric of a rollout that is judged: the CRD allows eight of the user's own beside success and the latencies.
const MOST_METRICS: usize = 24;

/// Reads the board.
#[derive(Debug)]
pub(super) struct Rollouts {
    pub(super) board: Board,
    pub(super) sharing: Sharing,
    pub(super) shard_of: ShardOf,
}

type Labels<'a> = Vec<(&'static str, &'a str)>;
type Series<'a> = Vec<(Labels<'a>, f64)>;

/// One family: its name, what it says, and its series of one rollout.
struct Kind {
    name: &'static str,
    help: &'static str,
    of: for<'a> fn(&'a CanaryRollout, &'a CanaryRolloutStatus) -> Series<'a>,
}

const KINDS: [Kind; 8] = [
    Kind {
        name: "rollout_phase",
        help: "1 for the phase that a rollout is in",
        of: |_, status| {
            let phase = status.phase.as_deref();
            phase.map(|phase| (vec![("phase", phase)], 1.0)).into_iter().collect()
        },
    },
    Kind {
        name: "rollout_weight_wanted_ratio",
        help: "The canary's share that Serin wants, 0 to 1",
        of: |_, status| share(status.weight.map(|weight| weight.wanted)),
    },
    Kind {
        name: "rollout_weight_observed_ratio",
        help: "The canary's share that the route has, 0 to 1",
        of: |_, status| share(status.weight.map(|weight| weight.observed)),
    },
    Kind {
        name: "rollout_step",
        help: "The step of the plan, from 1; none outside of the steps",
        of: |_, status| {
            let step = status.step.as_deref().and_then(|step| step.split('/').next());
            let step = step.and_then(|step| step.parse().ok());
            step.map(|step| (vec![], step)).into_iter().collect()
        },
    },
    Kind {
        name: "rollout_verdict",
        help: "1 for the verdict on the canary",
        of: |_, status| {
            let verdict = status.verdict.as_deref();
            verdict
                .map(|verdict| (vec![("verdict", verdict)], 1.0))
                .into_iter()
                .collect()
        },
    },
    Kind {
        name: "rollout_evidence_ratio",
        help: "How far the evidence of a metric has come towards a failure, or towards passing the step; 1 is there",
        of: |_, status| {
            each_metric(status, |one| {
                vec![
                    ("towards", "fail", percent(one.towards_fail)),
                    ("towards", "pass", percent(one.towards_pass)),
                ]
            })
        },
    },
    Kind {
        name: "rollout_calls",
        help: "Calls that a metric's evidence rests on in this trial: those that count against the arm, and all",
        of: |_, status| {
            each_metric(status, |one| {
                vec![("count", "bad", number(one.bad)), ("count", "total", number(one.total))]
            })
        },
    },
    Kind {
        name: "rollout_condition",
        help: "1 for each condition of the rollout that is True",
        // Of the twelve most never are: with thousands of rollouts they would be most of what is scraped.
        of: |_, status| {
            let so = status.conditions.iter().filter(|one| one.status == "True");
            so.map(|one| (vec![("condition", one.type_.as_str())], 1.0)).collect()
        },
    },
];

impl Collector for Rollouts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut all = if self.sharing.has_any() {
            self.board.all()
        } else {
            vec![]
        };
        all.retain(|rollout| self.sharing.has((self.shard_of)(self.sharing.count(), rollout)));
        let count = ConstGauge::new(i64::try_from(all.len()).unwrap_or(i64::MAX));
        let help = "Rollouts that this replica works on";
        count.encode(encoder.encode_descriptor("rollouts", help, None, MetricType::Gauge)?)?;
        for kind in &KINDS {
            encode(kind, &all, &mut encoder)?;
        }
        Ok(())
    }
}

fn encode(kind: &Kind, all: &[Arc<CanaryRollout>], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut gauges = encoder.encode_descriptor(kind.name, kind.help, None, MetricType::Gauge)?;
    for rollout in all {
        let Some(status) = &rollout.status else { continue };
        let (namespace, name) = (rollout.namespace().unwrap_or_default(), rollout.name_any());
        for (labels, value) in (kind.of)(rollout, status) {
            let mut whole: Labels<'_> = vec![("rollout_namespace", &namespace), ("rollout", &name)];
            whole.extend(labels);
            ConstGauge::new(value).encode(gauges.encode_family(&whole)?)?;
        }
    }
    Ok(())
}

/// The series of each metric that is judged of each arm.
fn each_metric(
    status: &CanaryRolloutStatus,
    of: fn(&EvidenceStatus) -> Vec<(&'static str, &'static str, f64)>,
) -> Series<'_> {
    let evidence = status.evidence.iter().take(MOST_METRICS);
    let series = evidence.flat_map(|one| {
        let own = move |(key, word, value)| {
            let labels = vec![("metric", one.metric.as_str()), ("arm", one.arm.as_str()), (key, word)];
            (labels, value)
        };
        of(one).into_iter().map(own)
    });
    series.collect()
}

fn share<'a>(weight: Option<i32>) -> Series<'a> {
    weight.map(|weight| (vec![], percent(weight))).into_iter().collect()
}

fn percent(of: i32) -> f64 {
    f64::from(of) / 100.0
}

#[expect(clippy::cast_precision_loss, reason = "calls of one trial are fewer than 2^52")]
fn number(count: i64) -> f64 {
    count as f64
}
