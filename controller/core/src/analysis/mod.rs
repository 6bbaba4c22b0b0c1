//! Samples in, verdict out. Knows counts and objectives; not where they came from, and not what is done about them.
//!
//! [`Analysis`] is the interface that a sequential test takes over: it observes ticks, begins anew at a step, and
//! answers with a [`Verdict`] and its evidence at any time.

pub mod sample;
pub mod sequential;
pub mod threshold;

pub use sample::{ArmSample, Counts, Sight, Tick};
pub use threshold::{Analysis, Evidence, Judged, LatencyObjective, Objectives, Verdict};
