//! What Linkerd means: the names of its metrics and labels, what it calls a failure, where its histograms have bounds,
//! and the PromQL that asks for them. Text and values only; it asks nobody.

pub mod failure;
pub mod latency;
pub mod metrics;
pub mod promql;
