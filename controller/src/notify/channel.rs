//! What each kind of receiver wants to be told, and what a letter to it is made of. Pure.

use super::news::Problem;
use crate::api::{AnnouncementStatus, Channel, NotifyOn, Receiver};

/// Whether a receiver is told this.
pub(super) fn wants(receiver: &Receiver, event: NotifyOn, announcement: &AnnouncementStatus) -> bool {
    let problem = announcement.problem.as_deref().and_then(Problem::named);
    if event == NotifyOn::Problem && problem.is_none() {
        return false;
    }
    is_asked_for(receiver, event) && can_take(&receiver.channel, event, problem)
}

/// What suits a kind, where nothing else is asked for.
fn suits(channel: &Channel, event: NotifyOn) -> bool {
    match channel {
        // With a channel it is one message, brought up to date.
        Channel::Slack(slack) => slack.channel.is_some() || event != NotifyOn::Step,
        Channel::Email(_) => !matches!(
            event,
            NotifyOn::Started | NotifyOn::Step | NotifyOn::Resumed | NotifyOn::Promoting | NotifyOn::Superseded
        ),
        Channel::Webhook(_) | Channel::PagerDuty(_) | Channel::Alertmanager(_) => true,
    }
}

/// What a kind has a form for.
fn can_take(channel: &Channel, event: NotifyOn, problem: Option<Problem>) -> bool {
    match channel {
        Channel::Slack(_) | Channel::Email(_) | Channel::Webhook(_) => true,
        // A page where a person is needed, and a change event, which never pages.
        Channel::PagerDuty(_) => problem.is_some_and(Problem::pages) || event == NotifyOn::Promoted,
        Channel::Alertmanager(_) => problem.is_some(),
    }
}

/// Whether a receiver is told of a problem again and again while it lasts.
pub fn is_told_of_problems_again(receiver: &Receiver) -> bool {
    matches!(receiver.channel, Channel::Alertmanager(_)) && is_asked_for(receiver, NotifyOn::Problem)
}

fn is_asked_for(receiver: &Receiver, event: NotifyOn) -> bool {
    match &receiver.events {
        Some(events) => events.contains(&event),
        None => suits(&receiver.channel, event),
    }
}
