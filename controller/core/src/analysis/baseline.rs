//! What is frozen before a trial, from what stable did before it: how failures come in clusters, at which bounds latency is
//! compared, and stable's calls. Must not know the canary.

use serde::{Deserialize, Serialize};

use super::sequential::{BurstEstimate, Tally, bounds};
use super::{FailureCodes, Objectives};

/// Stable shows a code when more than one call in so many has it: one stray call a day hides no missing method.
const SHOWS: u64 = 10_000;

/// What stable's pods did in the time before a trial.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Baseline {
    /// The bounds of [`PodCounts::slow`] in milliseconds, rising.
    pub bounds_ms: Vec<u64>,
    /// The gRPC codes of [`PodCounts::codes`].
    pub codes: Vec<u8>,
    /// The length of a tick, in milliseconds.
    pub tick_ms: u64,
    /// Tick by tick, in order: each pod in a place of its own, which stays the same from tick to tick.
    pub ticks: Vec<Vec<PodCounts>>,
}

/// What one pod did in one tick.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodCounts {
    /// Calls answered.
    pub requests: u64,
    /// Those that failed.
    pub failures: u64,
    /// For each of [`Baseline::bounds_ms`]: calls that were slower.
    pub slow: Vec<u64>,
    /// For each of [`Baseline::codes`]: calls with that code that are not among `failures`.
    pub codes: Vec<u64>,
    /// For each of the user's own pairs of counters: what it counted.
    pub custom: Vec<Tally>,
}

/// What holds for the whole trial, and is kept in status with it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Frozen {
    /// The bounds at which latency is compared with stable's, in milliseconds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bounds_ms: Vec<u64>,
    /// gRPC codes that are failures besides those that the mesh takes for failures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failure_codes: Vec<u8>,
    /// How much time was looked at, in milliseconds.
    #[serde(default)]
    pub(super) ms: u64,
    /// For each metric of [`Objectives::test`] in order: φ, and stable's calls before the trial.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    metrics: Vec<FrozenMetric>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FrozenMetric {
    /// φ in thousandths: the API server and floats don't go well together.
    phi: u64,
    stable: Tally,
}

impl Baseline {
    /// Freezes what a trial with these objectives needs. With a baseline of nothing, bursts are not allowed for and latency is
    /// compared with the objectives only.
    pub fn freeze(&self, objectives: &Objectives) -> Frozen {
        let compared = objectives
            .latency_against_stable
            .map_or_else(Vec::new, |_| self.choose());
        let failure_codes = self.failure_codes(&objectives.failure_codes);
        let failures = |pod: &PodCounts| {
            let coded = self.codes.iter().zip(&pod.codes);
            let added: u64 = coded
                .filter(|(code, _)| failure_codes.contains(code))
                .map(|(_, calls)| *calls)
                .sum();
            Tally::new(pod.failures + added, pod.requests)
        };
        let mut metrics = vec![self.metric(failures)];
        for bound in objectives.bounds_ms().chain(compared.iter().copied()) {
            let place = self.bounds_ms.iter().position(|b| *b == bound);
            let slow = move |pod: &PodCounts| {
                let slow = place.and_then(|place| pod.slow.get(place));
                slow.map_or_else(Tally::default, |slow| Tally::new(*slow, pod.requests))
            };
            metrics.push(self.metric(slow));
        }
        for place in 0..objectives.custom_counts().count() {
            metrics.push(self.metric(|pod| pod.custom.get(place).copied().unwrap_or_default()));
        }
        Frozen {
            bounds_ms: compared,
            failure_codes,
            ms: self
                .tick_ms
                .saturating_mul(u64::try_from(self.ticks.len()).unwrap_or(u64::MAX)),
            metrics,
        }
    }

    /// The codes that are failures for the whole trial.
    fn failure_codes(&self, codes: &FailureCodes) -> Vec<u8> {
        match codes {
            FailureCodes::Given(codes) => codes.clone(),
            FailureCodes::UnlessStableShows(codes) => codes.iter().copied().filter(|code| !self.shows(*code)).collect(),
        }
    }

    fn shows(&self, code: u8) -> bool {
        let Some(place) = self.codes.iter().position(|known| *known == code) else {
            return false;
        };
        let pods = || self.ticks.iter().flatten();
        let all: u64 = pods().map(|pod| pod.requests).sum();
        let with: u64 = pods().filter_map(|pod| pod.codes.get(place)).sum();
        with.saturating_mul(SHOWS) > all
    }

    /// Up to three bounds, from the middle to the far tail of stable's calls.
    fn choose(&self) -> Vec<u64> {
        let pods = || self.ticks.iter().flatten();
        let total: u64 = pods().map(|pod| pod.requests).sum();
        let within: Vec<(u64, u64)> = self
            .bounds_ms
            .iter()
            .enumerate()
            .map(|(place, bound)| {
                let slow: u64 = pods().filter_map(|pod| pod.slow.get(place)).sum();
                (*bound, total.saturating_sub(slow))
            })
            .collect();
        bounds::choose(total, &within)
            .iter()
            .map(|chosen| chosen.bound_ms)
            .collect()
    }

    fn metric(&self, of: impl Fn(&PodCounts) -> Tally) -> FrozenMetric {
        let (mut burst, mut stable) = (BurstEstimate::default(), Tally::default());
        for tick in &self.ticks {
            let pods: Vec<Tally> = tick.iter().map(&of).collect();
            burst.tick(&pods);
            for pod in &pods {
                stable.add(pod);
            }
        }
        FrozenMetric {
            phi: thousandths(burst.phi()),
            stable,
        }
    }
}

impl Frozen {
    /// φ and stable's calls of each metric in order, as a test begins with them.
    pub(super) fn metrics(&self) -> Vec<(f64, Tally)> {
        self.metrics
            .iter()
            .map(|metric| (super::sequential::real(metric.phi) / 1000.0, metric.stable))
            .collect()
    }
}

/// Rounded up, so that what is frozen never allows for less than was seen.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "limited to what fits, and at least 1"
)]
fn thousandths(phi: f64) -> u64 {
    (phi * 1000.0).ceil().clamp(1000.0, 1e12) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(requests: u64, failures: u64, slow: &[u64]) -> PodCounts {
        PodCounts {
            requests,
            failures,
            slow: slow.to_vec(),
            ..PodCounts::default()
        }
    }

    fn baseline(ticks: Vec<Vec<PodCounts>>) -> Baseline {
        Baseline {
            bounds_ms: vec![10, 50, 100, 500],
            codes: Vec::new(),
            tick_ms: 20_000,
            ticks,
        }
    }

    /// Stable's calls, and how many of them had UNIMPLEMENTED.
    fn with_code(requests: u64, unimplemented: u64, codes: FailureCodes) -> Frozen {
        let pod = PodCounts {
            requests,
            codes: vec![unimplemented, 0],
            ..PodCounts::default()
        };
        let baseline = Baseline {
            codes: vec![12, 8],
            ..baseline(vec![vec![pod]])
        };
        baseline.freeze(&Objectives {
            failure_codes: codes,
            ..Objectives::default()
        })
    }

    #[test]
    fn codes_that_stable_does_not_show_are_failures() {
        let unless_shown = || FailureCodes::UnlessStableShows(vec![12, 8]);
        assert_eq!(with_code(50_000, 0, unless_shown()).failure_codes, [12, 8]);
        assert_eq!(with_code(50_000, 900, unless_shown()).failure_codes, [8]);
        let stray = with_code(50_000, 1, unless_shown());
        assert_eq!(stray.failure_codes, [12, 8], "one stray call hides no missing method");
        assert_eq!(
            stray.metrics()[0].1,
            Tally::new(1, 50_000),
            "and it counts against stable as well"
        );
        let unknown = Baseline::default().freeze(&Objectives {
            failure_codes: unless_shown(),
            ..Objectives::default()
        });
        assert_eq!(unknown.failure_codes, [12, 8], "what was not seen is not shown");
    }

    #[test]
    fn codes_that_were_chosen_are_failures_whatever_stable_shows() {
        let frozen = with_code(50_000, 900, FailureCodes::Given(vec![12]));
        assert_eq!(frozen.failure_codes, [12]);
        assert_eq!(frozen.metrics()[0].1, Tally::new(900, 50_000));
    }

    #[test]
    fn latency_is_compared_where_stable_has_its_middle_and_its_tails() {
        // 70 % within 10 ms, 90 % within 50, 97 % within 100, 99.5 % within 500.
        let tick = vec![pod(1000, 0, &[300, 100, 30, 5]); 2];
        let frozen = baseline(vec![tick; 10]).freeze(&Objectives::default());
        assert_eq!(frozen.bounds_ms, [50, 100, 500]);
        assert_eq!(frozen.metrics.len(), 4);
        assert_eq!(frozen.metrics()[0], (1.0, Tally::new(0, 20_000)));
        assert_eq!(frozen.metrics()[1].1, Tally::new(2_000, 20_000));
    }

    #[test]
    fn failures_in_clusters_are_allowed_for() {
        let ticks = (0..200)
            .map(|tick| {
                (0..4)
                    .map(|place| pod(1000, if place == tick % 4 { 10 } else { 0 }, &[]))
                    .collect()
            })
            .collect();
        let phi = baseline(ticks).freeze(&Objectives::default()).metrics()[0].0;
        assert!(phi > 5.0, "{phi}");
    }

    #[test]
    fn a_baseline_of_nothing_freezes_nothing_that_a_test_could_lean_on() {
        let frozen = Baseline::default().freeze(&Objectives::default());
        assert_eq!(frozen.bounds_ms, Vec::<u64>::new());
        assert_eq!(frozen.metrics(), [(1.0, Tally::default())]);
    }
}
