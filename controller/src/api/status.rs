//! The status of a `CanaryRollout`: what a person reads, and the state machine's own memory beside it.

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::asked::HookStatus;
use super::condition::{self, Condition};
use super::memory::Memory;
use super::rollout::CanaryRollout;
use super::told::NotifyStatus;

/// What is so, what happens next, and how past revisions ended.
// What `kubectl get` shows is left out where there is none: for a null the API server's table says `<no value>`.
// What many rollouts have none of is in a box, here and in the spec: its room would be kept for it in each of thousands.
#[derive(JsonSchema, Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CanaryRolloutStatus {
    /// The generation of the spec that this status speaks of.
    pub observed_generation: Option<i64>,
    /// Idle, Starting, Progressing, Paused, Promoting, RollingBack, Withdrawn, Promoted or RolledBack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// What happens now and next, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it is looked at again although nothing changed.
    pub next: Option<Timestamp>,
    /// The canary's revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<RevisionStatus>,
    /// The id of the trial: it stands in log lines, in events and in the trailers of commits too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trial: Option<String>,
    /// What stable runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable: Option<String>,
    /// The step, such as `2/4`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The canary's share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<WeightStatus>,
    /// pass, fail, hold or inconclusive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// Per metric, the deciding one first.
    pub evidence: Vec<EvidenceStatus>,
    /// What was counted lately in the trial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<Box<SamplesStatus>>,
    /// How long the last minute's calls took, while a revision is on trial. Estimated; nothing is decided by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Box<LatencyStatus>>,
    /// Calls that go on, as the last tick of the trial saw them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streams: Option<StreamsStatus>,
    /// What the steps still take, if the canary is as good as stable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Box<ForecastStatus>>,
    /// The hooks that were asked in the trial: 16 at most, those that are waited for first to be kept; in the order of their asking.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookStatus>,
    /// The rollback, while it happens and after it.
    pub rollback: Option<Box<AnswerStatus>>,
    /// The promotion, while it happens and after it.
    pub promotion: Option<Box<AnswerStatus>>,
    /// How the last revisions ended, newest first.
    pub history: Vec<HistoryEntry>,
    /// The answer to the last command.
    pub last_command: Option<Box<CommandStatus>>,
    /// Ready, SpecValid, PreflightFailed, MetricsReadable, TrafficNotFollowing, PodsLost, WeightContested, GitPending,
    /// RollbackBlocked, DeliveryBlocked, CanaryStale, Blind.
    #[schemars(schema_with = "condition::list")]
    pub conditions: Vec<Condition>,
    /// What receivers of notifications still have to be told, and where it goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notify: Option<Box<NotifyStatus>>,
    /// The state machine's memory; read the other fields instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "opaque")]
    pub machine: Option<Memory>,
}

impl CanaryRollout {
    /// The same rollout with this status.
    #[must_use]
    pub fn with_status(&self, status: Option<CanaryRolloutStatus>) -> Self {
        Self {
            metadata: self.metadata.clone(),
            spec: self.spec.clone(),
            status,
        }
    }
}

/// A revision.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionStatus {
    /// Its name.
    pub name: String,
    /// The commit that brought it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Who committed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The first line of its message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

/// The canary's share in percent.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WeightStatus {
    /// What Serin wants.
    pub wanted: i32,
    /// What the route says.
    pub observed: i32,
}

/// What one metric says.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EvidenceStatus {
    /// `success-rate`, `latency-<bound>ms`, `latency-<bound>ms-against-stable`, or the name of a metric of your own.
    pub metric: String,
    /// `canary` or `stable`.
    pub arm: String,
    /// Calls that count against the arm; of a single value, ticks outside of its limits.
    pub bad: i64,
    /// All its calls; of a single value, ticks in which it had one.
    pub total: i64,
    /// Calls that count against the arm that it is compared with.
    pub other_bad: i64,
    /// All of that one's calls.
    pub other_total: i64,
    /// Where the arm's share of bad calls lies, such as `6.2 % to 12.9 %`: an interval that holds at all times at once, with
    /// probability 1 − `falseRollbacks`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<String>,
    /// Where the other arm's lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_range: Option<String>,
    /// How far the evidence has come towards a failure, in percent; 100 is one.
    pub towards_fail: i32,
    /// How far it has come towards passing this step, in percent.
    pub towards_pass: i32,
    /// Whether it is reported only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Of the success rate: the pods with the most failures, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<PodStatus>,
    /// A sentence that a person understands.
    pub sentence: String,
}

/// What was counted in the last ticks of a trial: 60 at most.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SamplesStatus {
    /// The latency bounds of `slow`, in milliseconds.
    pub bounds_ms: Vec<i64>,
    /// In their order.
    pub ticks: Vec<TickStatus>,
}

/// One tick.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TickStatus {
    /// Its end, inclusive.
    pub end: Timestamp,
    /// The canary's share in percent when it was looked at.
    pub weight: i32,
    /// Whether it was not judged: the weight changed in it, or the canary was warming up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub left_out: bool,
    /// What the canary answered.
    pub canary: SampleStatus,
    /// What stable answered.
    pub stable: SampleStatus,
}

/// What one arm answered in one tick.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SampleStatus {
    /// Calls answered.
    pub requests: i64,
    /// Those that failed.
    pub failures: i64,
    /// Those slower than each of the bounds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slow: Vec<i64>,
}

/// How long calls took, estimated within the bounds of Linkerd's histogram (as if the calls between two bounds were spread evenly).
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LatencyStatus {
    /// When Prometheus was asked.
    pub as_of: Timestamp,
    /// Of the canary's pods; none without calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<PercentilesStatus>,
    /// Of stable's pods; none without calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<PercentilesStatus>,
}

/// Milliseconds that these shares of the calls did not exceed. What is beyond the histogram's last bound is told as that bound.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PercentilesStatus {
    /// Half of them.
    pub p50_ms: i64,
    /// 95 % of them.
    pub p95_ms: i64,
    /// 99 % of them.
    pub p99_ms: i64,
}

/// What one pod answered since the trial began.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PodStatus {
    /// Its name.
    pub pod: String,
    /// Calls that count against it.
    pub bad: i64,
    /// All its calls.
    pub total: i64,
}

/// Calls whose answer has begun and not ended. A change of the weight does not move them.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StreamsStatus {
    /// With the canary's pods.
    pub canary: i64,
    /// With stable's pods.
    pub stable: i64,
    /// How many of all are beyond their arm's share, so that an earlier weight sent them there: at weight 0 and 100 exactly, between
    /// them at least so many.
    pub old: i64,
    /// The same in percent of all.
    #[serde(rename = "oldPercent")]
    pub old_percent: i32,
}

/// How the steps are expected to go at the present traffic. An estimate; nothing is decided by it.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ForecastStatus {
    /// In words.
    pub message: String,
    /// From the present step on.
    pub steps: Vec<StepForecast>,
}

/// What one step is expected to take.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StepForecast {
    /// Its number, from 1.
    pub step: i32,
    /// The canary's share in percent.
    pub weight: i32,
    /// Calls on the canary that it still takes; none if no number would do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<i64>,
    /// The time that these take, such as `4m 20s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Whether that is within the step's time.
    pub decides: bool,
}

/// A promotion or a rollback.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AnswerStatus {
    /// The revision.
    pub revision: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was seen first that the canary's traffic was gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_at: Option<Timestamp>,
    /// The commit in the config repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// When that was made, as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed_at: Option<Timestamp>,
    /// When it was pushed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pushed_at: Option<Timestamp>,
    /// When it was seen first that the cluster has it: by what the Deployments carry, or by what Argo CD or Flux say that they applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_at: Option<Timestamp>,
    /// When it was seen first that the Deployments that it changes are available on it: stable's, and of a rollback the canary's too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_at: Option<Timestamp>,
    /// When it had ended: applied, traffic in place, canary idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
}

/// How a revision ended.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// The revision.
    pub revision: String,
    /// Promoted, RolledBack, Withdrawn or Superseded.
    pub outcome: String,
    /// When its trial began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// From its beginning to its end, such as `12m 5s`.
    #[serde(default)]
    pub duration: String,
    /// Calls that the canary answered on trial, as far as they were judged.
    #[serde(default)]
    pub requests: i64,
    /// Why, in words.
    pub reason: String,
    /// The commit that brought it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_commit: Option<String>,
    /// The promotion or rollback commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// When the canary's traffic was gone, of a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_at: Option<Timestamp>,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed_at: Option<Timestamp>,
    /// When it was pushed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pushed_at: Option<Timestamp>,
    /// When the cluster had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_at: Option<Timestamp>,
    /// When its Deployments were available on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_at: Option<Timestamp>,
    /// What the metrics said at the end, the deciding one first: three at most, 160 bytes each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
}

/// The answer to an operator's command.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CommandStatus {
    /// The command's own id.
    pub id: String,
    /// What was asked.
    pub verb: String,
    /// Whose it was, as the API server knows them, if the sender said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why, in the operator's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Whether it was done.
    pub accepted: bool,
    /// What was done, or why not.
    pub message: String,
}

fn opaque(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "nullable": true, "x-kubernetes-preserve-unknown-fields": true })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All rollouts of a cluster are kept, each with the two counts of its `Arc`: 1,792 bytes are what an allocator has room for next.
    #[test]
    fn a_rollout_takes_less_than_two_kilobytes_itself() {
        assert!(
            size_of::<CanaryRollout>() + 16 <= 1_792,
            "{}",
            size_of::<CanaryRollout>()
        );
    }

    #[test]
    fn what_kubectl_shows_in_columns_is_never_null() {
        let status = CanaryRolloutStatus {
            revision: Some(RevisionStatus::default()),
            ..CanaryRolloutStatus::default()
        };
        let [written, empty] = [&status, &CanaryRolloutStatus::default()].map(|of| serde_json::to_value(of).unwrap());
        assert!(written["revision"].get("commit").is_none(), "{written}");
        for column in ["phase", "step", "weight", "revision", "verdict", "stable", "message"] {
            assert!(empty.get(column).is_none(), "{column} of {empty}");
        }
    }
}
