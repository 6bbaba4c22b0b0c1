//! Carries out effects, and says what kind of effects they are: the only place that matches on them. Each may be carried out twice.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::reflector::ObjectRef;
use serde_json::{Value, json};
use serin_core::Weight;
use serin_core::rollout::{Effect, LiveWeight, Phase};
use tokio::sync::SemaphorePermit;
use tracing::Instrument as _;

use super::arms;
use super::delivered;
use super::desk::{Question, Reply};
use super::events::Noted;
use super::facts::Sources;
use super::git::Job;
use super::observe::{World, route};
use super::samples::past;
use super::{Context, Error, call, events, fence, floor, trace};
use crate::api::{CanaryRollout, FIELD_MANAGER};
use crate::linkerd::preflight;
use crate::runtime::clock;
use crate::runtime::crash::{self, Point};
use crate::runtime::order::first;
use crate::traffic::{self, ArmService, RouteSpec};

/// The longest time for which a commit waits for traffic that is on its way.
const CALM: Duration = Duration::from_secs(10);

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Something in the cluster was written: the next decision wants a new look.
    pub(super) wrote: bool,
    /// The core lets go of the rollout.
    pub(super) released: bool,
}

/// Carries out the effects in their order. The first one that fails ends it: the decision is made again. `room` is what the decision was
/// made in. Events are only `noted`, of what came before an error as well: they are told by whoever has let go of all else, as each waits
/// until nobody's traffic is on its way.
pub(super) async fn act(
    cx: &Context,
    about: About<'_>,
    world: &World,
    effects: &[Effect],
    (mut room, noted): (Option<SemaphorePermit<'_>>, &mut Vec<Noted>),
) -> Result<Outcome, Error> {
    let mut done = Done {
        outcome: Outcome::default(),
        asked: Vec::new(),
        noted,
    };
    for effect in effects {
        let doing = carry_out(cx, about, world, effect, &mut done);
        doing.instrument(trace::effect(effect)).await?;
        if matches!(effect, Effect::SetWeight(_)) {
            // Whatever else is to be done, nobody's weight waits for it.
            drop(room.take());
        }
    }
    cx.desk.keep_only(&ObjectRef::from_obj(about.rollout), &done.asked);
    Ok(done.outcome)
}

/// What effects are about.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) rollout: &'a CanaryRollout,
    /// The id of the trial that was decided about.
    pub(super) trial: Option<&'a str>,
    /// What stands in status.
    pub(super) phase: &'a Phase,
}

/// What was done of several effects.
struct Done<'a> {
    outcome: Outcome,
    asked: Vec<Question>,
    noted: &'a mut Vec<Noted>,
}

async fn carry_out(
    cx: &Context,
    about: About<'_>,
    world: &World,
    effect: &Effect,
    Done { outcome, asked, noted }: &mut Done<'_>,
) -> Result<(), Error> {
    let About { rollout, trial, phase } = about;
    let key = ObjectRef::from_obj(rollout);
    let aside = || trace::aside(rollout, trial, effect);
    match effect {
        Effect::SetWeight(weight) => {
            fence(cx)?;
            crash::here(Point::BeforeWeight);
            let write = set_weight(cx, world, *weight);
            outcome.wrote |= if lowers(effect, world.observation.weight) {
                first(write).await?
            } else {
                write.await?
            };
            crash::here(Point::AfterWeight);
            tracing::info!(%weight, "weight set");
        }
        Effect::EnsureObjects { pin } => {
            fence(cx)?;
            crash::here(Point::BeforeObjects);
            ensure(cx, world, pin).await?;
            outcome.wrote = true;
        }
        Effect::ScaleCanary(replicas) => {
            fence(cx)?;
            crash::here(Point::BeforeScale);
            scale(cx, &world.canary, *replicas).await?;
            tracing::info!(replicas, "canary scaled");
        }
        Effect::SetMinimum { autoscaler, minimum } => {
            fence(cx)?;
            // An error would keep the state from being written, and with it a rollback from going on: the core sees the
            // minimum that there is, raises no weight beyond it, and asks again.
            match floor::set(cx, world.autoscaler.as_deref(), *minimum).await {
                Ok(()) => {
                    tracing::info!(autoscaler, minimum, "minimum of stable's autoscaler set");
                    outcome.wrote = true;
                }
                Err(error) => tracing::warn!(autoscaler, minimum, "{error}; tried again"),
            }
        }
        Effect::AskPreflight(revision) => {
            asked.push(Question::Preflight);
            let job = || preflight(cx.sources(), rollout.clone());
            cx.desk.ask(&key, Question::Preflight, revision, job);
        }
        Effect::AskCauses(revision) => {
            asked.push(Question::Causes);
            let job = || causes(cx.sources(), rollout.clone());
            cx.desk.ask(&key, Question::Causes, revision, job);
        }
        Effect::AskBaseline(revision) => {
            asked.push(Question::Baseline);
            let job = || past(cx, rollout, world, clock::now()).baseline();
            cx.desk.ask(&key, Question::Baseline, revision, job);
        }
        Effect::AskOrigin(revision) => {
            asked.push(Question::Origin);
            let job = || {
                let job = Job::of(cx, rollout, &world.parsed.layout);
                job.origin(revision.clone()).instrument(aside())
            };
            cx.desk.ask(&key, Question::Origin, revision, job);
        }
        Effect::CommitRollback {
            revision,
            baseline: _,
            commit,
            promoted,
            reason,
        } => {
            asked.push(Question::Rollback);
            let job = || {
                let [commit, promoted] = [
                    commit.as_ref().map(|c| c.id.clone()),
                    promoted.as_ref().map(|p| p.id.clone()),
                ];
                let job = Job::of(cx, rollout, &world.parsed.layout).ending(trial);
                let (revision, reason, order) = (revision.clone(), reason.clone(), cx.order.clone());
                let commit = async move {
                    // Others' traffic comes before this one's commit.
                    order.calm(CALM).await;
                    // On the heap, and not before: a thousand wait for that at once.
                    Box::pin(job.roll_back(revision, commit, promoted, reason)).await
                };
                commit.instrument(aside())
            };
            cx.desk.ask(&key, Question::Rollback, revision, job);
        }
        Effect::CommitPromotion {
            revision,
            baseline,
            commit,
        } => {
            asked.push(Question::Promotion);
            let job = || {
                let commit = commit.as_ref().map(|c| c.id.clone());
                let job = Job::of(cx, rollout, &world.parsed.layout).ending(trial);
                job.promote(revision.clone(), baseline.clone(), commit)
                    .instrument(aside())
            };
            cx.desk.ask(&key, Question::Promotion, revision, job);
        }
        Effect::RunHook(occasion) => {
            // Others do something on it.
            fence(cx)?;
            cx.hooks.ask(rollout, &cx.cluster_name, phase, &world.parsed, occasion);
        }
        Effect::Refresh => delivered::refresh(cx, rollout).await,
        Effect::Note(note) => {
            let nth = noted.len();
            noted.push(events::noted(note, nth, phase, [&world.stable, &world.canary]));
        }
        Effect::RemoveRoute => {
            fence(cx)?;
            if let Some(live) = &world.live {
                cx.traffic.remove(&world.route, live).await?;
            }
            outcome.wrote = true;
        }
        Effect::Release => outcome.released = true,
    }
    Ok(())
}

/// Whether a trial would work: what `serin check` would print, as Serin's own account sees it. What stands in the way is an
/// error, so that it is asked again.
async fn preflight(sources: Sources, rollout: CanaryRollout) -> anyhow::Result<Reply> {
    let lines = preflight::check(&sources.facts(&rollout).await);
    match preflight::refusal(&lines) {
        Some(why) => Err(anyhow::anyhow!(why)),
        None => Ok(Reply::Preflight(preflight::warnings(&lines))),
    }
}

/// Why traffic may not follow the weights.
async fn causes(sources: Sources, rollout: CanaryRollout) -> anyhow::Result<Reply> {
    Ok(Reply::Causes(
        preflight::causes(&sources.facts(&rollout).await).join("; "),
    ))
}

/// All traffic to stable, for a rollout without a plan.
pub(super) async fn stop(cx: &Context, rollout: &CanaryRollout) -> Result<(), Error> {
    first(stop_now(cx, rollout)).await
}

async fn stop_now(cx: &Context, rollout: &CanaryRollout) -> Result<(), Error> {
    fence(cx)?;
    let route = route(rollout, &rollout.namespace().unwrap_or_default());
    match cx.traffic.read(&route).await {
        Ok(Some(live)) => {
            match cx.traffic.write_weights(&route, &live, Weight::ZERO).await {
                // Without a rule that names both arms there is no weight to take away.
                Ok(_) | Err(traffic::Error::Misfit { .. }) => Ok(()),
                Err(error) => Err(error.into()),
            }
        }
        Ok(None) | Err(traffic::Error::Foreign { .. } | traffic::Error::KindNotServed { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Says whether there was a route to write to: without one no call reaches the canary anyway.
async fn set_weight(cx: &Context, world: &World, weight: Weight) -> Result<bool, Error> {
    let Some(live) = &world.live else { return Ok(false) };
    cx.traffic.write_weights(&world.route, live, weight).await?;
    Ok(true)
}

/// Services first: a route that names a missing one fails its share.
async fn ensure(cx: &Context, world: &World, pin: &str) -> Result<(), Error> {
    let services = arm_services(&world.route, &world.apex, (&world.stable, &world.canary), pin)?;
    cx.traffic.ensure(&services, &world.route).await?;
    Ok(())
}

/// The two arms' Services, the canary's with the pods of this template hash only.
pub(super) fn arm_services(
    route: &RouteSpec,
    apex: &Service,
    (stable, canary): (&Deployment, &Deployment),
    pin: &str,
) -> Result<[Value; 2], traffic::Error> {
    let arm = |name: &str, deployment: &Deployment, pin: Option<&str>| {
        ArmService {
            namespace: route.namespace.clone(),
            name: name.to_owned(),
            selector: arms::selector(deployment),
            pin: pin.map(str::to_owned),
            owner: route.owner.clone(),
            outlives: route.adopted,
        }
        .generated(apex, route.port)
    };
    Ok([
        arm(&route.stable_service, stable, None)?,
        arm(&route.canary_service, canary, Some(pin))?,
    ])
}

async fn scale(cx: &Context, canary: &Deployment, replicas: i32) -> Result<(), Error> {
    let (namespace, name) = (canary.namespace().unwrap_or_default(), canary.name_any());
    let api: Api<Deployment> = Api::namespaced(cx.client.clone(), &namespace);
    let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    call(
        || format!("scaling the Deployment {namespace}/{name} to {replicas}"),
        api.patch_scale(&name, &params, &patch),
    )
    .await?;
    Ok(())
}

/// Whether effects are to be decided on what the API server says, and not on what watches told some time ago. Taking traffic
/// away waits for no second look, and rollback commits are decided on status and Git. A promotion is asked for again: a person
/// may have said no.
pub(super) fn want_the_present(effects: &[Effect], live: LiveWeight) -> bool {
    let depends = |effect: &Effect| match effect {
        Effect::SetWeight(weight) => *weight > live.canary(),
        Effect::EnsureObjects { .. }
        | Effect::ScaleCanary(_)
        | Effect::SetMinimum { .. }
        | Effect::RemoveRoute
        | Effect::CommitPromotion { .. }
        | Effect::Release => true,
        Effect::AskPreflight(_)
        | Effect::AskCauses(_)
        | Effect::AskBaseline(_)
        | Effect::AskOrigin(_)
        | Effect::CommitRollback { .. }
        | Effect::RunHook(_)
        | Effect::Refresh
        | Effect::Note(_) => false,
    };
    effects.iter().any(depends) && !take_away(effects, live)
}

/// Whether traffic is taken away from the canary.
pub(super) fn take_away(effects: &[Effect], live: LiveWeight) -> bool {
    effects.iter().any(|effect| lowers(effect, live))
}

fn lowers(effect: &Effect, live: LiveWeight) -> bool {
    matches!(effect, Effect::SetWeight(weight) if *weight < live.canary())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_traffic_away_waits_for_no_second_look_and_what_raises_it_does() {
        let percent = |percent: i64| Weight::try_from(percent).unwrap();
        let live = LiveWeight::At(percent(10));
        let set = |to: i64| Effect::SetWeight(percent(to));
        assert!(want_the_present(&[set(25)], live));
        assert!(want_the_present(&[set(25)], LiveWeight::Absent));
        assert!(want_the_present(&[Effect::ScaleCanary(0)], live));
        assert!(!want_the_present(&[set(0), Effect::ScaleCanary(0)], live));
        assert!(!want_the_present(&[Effect::Refresh], live));
    }
}
