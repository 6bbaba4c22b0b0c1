//! How ticks get into a trial's analysis. Must not know decisions.

use jiff::Timestamp;

use super::plan::Plan;
use super::state::{Paused, Phase, Progressing, PromoteStage, Promoting, Run, after};
use crate::analysis::{Judged, Outcome, Sight, Tick};

impl Run {
    /// Adds the ticks to the analysis; those at `weight_at` or later count, earlier ones straddle a change of weight.
    pub(super) fn absorb(&mut self, ticks: &[Tick], weight_at: Timestamp) -> Outcome {
        for tick in ticks {
            if tick.end <= self.as_of {
                continue;
            }
            self.as_of = tick.end;
            let seen = match self.analysis.judged {
                Judged::Canary => tick.canary.sight,
                Judged::Stable => tick.stable.sight,
            };
            if seen == Sight::Fresh {
                self.fresh_at = tick.end;
            }
            if tick.start >= weight_at && self.analysis.observe(tick) == Outcome::Fail {
                return Outcome::Fail;
            }
        }
        self.analysis.outcome()
    }
}

impl Progressing {
    /// From when on calls count at a weight that stands since `weight_at`: the first ones warm the canary up.
    pub(super) fn counts_from(&self, plan: &Plan, weight_at: Timestamp) -> Timestamp {
        if self.step == 0 {
            after(weight_at, plan.warm_up)
        } else {
            weight_at
        }
    }

    /// Whether there is something to judge while the step's weight is not on the route yet: the weight from which it rises, or
    /// what the canary did before its pods were lost.
    pub(super) fn had_traffic(&self) -> bool {
        !self.from.is_zero() || self.run.footing.lowered.is_some()
    }
}

/// The ticks that a decision looked at, and whether each went into the analysis: one that straddles the first weight, or
/// falls into the warm-up, does not.
pub fn looked_at<'t>(plan: &Plan, before: &Phase, after: &Phase, ticks: &'t [Tick]) -> Vec<(&'t Tick, bool)> {
    let (Some(was), Some(is)) = (before.run(), after.run()) else {
        return Vec::new();
    };
    let since = counts_since(plan, before);
    let seen = ticks.iter().filter(|tick| was.as_of < tick.end && tick.end <= is.as_of);
    seen.map(|tick| (tick, since.is_some_and(|since| tick.start >= since)))
        .collect()
}

/// From when on the ticks count that a decision finds in this phase; `None` where nothing is judged.
fn counts_since(plan: &Plan, phase: &Phase) -> Option<Timestamp> {
    match phase {
        Phase::Progressing(p) => match p.weight_at {
            Some(weight_at) => Some(p.counts_from(plan, weight_at)),
            None => p.had_traffic().then_some(Timestamp::MIN),
        },
        Phase::Paused(Paused { since, .. }) => Some(*since),
        Phase::Promoting(Promoting { stage, since, .. }) => match stage {
            PromoteStage::Committing | PromoteStage::Applying => Some(*since),
            PromoteStage::Returning { weight_at, .. } => *weight_at,
            PromoteStage::Draining => None,
        },
        Phase::Starting(_)
        | Phase::RollingBack(_)
        | Phase::Idle(_)
        | Phase::Withdrawn(_)
        | Phase::Promoted(_)
        | Phase::RolledBack(_) => None,
    }
}
