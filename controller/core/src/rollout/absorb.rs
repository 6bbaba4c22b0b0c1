//! How ticks get into a trial's analysis. Must not know decisions.

use jiff::Timestamp;

use super::plan::Plan;
use super::state::{Progressing, Run, after};
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
}
