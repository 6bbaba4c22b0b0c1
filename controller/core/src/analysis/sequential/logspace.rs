//! Sums of exponentials that neither overflow nor lose small terms. Must not know what is summed.

/// ln(e^a + e^b); either may be −∞.
pub(crate) fn add(a: f64, b: f64) -> f64 {
    let (high, low) = if a >= b { (a, b) } else { (b, a) };
    if high == f64::NEG_INFINITY {
        high
    } else {
        high + (low - high).exp().ln_1p()
    }
}

/// ln Σ e^x; −∞ for nothing.
pub(crate) fn sum(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let high = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    if high == f64::NEG_INFINITY {
        return high;
    }
    high + terms.map(|x| (x - high).exp()).sum::<f64>().ln()
}

/// ln of the mean of e^x over six bets.
pub(crate) fn mean_of_six(terms: [f64; 6]) -> f64 {
    sum(terms.into_iter()) - 6f64.ln()
}
