//! Where Linkerd's latency histogram has its bounds: between two of them nothing can be counted exactly.
//! Must not know objectives beyond their bound.

use std::fmt;

/// The upper bounds of `response_latency_ms_bucket`, in milliseconds, without `+Inf`.
pub const LATENCY_BOUNDS_MS: [u64; 25] = [
    1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500, 1_000, 2_000, 3_000, 4_000, 5_000, 10_000, 20_000,
    30_000, 40_000, 50_000,
];

/// A latency that lies between two bounds, or outside of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotABound {
    /// What was asked for, in milliseconds.
    pub ms: u64,
    /// The next bound below.
    pub below: Option<u64>,
    /// The next bound above.
    pub above: Option<u64>,
}

impl fmt::Display for NotABound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Linkerd's latency histogram has no bound at {}ms, so it can't be counted exactly; use ",
            self.ms
        )?;
        match (self.below, self.above) {
            (Some(below), Some(above)) => write!(f, "{below}ms or {above}ms"),
            (Some(one), None) | (None, Some(one)) => write!(f, "{one}ms"),
            (None, None) => f.write_str("one of its bounds"),
        }
    }
}

impl std::error::Error for NotABound {}

/// Checks that calls slower than this can be counted.
pub fn check_bound(ms: u64) -> Result<(), NotABound> {
    if LATENCY_BOUNDS_MS.contains(&ms) {
        return Ok(());
    }
    let below = LATENCY_BOUNDS_MS.iter().rev().copied().find(|b| *b < ms);
    let above = LATENCY_BOUNDS_MS.iter().copied().find(|b| *b > ms);
    Err(NotABound { ms, below, above })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_a_bound() {
        for ms in LATENCY_BOUNDS_MS {
            assert_eq!(check_bound(ms), Ok(()));
        }
    }

    #[test]
    fn what_is_no_bound_names_its_neighbours() {
        let says = |ms| check_bound(ms).unwrap_err().to_string();
        assert!(says(250).ends_with("use 200ms or 300ms"), "{}", says(250));
        assert!(says(0).ends_with("use 1ms"), "{}", says(0));
        assert!(says(60_000).ends_with("use 50000ms"), "{}", says(60_000));
    }
}
