//! One look at whether the proxies of a rollout are scraped as Serin needs it: for a preflight, not for a verdict. Must not know
//! what is right.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::answer::Point;
use super::client::SampleError;
use super::sampler::Prometheus;
use crate::linkerd::metrics;
use crate::linkerd::preflight::{Proxy, Sight};
use crate::linkerd::promql::{self, Arm};

/// How far back calls of unmeshed clients are looked for.
const WINDOW: SignedDuration = SignedDuration::from_mins(5);

impl Prometheus {
    /// What the proxies of these two Deployments look like from here; `here` is the asker's clock.
    ///
    /// # Errors
    /// Any answer that is not whole.
    pub async fn glance(
        &self,
        namespace: &str,
        (stable, canary): (&str, &str),
        here: Timestamp,
    ) -> Result<Sight, SampleError> {
        let arms = [stable, canary];
        let of_stable = Arm {
            namespace,
            deployment: stable,
            pod_template_hashes: &[],
        };
        let client = self.client();
        let there = client.instant("time()").await?;
        let (scrapes, calls, unmeshed) = futures::future::try_join3(
            client.instant(&promql::last_scrapes(namespace, &arms)),
            client.instant(&promql::any_inbound(namespace, &arms)),
            client.instant(&promql::unmeshed_share(of_stable, WINDOW)),
        )
        .await?;
        let here = here.as_duration().as_secs_f64();
        Ok(Sight {
            here,
            there: there.first().map_or(here, |point| point.value),
            proxies: scrapes.iter().filter_map(proxy).collect(),
            labels: labels(&calls),
            unmeshed: unmeshed
                .first()
                .map(|point| point.value)
                .filter(|share| share.is_finite()),
        })
    }
}

fn proxy(point: &Point) -> Option<Proxy> {
    Some(Proxy {
        pod: point.labels.get(metrics::POD)?.clone(),
        scraped: point.value,
    })
}

/// The labels that all series of calls have: one that only some have is missing where it counts.
fn labels(calls: &[Point]) -> BTreeSet<String> {
    let mut all = calls
        .iter()
        .map(|point| point.labels.keys().cloned().collect::<BTreeSet<_>>());
    let first = all.next().unwrap_or_default();
    all.fold(first, |common, of| common.intersection(&of).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(labels: &[&str]) -> Point {
        Point {
            labels: labels.iter().map(|l| ((*l).to_owned(), "x".to_owned())).collect(),
            value: 1.0,
        }
    }

    #[test]
    fn a_label_counts_only_where_all_series_have_it() {
        assert_eq!(labels(&[]), BTreeSet::new());
        let common = labels(&[point(&["pod", "deployment"]), point(&["pod", "srv_port"])]);
        assert_eq!(common.into_iter().collect::<Vec<_>>(), ["pod"]);
    }
}
