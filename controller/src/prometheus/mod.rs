//! Sampling: from Prometheus's raw samples to exact counts per arm and tick.
//!
//! Must not know rollouts, verdicts or the cluster. `client` and `sampler` talk to a server; the rest is pure:
//! the same raw samples always make the same ticks, so that a restart computes them again.

mod answer;
mod arms;
mod client;
mod counters;
#[doc(hidden)]
pub mod fuzz;
mod sampler;
mod ticks;

pub use client::SampleError;
pub use sampler::{ArmTarget, Prometheus, Target};
pub use ticks::{ticks_between, ticks_due};
