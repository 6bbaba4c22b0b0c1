//! A promotion's or a rollback's way through Git and the cluster, stage by stage. Pure.

use jiff::Timestamp;
use serde::Serialize;

use super::link;
use crate::api::{AnswerStatus, CanaryRolloutStatus, HistoryEntry};

#[derive(Debug, Serialize)]
pub(crate) struct Pipeline<'a> {
    pub(crate) kind: &'static str,
    pub(crate) revision: &'a str,
    pub(crate) reason: Option<&'a str>,
    pub(crate) commit: Option<&'a str>,
    /// Its page.
    pub(crate) link: Option<String>,
    pub(crate) stages: Vec<Stage>,
}

/// One stage, and when it was over.
#[derive(Debug, Serialize)]
pub(crate) struct Stage {
    pub(crate) name: &'static str,
    pub(crate) at: Option<Timestamp>,
    pub(crate) state: Reached,
    /// Of one that is done without a time: whether there was nothing to do.
    pub(crate) skipped: bool,
}

impl Stage {
    /// When it was over, or what else there is to say.
    pub(crate) fn words(&self, clock: impl Fn(Timestamp) -> String) -> String {
        match (self.at, self.state) {
            (Some(at), _) => clock(at),
            (None, Reached::Done) if self.skipped => "not needed".to_owned(),
            (None, Reached::Done) => "not seen".to_owned(),
            (None, Reached::Now) => "now".to_owned(),
            (None, Reached::Ahead) => "-".to_owned(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reached {
    Done,
    Now,
    Ahead,
}

/// The one that is under way, or was the last.
pub(crate) fn of<'a>(phase: &str, repository: &str, status: &'a CanaryRolloutStatus) -> Option<Pipeline<'a>> {
    let (rollback, promotion) = (status.rollback.as_ref(), status.promotion.as_ref());
    let promotes = match phase {
        "RollingBack" | "RolledBack" => false,
        "Promoting" | "Promoted" => true,
        // At rest both may be known: the later one is what people look for.
        _ => promotion.and_then(|answer| answer.ended_at) > rollback.and_then(|answer| answer.ended_at),
    };
    if promotes {
        let answer = promotion?;
        let stages = [
            ("committed", answer.committed_at),
            ("pushed", answer.pushed_at),
            ("applied", answer.applied_at),
            ("healthy", answer.healthy_at),
            ("traffic back on stable", answer.ended_at),
        ];
        Some(pipeline("Promotion", repository, answer, &stages))
    } else {
        let answer = rollback?;
        // People may have put Git back themselves: then there is no commit of Serin's.
        let stages = [
            ("traffic away", answer.traffic_at),
            ("committed", answer.committed_at),
            ("pushed", answer.pushed_at),
            ("applied", answer.applied_at),
            ("healthy", answer.healthy_at),
        ];
        Some(pipeline("Rollback", repository, answer, &stages))
    }
}

/// The times of past stages in one line; none where nothing is known.
pub(crate) fn times(entry: &HistoryEntry, clock: impl Fn(Timestamp) -> String) -> Option<String> {
    let stages = [
        ("traffic away", entry.traffic_at),
        ("committed", entry.committed_at),
        ("pushed", entry.pushed_at),
        ("applied", entry.applied_at),
        ("healthy", entry.healthy_at),
    ];
    let known = stages.iter().filter_map(|(name, at)| Some((name, (*at)?)));
    let words: Vec<_> = known.map(|(name, at)| format!("{name} {}", clock(at))).collect();
    (!words.is_empty()).then(|| words.join(" → "))
}

fn pipeline<'a>(
    kind: &'static str,
    repository: &str,
    answer: &'a AnswerStatus,
    stages: &[(&'static str, Option<Timestamp>)],
) -> Pipeline<'a> {
    // What was not seen is over when a later stage is; healthy may come after the end, and is no end's condition.
    let last = stages.iter().rposition(|(_, at)| at.is_some());
    let ended = if answer.ended_at.is_some() { stages.len() } else { 0 };
    let done = last.map_or(0, |last| last + 1).max(ended);
    let needs_no_commit = answer.ended_at.is_some() && answer.commit.is_none();
    let stages = stages.iter().enumerate().map(|(nth, (name, at))| Stage {
        name,
        at: *at,
        state: match nth {
            nth if nth < done => Reached::Done,
            nth if nth == done => Reached::Now,
            _ => Reached::Ahead,
        },
        skipped: at.is_none() && nth < done && needs_no_commit,
    });
    Pipeline {
        kind,
        revision: &answer.revision,
        reason: answer.reason.as_deref(),
        commit: answer.commit.as_deref(),
        link: link(repository, answer.commit.as_deref()),
        stages: stages.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPOSITORY: &str = "https://github.com/shop/config.git";

    fn states(pipeline: &Pipeline<'_>) -> Vec<Reached> {
        pipeline.stages.iter().map(|stage| stage.state).collect()
    }

    #[test]
    fn the_first_stage_without_a_time_is_the_present_one() {
        let at = Some(Timestamp::UNIX_EPOCH);
        let mut status = CanaryRolloutStatus {
            rollback: Some(Box::new(AnswerStatus {
                traffic_at: at,
                ..AnswerStatus::default()
            })),
            ..CanaryRolloutStatus::default()
        };
        let under_way = of("RollingBack", REPOSITORY, &status).unwrap();
        assert_eq!(
            states(&under_way),
            [
                Reached::Done,
                Reached::Now,
                Reached::Ahead,
                Reached::Ahead,
                Reached::Ahead
            ]
        );
        let people_were_faster = AnswerStatus {
            traffic_at: at,
            ended_at: at,
            ..AnswerStatus::default()
        };
        status.rollback = Some(Box::new(people_were_faster));
        let ended = of("RolledBack", REPOSITORY, &status).unwrap();
        assert_eq!(states(&ended), [Reached::Done; 5]);
        assert!(
            ended.stages.iter().skip(1).all(|stage| stage.skipped),
            "there was no commit"
        );
        let of_an_earlier_version = AnswerStatus {
            traffic_at: at,
            commit: Some("0a1b".to_owned()),
            pushed_at: at,
            ..AnswerStatus::default()
        };
        status.rollback = Some(Box::new(of_an_earlier_version));
        let unseen = of("RollingBack", REPOSITORY, &status).unwrap();
        assert_eq!(
            states(&unseen)[..4],
            [Reached::Done, Reached::Done, Reached::Done, Reached::Now]
        );
        assert!(!unseen.stages.iter().any(|stage| stage.skipped));
        assert_eq!(
            unseen.link.as_deref(),
            Some("https://github.com/shop/config/commit/0a1b")
        );
        assert!(of("Promoting", REPOSITORY, &status).is_none());
    }
}
