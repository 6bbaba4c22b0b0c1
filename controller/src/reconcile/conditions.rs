//! The conditions of a status: what is so, with a reason from the documented list and a sentence. Pure; it must not know what else a
//! status says.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serin_core::rollout::{
    Answer, Arm, FieldError, GitView, Lowered, NoteKind, Observation, PauseReason, Phase, Preflight, RestNote,
    Starting, State,
};

use super::desk::ON_ITS_WAY;
use crate::api::Condition;
use crate::gitops::ROLLBACK_BLOCKED;

/// A commit is kept from the cluster, and waiting alone does not change that.
const DELIVERY_BLOCKED: &str = "DeliveryBlocked";

/// The API server refuses longer messages.
const LONGEST: usize = 1024;

/// What conditions are told of.
pub(super) struct Grounds<'a> {
    pub(super) state: &'a State,
    pub(super) observation: &'a Observation,
    /// What happens now and next, in words.
    pub(super) message: &'a str,
    /// What is known of a commit that the cluster does not carry yet: the word for it, and a sentence.
    pub(super) delivery: Option<&'a (&'static str, String)>,
    /// The metric of the user's own that keeps a trial from its start.
    pub(super) unusable: Option<&'a FieldError>,
}

/// All conditions after a decision.
pub(super) fn after(
    before: &[Condition],
    generation: Option<i64>,
    grounds: &Grounds<'_>,
    now: Timestamp,
) -> Vec<Condition> {
    let Grounds {
        state: State { phase, .. },
        observation,
        message,
        delivery,
        unusable,
    } = *grounds;
    let mut list = List {
        conditions: before.to_vec(),
        generation,
        now,
    };
    list.set("SpecValid", true, "Parsed", "every field makes sense");
    list.set("Ready", true, "Reconciled", message);
    git(&mut list, &observation.git);
    let stale = matches!(phase, Phase::Idle(RestNote::Stale));
    list.either(
        "CanaryStale",
        stale.then_some(("StableMoved", "stable moved and the canary did not")),
        ("UpToDate", "the canary does not lag behind stable"),
    );
    list.either(
        "PreflightFailed",
        refusal(phase).map(|why| ("LineFailed", why)),
        ("NothingInTheWay", "no start is refused"),
    );
    let strays = strays(phase, observation);
    list.either(
        "TrafficNotFollowing",
        strays.as_deref().map(|how| ("ShareOff", how)),
        ("Follows", "no share of the calls is proven to be off its weight"),
    );
    let lost = lost(phase, &observation.canary);
    list.either(
        "PodsLost",
        lost.as_deref().map(|how| ("WeightLowered", how)),
        ("NothingLost", "no weight is lower than wanted for want of pods"),
    );
    let contest = contest(phase);
    list.either(
        "WeightContested",
        contest.as_deref().map(|by| ("OtherWriter", by)),
        ("OneWriter", "nobody else writes the weights"),
    );
    let blind = matches!(phase, Phase::Paused(p) if p.reason == PauseReason::Blind);
    let problem = observation.sampling.problem();
    list.either(
        "Blind",
        blind.then_some((
            "NoFreshScrape",
            problem.unwrap_or("no fresh scrape of the canary's pods"),
        )),
        ("Sighted", "samples come in"),
    );
    match delivery {
        Some((reason, why)) => list.set(DELIVERY_BLOCKED, *reason != ON_ITS_WAY, reason, why),
        None => list.set(
            DELIVERY_BLOCKED,
            false,
            "NotBlocked",
            "no commit is kept from the cluster",
        ),
    }
    match unread(phase, unusable) {
        Some(why) => list.set("MetricsReadable", false, "UnusableQuery", &why),
        None => list.set(
            "MetricsReadable",
            true,
            "Readable",
            "every metric that is judged can be read",
        ),
    }
    list.conditions
}

/// Those of a rollout that can't be worked on: what is said of its trial stays.
pub(super) fn refused(
    before: &[Condition],
    generation: Option<i64>,
    (reason, message): (&str, &str),
    now: Timestamp,
) -> Vec<Condition> {
    let mut list = List {
        conditions: before.to_vec(),
        generation,
        now,
    };
    list.set("SpecValid", false, reason, message);
    list.set("Ready", false, reason, message);
    list.conditions
}

/// What changed between the repository, the cluster and us, as the event that tells of it: kind, reason, message.
pub(super) fn news<'a>(before: &[Condition], after: &'a [Condition]) -> Option<(NoteKind, &'a str, &'a str)> {
    let pending = ("GitAnswered", "the config repository does what it is asked again");
    let blocked = ("Delivered", "nothing keeps commits from the cluster any more");
    change(before, after, "GitPending", pending).or_else(|| change(before, after, DELIVERY_BLOCKED, blocked))
}

fn git(list: &mut List, git: &GitView) {
    let failed = [
        git.origin.as_ref().and_then(failure),
        git.rollback.as_ref().and_then(failure),
        git.promotion.as_ref().and_then(failure),
    ];
    let failed = failed.into_iter().flatten().next();
    let reason = git.reason.unwrap_or("GitFailed");
    list.either(
        "GitPending",
        failed.map(|why| (reason, why)),
        ("NothingPending", "no commit is waited for"),
    );
    list.either(
        ROLLBACK_BLOCKED,
        failed
            .filter(|_| reason == ROLLBACK_BLOCKED)
            .map(|why| ("Conflict", why)),
        ("NotBlocked", "no rollback is blocked"),
    );
}

fn failure<T>(answer: &Answer<T>) -> Option<&str> {
    match answer {
        Answer::Failed(why) => Some(why),
        Answer::Is(_) => None,
    }
}

/// Why the preflight lets no trial start.
fn refusal(phase: &Phase) -> Option<&str> {
    match phase {
        Phase::Starting(Starting {
            preflight: Preflight::Refused(why),
            ..
        }) => Some(why),
        _ => None,
    }
}

/// How the calls' shares differ from the weights, and what may be the cause.
fn strays(phase: &Phase, observation: &Observation) -> Option<String> {
    let deviation = phase.run()?.following.deviation()?;
    let causes = observation.causes.as_ref().and_then(|causes| match causes {
        Answer::Is(causes) => Some(format!("; likely causes: {causes}")),
        Answer::Failed(_) => None,
    });
    Some(format!("{deviation}{}", causes.unwrap_or_default()))
}

fn lost(phase: &Phase, Arm { ready, desired, .. }: &Arm) -> Option<String> {
    let Lowered { to, .. } = phase.lowered()?;
    Some(format!(
        "the weight was lowered to {to}, as canary pods were lost; {ready} of {desired} are ready"
    ))
}

fn contest(phase: &Phase) -> Option<String> {
    let Phase::Paused(paused) = phase else { return None };
    let by = paused.run.contest.as_ref().map_or("somebody", |contest| &contest.by);
    (paused.reason == PauseReason::WeightContested).then(|| {
        format!("{by} writes the weights too (managedFields); take the route out of its hands, then `serin resume`")
    })
}

fn unread(phase: &Phase, unusable: Option<&FieldError>) -> Option<String> {
    unusable.map(ToString::to_string).or_else(|| {
        let unusable = phase.run()?.analysis.unusable()?;
        Some(format!("{}: {}", unusable.field, unusable.problem))
    })
}

/// What changed in one condition; the words are for its end.
fn change<'a>(
    before: &[Condition],
    after: &'a [Condition],
    kind: &str,
    (reason, message): (&'static str, &'static str),
) -> Option<(NoteKind, &'a str, &'a str)> {
    let now = after.iter().find(|c| c.type_ == kind)?;
    let was = before.iter().find(|c| c.type_ == kind);
    let (is, was_so) = (now.status == "True", was.is_some_and(|was| was.status == "True"));
    if is && was.is_none_or(|was| !was_so || was.reason != now.reason) {
        Some((NoteKind::Warning, &now.reason, &now.message))
    } else if !is && was_so {
        Some((NoteKind::Normal, reason, message))
    } else {
        None
    }
}

/// Conditions in the order in which each was first set.
struct List {
    conditions: Vec<Condition>,
    generation: Option<i64>,
    now: Timestamp,
}

impl List {
    /// It is so, for this reason and in these words, or it is not.
    fn either(&mut self, kind: &str, so: Option<(&str, &str)>, not_so: (&str, &str)) {
        let (reason, message) = so.unwrap_or(not_so);
        self.set(kind, so.is_some(), reason, message);
    }

    /// Its time of transition stays as long as its status does.
    fn set(&mut self, kind: &str, is: bool, reason: &str, message: &str) {
        let status = if is { "True" } else { "False" };
        let known = self.conditions.iter_mut().find(|c| c.type_ == kind);
        let since = known.as_ref().filter(|c| c.status == status);
        let condition = Condition {
            last_transition_time: since.map_or(Time(self.now), |c| c.last_transition_time.clone()),
            message: message.chars().take(LONGEST).collect::<String>().as_str().into(),
            observed_generation: self.generation,
            reason: reason.into(),
            status: status.into(),
            type_: kind.into(),
        };
        match known {
            Some(slot) => *slot = condition,
            None => self.conditions.push(condition),
        }
    }
}

#[cfg(test)]
#[path = "conditions_tests.rs"]
mod tests;
