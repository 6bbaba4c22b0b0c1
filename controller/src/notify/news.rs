//! What happened between two statuses of a rollout that somebody may want to be told. Pure; it must not know who is told, nor how.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serin_core::rollout::{Ending, Phase, State, Trial, Way};

use crate::api::{AnnouncementStatus, CanaryRolloutStatus, NotifyOn};

/// Longer reasons are cut: all of it stands in the rollout's status.
const LONGEST: usize = 300;

/// A condition that wants a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Problem {
    /// No fresh scrape of the canary's pods: its traffic is taken away.
    Blind,
    /// The rollback's commit conflicts with later ones.
    RollbackBlocked,
    /// A commit is kept from the cluster.
    DeliveryBlocked,
    /// A revision can't be tried.
    PreflightFailed,
    /// Calls do not go where the weight says.
    TrafficNotFollowing,
    /// Somebody else writes the weights.
    WeightContested,
}

impl Problem {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Blind,
        Self::RollbackBlocked,
        Self::DeliveryBlocked,
        Self::PreflightFailed,
        Self::TrafficNotFollowing,
        Self::WeightContested,
    ];

    /// The condition's type.
    pub fn condition(self) -> &'static str {
        match self {
            Self::Blind => "Blind",
            Self::RollbackBlocked => "RollbackBlocked",
            Self::DeliveryBlocked => "DeliveryBlocked",
            Self::PreflightFailed => "PreflightFailed",
            Self::TrafficNotFollowing => "TrafficNotFollowing",
            Self::WeightContested => "WeightContested",
        }
    }

    /// The one of this condition.
    pub fn named(condition: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|problem| problem.condition() == condition)
    }

    /// Whether it wakes people: those in which Argo CD calls the rollout Degraded.
    pub fn pages(self) -> bool {
        matches!(self, Self::Blind | Self::RollbackBlocked)
    }
}

/// A rollout at one time.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// What the state machine remembers.
    pub state: &'a State,
    /// What a person reads.
    pub status: &'a CanaryRolloutStatus,
}

/// What happened, in its order; numbers and receivers are not filled in.
pub fn news(before: Moment<'_>, after: Moment<'_>, now: Timestamp) -> Vec<AnnouncementStatus> {
    let (was, is) = (before.state.phase.trial(), after.state.phase.trial());
    let mut all = Vec::new();
    let mut tell = |trial: Option<Trial<'_>>, event: NotifyOn, message: &str, more: AnnouncementStatus| {
        let commit = trial.and_then(|trial| trial.commit);
        let revision = trial.map(|trial| trial.revision.name.clone());
        let revision = revision.or_else(|| after.status.revision.as_ref().map(|revision| revision.name.clone()));
        all.push(AnnouncementStatus {
            event: event.name().to_owned(),
            at: Some(now),
            revision: cut(&revision.unwrap_or_default(), 128),
            trial: trial.map(|trial| trial.began),
            step: after.status.step.clone(),
            weight: after.status.weight.map_or(0, |weight| weight.wanted),
            message: cut(message, LONGEST),
            commit: commit.map(|commit| cut(&commit.id, 64)),
            author: commit.map(|commit| cut(&commit.author, 100)),
            subject: commit.map(|commit| cut(&commit.subject, 100)),
            ..more
        });
    };
    // What is over first: an incident that opens again under its name must not be closed right away.
    for (problem, began, _) in turned(&before.status.conditions, &after.status.conditions, false) {
        let message = format!("{} is over", problem.condition());
        let more = about(problem, Some(began.last_transition_time.0), true);
        tell(was.or(is), NotifyOn::Problem, &message, more);
    }
    let plain = AnnouncementStatus::default;
    if let (Some(trial), true) = (was, before.state.phase.run().is_some())
        && !is.is_some_and(|is| is.is(trial))
    {
        tell(was, NotifyOn::Superseded, "another revision took its place", plain());
    }
    if let Some((event, message)) = moved(before, after) {
        tell(is, event, &message, plain());
    }
    for (problem, _, now) in turned(&before.status.conditions, &after.status.conditions, true) {
        let more = about(problem, Some(now.last_transition_time.0), false);
        tell(is, NotifyOn::Problem, &now.message, more);
    }
    all
}

/// The problems that there are.
pub fn problems(conditions: &[Condition]) -> impl Iterator<Item = (Problem, &Condition)> {
    let true_ones = conditions.iter().filter(|condition| condition.status == "True");
    true_ones.filter_map(|condition| Some((Problem::named(&condition.type_)?, condition)))
}

/// An announcement of a problem that there is, as it is told again and again to who wants that.
pub fn standing(problem: Problem, condition: &Condition, moment: Moment<'_>, now: Timestamp) -> AnnouncementStatus {
    let trial = moment.state.phase.trial();
    AnnouncementStatus {
        event: NotifyOn::Problem.name().to_owned(),
        at: Some(now),
        revision: cut(trial.map_or("", |trial| &trial.revision.name), 128),
        trial: trial.map(|trial| trial.began),
        message: cut(&condition.message, LONGEST),
        ..about(problem, Some(condition.last_transition_time.0), false)
    }
}

fn about(problem: Problem, since: Option<Timestamp>, over: bool) -> AnnouncementStatus {
    AnnouncementStatus {
        problem: Some(problem.condition().to_owned()),
        since,
        over,
        ..AnnouncementStatus::default()
    }
}

/// The problems that began, or are over: each with its condition as it was or began, and as it is.
fn turned<'a>(
    before: &'a [Condition],
    after: &'a [Condition],
    on: bool,
) -> impl Iterator<Item = (Problem, &'a Condition, &'a Condition)> {
    let find = |all: &'a [Condition], problem: Problem| all.iter().find(|c| c.type_ == problem.condition());
    Problem::ALL.into_iter().filter_map(move |problem| {
        let now = find(after, problem)?;
        let was = find(before, problem);
        let is_on = |condition: &Condition| condition.status == "True";
        let changed = is_on(now) == on && was.is_some_and(is_on) != on;
        changed.then_some((problem, was.unwrap_or(now), now))
    })
}

/// Where the rollout went, and why.
fn moved(before: Moment<'_>, after: Moment<'_>) -> Option<(NotifyOn, String)> {
    let (was, is) = (&before.state.phase, &after.state.phase);
    let same = was.trial().zip(is.trial()).is_some_and(|(was, is)| was.is(is));
    // Ends that were read again from Git at the first look are nobody's news.
    let first = before.status.phase.is_none();
    let message = || after.status.message.clone().unwrap_or_default();
    let ended = |event: NotifyOn, end: &Ending| {
        let news = was.ending() != Some(end) && !first;
        news.then(|| (event, end.reason.clone()))
    };
    match (was, is) {
        (_, Phase::Idle(_)) => None,
        (Phase::Starting(_), Phase::Starting(_))
        | (Phase::Promoting(_), Phase::Promoting(_))
        | (Phase::RollingBack(_), Phase::RollingBack(_))
            if same =>
        {
            None
        }
        (Phase::Paused(_), Phase::Starting(_) | Phase::Progressing(_)) if same => Some((NotifyOn::Resumed, message())),
        (_, Phase::Starting(_)) => Some((NotifyOn::Started, message())),
        (Phase::Progressing(was), Phase::Progressing(is)) if same && was.step == is.step => None,
        (_, Phase::Progressing(_)) => Some((NotifyOn::Step, message())),
        (Phase::Paused(was), Phase::Paused(is)) if same && was.reason == is.reason => None,
        (_, Phase::Paused(_)) => Some((NotifyOn::Paused, message())),
        (_, Phase::Promoting(promoting)) => Some((
            NotifyOn::Promoting,
            match promoting.way {
                Way::Trial => message(),
                Way::FastReturn => format!("it was promoted lately and needs no canary; {}", message()),
            },
        )),
        (_, Phase::RollingBack(rolling_back)) => Some((NotifyOn::RollingBack, rolling_back.reason.to_string())),
        (_, Phase::Withdrawn(end)) => ended(NotifyOn::Withdrawn, end),
        (_, Phase::Promoted(end)) => ended(NotifyOn::Promoted, end),
        (_, Phase::RolledBack(end)) => ended(NotifyOn::RolledBack, end),
    }
}

/// The text in one line, and not longer than this.
pub(super) fn cut(text: &str, longest: usize) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    cut_text(&text.chars().map(plain).collect::<String>(), longest)
}

/// The text as it is, and not longer than this.
pub(super) fn cut_text(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    let kept = text.chars().take(longest.saturating_sub(1));
    kept.chain(['…']).collect()
}
