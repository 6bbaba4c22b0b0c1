//! The pure core of Serin: what a rollout is, what its next step is, and what its samples prove.
//!
//! It must not know Kubernetes, Prometheus, Git, a clock or a runtime: every decision is a function of values,
//! so that it can be replayed, enumerated and explained. Effects are data; the controller's adapters carry them out.

pub mod analysis;
pub mod rollout;
pub mod weight;

pub use weight::Weight;
