//! The route's weights, and the objects that carry them: arm Services, GRPCRoute, HTTPRoute, TrafficSplit.
//!
//! Must not know rollouts, phases or verdicts. What an object or a patch looks like is decided purely ([`Kind`], [`ArmService`]);
//! [`Traffic`] is the only part that talks to the API server.
//!
//! # Guarantees
//! - Both weights change in one write, guarded by the version that was read; never are both zero.
//! - A route that stands keeps its weights whatever else of it is repaired; it is patched, never deleted and made anew.
//! - Nobody else's object is touched: not one without the rollout's ownerReference. Of an adopted route, which stands in Git,
//!   only the two weights change; it is never created, repaired or deleted.
//! - Every call of the API server ends in time.

mod error;
mod gateway;
mod kept;
mod kind;
mod live;
#[cfg(test)]
mod patching;
mod repair;
mod served;
mod service;
mod spec;
mod split;
mod writer;

pub use error::Error;
pub use kept::Known;
pub use kind::Kind;
pub use live::{Backend, LiveRoute};
pub use service::{ArmService, container_port};
pub use spec::{RouteSpec, Testers, canary_service, stable_service};
pub use writer::Traffic;

/// Who Serin is in `managedFields`.
const FIELD_MANAGER: &str = "serin";
