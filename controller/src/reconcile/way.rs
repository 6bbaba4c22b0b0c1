//! The way of a promotion or a rollback through Git and the cluster as status tells it, stage by stage. Pure; nothing is decided by it.
//!
//! # Caveats
//! A stage's time is when it was seen first; only the commit says its own. What nobody saw (a stage that was over between two looks of
//! an earlier version) stays without a time.

use jiff::Timestamp;
use serin_core::rollout::state::Pushed;
use serin_core::rollout::{Ending, Observation, Phase, PromoteStage, Promoting, RollbackGit, RollingBack};

use crate::api::{AnswerStatus, CanaryRolloutStatus};

/// Adds what a decision changed. `delivered` is whether Argo CD or Flux say that they have applied the commit.
pub(super) fn follow(
    status: &mut CanaryRolloutStatus,
    before: &CanaryRolloutStatus,
    (phase, observation): (&Phase, &Observation),
    delivered: bool,
    now: Timestamp,
) {
    let (rollback, promotion) = (before.rollback.as_deref(), before.promotion.as_deref());
    match phase {
        Phase::RollingBack(r) => {
            let reached = of_rollback(r, observation, delivered);
            status.rollback = Some(seen(rolling_back(r), rollback, reached, now));
        }
        Phase::RolledBack(ending) => {
            // It may have ended with a newer revision in the failed one's place: then there is no commit.
            let reached = Reached {
                applied: ending.answer.is_some(),
                healthy: (ending.answer.is_some() || rollback.is_some_and(|known| known.applied_at.is_some()))
                    && observation.stable.settled
                    && observation.canary.settled
                    && observation.canary.revision.as_ref() != Some(&ending.revision),
            };
            status.rollback = Some(seen(ended(ending), rollback, reached, now));
        }
        Phase::Promoting(p) => {
            let reached = of_promotion(p, observation, delivered);
            status.promotion = Some(seen(promoting(p), promotion, reached, now));
        }
        Phase::Promoted(ending) => {
            let reached = Reached {
                applied: true,
                healthy: true,
            };
            status.promotion = Some(seen(ended(ending), promotion, reached, now));
        }
        Phase::Idle(_) | Phase::Withdrawn(_) => {
            status.rollback.clone_from(&before.rollback);
            status.promotion.clone_from(&before.promotion);
        }
        Phase::Starting(_) | Phase::Progressing(_) | Phase::Paused(_) => {}
    }
}

/// What is so now.
#[derive(Debug, Clone, Copy)]
struct Reached {
    applied: bool,
    healthy: bool,
}

fn of_rollback(r: &RollingBack, observation: &Observation, delivered: bool) -> Reached {
    let Observation { stable, canary, .. } = observation;
    let is_asked = r.git != RollbackGit::Committing;
    let carried = is_asked && r.is_applied(stable, canary);
    Reached {
        applied: carried || (is_asked && delivered),
        healthy: carried && stable.settled && canary.settled,
    }
}

fn of_promotion(p: &Promoting, observation: &Observation, delivered: bool) -> Reached {
    let stable = &observation.stable;
    match p.stage {
        PromoteStage::Committing => Reached {
            applied: false,
            healthy: false,
        },
        PromoteStage::Applying => Reached {
            applied: delivered || p.is_applied(stable),
            healthy: p.is_applied(stable) && stable.settled,
        },
        // Traffic returns to a stable that is available on it.
        PromoteStage::Returning { .. } | PromoteStage::Draining => Reached {
            applied: true,
            healthy: true,
        },
    }
}

fn rolling_back(r: &RollingBack) -> AnswerStatus {
    let pushed = match &r.git {
        RollbackGit::Applying(pushed) => Some(pushed),
        RollbackGit::Committing | RollbackGit::AtRest => None,
    };
    AnswerStatus {
        revision: r.run.revision.name.clone(),
        reason: Some(r.reason.to_string()),
        traffic_at: r.traffic_at,
        ..by(pushed)
    }
}

fn promoting(p: &Promoting) -> AnswerStatus {
    AnswerStatus {
        revision: p.run.revision.name.clone(),
        ..by(p.commit.as_ref())
    }
}

fn ended(ending: &Ending) -> AnswerStatus {
    AnswerStatus {
        revision: ending.revision.name.clone(),
        reason: Some(ending.reason.clone()),
        traffic_at: ending.traffic_at,
        ended_at: Some(ending.at),
        ..by(ending.answer.as_ref())
    }
}

fn by(pushed: Option<&Pushed>) -> AnswerStatus {
    AnswerStatus {
        commit: pushed.map(|pushed| pushed.id.clone()),
        committed_at: pushed.and_then(|pushed| pushed.committed),
        pushed_at: pushed.map(|pushed| pushed.at),
        ..AnswerStatus::default()
    }
}

/// With the times at which the cluster was seen to follow: each is told once.
fn seen(answer: AnswerStatus, before: Option<&AnswerStatus>, reached: Reached, now: Timestamp) -> Box<AnswerStatus> {
    let is_same = |before: &&AnswerStatus| {
        let same_commit = before.commit.is_none() || before.commit == answer.commit;
        before.revision == answer.revision
            && same_commit
            && (before.ended_at.is_none() || before.ended_at == answer.ended_at)
    };
    let before = before.filter(is_same);
    // An ending that an earlier version recorded: nobody knows when it was applied.
    let is_old = before.is_some_and(|before| before.ended_at.is_some() && before.applied_at.is_none());
    let once = |known: Option<Timestamp>, is: bool| known.or((is && !is_old).then_some(now));
    let applied_at = once(
        before.and_then(|before| before.applied_at),
        reached.applied || reached.healthy,
    );
    let healthy_at = once(
        before.and_then(|before| before.healthy_at),
        reached.healthy && applied_at.is_some(),
    );
    Box::new(AnswerStatus {
        applied_at,
        healthy_at,
        ..answer
    })
}

#[cfg(test)]
#[path = "way_tests.rs"]
mod tests;
