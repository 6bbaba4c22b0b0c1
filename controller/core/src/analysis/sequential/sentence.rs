//! One metric's evidence as a sentence. Must not know anything that is not in the metric's state.

use super::{MetricState, MetricTest, ln_threshold};

/// Such as "9.1 % of 340 canary calls failed, stable 0.2 % of 6,120; evidence 412 of the 100 needed to fail".
///
/// `ln_against` is the metric's part of the evidence towards FAIL.
pub(crate) fn of(test: &MetricTest<'_>, state: &MetricState, ln_against: f64) -> String {
    let (canary, stable) = (state.whole.canary, state.whole.stable);
    if canary.total == 0 {
        return "no calls on canary yet".to_owned();
    }
    let mut text = format!(
        "{} of {} canary calls {}",
        percent(canary.rate()),
        grouped(canary.total),
        test.spec.verb
    );
    if state.relative.is_some() {
        text += &match state.reference() {
            Some(rate) => format!(", stable at most {} when it last had enough calls", percent(rate)),
            None if stable.total == 0 => ", stable has no calls".to_owned(),
            None => format!(", stable {} of {}", percent(stable.rate()), grouped(stable.total)),
        };
    }
    if let Some(absolute) = test.spec.absolute {
        text += &format!(", {} allowed", percent(absolute.fail.delta()));
    }
    if state.held {
        return text + "; stable breaks the objective as well";
    }
    let proven = state.relative.iter().chain(&state.absolute);
    let proven = proven.map(|strand| strand.pass.ln_l()).fold(f64::INFINITY, f64::min);
    if ln_against <= proven && proven.is_finite() {
        let needed = ln_threshold(test.beta);
        text + &format!(
            "; evidence {} of the {} needed to pass",
            evidence(proven),
            evidence(needed)
        )
    } else {
        let needed = ln_threshold(test.alpha);
        text + &format!(
            "; evidence {} of the {} needed to fail",
            evidence(ln_against),
            evidence(needed)
        )
    }
}

/// e^ln as a person would say it: one decimal below 10, whole up to a million, then a power of ten.
fn evidence(ln: f64) -> String {
    if ln < 10f64.ln() - 1e-9 {
        format!("{:.1}", ln.exp())
    } else if ln < 1e6f64.ln() {
        format!("{:.0}", ln.exp())
    } else {
        format!("10^{:.0}", ln / std::f64::consts::LN_10)
    }
}

/// Two significant digits below 1 %, one decimal above.
pub(crate) fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent > 0.0 && percent < 0.095 {
        format!("{percent:.2} %")
    } else {
        format!("{percent:.1} %")
    }
}

/// A count with its digits by three.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_digits_by_three() {
        assert_eq!(
            [0, 340, 6_120, 1_000_000].map(grouped),
            ["0", "340", "6,120", "1,000,000"]
        );
    }

    #[test]
    fn says_evidence_in_numbers_that_mean_something() {
        let said = [0.0, 100f64.ln(), 412.4f64.ln(), 700.0].map(evidence);
        assert_eq!(said, ["1.0", "100", "412", "10^304"]);
    }

    #[test]
    fn says_small_shares_in_two_digits() {
        assert_eq!(
            [0.0, 0.0004, 0.002, 0.091].map(percent),
            ["0.0 %", "0.04 %", "0.2 %", "9.1 %"]
        );
    }
}
