//! Kubernetes Events: what happened to a rollout, told once, and on the Deployments that it concerns too. It must not know why it
//! happened.
//!
//! An event's name follows from what stood in status when it was decided. So an effect that is carried out again, as its status
//! could not be written, by this replica or by the next one, makes no second event: the API server has the name already. That takes no
//! right but that to create, and no memory; there is one only of how many there were lately ([`super::quota`]).

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Instant;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt as _};
use serin_core::rollout::{Note, NoteKind, Phase};
use tracing::Instrument as _;

use super::error::is_conflict;
use super::{Context, call, trace};
use crate::api::{CanaryRollout, FIELD_MANAGER, TRIAL_ANNOTATION};
use crate::board::{Key, Told};
use crate::runtime::clock;

/// Characters of an event's text; the API server takes no longer ones.
const NOTE: usize = 1024;
/// What the last one says for now.
const NO_MORE: &str = "; for some minutes more of this stands in Serin's log only";
/// Characters of an object's name that stand in its events' names.
const LONGEST: usize = 200;

/// What an event is about.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) rollout: &'a CanaryRollout,
    /// The id of the trial.
    pub(super) trial: Option<&'a str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arm {
    Stable,
    Canary,
}

/// What happened.
#[derive(Clone, Copy)]
pub(super) struct What<'a> {
    pub(super) kind: NoteKind,
    pub(super) reason: &'a str,
    pub(super) message: &'a str,
    /// How many were told before on the same occasion.
    pub(super) nth: usize,
}

/// Tells it of the rollout; nothing waits for an event.
pub(super) async fn tell(cx: &Context, about: About<'_>, what: What<'_>) {
    tell_of(cx, about, what, &[]).await;
}

/// What a decision did, and the Deployments that it concerns.
#[derive(Debug)]
pub(super) struct Noted {
    note: Note,
    nth: usize,
    arms: Vec<ObjectReference>,
}

/// What is to be told as the `nth` that a decision did. `phase` is what stands in status.
pub(super) fn noted(note: &Note, nth: usize, phase: &Phase, [stable, canary]: [&Deployment; 2]) -> Noted {
    let of = |arm: &Arm| match arm {
        Arm::Stable => reference(stable),
        Arm::Canary => reference(canary),
    };
    Noted {
        note: note.clone(),
        nth,
        arms: concerned(note.reason, has_promoted(phase)).iter().map(of).collect(),
    }
}

/// Tells what a decision did, of the rollout and of the Deployments that it concerns.
pub(super) async fn tell_all(cx: &Context, about: About<'_>, noted: &[Noted]) {
    for Noted { note, nth, arms } in noted {
        let what = What {
            kind: note.kind,
            reason: note.reason,
            message: &note.message,
            nth: *nth,
        };
        tell_of(cx, about, what, arms).instrument(trace::note()).await;
    }
}

async fn tell_of(cx: &Context, about: About<'_>, what: What<'_>, arms: &[ObjectReference]) {
    let (rollout, now) = (about.rollout, clock::now());
    tracing::info!(reason = what.reason, "{}", what.message);
    let key = ObjectRef::from_obj(rollout);
    let left = cx.quota.left(&key, what.reason, Instant::now());
    let Some(message) = within(left, what.message) else {
        return;
    };
    let what = What {
        message: &message,
        ..what
    };
    let api: Api<Event> = Api::namespaced(cx.client.clone(), &rollout.namespace().unwrap_or_default());
    let params = PostParams::default();
    let events = events(about, what, arms, now);
    let writes = events.iter().map(|event| async {
        match call(|| "writing an event".to_owned(), api.create(&params, event)).await {
            Ok(_) => true,
            Err(error) if is_conflict(&error) => false,
            Err(error) => {
                tracing::warn!("{error}");
                true
            }
        }
    });
    // The first is the rollout's own.
    let is_news = join_all(writes).await.first().is_none_or(|is_news| *is_news);
    if is_news {
        cx.quota.spend(&key, what.reason, Instant::now());
        let told = Told {
            at: Some(now),
            warns: what.kind == NoteKind::Warning,
            reason: what.reason.to_owned(),
            message: what.message.to_owned(),
        };
        cx.board.note(&Key::of(rollout), told);
    }
}

/// The message of an event where so many more may be told; the last one says that it is.
fn within(left: u32, message: &str) -> Option<Cow<'_, str>> {
    match left {
        0 => None,
        1 => {
            let room = NOTE.saturating_sub(NO_MORE.len());
            let kept: String = message.chars().take(room).collect();
            Some(Cow::Owned(format!("{kept}{NO_MORE}")))
        }
        _ => Some(Cow::Borrowed(message)),
    }
}

/// The arms that an event concerns: who looks at a Deployment only must find why its pods come and go, or have no calls.
/// `promoted`: the promotion commit stands, so that what happens to the revision happens to stable as well.
fn concerned(reason: &str, promoted: bool) -> &'static [Arm] {
    match reason {
        "PromotionCommitted" => &[Arm::Stable],
        "Promoted" => &[Arm::Stable, Arm::Canary],
        "RollingBack" | "RolledBack" if promoted => &[Arm::Stable, Arm::Canary],
        "Starting" | "FastReturn" | "Paused" | "Blind" | "WeightContested" | "PodsLost" | "PodsReturned"
        | "Promoting" | "RollingBack" | "RolledBack" | "Withdrawn" | "Superseded" => &[Arm::Canary],
        _ => &[],
    }
}

fn has_promoted(phase: &Phase) -> bool {
    match phase {
        Phase::Promoting(p) => p.commit.is_some(),
        Phase::RollingBack(r) => r.promoted.is_some(),
        _ => false,
    }
}

/// The event of the rollout, and those of its Deployments.
fn events(about: About<'_>, what: What<'_>, arms: &[ObjectReference], now: Timestamp) -> Vec<Event> {
    let rollout = reference(about.rollout);
    let mut all = vec![event(about, what, (rollout.clone(), None), now)];
    let of_arm = |arm: &ObjectReference| event(about, what, (arm.clone(), Some(&rollout)), now);
    all.extend(arms.iter().map(of_arm));
    all
}

/// The object, whatever its version.
fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    ObjectReference {
        resource_version: None,
        ..object.object_ref(&())
    }
}

fn event(
    about: About<'_>,
    what: What<'_>,
    (regarding, related): (ObjectReference, Option<&ObjectReference>),
    now: Timestamp,
) -> Event {
    let trial = about.trial.map(str::to_owned);
    Event {
        action: Some(what.reason.to_owned()),
        reason: Some(what.reason.to_owned()),
        event_time: Some(MicroTime(now)),
        note: Some(what.message.chars().take(NOTE).collect()),
        metadata: ObjectMeta {
            namespace: regarding.namespace.clone(),
            name: Some(name(about.rollout, what, &regarding)),
            annotations: trial.map(|trial| [(TRIAL_ANNOTATION.to_owned(), trial)].into()),
            ..ObjectMeta::default()
        },
        regarding: Some(regarding),
        related: related.cloned(),
        reporting_controller: Some("serin.dev/serin".to_owned()),
        reporting_instance: Some(FIELD_MANAGER.to_owned()),
        type_: Some(
            if what.kind == NoteKind::Warning {
                "Warning"
            } else {
                "Normal"
            }
            .to_owned(),
        ),
        ..Event::default()
    }
}

/// The same for what is decided again on the same status, whatever has been counted since. Statuses hold times: none comes again.
fn name(rollout: &CanaryRollout, what: What<'_>, regarding: &ObjectReference) -> String {
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    let nth = what.nth.to_string();
    let uid = regarding.uid.as_deref().unwrap_or_default();
    for part in [uid, what.reason, &nth] {
        digest.update(part.as_bytes());
        digest.update(b" ");
    }
    // What was read from JSON can be written as such.
    digest.update(&serde_json::to_vec(&rollout.status).unwrap_or_default());
    let of: String = regarding
        .name
        .iter()
        .flat_map(|name| name.chars())
        .take(LONGEST)
        .collect();
    let mut name = format!("{}.", of.trim_end_matches(['-', '.']));
    for byte in digest.finish().as_ref().iter().take(8) {
        // Writing to a text does not fail.
        let _ = write!(name, "{byte:02x}");
    }
    name
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
