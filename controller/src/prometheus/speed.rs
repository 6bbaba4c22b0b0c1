//! How long an arm's calls took, estimated for people: percentiles between the bounds of Linkerd's histogram. No verdict is made by it;
//! must not know rollouts.

use std::collections::HashMap;

use jiff::SignedDuration;

use super::client::SampleError;
use super::raw::Raw;
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
        let mut sums = Sums::of(arms);
        let each = |raw: Raw<'_>| {
            if let [sample] = &*raw.samples {
                sums.take(|name| raw.label(name), sample.value);
            }
        };
        self.client().each_of_instant(&query, each).await?;
        Ok(sums.finish())
    }
}

/// The buckets of many arms, summed while the answer comes: it is not held.
struct Sums<'a> {
    arms: &'a [SpeedOf],
    /// The places of arms by namespace and Deployment.
    places: HashMap<(&'a str, &'a str), Vec<usize>>,
    /// Bounds and counts of each arm.
    buckets: Vec<Vec<(f64, f64)>>,
}

impl<'a> Sums<'a> {
    fn of(arms: &'a [SpeedOf]) -> Self {
        let mut places: HashMap<_, Vec<usize>> = HashMap::new();
        for (place, arm) in arms.iter().enumerate() {
            let named = (arm.namespace.as_str(), arm.deployment.as_str());
            places.entry(named).or_default().push(place);
        }
        Self {
            arms,
            places,
            buckets: vec![Vec::new(); arms.len()],
        }
    }

    fn take<'b>(&mut self, label: impl Fn(&str) -> &'b str, value: f64) {
        let named = (label(metrics::NAMESPACE), label(metrics::DEPLOYMENT));
        let Ok(bound) = label(metrics::LE).parse::<f64>() else {
            return;
        };
        for place in self.places.get(&named).into_iter().flatten() {
            let (Some(arm), Some(buckets)) = (self.arms.get(*place), self.buckets.get_mut(*place)) else {
                continue;
            };
            let hash = label(metrics::POD_TEMPLATE_HASH);
            if label(metrics::SERVER_PORT).parse() != Ok(arm.port)
                || arm.pod_template_hash.as_ref().is_some_and(|wanted| wanted != hash)
            {
                continue;
            }
            // Stable may run pods of two ReplicaSets.
            match buckets.iter_mut().find(|(known, _)| known.total_cmp(&bound).is_eq()) {
                Some((_, count)) => *count += value,
                None => buckets.push((bound, value)),
            }
        }
    }

    fn finish(self) -> HashMap<SpeedOf, Speed> {
        let of_arms = self.arms.iter().zip(self.buckets);
        of_arms
            .filter_map(|(arm, buckets)| Some((arm.clone(), speed(buckets)?)))
            .collect()
    }
}

fn speed(mut buckets: Vec<(f64, f64)>) -> Option<Speed> {
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
    use axum::http::StatusCode;
    use serde_json::{Value, json};

    use super::*;
    use crate::prometheus::stand_in::prometheus;

    fn arm(deployment: &str, hash: Option<&str>) -> SpeedOf {
        SpeedOf {
            namespace: "prod".to_owned(),
            deployment: deployment.to_owned(),
            pod_template_hash: hash.map(str::to_owned),
            port: 50051,
        }
    }

    /// What a server says of an arm.
    fn points(arm: &SpeedOf, buckets: &[(&str, f64)]) -> Vec<Value> {
        let hash = arm.pod_template_hash.as_deref().unwrap_or("any");
        let point = |(le, value): &(&str, f64)| {
            let metric = json!({
                (metrics::NAMESPACE): arm.namespace, (metrics::DEPLOYMENT): arm.deployment, (metrics::POD_TEMPLATE_HASH): hash,
                (metrics::SERVER_PORT): arm.port.to_string(), (metrics::LE): le,
            });
            json!({ "metric": metric, "value": [1.5, value.to_string()] })
        };
        buckets.iter().map(point).collect()
    }

    async fn asked(arms: &[SpeedOf], points: Vec<Value>) -> HashMap<SpeedOf, Speed> {
        let body = json!({ "status": "success", "data": { "resultType": "vector", "result": points } }).to_string();
        let (prometheus, asked) = prometheus(move |_| (StatusCode::OK, body.clone())).await;
        let speeds = prometheus.speeds(arms).await.unwrap();
        assert_eq!(asked.lock().unwrap().len(), 1);
        speeds
    }

    #[tokio::test]
    async fn percentiles_lie_within_their_buckets() {
        let web = [arm("web", None)];
        // 50 calls within 10 ms, 45 within 20, 4 within 100, one beyond all bounds.
        let some = points(&web[0], &[("10", 50.0), ("20.0", 95.0), ("100", 99.0), ("+Inf", 100.0)]);
        let speed = Speed {
            p50: 10,
            p95: 20,
            p99: 100,
        };
        assert_eq!(asked(&web, some).await.get(&web[0]), Some(&speed));
        let slow = points(&web[0], &[("10", 0.0), ("50000", 90.0), ("+Inf", 100.0)]);
        assert_eq!(asked(&web, slow).await[&web[0]].p99, 50_000, "no more is known");
        assert_eq!(percentile(&[(10.0, 4.0), (f64::INFINITY, 4.0)], 0.5), Some(5));
    }

    #[tokio::test]
    async fn nothing_is_estimated_of_no_calls() {
        let web = [arm("web", None)];
        assert!(asked(&web, vec![]).await.is_empty());
        let none = points(&web[0], &[("10", 0.0), ("+Inf", 0.0)]);
        assert!(asked(&web, none).await.is_empty());
        let cut = points(&web[0], &[("10", 7.0)]);
        assert!(asked(&web, cut).await.is_empty(), "the total is missing");
    }

    #[tokio::test]
    async fn each_arm_has_its_own_pods_and_port() {
        let (old, new) = (arm("web-canary", Some("old")), arm("web-canary", Some("new")));
        let mut all = points(&old, &[("1000", 9.0), ("+Inf", 9.0)]);
        all.extend(points(&new, &[("10", 9.0), ("+Inf", 9.0)]));
        let other_port = SpeedOf {
            port: 8080,
            ..new.clone()
        };
        all.extend(points(&other_port, &[("5000", 99.0), ("+Inf", 99.0)]));
        let both = arm("web-canary", None);
        let arms = [new, arm("web", None), both];
        let speeds = asked(&arms, all).await;
        assert_eq!(speeds[&arms[0]].p99, 10);
        assert_eq!(speeds.get(&arms[1]), None);
        assert!(speeds[&arms[2]].p99 > 900, "both ReplicaSets'");
    }

    #[tokio::test]
    async fn a_server_that_answers_something_else_is_an_error() {
        let body = json!({ "status": "success", "data": { "resultType": "matrix", "result": [] } }).to_string();
        let (prometheus, _) = prometheus(move |_| (StatusCode::OK, body.clone())).await;
        assert!(prometheus.speeds(&[arm("web", None)]).await.is_err());
    }
}
