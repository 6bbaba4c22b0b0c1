//! Has told what a decision did: written into the outbox with its status, offered once that stands, and taken out when it was told.
//! It must not know how anything is told.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use serin_core::rollout::{NoteKind, State};
use tokio_util::sync::CancellationToken;

use super::access::matches;
use super::desk::{Desk, Key};
use super::{Context, events, status};
use crate::api::{AnnouncementStatus, CanaryRollout, CanaryRolloutStatus, Receiver};
use crate::callout::Secrets;
use crate::notify::{self, Config, Done, Letter, Moment, Notifier, Patience, Setup};

/// Who is told, and how far that is.
pub(super) struct Teller {
    config: Config,
    notifier: Notifier,
    cluster: String,
}

impl Teller {
    /// A teller, and the task that sends.
    pub(super) fn new(
        cluster: &str,
        (setup, secrets): (Setup, Secrets),
        desk: Desk,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let wake = move |namespace: &str, name: &str| desk.wake(ObjectRef::new(name).within(namespace));
        let (notifier, sending) = Notifier::new(&setup, secrets, Arc::new(wake), Patience::default(), stop);
        let teller = Self {
            config: setup.config,
            notifier,
            cluster: cluster.to_owned(),
        };
        (teller, sending)
    }

    /// What one decision about a rollout is to have told, to receivers of its own and to the cluster's.
    pub(super) fn begin<'a>(&'a self, rollout: &'a CanaryRollout, own: &[Receiver]) -> Telling<'a> {
        let namespace = rollout.namespace().unwrap_or_default();
        let cluster = self.config.receivers.iter().filter(|(patterns, _)| {
            let mut patterns = patterns.iter();
            patterns.any(|pattern| matches(pattern, &namespace))
        });
        let cluster = cluster.map(|(_, receiver)| receiver.clone());
        let uid = rollout.uid().unwrap_or_default();
        Telling {
            done: self.notifier.done(&uid),
            own: own.len(),
            receivers: own.iter().cloned().chain(cluster).collect(),
            teller: self,
            rollout,
            namespace,
            uid,
        }
    }

    /// Forgets a rollout that is gone.
    pub(super) fn forget(&self, key: &Key) {
        if let Some(uid) = &key.extra.uid {
            self.notifier.forget(uid);
        }
    }
}

/// What one decision is to have told.
pub(super) struct Telling<'a> {
    teller: &'a Teller,
    rollout: &'a CanaryRollout,
    namespace: String,
    uid: String,
    /// The rollout's own first.
    receivers: Vec<Receiver>,
    own: usize,
    done: Vec<Done>,
}

impl Telling<'_> {
    /// Puts what happened into the outbox, and takes out what was told. Says how many announcements found no room.
    pub(super) fn record(
        &self,
        (memory, before): (&State, &CanaryRolloutStatus),
        (state, after): (&State, &mut CanaryRolloutStatus),
        now: Timestamp,
    ) -> usize {
        if self.receivers.is_empty() && before.notify.is_none() {
            return 0;
        }
        let was = Moment {
            state: memory,
            status: before,
        };
        let is = Moment { state, status: after };
        let news = notify::news(was, is, now);
        let trial = state.phase.trial().map(|trial| trial.began);
        let (outbox, dropped) = notify::next(before.notify.as_deref(), news, &self.receivers, &self.done, trial);
        after.notify = outbox.map(Box::new);
        dropped
    }

    /// The status stands.
    pub(super) async fn recorded(&self, cx: &Context, trial: Option<&str>, dropped: usize) {
        self.teller.notifier.recorded(&self.uid, &self.done);
        let failures = self.done.iter().filter_map(|done| {
            let why = done.failed.as_ref()?;
            Some(format!("{} was not told: {why}", done.receiver))
        });
        let no_room = (dropped > 0).then(|| {
            let most = notify::MOST;
            format!("{dropped} announcements found no room: more than {most} wait")
        });
        for (nth, message) in failures.chain(no_room).enumerate() {
            let about = events::About {
                rollout: self.rollout,
                trial,
            };
            let what = events::What {
                kind: NoteKind::Warning,
                reason: "NotificationFailed",
                message: &message,
                nth,
            };
            events::tell(cx, about, what).await;
        }
    }

    /// Offers what waits. Nothing waits for it.
    pub(super) fn send(&self, status: &CanaryRolloutStatus, now: Timestamp) {
        let notifier = &self.teller.notifier;
        if let Some(outbox) = &status.notify {
            notifier.offer(&self.uid, outbox, |announcement, receiver| {
                let index = self.receivers.iter().position(|known| known.id == *receiver)?;
                self.letter(index, announcement.clone())
            });
        }
        let mut problems = notify::problems(status).peekable();
        if problems.peek().is_none() || self.receivers.is_empty() {
            return;
        }
        // What this process has made of it is read, or the decision would have come to nothing.
        let Ok(state) = status::memory(Some(status)) else {
            return;
        };
        let moment = Moment { state: &state, status };
        for (problem, condition) in problems {
            for (index, receiver) in self.receivers.iter().enumerate() {
                if notify::is_told_of_problems_again(receiver)
                    && let Some(letter) = self.letter(index, notify::standing(problem, condition, moment, now))
                {
                    notifier.again(problem, letter);
                }
            }
        }
    }

    fn letter(&self, index: usize, announcement: AnnouncementStatus) -> Option<Letter> {
        Some(Letter {
            uid: self.uid.clone(),
            cluster: self.teller.cluster.clone(),
            namespace: self.namespace.clone(),
            rollout: self.rollout.name_any(),
            receiver: self.receivers.get(index)?.clone(),
            is_tenants: index < self.own,
            announcement,
            link: self.teller.config.link.clone(),
        })
    }
}
