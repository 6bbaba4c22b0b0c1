//! Sampling: from Prometheus's raw samples to exact counts per arm and tick.
//!
//! Must not know rollouts, verdicts or the cluster. `client` and `sampler` talk to a server; the rest is pure:
//! the same raw samples always make the same ticks, so that a restart computes them again.

mod answer;
mod arms;
mod batch;
mod client;
mod counters;
mod custom;
#[doc(hidden)]
pub mod fuzz;
mod glance;
mod history;
mod labels;
mod own;
mod pieces;
mod raw;
mod sampler;
mod sent;
mod speed;
#[cfg(test)]
mod stand_in;
mod target;
mod ticks;

pub use client::SampleError;
pub use history::{History, PodHistory};
pub use own::OwnTick;
pub use sampler::{Prometheus, Turn};
pub use speed::{Speed, SpeedOf};
pub use target::{ArmTarget, Backends, CustomQuery, CustomTarget, PairQuery, Target};
pub use ticks::{ticks_between, ticks_due};
