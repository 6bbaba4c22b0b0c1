//! What the controller runs on: clock, client, lease, telemetry, backoff. Knows nothing of rollouts.

pub mod backoff;
pub mod client;
pub mod clock;
pub mod crash;
pub mod health;
pub mod index;
pub mod lease;
pub mod order;
pub mod shards;
pub mod shelves;
pub mod telemetry;
