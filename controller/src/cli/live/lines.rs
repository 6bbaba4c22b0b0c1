//! What changed of a rollout, as lines for a log: pure. One line says one thing, so that a pipeline's log reads as a story.

use jiff::Timestamp;
use kube::ResourceExt as _;

use crate::api::{AnswerStatus, CanaryRollout, CanaryRolloutStatus, Condition, EvidenceStatus, HookStatus};
use crate::view;

/// The lines for what differs; all that is known if nothing was known before.
pub(super) fn between(old: Option<&CanaryRollout>, new: &CanaryRollout, now: Timestamp) -> Vec<String> {
    let none = CanaryRolloutStatus::default();
    let was = old.and_then(|old| old.status.as_ref()).unwrap_or(&none);
    let is = new.status.as_ref().unwrap_or(&none);
    let mut said = vec![];
    if old.is_none() || was.phase != is.phase || was.step != is.step || was.revision != is.revision {
        said.push(state(new));
    }
    if was.weight != is.weight
        && let Some(weight) = is.weight
    {
        said.push(if weight.wanted == weight.observed {
            format!("weight {} %", weight.observed)
        } else {
            format!("weight {} %, {} % wanted", weight.observed, weight.wanted)
        });
    }
    if is.verdict.is_some() && was.verdict != is.verdict {
        let sentence = is.evidence.first().map(|first| format!(": {}", first.sentence));
        let verdict = is.verdict.as_deref().unwrap_or_default();
        said.push(format!("verdict {verdict}{}", sentence.unwrap_or_default()));
    }
    for evidence in &is.evidence {
        let before = was.evidence.iter().find(|one| one.metric == evidence.metric);
        if quarter(evidence) > before.map_or(0, quarter) {
            said.push(format!(
                "{} is at {} % of the evidence for a failure: {}",
                evidence.metric, evidence.towards_fail, evidence.sentence
            ));
        }
    }
    for hook in &is.hooks {
        // Other words of the same stand are no news.
        let as_before = |one: &&HookStatus| (&one.name, &one.point, one.step) == (&hook.name, &hook.point, hook.step);
        let before = was.hooks.iter().find(as_before);
        if before.is_none_or(|before| (&before.state, before.attempt) != (&hook.state, hook.attempt)) {
            let sentence = view::hooks::of(hook).sentence(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
            said.push(format!("hook {sentence}"));
        }
    }
    for condition in &is.conditions {
        let before = was.conditions.iter().find(|one| one.type_ == condition.type_);
        if let Some(line) = changed(before, condition) {
            said.push(line);
        }
    }
    let repository = &new.spec.git.repository;
    said.extend(way(
        "rollback",
        repository,
        (was.rollback.as_deref(), is.rollback.as_deref()),
    ));
    said.extend(way(
        "promotion",
        repository,
        (was.promotion.as_deref(), is.promotion.as_deref()),
    ));
    if let Some(answer) = &is.last_command
        && was.last_command.as_ref() != Some(answer)
        && old.is_some()
    {
        let by = answer.by.as_deref().map(|by| format!(" by {by}")).unwrap_or_default();
        let done = if answer.accepted { "" } else { " refused" };
        said.push(format!("command {}{by}{done}: {}", answer.verb, answer.message));
    }
    said.iter().map(|line| stamped(new, line, now)).collect()
}

/// The line for one that is gone.
pub(super) fn gone(rollout: &CanaryRollout, now: Timestamp) -> String {
    stamped(rollout, "deleted", now)
}

fn stamped(rollout: &CanaryRollout, line: &str, now: Timestamp) -> String {
    let (namespace, name) = (rollout.namespace().unwrap_or_default(), rollout.name_any());
    let line = view::one_line(line);
    format!("{} {namespace}/{name} {line}", now.strftime("%Y-%m-%dT%H:%M:%SZ"))
}

fn state(rollout: &CanaryRollout) -> String {
    let row = view::row(rollout);
    let revision = row.revision.map(|name| format!(" {name}")).unwrap_or_default();
    let step = row.step.map(|step| format!(", step {step}")).unwrap_or_default();
    format!("{}{revision}{step}: {}", row.phase, row.message)
}

/// Evidence is told of at a quarter, a half, three quarters and all of it, once each.
fn quarter(evidence: &EvidenceStatus) -> i32 {
    if evidence.dry_run {
        0
    } else {
        evidence.towards_fail.clamp(0, 100) / 25
    }
}

fn changed(before: Option<&Condition>, now: &Condition) -> Option<String> {
    let same = before.is_some_and(|before| before.status == now.status && before.reason == now.reason);
    let was_trouble = before.is_some_and(view::is_trouble);
    let is_trouble = view::is_trouble(now);
    if same || !(was_trouble || is_trouble) {
        return None;
    }
    let over = if is_trouble { "" } else { " is over" };
    Some(format!("{} ({}){over}: {}", now.type_, now.reason, now.message))
}

fn way(what: &str, repository: &str, (before, now): (Option<&AnswerStatus>, Option<&AnswerStatus>)) -> Vec<String> {
    let Some(now) = now else { return vec![] };
    let before = before.filter(|before| before.revision == now.revision);
    let is_new = |of: fn(&AnswerStatus) -> Option<Timestamp>| of(now).is_some() && before.and_then(of).is_none();
    let mut said = vec![];
    if is_new(|answer| answer.traffic_at) {
        said.push(format!("{what} of {}: the canary's traffic is away", now.revision));
    }
    if is_new(|answer| answer.pushed_at) {
        let commit = now.commit.as_deref().unwrap_or("a commit");
        let link = view::link(repository, now.commit.as_deref()).map(|link| format!(": {link}"));
        let link = link.unwrap_or_default();
        said.push(format!("{what} of {}: {commit} is pushed{link}", now.revision));
    }
    if is_new(|answer| answer.applied_at) {
        said.push(format!("{what} of {}: the cluster has it", now.revision));
    }
    if is_new(|answer| answer.healthy_at) {
        said.push(format!("{what} of {}: what it changed is available", now.revision));
    }
    if is_new(|answer| answer.ended_at) {
        said.push(format!("{what} of {} has ended", now.revision));
    }
    said
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::super::rollout::minimal;
    use super::*;

    fn rollout(status: Value) -> CanaryRollout {
        let mut rollout = minimal(&json!({}));
        rollout.status = serde_json::from_value(status).unwrap();
        rollout
    }

    fn told(old: Option<&CanaryRollout>, new: &CanaryRollout) -> String {
        between(old, new, Timestamp::UNIX_EPOCH).join("\n")
    }

    #[test]
    fn a_rollback_reads_as_a_story() {
        let begun = rollout(json!({
            "phase": "Progressing", "step": "1/4", "revision": {"name": "1.2.0"}, "message": "step 1 of 4",
            "weight": {"wanted": 5, "observed": 0},
        }));
        let failing = rollout(json!({
            "phase": "RollingBack", "revision": {"name": "1.2.0"}, "message": "taking 1.2.0 back",
            "weight": {"wanted": 0, "observed": 0}, "verdict": "fail",
            "evidence": [{"metric": "success-rate", "towardsFail": 100, "sentence": "20.0 % of 90 canary calls failed"}],
            "rollback": {"revision": "1.2.0", "trafficAt": "2026-11-20T10:00:00Z"},
        }));
        let ended = rollout(json!({
            "phase": "RolledBack", "revision": {"name": "1.0.0"}, "message": "1.2.0 was rolled back",
            "weight": {"wanted": 0, "observed": 0}, "verdict": "fail",
            "evidence": [{"metric": "success-rate", "towardsFail": 100, "sentence": "20.0 % of 90 canary calls failed"}],
            "rollback": {
                "revision": "1.2.0", "trafficAt": "2026-11-20T10:00:00Z", "commit": "0a1b2c",
                "committedAt": "2026-11-20T10:00:01Z", "pushedAt": "2026-11-20T10:00:02Z", "appliedAt": "2026-11-20T10:00:09Z",
                "healthyAt": "2026-11-20T10:00:12Z", "endedAt": "2026-11-20T10:00:30Z",
            },
        }));
        insta::assert_snapshot!(
            [told(None, &begun), told(Some(&begun), &failing), told(Some(&failing), &ended), told(Some(&ended), &ended)].join("\n"),
            @r"
        1970-01-01T00:00:00Z prod/user-service Progressing 1.2.0, step 1/4: step 1 of 4
        1970-01-01T00:00:00Z prod/user-service weight 0 %, 5 % wanted
        1970-01-01T00:00:00Z prod/user-service RollingBack 1.2.0: taking 1.2.0 back
        1970-01-01T00:00:00Z prod/user-service weight 0 %
        1970-01-01T00:00:00Z prod/user-service verdict fail: 20.0 % of 90 canary calls failed
        1970-01-01T00:00:00Z prod/user-service success-rate is at 100 % of the evidence for a failure: 20.0 % of 90 canary calls failed
        1970-01-01T00:00:00Z prod/user-service rollback of 1.2.0: the canary's traffic is away
        1970-01-01T00:00:00Z prod/user-service RolledBack 1.0.0: 1.2.0 was rolled back
        1970-01-01T00:00:00Z prod/user-service rollback of 1.2.0: 0a1b2c is pushed
        1970-01-01T00:00:00Z prod/user-service rollback of 1.2.0: the cluster has it
        1970-01-01T00:00:00Z prod/user-service rollback of 1.2.0: what it changed is available
        1970-01-01T00:00:00Z prod/user-service rollback of 1.2.0 has ended
        "
        );
    }

    #[test]
    fn a_hook_is_told_when_it_is_asked_and_when_it_answers() {
        let hook = |state: &str, answer: &str| {
            rollout(json!({"phase": "Starting", "message": "waits", "hooks": [{
                "name": "smoke", "point": "BeforeRollout", "state": state, "since": "2026-11-20T10:00:00Z", "answer": answer,
            }]}))
        };
        let none = rollout(json!({"phase": "Starting", "message": "waits"}));
        let (asked, again, passed) = (hook("Asked", "HTTP 503"), hook("Asked", "HTTP 502"), hook("Passed", ""));
        let all = [
            told(Some(&none), &asked),
            told(Some(&asked), &again),
            told(Some(&again), &passed),
        ];
        insta::assert_snapshot!(all.join("\n"), @r"
        1970-01-01T00:00:00Z prod/user-service hook smoke (BeforeRollout) could not say yet, and is asked again: HTTP 503

        1970-01-01T00:00:00Z prod/user-service hook smoke (BeforeRollout) passed
        ");
    }

    #[test]
    fn a_condition_is_told_when_it_begins_and_when_it_is_over() {
        let condition = |status: &str| {
            rollout(json!({"phase": "Paused", "message": "blind", "conditions": [{
                "type": "Blind", "status": status, "reason": "NoFreshScrape", "message": "no fresh scrape\nof its pods",
                "lastTransitionTime": "2026-11-20T10:00:00Z",
            }]}))
        };
        let (fine, blind) = (condition("False"), condition("True"));
        insta::assert_snapshot!([told(Some(&fine), &blind), told(Some(&blind), &fine)].join("\n"), @r"
        1970-01-01T00:00:00Z prod/user-service Blind (NoFreshScrape): no fresh scrape of its pods
        1970-01-01T00:00:00Z prod/user-service Blind (NoFreshScrape) is over: no fresh scrape of its pods
        ");
    }
}
