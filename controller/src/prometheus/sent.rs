//! From the clients' raw series to where they sent calls in a tick. Pure: must not know a server or a clock.
//!
//! # Assumptions
//! All series of one client come with one scrape, so both arms' counts are of the same stretch of time, and their share is true
//! however late that scrape was.

use std::collections::BTreeMap;

use serin_core::analysis::Sent;

use super::answer::Series;
use super::counters::{Baseline, Window, growth};
use super::target::ArmTarget;
use crate::linkerd::metrics;

/// Labels that tell clients apart, and what scraped them.
const CLIENT_LABELS: [&str; 6] = [
    metrics::NAMESPACE,
    metrics::POD,
    "instance",
    "job",
    "prometheus",
    "prometheus_replica",
];
/// How many of them say which pod it is; the others tell views of it apart.
const POD_LABELS: usize = 2;

/// The labels that counting reads; a series needs no others.
pub(super) const LABELS: [&str; 8] = [
    CLIENT_LABELS[0],
    CLIENT_LABELS[1],
    CLIENT_LABELS[2],
    CLIENT_LABELS[3],
    CLIENT_LABELS[4],
    CLIENT_LABELS[5],
    metrics::DST_DEPLOYMENT,
    metrics::DST_POD_TEMPLATE_HASH,
];

/// Counts the calls to both arms. The order of the series does not matter.
pub(super) fn count(series: &[Series], window: &Window, canary: &ArmTarget, stable: &ArmTarget) -> Sent {
    let mut sent = Sent::default();
    for client in clients(series, window).into_values() {
        // A client that nobody saw before the tick may have counted for days: its first sample is a beginning, no growth.
        let seen = client
            .iter()
            .any(|one| one.samples.iter().any(|s| window.is_before(s.at)));
        let baseline = if seen { Baseline::Seen } else { Baseline::Unknown };
        for one in client {
            let slot = if is_of(one, canary) {
                &mut sent.canary
            } else if is_of(one, stable) {
                &mut sent.stable
            } else {
                continue;
            };
            *slot = slot.saturating_add(growth(&one.samples, window, baseline, &[]).0);
        }
    }
    sent
}

/// The series of each client, from the one view of it that has most samples. Only what speaks for this tick: the same samples make
/// the same tick, whatever else is asked for with it.
fn clients<'a>(series: &'a [Series], window: &Window) -> BTreeMap<Vec<&'a str>, Vec<&'a Series>> {
    let mut views: BTreeMap<Vec<&str>, BTreeMap<Vec<&str>, Vec<&Series>>> = BTreeMap::new();
    for one in series {
        let labels = CLIENT_LABELS.map(|label| one.label(label));
        let (pod, view) = labels.split_at(POD_LABELS);
        views
            .entry(pod.to_vec())
            .or_default()
            .entry(view.to_vec())
            .or_default()
            .push(one);
    }
    let looked_at = |one: &&Series| {
        let samples = one.samples.iter();
        samples
            .filter(|s| window.is_before(s.at) || window.is_inside(s.at))
            .count()
    };
    let samples = |view: &Vec<&Series>| view.iter().map(looked_at).sum::<usize>();
    let best = |views: BTreeMap<_, Vec<_>>| views.into_values().max_by_key(samples).unwrap_or_default();
    views.into_iter().map(|(pod, views)| (pod, best(views))).collect()
}

fn is_of(series: &Series, arm: &ArmTarget) -> bool {
    let hash = arm.pod_template_hash.as_deref();
    series.label(metrics::DST_DEPLOYMENT) == arm.deployment
        && hash.is_none_or(|hash| series.label(metrics::DST_POD_TEMPLATE_HASH) == hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Window = Window {
        start: 100,
        end: 120,
        stale: 30,
        lookback: 20,
    };

    fn to(pod: &str, deployment: &str, hash: &str, samples: &[(i64, f64)]) -> Series {
        let labels = [
            ("pod", pod),
            ("dst_deployment", deployment),
            ("dst_pod_template_hash", hash),
        ];
        Series::of(&labels, samples)
    }

    fn sent(series: &[Series]) -> (u64, u64) {
        let arm = |deployment: &str, hash: Option<&str>| ArmTarget {
            deployment: deployment.to_owned(),
            pod_template_hash: hash.map(str::to_owned),
        };
        let Sent { canary, stable } = count(series, &TICK, &arm("web-canary", Some("c2")), &arm("web", None));
        (canary, stable)
    }

    #[test]
    fn calls_count_for_the_arm_whose_pods_they_went_to() {
        let all = [
            to("a", "web", "s1", &[(95, 10.0), (115, 90.0)]),
            to("a", "web", "s0", &[(95, 1.0), (115, 2.0)]),
            to("a", "web-canary", "c2", &[(95, 5.0), (115, 15.0)]),
            to("a", "web-canary", "c1", &[(95, 5.0), (115, 500.0)]),
            to("b", "web", "s1", &[(99, 0.0), (119, 19.0)]),
            to("b", "other", "x", &[(99, 0.0), (119, 19.0)]),
        ];
        assert_eq!(sent(&all), (10, 100));
    }

    #[test]
    fn a_new_endpoint_of_a_known_client_began_at_zero_and_a_new_client_is_not_guessed() {
        let known = to("a", "web", "s1", &[(95, 10.0), (115, 20.0)]);
        let new = to("a", "web-canary", "c2", &[(115, 7.0)]);
        assert_eq!(sent(&[known, new]), (7, 10));
        let stranger = to("b", "web", "s1", &[(105, 1_000.0), (115, 1_010.0)]);
        assert_eq!(sent(&[stranger]), (0, 10));
    }

    #[test]
    fn a_client_that_two_servers_see_is_counted_once() {
        let of = |replica: &'static str, samples: &[(i64, f64)]| {
            Series::of(
                &[("pod", "a"), ("prometheus_replica", replica), ("dst_deployment", "web")],
                samples,
            )
        };
        let both = [
            of("1", &[(95, 10.0), (105, 15.0), (115, 20.0)]),
            of("2", &[(96, 10.0), (116, 21.0)]),
        ];
        assert_eq!(sent(&both), (0, 10));
    }

    #[test]
    fn a_client_that_began_anew_counts_from_zero() {
        assert_eq!(sent(&[to("a", "web", "s1", &[(95, 1_000.0), (115, 30.0)])]), (0, 30));
    }
}
