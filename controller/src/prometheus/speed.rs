//! How long an arm's calls took, estimated for people: percentiles between the bounds of Linkerd's histogram. No verdict is made by it;
//! must not know rollouts.

use std::collections::HashMap;

use jiff::SignedDuration;

use super::answer::Point;
use super::client::SampleError;
use super::sampler::Prometheus;
use crate::linkerd::{metrics, promql};

/// How far back calls are looked at.
const WINDOW: SignedDuration = SignedDuration::from_secs(60);

/// The pods of an arm.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpeedOf {
    /// Their namespace.
    pub namespace: String,
    /// Their Deployment.
    pub deployment: String,
    /// Only those of this ReplicaSet.
    pub pod_template_hash: Option<String>,
    /// The port that the container listens on.
    pub port: u16,
}

/// So many milliseconds were not exceeded by these shares of the last minute's calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speed {
    /// By half of them.
    pub p50: i64,
    /// By 95 %.
    pub p95: i64,
    /// By 99 %.
    pub p99: i64,
}

impl Prometheus {
    /// How long the calls of these arms took, in one query; arms without calls are left out.
    ///
    /// # Errors
    /// Any answer that is not whole.
    pub async fn speeds(&self, arms: &[SpeedOf]) -> Result<HashMap<SpeedOf, Speed>, SampleError> {
        let of = |get: fn(&SpeedOf) -> &str| {
            let mut names: Vec<&str> = arms.iter().map(get).collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        let (namespaces, deployments) = (of(|arm| &arm.namespace), of(|arm| &arm.deployment));
        let query = promql::latency_by_arm(&namespaces, &deployments, WINDOW);
        let points = self.client().instant(&query).await?;
        Ok(arms
            .iter()
            .filter_map(|arm| Some((arm.clone(), speed(&points, arm)?)))
            .collect())
    }
}

fn speed(points: &[Point], arm: &SpeedOf) -> Option<Speed> {
    let label = |point: &Point, name: &str| point.labels.get(name).cloned().unwrap_or_default();
    let port = arm.port.to_string();
    let is_of = |point: &&Point| {
        let hash = label(point, metrics::POD_TEMPLATE_HASH);
        label(point, metrics::NAMESPACE) == arm.namespace
            && label(point, metrics::DEPLOYMENT) == arm.deployment
            && label(point, metrics::SERVER_PORT) == port
            && arm.pod_template_hash.as_ref().is_none_or(|wanted| *wanted == hash)
    };
    // Stable may run pods of two ReplicaSets.
    let mut buckets: Vec<(f64, f64)> = Vec::new();
    for point in points.iter().filter(is_of) {
        let Ok(bound) = label(point, metrics::LE).parse::<f64>() else {
            continue;
        };
        match buckets.iter_mut().find(|(known, _)| known.total_cmp(&bound).is_eq()) {
            Some((_, count)) => *count += point.value,
            None => buckets.push((bound, point.value)),
        }
    }
    buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
    Some(Speed {
        p50: percentile(&buckets, 0.50)?,
        p95: percentile(&buckets, 0.95)?,
        p99: percentile(&buckets, 0.99)?,
    })
}

/// As if the calls of a bucket were spread evenly within its bounds; beyond the last bound nothing is known but that.
#[expect(clippy::cast_possible_truncation, reason = "bounds are below 2^53")]
fn percentile(buckets: &[(f64, f64)], share: f64) -> Option<i64> {
    let (_, all) = buckets
        .last()
        .filter(|(bound, all)| bound.is_infinite() && *all > 0.0)?;
    let rank = share * all;
    let (mut lower, mut below) = (0.0, 0.0);
    for (upper, count) in buckets {
        if *count >= rank && *count > below {
            let within = if upper.is_infinite() {
                lower
            } else {
                lower + (upper - lower) * ((rank - below) / (count - below)).clamp(0.0, 1.0)
            };
            return Some(within.ceil() as i64);
        }
        if upper.is_finite() {
            lower = *upper;
        }
        below = *count;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn points(arm: &SpeedOf, buckets: &[(&str, f64)]) -> Vec<Point> {
        let hash = arm.pod_template_hash.clone().unwrap_or_else(|| "any".to_owned());
        let point = |(le, value): &(&str, f64)| Point {
            labels: BTreeMap::from(
                [
                    (metrics::NAMESPACE, arm.namespace.as_str()),
                    (metrics::DEPLOYMENT, &arm.deployment),
                    (metrics::POD_TEMPLATE_HASH, &hash),
                    (metrics::SERVER_PORT, &arm.port.to_string()),
                    (metrics::LE, le),
                ]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
            ),
            value: *value,
        };
        buckets.iter().map(point).collect()
    }

    fn arm(deployment: &str, hash: Option<&str>) -> SpeedOf {
        SpeedOf {
            namespace: "prod".to_owned(),
            deployment: deployment.to_owned(),
            pod_template_hash: hash.map(str::to_owned),
            port: 50051,
        }
    }

    #[test]
    fn percentiles_lie_within_their_buckets() {
        let web = arm("web", None);
        // 50 calls within 10 ms, 45 within 20, 4 within 100, one beyond all bounds.
        let some = points(&web, &[("10", 50.0), ("20.0", 95.0), ("100", 99.0), ("+Inf", 100.0)]);
        assert_eq!(
            speed(&some, &web),
            Some(Speed {
                p50: 10,
                p95: 20,
                p99: 100
            })
        );
        let slow = points(&web, &[("10", 0.0), ("50000", 90.0), ("+Inf", 100.0)]);
        assert_eq!(speed(&slow, &web).unwrap().p99, 50_000, "no more is known");
        assert_eq!(percentile(&[(10.0, 4.0), (f64::INFINITY, 4.0)], 0.5), Some(5));
    }

    #[test]
    fn nothing_is_estimated_of_no_calls() {
        let web = arm("web", None);
        assert_eq!(speed(&[], &web), None);
        assert_eq!(speed(&points(&web, &[("10", 0.0), ("+Inf", 0.0)]), &web), None);
        assert_eq!(speed(&points(&web, &[("10", 7.0)]), &web), None, "the total is missing");
    }

    #[test]
    fn each_arm_has_its_own_pods_and_port() {
        let (old, new) = (arm("web-canary", Some("old")), arm("web-canary", Some("new")));
        let mut all = points(&old, &[("1000", 9.0), ("+Inf", 9.0)]);
        all.extend(points(&new, &[("10", 9.0), ("+Inf", 9.0)]));
        let other_port = SpeedOf {
            port: 8080,
            ..new.clone()
        };
        all.extend(points(&other_port, &[("5000", 99.0), ("+Inf", 99.0)]));
        assert_eq!(speed(&all, &new).unwrap().p99, 10);
        assert_eq!(speed(&all, &arm("web", None)), None);
        let both = arm("web-canary", None);
        assert!(speed(&all, &both).unwrap().p99 > 900, "both ReplicaSets'");
    }
}
