//! The service's one reading of the wall clock. It must not know what the time is used for.

use jiff::Timestamp;

/// The present time.
#[expect(
    clippy::disallowed_methods,
    reason = "the service's one clock; everything else gets time as an argument"
)]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
