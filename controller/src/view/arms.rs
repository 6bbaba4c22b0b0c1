//! What each arm answers, as people are shown it: how much, how well and how fast. Pure.

use jiff::Timestamp;
use serde::Serialize;

use crate::api::{CanaryRolloutStatus, PercentilesStatus, SampleStatus, SamplesStatus, TickStatus};

/// One arm in the last tick.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Arm<'a> {
    pub(crate) name: &'static str,
    pub(crate) revision: Option<&'a str>,
    pub(crate) calls: Option<Calls>,
    /// Of the last minute's calls; estimated.
    pub(crate) latency: Option<PercentilesStatus>,
}

/// Its calls.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Calls {
    /// The tick's end.
    pub(crate) at: Timestamp,
    pub(crate) requests: i64,
    /// None for the first tick: its length is not known.
    pub(crate) per_second: Option<f64>,
    /// In percent; none without calls.
    pub(crate) succeeded: Option<f64>,
    pub(crate) within: Vec<Within>,
}

/// How many were not slower than a bound.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Within {
    pub(crate) bound_ms: i64,
    pub(crate) percent: f64,
}

/// Stable and the canary. Counts are left out where none are taken any more.
pub(crate) fn of(status: &CanaryRolloutStatus) -> [Arm<'_>; 2] {
    let samples = status.samples.as_ref();
    let latency = status.latency.as_ref();
    let calls = |of: fn(&TickStatus) -> &SampleStatus| samples.and_then(|samples| calls(samples, of));
    [
        Arm {
            name: "stable",
            revision: status.stable.as_deref(),
            calls: calls(|tick| &tick.stable),
            latency: latency.and_then(|latency| latency.stable),
        },
        Arm {
            name: "canary",
            revision: status.revision.as_ref().map(|revision| revision.name.as_str()),
            calls: calls(|tick| &tick.canary),
            latency: latency.and_then(|latency| latency.canary),
        },
    ]
}

#[expect(clippy::cast_precision_loss, reason = "calls of one tick are fewer than 2^52")]
fn calls(samples: &SamplesStatus, of: fn(&TickStatus) -> &SampleStatus) -> Option<Calls> {
    let mut last = samples.ticks.iter().rev();
    let (tick, before) = (last.next()?, last.next());
    let sample = of(tick);
    let all = sample.requests as f64;
    let share = |bad: i64| (all > 0.0).then(|| (1.0 - bad as f64 / all) * 100.0);
    let length = before.map(|before| tick.end.duration_since(before.end).as_secs_f64());
    let bounds = samples.bounds_ms.iter().zip(&sample.slow);
    Some(Calls {
        at: tick.end,
        requests: sample.requests,
        per_second: length.filter(|seconds| *seconds > 0.0).map(|seconds| all / seconds),
        succeeded: share(sample.failures),
        within: bounds
            .filter_map(|(bound_ms, slow)| {
                Some(Within {
                    bound_ms: *bound_ms,
                    percent: share(*slow)?,
                })
            })
            .collect(),
    })
}

impl Arm<'_> {
    /// Calls a second, success and speed in the last tick, in one line.
    pub(crate) fn words(&self) -> String {
        let Some(calls) = &self.calls else {
            return "nothing counted yet".to_owned();
        };
        let Some(succeeded) = calls.succeeded else {
            return "no calls in the last tick".to_owned();
        };
        let mut words = match calls.per_second {
            Some(per_second) => format!("{per_second:.1} calls/s"),
            None => format!("{} calls", calls.requests),
        };
        words.push_str(&format!(", {succeeded:.2} % succeeded"));
        for within in &calls.within {
            words.push_str(&format!(", {:.1} % within {} ms", within.percent, within.bound_ms));
        }
        words
    }

    /// The percentiles, if there are any.
    pub(crate) fn speed(&self) -> Option<String> {
        let PercentilesStatus { p50_ms, p95_ms, p99_ms } = self.latency?;
        Some(format!("p50 ≈ {p50_ms} ms, p95 ≈ {p95_ms} ms, p99 ≈ {p99_ms} ms"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(canary_requests: i64) -> CanaryRolloutStatus {
        let tick = |end: &str| {
            json!({
                "end": end, "weight": 5, "canary": {"requests": canary_requests, "failures": 5, "slow": [1]},
                "stable": {"requests": 950, "failures": 1, "slow": [0]},
            })
        };
        serde_json::from_value(json!({
            "samples": {"boundsMs": [500], "ticks": [tick("2026-11-20T10:00:40Z"), tick("2026-11-20T10:01:00Z")]},
            "latency": {"asOf": "2026-11-20T10:01:01Z", "canary": {"p50Ms": 12, "p95Ms": 48, "p99Ms": 90}},
        }))
        .unwrap()
    }

    #[test]
    fn an_arm_says_how_much_how_well_and_how_fast() {
        let status = status(50);
        let [stable, canary] = of(&status);
        assert_eq!(canary.words(), "2.5 calls/s, 90.00 % succeeded, 98.0 % within 500 ms");
        assert_eq!(canary.speed().unwrap(), "p50 ≈ 12 ms, p95 ≈ 48 ms, p99 ≈ 90 ms");
        assert_eq!(stable.words(), "47.5 calls/s, 99.89 % succeeded, 100.0 % within 500 ms");
        assert_eq!(stable.speed(), None, "nothing is known");
    }

    #[test]
    fn no_calls_are_no_success() {
        let status = status(0);
        let [_, canary] = of(&status);
        assert_eq!(canary.words(), "no calls in the last tick");
        let none = CanaryRolloutStatus::default();
        assert_eq!(of(&none)[1].words(), "nothing counted yet");
    }
}
