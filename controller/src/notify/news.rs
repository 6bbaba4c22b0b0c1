//! What happened between two statuses of a rollout that somebody may want to be told. Pure; it must not know who is told, nor how.

use jiff::{SignedDuration, Timestamp};
use serin_core::rollout::{Ending, Phase, State, Trial, Way};

use crate::api::{AnnouncementStatus, CanaryRolloutStatus, Condition, NotifyOn, NotifyStatus};

/// Longer reasons are cut: all of it stands in the rollout's status.
const LONGEST: usize = 300;
/// A host that hiccups wakes nobody: commits have to be waited for this long before that is told.
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);

/// A condition that wants a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Problem {
    /// No fresh scrape of the canary's pods: its traffic is taken away.
    Blind,
    /// The rollback's commit conflicts with later ones.
    RollbackBlocked,
    /// The config repository does not do what it is asked.
    GitPending,
    /// The spec makes no sense, or names what is not there or not its to have.
    SpecRefused,
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
    pub const ALL: [Self; 8] = [
        Self::Blind,
        Self::RollbackBlocked,
        Self::GitPending,
        Self::SpecRefused,
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
            Self::GitPending => "GitPending",
            Self::SpecRefused => "SpecValid",
            Self::DeliveryBlocked => "DeliveryBlocked",
            Self::PreflightFailed => "PreflightFailed",
            Self::TrafficNotFollowing => "TrafficNotFollowing",
            Self::WeightContested => "WeightContested",
        }
    }

    /// What it is called where it is told: as its condition, if that is true when there is a problem.
    pub fn name(self) -> &'static str {
        match self {
            Self::SpecRefused => "SpecRefused",
            other => other.condition(),
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|problem| problem.name() == name)
    }

    /// Whether its condition says that there is one.
    fn is_in(self, condition: &Condition) -> bool {
        let bad = if self == Self::SpecRefused { "False" } else { "True" };
        condition.status == bad
    }

    /// Whether it may pass by itself: it is told when it has not for a while.
    fn may_pass(self) -> bool {
        self == Self::GitPending
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
    for (problem, began, _) in turned(before.status, after.status, false, now) {
        let message = format!("{} is over", problem.name());
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
    for (problem, _, condition) in turned(before.status, after.status, true, now) {
        let more = about(problem, Some(condition.last_transition_time.0), false);
        tell(is, NotifyOn::Problem, &condition.message, more);
    }
    all
}

/// The problems that there are, and that were told or would be.
pub fn problems(status: &CanaryRolloutStatus) -> impl Iterator<Item = (Problem, &Condition)> {
    Problem::ALL.into_iter().filter_map(|problem| {
        let condition = find(&status.conditions, problem)?;
        let is_told = !problem.may_pass() || was_told(status.notify.as_deref(), problem);
        (is_told && problem.is_in(condition)).then_some((problem, condition))
    })
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
        problem: Some(problem.name().to_owned()),
        since,
        over,
        ..AnnouncementStatus::default()
    }
}

/// The problems that began, or are over: each with its condition as it was or began, and as it is.
fn turned<'a>(
    before: &'a CanaryRolloutStatus,
    after: &'a CanaryRolloutStatus,
    on: bool,
    now: Timestamp,
) -> impl Iterator<Item = (Problem, &'a Condition, &'a Condition)> {
    Problem::ALL.into_iter().filter_map(move |problem| {
        let is = find(&after.conditions, problem)?;
        let was = find(&before.conditions, problem);
        let (was_on, is_on) = if problem.may_pass() {
            let told = was_told(before.notify.as_deref(), problem);
            let is_old = now.duration_since(is.last_transition_time.0) >= PATIENCE;
            (told, problem.is_in(is) && (told || is_old))
        } else {
            (was.is_some_and(|was| problem.is_in(was)), problem.is_in(is))
        };
        (is_on == on && was_on != on).then_some((problem, was.unwrap_or(is), is))
    })
}

fn find(conditions: &[Condition], problem: Problem) -> Option<&Condition> {
    conditions
        .iter()
        .find(|condition| condition.type_ == problem.condition())
}

fn was_told(outbox: Option<&NotifyStatus>, problem: Problem) -> bool {
    outbox.is_some_and(|outbox| outbox.told.iter().any(|told| told == problem.name()))
}

/// Keeps in mind what was told of problems that may pass by themselves: their conditions alone do not say whether they were.
pub(super) fn keep_in_mind(outbox: &mut NotifyStatus, announcement: &AnnouncementStatus) {
    let problem = announcement.problem.as_deref().and_then(Problem::named);
    let Some(problem) = problem.filter(|problem| problem.may_pass()) else {
        return;
    };
    outbox.told.retain(|told| told != problem.name());
    if !announcement.over {
        outbox.told.push(problem.name().to_owned());
    }
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
