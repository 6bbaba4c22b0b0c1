//! Whether a call that failed may be made again, and when. It must not know how calls are made.

use std::error::Error as _;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tonic::{Code, Status, TimeoutExpired, transport};
use tonic_types::StatusExt as _;

/// What happens if a call is made twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Twice {
    /// The same as if it were made once.
    IsOnce,
    /// More: it is made again only if it certainly was not begun.
    IsTwice,
}

/// Whether to make the call again at all.
pub(crate) fn may_help(status: &Status, twice: Twice) -> bool {
    match status.code() {
        // Refused before it was begun, by the service's own word.
        Code::ResourceExhausted => status.get_details_retry_info().is_some(),
        Code::Unavailable => twice == Twice::IsOnce,
        // A connection that broke or was closed by its age just then: tonic has no better code for it.
        _ => twice == Twice::IsOnce && is_of_the_transport(status),
    }
}

/// Whether the call's own time ran out: tonic keeps it too, and calls that a cancellation.
pub(crate) fn is_too_late(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<TimeoutExpired>() {
            return true;
        }
        cause = error.source();
    }
    false
}

fn is_of_the_transport(status: &Status) -> bool {
    matches!(status.source(), Some(source) if source.is::<transport::Error>())
}

/// How long to wait before the try after `failed` ones: twice as long each time, and never the same as others.
pub(crate) fn pause(status: &Status, first: Duration, failed: u32, jitter: f64) -> Duration {
    let backoff = first * 2_u32.saturating_pow(failed.saturating_sub(1).min(10));
    let asked = status.get_details_retry_info().and_then(|info| info.retry_delay);
    backoff
        .mul_f64(0.5 + jitter)
        .max(asked.unwrap_or_default().min(backoff * 4))
}

/// Keeps retries from making an outage worse: each failure takes a token, each success gives a tenth of one back, and below
/// half there are no retries (gRPC's retry throttling).
#[derive(Debug)]
pub(crate) struct Budget(AtomicI64);

/// In tenths of a token.
const FULL: i64 = 100;
const FAILURE: i64 = 10;

impl Budget {
    pub(crate) fn full() -> Self {
        Self(AtomicI64::new(FULL))
    }

    pub(crate) fn succeeded(&self) {
        self.add(1);
    }

    /// Counts a failure; whether retries are still allowed.
    pub(crate) fn failed(&self) -> bool {
        self.add(-FAILURE) > FULL / 2
    }

    fn add(&self, tenths: i64) -> i64 {
        let new = |old: i64| (old + tenths).clamp(0, FULL);
        let old = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| Some(new(old)));
        new(old.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn overloaded(delay: Duration) -> Status {
        Status::with_error_details(Code::ResourceExhausted, "", ErrorDetails::with_retry_info(Some(delay)))
    }

    #[test]
    fn only_what_is_safe_and_may_help_is_made_again() {
        for (status, twice, again) in [
            (Status::unavailable(""), Twice::IsOnce, true),
            (Status::unavailable(""), Twice::IsTwice, false),
            (overloaded(Duration::from_secs(1)), Twice::IsTwice, true),
            (Status::resource_exhausted("a quota"), Twice::IsOnce, false),
            (Status::not_found(""), Twice::IsOnce, false),
            (Status::internal(""), Twice::IsOnce, false),
            (Status::deadline_exceeded(""), Twice::IsOnce, false),
        ] {
            assert_eq!(may_help(&status, twice), again, "{status:?} {twice:?}");
        }
    }

    #[test]
    fn pauses_grow_and_mind_what_the_service_asks_for() {
        let first = Duration::from_millis(100);
        let status = Status::unavailable("");
        assert_eq!(pause(&status, first, 1, 0.0), Duration::from_millis(50));
        assert_eq!(pause(&status, first, 3, 0.5), Duration::from_millis(400));
        assert_eq!(
            pause(&overloaded(Duration::from_millis(300)), first, 1, 0.5),
            Duration::from_millis(300)
        );
        assert_eq!(
            pause(&overloaded(Duration::from_hours(1)), first, 1, 0.5),
            Duration::from_millis(400),
            "not for ever"
        );
    }

    #[test]
    fn an_outage_ends_the_retries_and_successes_bring_them_back() {
        let budget = Budget::full();
        assert_eq!(
            (0..6).map(|_| budget.failed()).collect::<Vec<_>>(),
            [true, true, true, true, false, false]
        );
        for _ in 0..200 {
            budget.succeeded();
        }
        assert!(budget.failed());
    }
}
