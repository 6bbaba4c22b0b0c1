//! The lab's one clock. Everything else in the lab takes time as an argument or asks here.

use jiff::Timestamp;

/// The present.
#[expect(clippy::disallowed_methods, reason = "the lab's one clock")]
pub fn now() -> Timestamp {
    Timestamp::now()
}
