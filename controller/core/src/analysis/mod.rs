//! Samples in, verdict out. Knows counts and objectives; not where they came from, and not what is done about them.
//!
//! [`Analysis`] is what a rollout remembers: it observes ticks, begins anew at a step, and answers with a [`Verdict`] and its
//! evidence at any time. [`sequential`] is the statistics behind it.

pub mod baseline;
pub mod custom;
pub mod following;
pub mod judgement;
pub mod objectives;
pub mod outlook;
pub mod peers;
pub mod pods;
pub mod sample;
pub mod sequential;
pub mod streams;
pub mod verdict;

pub use baseline::{Baseline, Frozen, PodCounts};
pub use custom::{CustomCounts, CustomKind, CustomMetric, CustomTick, CustomValue, Reading, Unusable};
pub use following::{Deviation, Following, Sent, Sides};
pub use judgement::Analysis;
pub use objectives::{FailureCodes, LatencyObjective, Objectives, SuccessObjective};
pub use outlook::{Need, Prospects};
pub use pods::{PodCalls, PodEvidence};
pub use sample::{ArmSample, Counts, Sight, Tick};
pub use streams::Streams;
pub use verdict::{Evidence, Judged, Outcome, Range, Verdict};
