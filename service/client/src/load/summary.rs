//! A line of numbers for people, now and then. It must not know how calls are made.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::record::Call;

/// Calls since the last line.
#[derive(Debug)]
pub(super) struct Summary {
    /// Microseconds from when a call was due.
    latency: Histogram<u64>,
    codes: BTreeMap<String, u64>,
    revisions: BTreeMap<String, u64>,
}

impl Summary {
    pub(super) fn new() -> anyhow::Result<Self> {
        let mut latency = Histogram::new(3)?;
        latency.auto(true);
        Ok(Self {
            latency,
            codes: BTreeMap::new(),
            revisions: BTreeMap::new(),
        })
    }

    pub(super) fn add(&mut self, call: &Call) {
        let micros = call.latency().as_micros().try_into().unwrap_or_default();
        // It grows by itself, so that every value has a place.
        let _ = self.latency.record(micros);
        *self.codes.entry(call.code.clone()).or_default() += 1;
        if let Some(revision) = &call.revision {
            *self.revisions.entry(revision.clone()).or_default() += 1;
        }
    }

    /// The numbers of this time; the next ones begin with nothing.
    #[expect(clippy::cast_precision_loss, reason = "numbers for people")]
    pub(super) fn take(&mut self, time: Duration, in_flight: usize) -> Value {
        let ms = |quantile: f64| self.latency.value_at_quantile(quantile) as f64 / 1_000.0;
        let line = json!({
            "calls": self.latency.len(),
            "per_second": (self.latency.len() as f64 / time.as_secs_f64()).round(),
            "in_flight": in_flight,
            "ms": {"p50": ms(0.5), "p90": ms(0.9), "p99": ms(0.99), "p999": ms(0.999), "max": ms(1.0)},
            "codes": std::mem::take(&mut self.codes),
            "revisions": std::mem::take(&mut self.revisions),
        });
        self.latency.reset();
        line
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn a_line_tells_of_the_calls_since_the_last_one() {
        let mut summary = Summary::new().unwrap();
        for micros in [1_000, 2_000, 3_000] {
            summary.add(&Call {
                start: Timestamp::UNIX_EPOCH,
                end: Timestamp::from_microsecond(micros).unwrap(),
                method: "ListUsers".to_owned(),
                code: "OK".to_owned(),
                message: None,
                revision: Some("r1".to_owned()),
                instance: None,
            });
        }
        let line = summary.take(Duration::from_secs(1), 0);
        assert_eq!(line["calls"], 3);
        assert_eq!(line["ms"]["p50"], 2.0);
        assert_eq!(line["revisions"]["r1"], 3);
        assert_eq!(summary.take(Duration::from_secs(1), 0)["calls"], 0);
    }
}
