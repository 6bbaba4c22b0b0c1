//! Has what a decision came to written and told. It must not know how it was decided.
//!
//! Thousands may wait for that at once, as it stands behind all that takes traffic away: each holds what is written and what is told,
//! and nothing that was decided on.

use std::sync::Arc;

use jiff::Timestamp;
use kube::api::Api;
use kube::runtime::reflector::ObjectRef;
use serin_core::rollout::NoteKind;
use tracing::Instrument as _;

use super::events::{self, Noted};
use super::measure::Step;
use super::tell::Telling;
use super::writes::{self, write_status};
use super::{Context, Error, status, trace};
use crate::api::CanaryRollout;
use crate::runtime::crash::{self, Point};

/// What a decision came to.
pub(super) struct Made<'a> {
    /// The id of the trial that was decided about.
    pub(super) trial: Option<String>,
    /// What it did, in its order.
    pub(super) noted: Vec<Noted>,
    /// The rollout with the new status: the very one that the page shows.
    pub(super) would_be: Arc<CanaryRollout>,
    /// Whether that is to be written.
    pub(super) is_due: bool,
    /// Whether a trial goes on with it.
    pub(super) on_trial: bool,
    /// What its conditions say that they did not say before.
    pub(super) news: Option<News>,
    /// What it is in numbers.
    pub(super) step: Step,
    /// Who is told.
    pub(super) telling: Telling<'a>,
    /// Announcements that found no room.
    pub(super) dropped: usize,
    /// When it was decided.
    pub(super) now: Timestamp,
}

/// What a condition says.
pub(super) struct News {
    pub(super) kind: NoteKind,
    pub(super) reason: String,
    pub(super) message: String,
}

/// Tells events, writes the status of `rollout` where it is due, and tells everybody else what stands then.
pub(super) async fn record(
    cx: &Context,
    api: &Api<CanaryRollout>,
    rollout: &CanaryRollout,
    made: Made<'_>,
) -> Result<(), Error> {
    let about = events::About {
        rollout,
        trial: made.trial.as_deref(),
    };
    let _room = if made.is_due || !made.noted.is_empty() {
        writes::room(cx).await?
    } else {
        None
    };
    events::tell_all(cx, about, &made.noted).await;
    let after = status::of(&made.would_be);
    if made.is_due {
        crash::here(Point::BeforeStatus);
        write_status(cx, api, &made.would_be)
            .instrument(trace::writing())
            .await?;
        crash::here(Point::AfterStatus);
        made.telling.recorded(cx, about.trial, made.dropped).await;
        made.step.count(&cx.metrics);
        let key = ObjectRef::from_obj(rollout);
        if made.on_trial {
            cx.unwritten.written(&key, after, made.now);
        } else {
            cx.unwritten.forget(&key);
        }
        if let Some(news) = &made.news {
            let what = events::What {
                kind: news.kind,
                reason: &news.reason,
                message: &news.message,
                nth: 0,
            };
            events::tell(cx, about, what).await;
        }
    }
    made.telling.send(after, made.now);
    Ok(())
}
