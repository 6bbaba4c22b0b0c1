//! Where a replay's rollout and its past come from: a manifest or the cluster, and Prometheus. Must not know how it is replayed.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail, ensure};
use jiff::{SignedDuration, Timestamp};
use kube::{Client, ResourceExt as _};
use serin_core::rollout::replay::{PodRecord, PodRecords, Recording, RecordingDraft};
use serin_core::rollout::{Ending, Phase, Revision, State};

use super::super::rollout::{InCluster, container_port, in_cluster, in_file};
use super::{Args, check_stretch, own};
use crate::api::{CanaryRollout, Parsed};
use crate::linkerd::latency::LATENCY_BOUNDS_MS;
use crate::prometheus::{ArmTarget, History, PodHistory, Prometheus, Target, ticks_between};
use crate::runtime::{client, clock};

/// A rollout, and the cluster that it came from, if it did.
pub(super) struct Source {
    pub(super) rollout: CanaryRollout,
    namespace: String,
    client: Option<Client>,
}

impl Source {
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.namespace, self.rollout.name_any())
    }
}

/// Finds the rollout.
pub(super) async fn rollout(
    file: Option<&Path>,
    name: Option<&str>,
    namespace: Option<&str>,
) -> anyhow::Result<Source> {
    if let Some(path) = file {
        let rollout = in_file(path, name)?;
        let own = rollout.namespace();
        return Ok(Source {
            namespace: namespace
                .map(str::to_owned)
                .or(own)
                .unwrap_or_else(|| "default".to_owned()),
            rollout,
            client: None,
        });
    }
    let client = client::connect().await?;
    let name = name.context("name a rollout, or a manifest with -f")?;
    let InCluster { rollout, namespace, .. } = in_cluster(client.clone(), name, namespace).await?;
    Ok(Source {
        rollout,
        namespace,
        client: Some(client),
    })
}

/// The last trial that the rollout remembers.
struct LastTrial {
    began: Timestamp,
    ended: Option<Timestamp>,
    revision: Revision,
    /// What stable ran, while that is remembered.
    baseline: Option<String>,
}

fn last_trial(rollout: &CanaryRollout) -> Option<LastTrial> {
    let state: State = rollout.status.as_ref()?.machine.as_ref()?.read().ok()?;
    match state.phase {
        Phase::Promoted(ending) | Phase::RolledBack(ending) | Phase::Withdrawn(ending) => {
            let Ending {
                revision, began, at, ..
            } = ending;
            Some(LastTrial {
                began,
                ended: Some(at),
                revision,
                baseline: None,
            })
        }
        phase => phase.run().map(|run| LastTrial {
            began: run.began,
            ended: None,
            revision: run.revision.clone(),
            baseline: Some(run.baseline.name.clone()),
        }),
    }
}

/// Reads the stretch from Prometheus.
pub(super) async fn recording(args: &Args, source: &Source, parsed: &Parsed) -> anyhow::Result<Recording> {
    let now = clock::now();
    let spec = &source.rollout.spec;
    let last = last_trial(&source.rollout);
    let (from, to, trial) = match (args.from, last) {
        (Some(from), _) => (from.resolve(now), None, None),
        (None, Some(trial)) => (trial.began, trial.ended, Some(trial)),
        (None, None) => bail!("the rollout remembers no trial; say with --from and --to which stretch to replay"),
    };
    let to = args.to.map(|to| to.resolve(now)).or(to).unwrap_or(now).min(now);
    check_stretch(from, to, now)?;
    let interval = parsed.plan.interval;
    let stable_earlier = match args.stable_from {
        None => SignedDuration::ZERO,
        Some(at) => whole_ticks(from.duration_since(at.resolve(now)), interval)?,
    };
    let arm = |deployment: Option<&String>, own: &str, hash: Option<String>| ArmTarget {
        deployment: deployment.map_or(own, String::as_str).to_owned(),
        pod_template_hash: hash,
    };
    // The last trial's pods are those of the spec's canary.
    let of_trial = trial.as_ref().filter(|_| args.canary.is_none());
    let hash = of_trial.map(|trial| trial.revision.hash.clone());
    let hash = args.canary_hash.clone().or(hash);
    let revisions = own::Revisions {
        canary: args
            .canary_revision
            .clone()
            .or(of_trial.map(|trial| trial.revision.name.clone())),
        canary_hash: hash.clone(),
        stable: args
            .stable_revision
            .clone()
            .or(trial.as_ref().and_then(|trial| trial.baseline.clone())),
        stable_hash: args.stable_hash.clone(),
    };
    let canary = arm(args.canary.as_ref(), &spec.canary.deployment, hash);
    let stable = arm(args.stable.as_ref(), &spec.stable.deployment, args.stable_hash.clone());
    let mut target = Target {
        namespace: source.namespace.clone(),
        port: match args.container_port {
            Some(port) => port,
            None => {
                container_port(
                    source.client.as_ref(),
                    &source.namespace,
                    &source.rollout,
                    &canary.deployment,
                )
                .await?
            }
        },
        canary: canary.clone(),
        stable: stable.clone(),
        thresholds_ms: LATENCY_BOUNDS_MS.to_vec(),
        extra_failure_codes: vec![],
        // Which of them are failures is up to the spec, and samples may be tried with several.
        codes_apart: (1..=16).collect(),
        services: vec![],
        scrape_interval: parsed.scrape_interval,
        began: from,
        custom: vec![],
    };
    let prometheus = Prometheus::new(&args.prometheus_url)?;
    let doing = |arm: &ArmTarget| format!("reading the past of {}/{}", source.namespace, arm.deployment);

    let trial = ticks_between(from, to, interval, SignedDuration::ZERO);
    let of_canary = prometheus
        .history(&target, &canary, &trial)
        .await
        .with_context(|| doing(&canary))?;
    if !of_canary
        .ticks
        .values()
        .flatten()
        .any(|(_, pod)| pod.counts.requests > 0)
    {
        return Err(no_calls(&target, &canary, &of_canary, from, to, &prometheus.url()));
    }
    let since = from.checked_sub(parsed.baseline).unwrap_or(Timestamp::UNIX_EPOCH);
    let shifted = |at: Timestamp| at.checked_sub(stable_earlier).unwrap_or(Timestamp::MIN);
    target.began = shifted(from);
    let earlier: Vec<_> = ticks_between(since, to, interval, SignedDuration::ZERO)
        .into_iter()
        .map(|(start, end)| (shifted(start), shifted(end)))
        .collect();
    let of_stable = prometheus
        .history(&target, &stable, &earlier)
        .await
        .with_context(|| doing(&stable))?;

    let missing: Vec<u64> = of_canary
        .missing_bounds
        .union(&of_stable.missing_bounds)
        .copied()
        .collect();
    let kept: Vec<bool> = LATENCY_BOUNDS_MS.iter().map(|bound| !missing.contains(bound)).collect();
    let mut draft = RecordingDraft {
        interval,
        from,
        to,
        stable_earlier,
        bounds_ms: LATENCY_BOUNDS_MS
            .into_iter()
            .filter(|bound| !missing.contains(bound))
            .collect(),
        metrics: vec![],
        ticks: BTreeMap::new(),
    };
    for (end, pods) in of_canary.ticks {
        draft.ticks.entry(end).or_default().canary = records(pods, &kept);
    }
    for (end, pods) in of_stable.ticks {
        let end = end.checked_add(stable_earlier).unwrap_or(Timestamp::MAX);
        draft.ticks.entry(end).or_default().stable = records(pods, &kept);
    }
    target.began = from;
    let mut rollout = source.rollout.clone();
    rollout.metadata.namespace = Some(source.namespace.clone());
    rollout.spec.canary.deployment = canary.deployment;
    rollout.spec.stable.deployment = stable.deployment;
    let wanted = own::Wanted {
        prometheus: &prometheus,
        target: &target,
        rollout: &rollout,
        parsed,
        revisions,
    };
    own::add(&wanted, &mut draft).await?;
    Ok(Recording::parse(draft)?)
}

fn records(pods: BTreeMap<String, PodHistory>, kept: &[bool]) -> PodRecords {
    let record = |pod: PodHistory| {
        let PodHistory {
            mut counts,
            codes,
            seen,
        } = pod;
        let mut kept = kept.iter();
        counts.slow.retain(|_| kept.next().copied().unwrap_or(false));
        PodRecord {
            counts,
            codes,
            seen,
            own: vec![],
        }
    };
    pods.into_iter().map(|(name, pod)| (name, record(pod))).collect()
}

/// The span in whole ticks, so that both arms' ticks end together.
fn whole_ticks(span: SignedDuration, interval: SignedDuration) -> anyhow::Result<SignedDuration> {
    let ticks = span.as_millis().div_euclid(interval.as_millis().max(1));
    let whole = ticks.saturating_mul(interval.as_millis());
    ensure!(
        whole != 0,
        "--stable-from is less than a tick before --from; leave it out, or choose another time"
    );
    Ok(SignedDuration::from_millis(
        i64::try_from(whole).context("--stable-from is too far away")?,
    ))
}

fn no_calls(
    target: &Target,
    arm: &ArmTarget,
    history: &History,
    from: Timestamp,
    to: Timestamp,
    url: &str,
) -> anyhow::Error {
    let (namespace, deployment) = (&target.namespace, &arm.deployment);
    let hash = arm
        .pod_template_hash
        .as_ref()
        .map(|hash| format!(" with pod-template-hash {hash}"))
        .unwrap_or_default();
    if history.ticks.is_empty() {
        return anyhow!(
            "Prometheus at {url} has no series of the Deployment {namespace}/{deployment}{hash} from {from} to {to}; check the \
             names, the stretch, and whether it keeps samples for so long"
        );
    }
    anyhow!(
        "the pods of {namespace}/{deployment}{hash} answered no call on port {} from {from} to {to}; check --container-port and \
         the stretch",
        target.port
    )
}
