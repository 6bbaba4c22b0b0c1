//! Prometheus: each tick shows one of a few things, with counts large enough that a verdict needs a few ticks only.

use serin_core::analysis::{ArmSample, Counts, CustomTick, Judged, Sent, Sight, Streams, Tick};
use serin_core::rollout::State;

use super::world::{World, at};

/// What one tick shows of the arm that is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Many good calls: proves a step.
    Good,
    /// Every call fails, and none of the other arm's: two or three such ticks prove a failure.
    Bad,
    /// Every call of both arms fails: nobody is to blame.
    BothBad,
    /// A few good calls: enough to advance unproven, not to prove anything.
    Thin,
    /// Fresh scrapes and no calls.
    Quiet,
    /// No fresh scrape.
    Blind,
}

const CALLS: u64 = 100_000;
/// Of a thin tick: more than `minRequests` of the plans.
const FEW: u64 = 25;

impl Kind {
    pub(crate) fn tick(self, judged: Judged, weight: u8, start: i64) -> Tick {
        let canary = CALLS / 100 * u64::from(weight);
        let (mine, others) = match judged {
            Judged::Canary => (canary, CALLS - canary),
            Judged::Stable => (CALLS - canary, canary),
        };
        let sample = |requests, failures| ArmSample {
            sight: Sight::Fresh,
            counts: Counts {
                requests,
                failures,
                slow: vec![],
            },
            pods: vec![],
        };
        let (mine, others) = match self {
            Self::Good => (sample(mine, 0), sample(others, 0)),
            Self::Bad => (sample(mine, mine), sample(others, 0)),
            Self::BothBad => (sample(mine, mine), sample(others, others)),
            Self::Thin => (sample(mine.min(FEW), 0), sample(others, 0)),
            Self::Quiet => (sample(0, 0), sample(0, 0)),
            Self::Blind => {
                let blind = ArmSample {
                    sight: Sight::Blind,
                    counts: Counts::default(),
                    pods: vec![],
                };
                (blind.clone(), blind)
            }
        };
        let (canary, stable) = match judged {
            Judged::Canary => (mine, others),
            Judged::Stable => (others, mine),
        };
        Tick {
            start: at(start),
            end: at(start + 1),
            canary,
            stable,
            custom: CustomTick::default(),
            sent: Sent::default(),
            open: Streams::default(),
        }
    }
}

impl World {
    /// The ticks that a decision on this state wants.
    pub(crate) fn ticks_for(&self, state: &State) -> Vec<Tick> {
        let (Some(since), Some(run)) = (state.phase.samples_since(), state.phase.run()) else {
            return vec![];
        };
        let kept = i64::try_from(self.ticks.len()).unwrap();
        let starts = self.now - kept..self.now;
        let ticks = starts.zip(&self.ticks).filter(|(start, _)| at(start + 1) > since);
        ticks
            .map(|(start, (kind, weight))| kind.tick(run.analysis.judged, *weight, start))
            .collect()
    }

    /// How many ticks the state that stands in status has not taken in yet.
    pub(crate) fn unread(&self) -> usize {
        let samples = self.status.phase.samples_since().filter(|_| !self.deleted);
        let Some(since) = samples else {
            return 0;
        };
        usize::try_from((at(self.now).as_second() - since.as_second()) / 10).unwrap_or(0)
    }
}
