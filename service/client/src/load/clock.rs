//! The load generator's one clock; everything else gets time as an argument. It must not know what the time is used for.

use jiff::Timestamp;

/// The present.
#[expect(clippy::disallowed_methods, reason = "the load generator's one clock")]
pub(super) fn now() -> Timestamp {
    Timestamp::now()
}
