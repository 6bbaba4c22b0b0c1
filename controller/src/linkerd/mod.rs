//! What Linkerd means: the names of its metrics and labels, what it calls a failure, where its histograms have bounds,
//! the PromQL that asks for them, and whether all is as it has to be (preflight). Text and values only; it asks nobody.

pub mod failure;
pub mod latency;
pub mod metrics;
pub mod outbound;
pub mod preflight;
pub mod promql;
