//! Circuit breaking by consecutive failures, as annotations of the Service that is *called* ask for it. Pure; it must not know what a
//! call is.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

const ACCRUAL: &str = "balancer.linkerd.io/failure-accrual";
const MAX_FAILURES: &str = "balancer.linkerd.io/failure-accrual-consecutive-max-failures";
const MIN_PENALTY: &str = "balancer.linkerd.io/failure-accrual-consecutive-min-penalty";
const MAX_PENALTY: &str = "balancer.linkerd.io/failure-accrual-consecutive-max-penalty";

/// When an endpoint gets no calls for a while, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Breaker {
    pub(super) max_failures: u32,
    pub(super) min_penalty: Duration,
    pub(super) max_penalty: Duration,
}

impl Breaker {
    /// Reads a Service's annotations; numbers that are left out are Linkerd's.
    pub(super) fn read(annotations: Option<&BTreeMap<String, String>>) -> Option<Self> {
        let text = |key: &str| annotations?.get(key).map(String::as_str);
        (text(ACCRUAL)? == "consecutive").then_some(())?;
        let time = |key: &str, default: u64| text(key).and_then(duration).unwrap_or(Duration::from_secs(default));
        Some(Self {
            max_failures: text(MAX_FAILURES).and_then(|text| text.parse().ok()).unwrap_or(7),
            min_penalty: time(MIN_PENALTY, 1),
            max_penalty: time(MAX_PENALTY, 60),
        })
    }
}

/// Such as `500ms`, `1s` or `1m`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let number = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number * 60)),
        _ => None,
    }
}

/// What one client knows of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Circuit {
    failures: u32,
    tripped: Option<Tripped>,
}

#[derive(Debug)]
struct Tripped {
    penalty: Duration,
    until: Instant,
    /// After the penalty one call decides.
    is_probed: bool,
}

impl Circuit {
    /// Whether the endpoint gets no calls now.
    pub(super) fn is_tripped(&self, now: Instant) -> bool {
        self.tripped
            .as_ref()
            .is_some_and(|tripped| now < tripped.until || tripped.is_probed)
    }

    /// A call goes to the endpoint.
    pub(super) fn enter(&mut self) {
        if let Some(tripped) = &mut self.tripped {
            tripped.is_probed = true;
        }
    }

    /// A call ended and said nothing of the endpoint.
    pub(super) fn leave(&mut self) {
        if let Some(tripped) = &mut self.tripped {
            tripped.is_probed = false;
        }
    }

    /// A call ended well or not.
    pub(super) fn ended(&mut self, is_failure: bool, breaker: Breaker, now: Instant) {
        if !is_failure {
            *self = Self::default();
            return;
        }
        self.failures = self.failures.saturating_add(1);
        // Those that were on their way when it tripped say nothing new.
        if self.tripped.as_ref().is_some_and(|tripped| now < tripped.until) || self.failures < breaker.max_failures {
            return;
        }
        let penalty = self.tripped.as_ref().map_or(breaker.min_penalty, |tripped| {
            tripped.penalty.saturating_mul(2).min(breaker.max_penalty)
        });
        self.tripped = Some(Tripped {
            penalty,
            until: now + penalty,
            is_probed: false,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker(more: &[(&str, &str)]) -> Option<Breaker> {
        let all = more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Breaker::read(Some(&all.collect()))
    }

    #[test]
    fn it_is_off_unless_the_service_asks_for_it() {
        assert_eq!(Breaker::read(None), None);
        assert_eq!(breaker(&[(MAX_FAILURES, "3")]), None);
        let three = breaker(&[(ACCRUAL, "consecutive"), (MAX_FAILURES, "3"), (MIN_PENALTY, "500ms")]).unwrap();
        assert_eq!((three.max_failures, three.min_penalty), (3, Duration::from_millis(500)));
        assert_eq!(three.max_penalty, Duration::from_mins(1));
    }

    #[test]
    fn failures_in_a_row_trip_it_and_after_a_penalty_one_call_decides() {
        let breaker = breaker(&[(ACCRUAL, "consecutive"), (MAX_FAILURES, "3")]).unwrap();
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        let second = Duration::from_secs(1);
        for is_failure in [true, true, false, true, true] {
            circuit.ended(is_failure, breaker, now);
        }
        assert!(!circuit.is_tripped(now), "a success begins anew");
        circuit.ended(true, breaker, now);
        assert!(circuit.is_tripped(now));
        let after = now + second;
        assert!(!circuit.is_tripped(after));
        circuit.enter();
        assert!(circuit.is_tripped(after), "only one call");
        circuit.ended(true, breaker, after);
        assert!(circuit.is_tripped(after + second), "the second penalty is longer");
        let later = after + second * 2;
        circuit.enter();
        circuit.leave();
        assert!(!circuit.is_tripped(later));
        circuit.ended(false, breaker, later);
        circuit.ended(true, breaker, later);
        assert!(!circuit.is_tripped(later));
    }
}
