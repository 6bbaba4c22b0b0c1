//! Calls to addresses that people name in rollouts: which may be called, what an answer means, how a request is signed, and the
//! Secrets that belong to it. It must not know what is sent, nor why.

mod guard;
mod http;
mod secret;
mod signature;

use std::time::Duration;

pub use guard::{Guard, Inside};
pub use http::{Answered, builder, exchange, retry_after, send};
pub use secret::{Secret, Secrets};
pub use signature::{KEY, SIGNATURE, TIMESTAMP, sign, signature};

/// Why a call was in vain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It may be taken later.
    Later {
        /// Why not now.
        why: String,
        /// How long the receiver wants to be left alone.
        after: Option<Duration>,
    },
    /// It will never be.
    Never(String),
}

/// Bytes as people and other programs read them.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
