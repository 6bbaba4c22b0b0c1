//! What stands around one rollout, as the person may read it: arms, stable's autoscaler, events. What may not be read is said, and
//! takes nothing else away.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};

use crate::api::CanaryRollout;
pub(super) use crate::board::{Deployed, Scaler, Told};

/// As of the last look.
#[derive(Debug, Default)]
pub(super) struct Around {
    pub(super) stable: Option<Deployed>,
    pub(super) canary: Option<Deployed>,
    pub(super) autoscaler: Option<Scaler>,
    /// The last ones, newest first.
    pub(super) events: Vec<Told>,
    /// What could not be read.
    pub(super) unread: Vec<String>,
}

/// More than a screen has room for.
const EVENTS: usize = 8;

impl Around {
    pub(super) async fn read(client: &Client, rollout: &CanaryRollout) -> Self {
        let namespace = rollout.namespace().unwrap_or_default();
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
        let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), &namespace);
        let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let stable_name = &rollout.spec.stable.deployment;
        let of_rollout = format!("involvedObject.uid={}", rollout.uid().unwrap_or_default());
        let of_rollout = ListParams::default().fields(&of_rollout);
        let all = ListParams::default();
        let (stable, canary, scalers, told) = tokio::join!(
            deployments.get_opt(stable_name),
            deployments.get_opt(&rollout.spec.canary.deployment),
            autoscalers.list(&all),
            events.list(&of_rollout),
        );
        let mut unread = vec![];
        let mut read = |what: &str, error: &kube::Error| unread.push(format!("{what}: {error}"));
        let mut arm = |what, read_arm: kube::Result<Option<Deployment>>| {
            read_arm.map_or_else(
                |error| {
                    read(what, &error);
                    None
                },
                |found| found.as_ref().map(Deployed::of),
            )
        };
        let (stable, canary) = (
            arm("stable's Deployment", stable),
            arm("the canary's Deployment", canary),
        );
        let autoscaler = match scalers {
            Ok(scalers) => scalers.items.iter().find_map(|scaler| of_stable(scaler, stable_name)),
            Err(error) => {
                read("autoscalers", &error);
                None
            }
        };
        let mut events: Vec<Told> = match told {
            Ok(told) => told.items.into_iter().map(event).collect(),
            Err(error) => {
                read("events", &error);
                vec![]
            }
        };
        events.sort_by_key(|event| std::cmp::Reverse(event.at));
        events.truncate(EVENTS);
        Self {
            stable,
            canary,
            autoscaler,
            events,
            unread,
        }
    }
}

fn of_stable(scaler: &HorizontalPodAutoscaler, stable: &str) -> Option<Scaler> {
    let spec = scaler.spec.as_ref()?;
    let target = &spec.scale_target_ref;
    let is_stables = target.kind == "Deployment" && target.name == stable;
    is_stables.then(|| Scaler::of(scaler)).flatten()
}

fn event(event: Event) -> Told {
    let micro = event.event_time.map(|time| time.0);
    let last = event.last_timestamp.or(event.first_timestamp).map(|time| time.0);
    let series = event
        .series
        .and_then(|series| series.last_observed_time)
        .map(|time| time.0);
    Told {
        at: series.or(last).or(micro),
        warns: event.type_.as_deref() == Some("Warning"),
        reason: event.reason.unwrap_or_default(),
        message: event.message.unwrap_or_default(),
    }
}
