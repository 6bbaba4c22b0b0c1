//! A promotion's or a rollback's way through Git and the cluster, stage by stage. Pure.

use jiff::Timestamp;
use serde::Serialize;

use crate::api::{AnswerStatus, CanaryRolloutStatus};

#[derive(Debug, Serialize)]
pub(crate) struct Pipeline<'a> {
    pub(crate) kind: &'static str,
    pub(crate) revision: &'a str,
    pub(crate) reason: Option<&'a str>,
    pub(crate) commit: Option<&'a str>,
    pub(crate) stages: Vec<Stage>,
}

/// One stage, and when it was over.
#[derive(Debug, Serialize)]
pub(crate) struct Stage {
    pub(crate) name: &'static str,
    pub(crate) at: Option<Timestamp>,
    pub(crate) state: Reached,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reached {
    Done,
    Now,
    Ahead,
}

/// The one that is under way, or was the last.
pub(crate) fn of<'a>(phase: &str, status: &'a CanaryRolloutStatus) -> Option<Pipeline<'a>> {
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
            ("committed and pushed", answer.pushed_at),
            ("applied, and traffic back on stable", answer.ended_at),
        ];
        Some(pipeline("Promotion", answer, &stages))
    } else {
        let answer = rollback?;
        // People may have put Git back themselves: then there is no commit of Serin's.
        let stages = [
            ("traffic away", answer.traffic_at),
            ("committed and pushed", answer.pushed_at),
            ("applied, and the canary at rest", answer.ended_at),
        ];
        Some(pipeline("Rollback", answer, &stages))
    }
}

fn pipeline<'a>(
    kind: &'static str,
    answer: &'a AnswerStatus,
    stages: &[(&'static str, Option<Timestamp>)],
) -> Pipeline<'a> {
    let ended = answer.ended_at.is_some();
    let first_open = stages.iter().position(|(_, at)| at.is_none());
    let stages = stages.iter().enumerate().map(|(nth, (name, at))| Stage {
        name,
        at: *at,
        state: match at {
            Some(_) => Reached::Done,
            None if ended => Reached::Done,
            None if first_open == Some(nth) => Reached::Now,
            None => Reached::Ahead,
        },
    });
    Pipeline {
        kind,
        revision: &answer.revision,
        reason: answer.reason.as_deref(),
        commit: answer.commit.as_deref(),
        stages: stages.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(pipeline: &Pipeline<'_>) -> Vec<Reached> {
        pipeline.stages.iter().map(|stage| stage.state).collect()
    }

    #[test]
    fn the_first_stage_without_a_time_is_the_present_one() {
        let at = Some(Timestamp::UNIX_EPOCH);
        let mut status = CanaryRolloutStatus {
            rollback: Some(AnswerStatus {
                traffic_at: at,
                ..AnswerStatus::default()
            }),
            ..CanaryRolloutStatus::default()
        };
        let under_way = of("RollingBack", &status).unwrap();
        assert_eq!(states(&under_way), [Reached::Done, Reached::Now, Reached::Ahead]);
        let people_were_faster = AnswerStatus {
            traffic_at: at,
            ended_at: at,
            ..AnswerStatus::default()
        };
        status.rollback = Some(people_were_faster);
        assert_eq!(states(&of("RolledBack", &status).unwrap()), [Reached::Done; 3]);
        assert!(of("Promoting", &status).is_none());
    }
}
