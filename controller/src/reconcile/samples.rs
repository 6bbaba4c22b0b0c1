//! What Prometheus is asked about a rollout, and how it is found there. It must not know what is decided.
//!
//! Ticks of a thousand rollouts end at the same instant, and their answers take a while: who waits for its samples holds what they are
//! asked with, and nothing else.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use serin_core::analysis::Tick;
use serin_core::rollout::{Arm, Phase, Sampling};
use tracing::Instrument as _;

use super::cluster::Reads;
use super::desk::Reply;
use super::observe::{World, is_to_end};
use super::refusal::may_write;
use super::speeds::Arms;
use super::{Context, Error, is_at_rest, own, status, trace};
use crate::api::{CanaryRollout, Parsed, parse};
use crate::linkerd::latency::LATENCY_BOUNDS_MS;
use crate::prometheus::{ArmTarget, Prometheus, SpeedOf, Target, Turn, ticks_between};
use crate::runtime::clock;
use crate::traffic;

/// What Prometheus told: the ticks that are new, or why there are none.
#[derive(Debug, Default)]
pub(super) struct Sampled {
    /// Since when the core wants them; `None` where it wants none.
    pub(super) since: Option<Timestamp>,
    pub(super) ticks: Vec<Tick>,
    pub(super) sampling: Sampling,
}

impl Sampled {
    /// What there is before Prometheus has answered.
    pub(super) fn unanswered(since: Timestamp) -> Self {
        Self {
            since: Some(since),
            ticks: Vec::new(),
            sampling: Sampling::Awaited,
        }
    }
}

/// The samples that the core wants for its next decision. `earlier` is what an earlier look for the same decision got, so that Prometheus is
/// asked once.
pub(super) async fn samples(
    cx: &Context,
    rollout: &Arc<CanaryRollout>,
    (reads, earlier): (Reads, Option<Sampled>),
) -> Result<Sampled, Error> {
    match question(cx, rollout, (reads, earlier)).await? {
        Question::Answered(sampled) => Ok(sampled),
        Question::Asked {
            target,
            since,
            now,
            how,
        } => {
            let asked = cx.prometheus.ticks_since(&target, (since, now), how);
            let (ticks, sampling) = match asked.instrument(trace::looking()).await {
                Ok(ticks) => (ticks, Sampling::Answered),
                Err(error) => {
                    tracing::warn!(namespace = target.namespace, "no samples: {error}");
                    (vec![], Sampling::Failed(error.to_string()))
                }
            };
            Ok(Sampled {
                since: Some(since),
                ticks,
                sampling,
            })
        }
    }
}

enum Question {
    /// There is nothing to ask.
    Answered(Sampled),
    Asked {
        target: Box<Target>,
        since: Timestamp,
        now: Timestamp,
        how: (SignedDuration, Turn),
    },
}

/// What is to be asked. All that it is made of is gone when this ends.
async fn question(
    cx: &Context,
    rollout: &Arc<CanaryRollout>,
    (reads, earlier): (Reads, Option<Sampled>),
) -> Result<Question, Error> {
    let nothing = Ok(Question::Answered(Sampled::default()));
    if is_at_rest(rollout) || is_to_end(rollout) {
        return nothing;
    }
    let before = cx.unwritten.over(&ObjectRef::from_obj(&**rollout), rollout);
    let state = status::memory(before.status.as_ref()).map_err(Error::Memory)?;
    let (Some(since), Some(run)) = (state.phase.samples_since(), state.phase.run()) else {
        return nothing;
    };
    // Of another time they are of no use.
    if let Some(earlier) = earlier.filter(|earlier| earlier.since == Some(since)) {
        return Ok(Question::Answered(earlier));
    }
    // What does not fit is said by the decision.
    let Ok(parsed) = parse(&rollout.spec) else {
        return nothing;
    };
    if may_write(cx, rollout, &parsed).is_err() {
        return nothing;
    }
    let (namespace, spec) = (rollout.namespace().unwrap_or_default(), &rollout.spec);
    let (canary, apex) = tokio::try_join!(
        cx.cluster.deployments.get(reads, &namespace, &spec.canary.deployment),
        cx.cluster.services.get(reads, &namespace, &spec.service.name)
    )?;
    let (Some(canary), Some(apex)) = (canary, apex) else {
        return nothing;
    };
    let now = clock::now();
    let arms = arm_targets(rollout, &run.revision.hash);
    let target = Target {
        thresholds_ms: run.analysis.bounds_ms(),
        extra_failure_codes: run.analysis.failure_codes().to_vec(),
        codes_apart: vec![],
        custom: own::targets(rollout, &parsed, run.analysis.custom(), &own::revisions(run)),
        ..target(rollout, &parsed, (&apex, &canary), arms, run.began)
    };
    let turn = if run.analysis.may_fail_next() {
        Turn::First
    } else {
        Turn::Later
    };
    Ok(Question::Asked {
        target: Box::new(target),
        since,
        now,
        how: (parsed.plan.interval, turn),
    })
}

/// What to sample of these arms: from now on, at all bounds, unless the trial says otherwise.
fn target(
    rollout: &CanaryRollout,
    parsed: &Parsed,
    (apex, deployment): (&Service, &Deployment),
    (canary, stable): (ArmTarget, ArmTarget),
    began: Timestamp,
) -> Target {
    Target {
        namespace: rollout.namespace().unwrap_or_default(),
        port: container_port(rollout, apex, deployment),
        canary,
        stable,
        thresholds_ms: LATENCY_BOUNDS_MS.to_vec(),
        extra_failure_codes: vec![],
        codes_apart: parsed.plan.objectives.failure_codes.all().to_vec(),
        services: services(&rollout.spec.service.name),
        scrape_interval: parsed.scrape_interval,
        began,
        custom: vec![],
    }
}

/// The Services through which clients reach the arms.
fn services(apex: &str) -> Vec<String> {
    vec![
        apex.to_owned(),
        traffic::stable_service(apex),
        traffic::canary_service(apex),
    ]
}

/// The pods of this revision of the canary, and all of stable's.
fn arm_targets(rollout: &CanaryRollout, hash: &str) -> (ArmTarget, ArmTarget) {
    let arm = |deployment: &str, hash: Option<&str>| ArmTarget {
        deployment: deployment.to_owned(),
        pod_template_hash: hash.map(str::to_owned),
    };
    let spec = &rollout.spec;
    (
        arm(&spec.canary.deployment, Some(hash)),
        arm(&spec.stable.deployment, None),
    )
}

/// The arms whose calls are counted in a phase.
pub(super) fn arms_on_trial(rollout: &CanaryRollout, world: &World, phase: &Phase) -> Option<Arms> {
    phase.samples_since()?;
    let (canary, stable) = arm_targets(rollout, &phase.run()?.revision.hash);
    let port = container_port(rollout, &world.apex, &world.canary);
    let of = |arm: ArmTarget| SpeedOf {
        namespace: rollout.namespace().unwrap_or_default(),
        deployment: arm.deployment,
        pod_template_hash: arm.pod_template_hash,
        port,
    };
    Some(Arms {
        canary: of(canary),
        stable: of(stable),
    })
}

/// The time before a trial, as it is to be looked at.
pub(super) struct Past {
    target: Target,
    ticks: Vec<(Timestamp, Timestamp)>,
    prometheus: Prometheus,
    interval: SignedDuration,
    now: Timestamp,
}

impl Past {
    /// What stable did in it, once every query of the user's own gives what it should.
    pub(super) async fn baseline(self) -> anyhow::Result<Reply> {
        self.prometheus.check(&self.target, self.interval, self.now).await?;
        Ok(Reply::Baseline(
            self.prometheus.baseline(&self.target, &self.ticks).await?,
        ))
    }
}

/// The last `spec.analysis.baseline` of stable.
pub(super) fn past(cx: &Context, rollout: &CanaryRollout, world: &World, now: Timestamp) -> Past {
    let parsed = &world.parsed;
    let since = now.checked_sub(parsed.baseline).unwrap_or(Timestamp::UNIX_EPOCH);
    let arms = arm_targets(rollout, "");
    let revision = |arm: &Arm| arm.revision.as_ref().map_or_else(String::new, |r| r.name.clone());
    let revisions = own::Revisions {
        canary: Some(revision(&world.observation.canary)),
        canary_hash: world.observation.canary.revision.as_ref().map(|r| r.hash.clone()),
        stable: Some(revision(&world.observation.stable)),
        stable_hash: None,
    };
    Past {
        target: Target {
            custom: own::targets(rollout, parsed, &parsed.plan.objectives.custom, &revisions),
            ..target(rollout, parsed, (&world.apex, &world.stable), arms, since)
        },
        interval: parsed.plan.interval,
        now,
        ticks: ticks_between(since, now, parsed.plan.interval, parsed.scrape_interval),
        prometheus: cx.prometheus.clone(),
    }
}

/// The port on which the app's containers listen: the Service's target, by number or by the container's name for it.
fn container_port(rollout: &CanaryRollout, apex: &Service, deployment: &Deployment) -> u16 {
    let port = u16::try_from(rollout.spec.service.port).unwrap_or_default();
    let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    pod.and_then(|pod| traffic::container_port(apex, port, pod))
        .unwrap_or(port)
}
