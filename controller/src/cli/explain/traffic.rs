//! The traffic that a rollout is explained at: stable's of the last minutes, or one that is assumed. It must not know what comes of it.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use serin_core::analysis::sequential::Tally;
use serin_core::analysis::{Baseline, PodCounts};

use crate::api::{CanaryRollout, Parsed};
use crate::linkerd::latency::LATENCY_BOUNDS_MS;
use crate::prometheus::{ArmTarget, Prometheus, Target, ticks_between};
use crate::reconcile::own::{Revisions, targets};
use crate::runtime::clock;

/// What is looked at: long enough for a rate, short enough for the present.
const PRESENT: SignedDuration = SignedDuration::from_mins(10);
/// The longest wait for Prometheus.
const TIMEOUT: Duration = Duration::from_secs(15);

/// What stable does, or is taken to do.
#[derive(Debug)]
pub(super) struct Traffic {
    pub(super) baseline: Baseline,
    /// Why it is assumed, if it is.
    pub(super) assumed: Option<String>,
}

/// Where the present traffic is to be seen.
pub(super) struct Sight<'a> {
    pub(super) url: &'a str,
    pub(super) namespace: &'a str,
    /// The port on which the containers listen.
    pub(super) port: u16,
}

impl Traffic {
    /// The present one; where it can't be seen, so many calls a second.
    pub(super) async fn at(sight: Sight<'_>, rollout: &CanaryRollout, parsed: &Parsed, otherwise: u32) -> Self {
        let url = sight.url;
        let reading = tokio::time::timeout(TIMEOUT, read(sight, rollout, parsed));
        match reading
            .await
            .unwrap_or_else(|_| Err(anyhow!("no answer in {TIMEOUT:?}")))
        {
            Ok(baseline) => Self {
                baseline,
                assumed: None,
            },
            Err(error) => Self::assumed(
                otherwise,
                parsed,
                format!("Prometheus at {url} does not say it: {error:#}"),
            ),
        }
    }

    /// So many calls a second, none of which fails or is slow.
    pub(super) fn assumed(per_second: u32, parsed: &Parsed, why: String) -> Self {
        let requests = u64::from(per_second);
        let custom = parsed.plan.objectives.custom.iter();
        let counted = custom.filter(|metric| metric.counts().is_some());
        let second = PodCounts {
            requests,
            failures: 0,
            slow: vec![0; LATENCY_BOUNDS_MS.len()],
            codes: vec![],
            custom: counted.map(|_| Tally::new(0, requests)).collect(),
        };
        let seconds = usize::try_from(PRESENT.as_secs()).unwrap_or(1);
        Self {
            baseline: Baseline {
                bounds_ms: LATENCY_BOUNDS_MS.to_vec(),
                codes: vec![],
                tick_ms: 1_000,
                ticks: vec![vec![second]; seconds],
            },
            assumed: Some(why),
        }
    }
}

async fn read(sight: Sight<'_>, rollout: &CanaryRollout, parsed: &Parsed) -> anyhow::Result<Baseline> {
    let Sight { url, namespace, port } = sight;
    let (spec, now) = (&rollout.spec, clock::now());
    let since = now.checked_sub(PRESENT).unwrap_or(Timestamp::UNIX_EPOCH);
    let arm = |deployment: &str| ArmTarget {
        deployment: deployment.to_owned(),
        pod_template_hash: None,
    };
    let status = rollout.status.as_ref();
    let revisions = Revisions {
        canary: status.and_then(|status| Some(status.revision.as_ref()?.name.clone())),
        canary_hash: None,
        stable: status.and_then(|status| status.stable.clone()),
        stable_hash: None,
    };
    let mut named = rollout.clone();
    named.metadata.namespace = Some(namespace.to_owned());
    let objectives = &parsed.plan.objectives;
    let target = Target {
        namespace: namespace.to_owned(),
        port,
        canary: arm(&spec.canary.deployment),
        stable: arm(&spec.stable.deployment),
        thresholds_ms: LATENCY_BOUNDS_MS.to_vec(),
        extra_failure_codes: vec![],
        codes_apart: objectives.failure_codes.all().to_vec(),
        services: vec![],
        scrape_interval: parsed.scrape_interval,
        began: since,
        custom: targets(&named, parsed, &objectives.custom, &revisions),
    };
    let ticks = ticks_between(since, now, parsed.plan.interval, parsed.scrape_interval);
    let asked = Prometheus::new(url)?.baseline(&target, &ticks).await;
    let baseline = asked.with_context(|| format!("reading the last {PRESENT:#} of {}", rollout.name_any()))?;
    if baseline.ticks.is_empty() {
        let stable = &spec.stable.deployment;
        bail!("the pods of {namespace}/{stable} answered no call on port {port} in the last {PRESENT:#}");
    }
    Ok(baseline)
}
