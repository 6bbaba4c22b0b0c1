//! What happened to a rollout, oldest first: events since this replica leads, and before them what status remembers. So the page of a
//! replica that has just begun to lead, or that follows, does not begin with nothing. Pure.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serin_core::rollout::short;

use super::is_trouble;
use crate::api::{AnswerStatus, CanaryRolloutStatus, HistoryEntry};
use crate::board::Told;

/// From a decision to its event.
const MOMENT: SignedDuration = SignedDuration::from_secs(2);
/// More than anybody reads.
const MOST: usize = 40;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Happened {
    pub(crate) at: Timestamp,
    pub(crate) warns: bool,
    pub(crate) reason: String,
    pub(crate) message: String,
    /// Told by status, which keeps the main things only.
    pub(crate) remembered: bool,
}

/// The timeline.
pub(crate) fn of(status: &CanaryRolloutStatus, told: &VecDeque<Told>) -> Vec<Happened> {
    let mut all = remembered(status);
    if let Some(since) = told.iter().filter_map(|told| told.at).min() {
        // From there on the events say the same in more words; they are written a moment later than what they tell of.
        let since = since.checked_sub(MOMENT).unwrap_or(since);
        all.retain(|one| one.at < since);
    }
    all.extend(told.iter().filter_map(|told| {
        Some(Happened {
            at: told.at?,
            warns: told.warns,
            reason: told.reason.clone(),
            message: told.message.clone(),
            remembered: false,
        })
    }));
    all.sort_by_key(|one| one.at);
    all.drain(..all.len().saturating_sub(MOST));
    all
}

fn remembered(status: &CanaryRolloutStatus) -> Vec<Happened> {
    let mut all: Vec<_> = status.history.iter().flat_map(past).collect();
    let answers = [
        ("rollback", status.rollback.as_deref()),
        ("promotion", status.promotion.as_deref()),
    ];
    for (what, answer) in answers {
        let is_past = |answer: &&AnswerStatus| {
            let mut past = status.history.iter();
            past.any(|past| (&past.revision, &past.commit) == (&answer.revision, &answer.commit))
        };
        if let Some(answer) = answer.filter(|answer| !is_past(answer)) {
            let stages = [
                answer.traffic_at,
                answer.pushed_at,
                answer.applied_at,
                answer.healthy_at,
            ];
            all.extend(way(what, &answer.revision, answer.commit.as_deref(), stages));
        }
    }
    all.extend(weights(status));
    for hook in &status.hooks {
        let message = format!("hook {} ({}) was asked", hook.name, hook.point);
        all.push(one(hook.since, false, "HookAsked", message));
    }
    let trouble = status.conditions.iter().filter(|condition| is_trouble(condition));
    all.extend(trouble.map(|condition| {
        let (at, message) = (condition.last_transition_time.0, condition.message.to_string());
        one(at, true, &condition.reason, message)
    }));
    all
}

fn past(entry: &HistoryEntry) -> Vec<Happened> {
    let (revision, has_failed) = (&entry.revision, entry.outcome == "RolledBack");
    let what = if has_failed { "rollback" } else { "promotion" };
    let stages = [entry.traffic_at, entry.pushed_at, entry.applied_at, entry.healthy_at];
    let mut all = vec![one(entry.began, false, "Starting", format!("{revision} goes on trial"))];
    all.extend(way(what, revision, entry.commit.as_deref(), stages));
    let message = format!("{revision}: {}", entry.reason);
    all.push(one(entry.ended, has_failed, &entry.outcome, message));
    all
}

/// How far a commit came when.
fn way(
    what: &'static str,
    revision: &str,
    commit: Option<&str>,
    [away, pushed, applied, healthy]: [Option<Timestamp>; 4],
) -> Vec<Happened> {
    let commit = commit.map_or("its commit", short);
    let stages = [
        (away, "TrafficAway", "the canary's traffic is away".to_owned()),
        (pushed, "Pushed", format!("{commit} is pushed")),
        (applied, "Applied", "the cluster has it".to_owned()),
        (healthy, "Healthy", "what it changes is available".to_owned()),
    ];
    let known = stages
        .into_iter()
        .filter_map(|(at, reason, words)| Some((at?, reason, words)));
    known
        .map(|(at, reason, words)| one(at, false, reason, format!("{what} of {revision}: {words}")))
        .collect()
}

/// The weights that the last ticks were counted at.
fn weights(status: &CanaryRolloutStatus) -> Vec<Happened> {
    let mut before = None;
    let ticks = status.samples.iter().flat_map(|samples| &samples.ticks);
    let changes = ticks.filter(|tick| before.replace(tick.weight) != Some(tick.weight));
    changes
        .map(|tick| one(tick.end, false, "Weight", format!("{} % is on the canary", tick.weight)))
        .collect()
}

fn one(at: Timestamp, warns: bool, reason: &str, message: String) -> Happened {
    Happened {
        at,
        warns,
        reason: reason.to_owned(),
        message,
        remembered: true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status() -> CanaryRolloutStatus {
        serde_json::from_value(json!({
            "history": [{
                "revision": "1.1.0", "outcome": "RolledBack", "began": "2026-11-20T09:00:00Z", "ended": "2026-11-20T09:05:00Z",
                "reason": "9.1 % of 412 canary calls failed", "commit": "0a1b2c3d4e5f60718293", "trafficAt": "2026-11-20T09:04:00Z",
                "pushedAt": "2026-11-20T09:04:02Z", "healthyAt": "2026-11-20T09:04:30Z",
            }],
            "rollback": {"revision": "1.1.0", "commit": "0a1b2c3d4e5f60718293", "trafficAt": "2026-11-20T09:04:00Z"},
            "hooks": [{"name": "smoke", "point": "BeforeRollout", "state": "Passed", "since": "2026-11-20T10:00:00Z"}],
            "samples": {"boundsMs": [], "ticks": [
                {"end": "2026-11-20T10:00:20Z", "weight": 5, "canary": {"requests": 1, "failures": 0}, "stable": {"requests": 1, "failures": 0}},
                {"end": "2026-11-20T10:00:40Z", "weight": 5, "canary": {"requests": 1, "failures": 0}, "stable": {"requests": 1, "failures": 0}},
                {"end": "2026-11-20T10:01:00Z", "weight": 25, "canary": {"requests": 1, "failures": 0}, "stable": {"requests": 1, "failures": 0}},
            ]},
            "conditions": [
                {"type": "Ready", "status": "True", "reason": "Reconciled", "message": "", "lastTransitionTime": "2026-11-20T08:00:00Z"},
                {"type": "GitPending", "status": "True", "reason": "HostTimedOut", "message": "no answer",
                 "lastTransitionTime": "2026-11-20T10:00:50Z"},
            ],
        }))
        .unwrap()
    }

    fn said(all: &[Happened]) -> String {
        let line = |one: &Happened| {
            let from = if one.remembered { "status" } else { "event " };
            let sign = if one.warns { "!" } else { " " };
            format!(
                "{} {from} {sign} {}: {}",
                one.at.strftime("%H:%M:%S"),
                one.reason,
                one.message
            )
        };
        all.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn without_events_it_is_what_status_remembers() {
        insta::assert_snapshot!(said(&of(&status(), &VecDeque::new())), @r"
        09:00:00 status   Starting: 1.1.0 goes on trial
        09:04:00 status   TrafficAway: rollback of 1.1.0: the canary's traffic is away
        09:04:02 status   Pushed: rollback of 1.1.0: 0a1b2c3d4e5f is pushed
        09:04:30 status   Healthy: rollback of 1.1.0: what it changes is available
        09:05:00 status ! RolledBack: 1.1.0: 9.1 % of 412 canary calls failed
        10:00:00 status   HookAsked: hook smoke (BeforeRollout) was asked
        10:00:20 status   Weight: 5 % is on the canary
        10:00:50 status ! HostTimedOut: no answer
        10:01:00 status   Weight: 25 % is on the canary
        ");
    }

    #[test]
    fn from_the_first_event_on_events_say_it() {
        let event = |at: &str, reason: &str| Told {
            at: at.parse().ok(),
            warns: false,
            reason: reason.to_owned(),
            message: "25 %".to_owned(),
        };
        let told = [event("2026-11-20T10:00:45Z", "StepEntered")].into();
        let all = said(&of(&status(), &told));
        assert!(
            all.ends_with("10:00:20 status   Weight: 5 % is on the canary\n10:00:45 event    StepEntered: 25 %"),
            "{all}"
        );
    }

    #[test]
    fn the_newest_are_kept() {
        let mut status = status();
        status.history = vec![status.history[0].clone(); MOST];
        let all = of(&status, &VecDeque::new());
        assert_eq!((all.len(), all.last().unwrap().reason.as_str()), (MOST, "Weight"));
    }
}
