//! What the tests promise, as claims: the published vectors, validity by enumeration, behaviour over a rollout.

mod numbers;
mod rollout;

mod validity;
mod vectors;

use super::{Arms, Tally};

pub(super) fn arms([fc, nc, fs, ns]: [u64; 4]) -> Arms {
    Arms {
        canary: Tally::new(fc, nc),
        stable: Tally::new(fs, ns),
    }
}

/// Relative, with a floor of one for numbers near 0.
pub(super) fn assert_close(found: f64, expected: f64, tolerance: f64, what: &str) {
    let error = (found - expected).abs() / expected.abs().max(1.0);
    assert!(error <= tolerance, "{what}: {found} is not {expected} ({error:e})");
}
