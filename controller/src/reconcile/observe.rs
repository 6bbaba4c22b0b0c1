//! One look at everything that a decision needs. It writes nothing.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Service;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource as _, ResourceExt as _};
use serin_core::analysis::Sides;
use serin_core::rollout::{Command, FieldError, LiveWeight, Observation, PhaseName, State, Verb};

use super::arms::{self, POD_TEMPLATE_HASH};
use super::cluster::Reads;
use super::samples::Sampled;
use super::{Context, Error, floor, repository};
use crate::api::{COMMAND_ANNOTATION, CanaryRollout, Order, Parsed, RouteKindSpec};
use crate::traffic::{self, Known, LiveRoute, RouteSpec, Testers};

/// What a look saw.
pub(super) enum Look {
    /// Everything that the spec names.
    Seen(Box<World>),
    /// The spec names what is not there, or what is somebody else's.
    Refused(Vec<FieldError>),
    /// The rollout is being deleted and what it rolled out is gone already.
    Gone,
}

/// The observation, and what effects need to know beside it.
pub(super) struct World {
    pub(super) observation: Observation,
    pub(super) stable: Arc<Deployment>,
    pub(super) canary: Arc<Deployment>,
    pub(super) apex: Arc<Service>,
    pub(super) route: RouteSpec,
    pub(super) live: Option<LiveRoute>,
    /// Stable's, while it matters.
    pub(super) autoscaler: Option<Arc<HorizontalPodAutoscaler>>,
    /// What the spec was parsed to.
    pub(super) parsed: Parsed,
    /// A metric of the user's own that keeps a trial from its start.
    pub(super) unusable: Option<FieldError>,
    /// Something is on its way that no watch tells.
    pub(super) waiting: bool,
}

/// Looks, but for the samples, which are there already.
pub(super) async fn observe(
    cx: &Context,
    rollout: &CanaryRollout,
    parsed: &Parsed,
    state: &State,
    (reads, sampled): (Reads, Sampled),
) -> Result<Look, Error> {
    let namespace = rollout.namespace().unwrap_or_default();
    let deleted = rollout.metadata.deletion_timestamp.is_some();
    let at_rest = !deleted && state.phase.run().is_none();
    let objects = match objects(cx, rollout, &namespace, reads, at_rest).await? {
        Ok(objects) => objects,
        Err(_) if deleted => return Ok(Look::Gone),
        Err(errors) => return Ok(Look::Refused(errors)),
    };
    let Objects { stable, canary, apex } = objects;
    let route = route(rollout, &namespace);
    // What is on its way back goes on without a route: its commit must not wait for one.
    let needed = !deleted && state.phase.name() != PhaseName::RollingBack;
    let known = match reads {
        Reads::Kept => cx.traffic.kept(&route),
        Reads::Direct => Known::Not,
    };
    let read = match known {
        Known::There(live) => Ok(Some(live)),
        Known::Absent => Ok(None),
        Known::Not => cx.traffic.read(&route).await,
    };
    let live = match read {
        Ok(live) => match unfit(&route, live.as_ref()) {
            Some(error) if needed => return Ok(Look::Refused(vec![error])),
            Some(_) => None,
            None => live,
        },
        Err(traffic::Error::Foreign { .. } | traffic::Error::KindNotServed { .. }) if !needed => None,
        Err(error) => match refusal(&error) {
            Some(field) => return Ok(Look::Refused(vec![FieldError::new(field, error.to_string())])),
            None => return Err(error.into()),
        },
    };
    let weight = live
        .as_ref()
        .and_then(LiveRoute::weight)
        .map_or(LiveWeight::Absent, LiveWeight::At);
    let arm = async |deployment: &Deployment| {
        let sets = cx.cluster.replica_sets_of(reads, deployment).await?;
        Ok::<_, Error>(arms::arm(deployment, &sets))
    };
    let (stable_arm, canary_arm) = futures::future::try_join(arm(&stable), arm(&canary)).await?;
    let pinned = pinned(cx, &namespace, &route, reads).await?;
    // Elsewhere it is nobody's business.
    let autoscaler = if state.phase.run().is_some() || state.floor.is_some() {
        cx.cluster.autoscaler_of(reads, &stable).await?
    } else {
        None
    };

    let observation = Observation {
        stable: stable_arm,
        canary: canary_arm,
        autoscaler: autoscaler.as_deref().map(floor::seen),
        weight,
        sides: live.as_ref().map_or(Sides::Neither, |live| live.sides),
        writer: live.as_ref().and_then(|live| live.writer.clone()),
        causes: cx.desk.causes(&ObjectRef::from_obj(rollout)),
        route_accepted: live.as_ref().and_then(|live| live.accepted),
        pinned,
        ticks: sampled.ticks,
        sampling: sampled.sampling,
        preflight: cx.desk.preflight(&ObjectRef::from_obj(rollout)),
        baseline: cx.desk.baseline(&ObjectRef::from_obj(rollout)),
        git: cx.desk.view(&ObjectRef::from_obj(rollout)),
        hooks: cx.hooks.view(rollout, &cx.cluster_name, &state.phase),
        command: command(rollout),
        deleted,
    };
    let waiting = observation.canary.revision.is_none() || observation.stable.revision.is_none();
    Ok(Look::Seen(Box::new(World {
        observation,
        stable,
        canary,
        apex,
        route,
        live,
        autoscaler,
        parsed: parsed.clone(),
        unusable: cx.desk.unusable(&ObjectRef::from_obj(rollout)),
        waiting,
    })))
}

struct Objects {
    stable: Arc<Deployment>,
    canary: Arc<Deployment>,
    apex: Arc<Service>,
}

/// What the spec names; every name that stands for nothing is an error of its own.
async fn objects(
    cx: &Context,
    rollout: &CanaryRollout,
    namespace: &str,
    reads: Reads,
    at_rest: bool,
) -> Result<Result<Objects, Vec<FieldError>>, Error> {
    let spec = &rollout.spec;
    let (stable, canary, apex) = tokio::try_join!(
        cx.cluster.deployments.get(reads, namespace, &spec.stable.deployment),
        cx.cluster.deployments.get(reads, namespace, &spec.canary.deployment),
        cx.cluster.services.get(reads, namespace, &spec.service.name)
    )?;
    let mut errors = Vec::new();
    let mut missing = |field: &str, kind: &str, name: &str| {
        errors.push(FieldError::new(
            field,
            format!("there is no {kind} {name} in namespace {namespace}"),
        ));
    };
    if stable.is_none() {
        missing("spec.stable.deployment", "Deployment", &spec.stable.deployment);
    }
    if canary.is_none() {
        missing("spec.canary.deployment", "Deployment", &spec.canary.deployment);
    }
    match &apex {
        None => missing("spec.service.name", "Service", &spec.service.name),
        Some(apex) if port(apex, spec.service.port).is_none() => errors.push(FieldError::new(
            "spec.service.port",
            format!("the Service {} has no port {}", spec.service.name, spec.service.port),
        )),
        Some(_) => {}
    }
    // Once a revision is on trial, credentials that are gone hold up the commit and nothing before it.
    if at_rest {
        errors.extend(repository::problems(&cx.client, rollout).await?);
    }
    Ok(match (stable, canary, apex) {
        (Some(stable), Some(canary), Some(apex)) if errors.is_empty() => Ok(Objects { stable, canary, apex }),
        _ => Err(errors),
    })
}

fn port(apex: &Service, number: i32) -> Option<&k8s_openapi::api::core::v1::ServicePort> {
    apex.spec
        .as_ref()?
        .ports
        .as_ref()?
        .iter()
        .find(|port| port.port == number)
}

/// The name of the route: the adopted one's, or the apex Service's.
pub(super) fn route_name(rollout: &CanaryRollout) -> &str {
    let spec = &rollout.spec;
    spec.route.adopt.as_ref().unwrap_or(&spec.service.name)
}

/// The route that the spec asks for.
pub(super) fn route(rollout: &CanaryRollout, namespace: &str) -> RouteSpec {
    let spec = &rollout.spec;
    RouteSpec {
        kind: match spec.route.kind {
            RouteKindSpec::GrpcRoute => traffic::Kind::GrpcRoute,
            RouteKindSpec::HttpRoute => traffic::Kind::HttpRoute,
            RouteKindSpec::PolicyHttpRoute => traffic::Kind::PolicyHttpRoute,
            RouteKindSpec::TrafficSplit => traffic::Kind::TrafficSplit,
        },
        namespace: namespace.to_owned(),
        name: route_name(rollout).to_owned(),
        adopted: spec.route.adopt.is_some(),
        apex: spec.service.name.clone(),
        // The schema holds it within 1 to 65,535.
        port: u16::try_from(spec.service.port).unwrap_or_default(),
        stable_service: traffic::stable_service(&spec.service.name),
        canary_service: traffic::canary_service(&spec.service.name),
        testers: spec.route.testers.as_ref().map(|t| Testers {
            header: t.header.clone(),
            value: t.value.clone(),
        }),
        // Everything that was read from the API server has a name and a uid.
        owner: rollout.controller_owner_ref(&()).unwrap_or_default(),
    }
}

/// What is wrong with an adopted route, if anything is.
fn unfit(route: &RouteSpec, live: Option<&LiveRoute>) -> Option<FieldError> {
    let (kind, name, namespace) = (route.kind, &route.name, &route.namespace);
    let why = match live {
        _ if !route.adopted => {
            let foreign = live.filter(|live| !live.owned)?.foreign(route);
            return Some(FieldError::new("spec.service.name", foreign.to_string()));
        }
        None => format!("there is no {kind} {name} in namespace {namespace}; Serin adopts a route, and makes none"),
        Some(live) => format!("the {kind} {name}: {}", live.misfit.as_ref()?),
    };
    Some(FieldError::new("spec.route.adopt", why))
}

/// The field that an error of the route is about.
fn refusal(error: &traffic::Error) -> Option<&'static str> {
    match error {
        traffic::Error::Foreign { .. } => Some("spec.service.name"),
        traffic::Error::KindNotServed { .. } => Some("spec.route.kind"),
        _ => None,
    }
}

/// The revision that the canary's Service selects.
async fn pinned(cx: &Context, namespace: &str, route: &RouteSpec, reads: Reads) -> Result<Option<String>, Error> {
    let service = cx.cluster.services.get(reads, namespace, &route.canary_service).await?;
    let selector = service
        .as_ref()
        .and_then(|service| service.spec.as_ref()?.selector.as_ref());
    Ok(selector.and_then(|labels| labels.get(POD_TEMPLATE_HASH).cloned()))
}

/// Whether people want the trial to end here, which nothing that Prometheus says can change: it was aborted, or is to be deleted.
pub(super) fn is_to_end(rollout: &CanaryRollout) -> bool {
    let aborted = || command(rollout).is_some_and(|command| command.verb == Verb::Abort);
    rollout.metadata.deletion_timestamp.is_some() || aborted()
}

/// The command of the rollout's annotation, unless it was answered.
fn command(rollout: &CanaryRollout) -> Option<Command> {
    // What can't be read is no command: its sender waits for an answer and says so.
    let command = Order::parse(rollout.annotations().get(COMMAND_ANNOTATION)?)?;
    let last = rollout.status.as_ref().and_then(|s| s.last_command.as_ref());
    let answered = last.is_some_and(|last| last.id == command.id);
    (!answered).then_some(command)
}
