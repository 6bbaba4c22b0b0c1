//! Samples in, verdict out. Knows counts and objectives; not where they came from, and not what is done about them.
//!
//! [`Analysis`] is what a rollout remembers: it observes ticks, begins anew at a step, and answers with a [`Verdict`] and its
//! evidence at any time. [`sequential`] is the statistics behind it.

pub mod baseline;
pub mod following;
pub mod judgement;
pub mod objectives;
pub mod sample;
pub mod sequential;

pub use baseline::{Baseline, Frozen, PodCounts};
pub use following::{Deviation, Following, Sent, Sides};
pub use judgement::{Analysis, Evidence, Judged, Outcome, Verdict};
pub use objectives::{LatencyObjective, Objectives, SuccessObjective};
pub use sample::{ArmSample, Counts, Sight, Tick};
