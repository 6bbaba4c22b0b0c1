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

/// Σ e^x, term by term.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sum {
    /// The largest x.
    high: f64,
    /// Σ e^(x − high).
    scaled: f64,
}

impl Default for Sum {
    fn default() -> Self {
        Self {
            high: f64::NEG_INFINITY,
            scaled: 0.0,
        }
    }
}

impl Sum {
    pub(crate) fn add(&mut self, x: f64) {
        if x > self.high {
            self.scaled = self.scaled * (self.high - x).exp() + 1.0;
            self.high = x;
        } else if x > f64::NEG_INFINITY {
            self.scaled += (x - self.high).exp();
        }
    }

    /// ln Σ e^x; −∞ for nothing.
    pub(crate) fn ln(&self) -> f64 {
        if self.scaled > 0.0 {
            self.high + self.scaled.ln()
        } else {
            f64::NEG_INFINITY
        }
    }
}

/// ln of the mean of e^x over six bets.
pub(crate) fn mean_of_six(terms: [f64; 6]) -> f64 {
    let high = terms.into_iter().fold(f64::NEG_INFINITY, f64::max);
    if high == f64::NEG_INFINITY {
        return high;
    }
    high + (terms.into_iter().map(|x| (x - high).exp()).sum::<f64>() / 6.0).ln()
}
