//! How revisions ended, as status remembers it. Pure.

use jiff::Timestamp;
use serin_core::rollout::{Phase, Run, State};

use crate::api::{AnswerStatus, CanaryRolloutStatus, HistoryEntry};

/// Ended revisions that status remembers.
pub(super) const HISTORY: usize = 10;
/// Metrics that are remembered of one.
const METRICS: usize = 3;
/// What is remembered of what a metric said, in bytes.
const LONGEST: usize = 160;

/// Adds the revision that came to its end in this decision.
pub(super) fn remember(history: &mut Vec<HistoryEntry>, before: &State, phase: &Phase, now: Timestamp) {
    let requests =
        |run: Option<&Run>| i64::try_from(run.map_or(0, |run| run.analysis.canary_requests())).unwrap_or(i64::MAX);
    let took_its_place = superseded(before, phase);
    let entry = match (phase.ending(), took_its_place) {
        (_, Some(run)) => HistoryEntry {
            revision: run.revision.name.clone(),
            outcome: "Superseded".to_owned(),
            began: run.began,
            ended: now,
            duration: span(run.began, now),
            requests: requests(Some(run)),
            reason: "another revision took its place".to_owned(),
            canary_commit: run.commit.as_ref().map(|c| c.id.clone()),
            ..HistoryEntry::default()
        },
        // It stays in this phase until the next revision comes.
        (Some(e), None) if before.phase.ending() != Some(e) => HistoryEntry {
            revision: e.revision.name.clone(),
            outcome: phase.name().to_string(),
            began: e.began,
            ended: e.at,
            duration: span(e.began, e.at),
            requests: requests(before.phase.run()),
            reason: e.reason.clone(),
            canary_commit: e.commit.as_ref().map(|c| c.id.clone()),
            commit: e.answer.as_ref().map(|a| a.id.clone()),
            ..HistoryEntry::default()
        },
        _ => return,
    };
    history.insert(0, entry);
    history.truncate(HISTORY);
}

/// The trial that was under way and is neither under way nor ended by an answer now.
fn superseded<'a>(before: &'a State, phase: &Phase) -> Option<&'a Run> {
    let run = before.phase.run()?;
    let goes_on = phase.run().is_some_and(|now| now.revision == run.revision);
    let has_ended = phase.ending().is_some_and(|ending| ending.revision == run.revision);
    (!goes_on && !has_ended).then_some(run)
}

fn span(began: Timestamp, ended: Timestamp) -> String {
    let seconds = ended.duration_since(began).as_secs().max(0);
    format!("{:#}", jiff::SignedDuration::from_secs(seconds))
}

/// What is known of the newest entry beyond its end: what the metrics said, and how far its commit has come.
pub(super) fn complete(status: &mut CanaryRolloutStatus, before: &CanaryRolloutStatus) {
    let CanaryRolloutStatus {
        history,
        rollback,
        promotion,
        ..
    } = status;
    let Some(last) = history.first_mut() else { return };
    let known = before.history.first();
    if known.is_none_or(|known| (known.began, &known.revision) != (last.began, &last.revision)) {
        let told = before.evidence.iter().filter(|one| one.total > 0 && !one.dry_run);
        let sentence = told.map(|one| format!("{}: {}", one.metric, one.sentence));
        last.evidence = sentence.take(METRICS).map(short).collect();
    }
    let answer = match last.outcome.as_str() {
        "RolledBack" => rollback.as_deref(),
        "Promoted" => promotion.as_deref(),
        _ => None,
    };
    let Some(answer) = answer.filter(|answer| (&answer.revision, &answer.commit) == (&last.revision, &last.commit))
    else {
        return;
    };
    let AnswerStatus {
        revision: _,
        reason: _,
        commit: _,
        ended_at: _,
        traffic_at,
        committed_at,
        pushed_at,
        applied_at,
        healthy_at,
    } = answer;
    last.traffic_at = *traffic_at;
    last.committed_at = *committed_at;
    last.pushed_at = *pushed_at;
    last.applied_at = *applied_at;
    last.healthy_at = *healthy_at;
}

fn short(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(LONGEST));
    text
}
