//! A long stretch of the past, pod by pod: for a replay. Must not know verdicts.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serin_core::analysis::Counts;

use super::arms;
use super::client::SampleError;
use super::own::{self, OwnTick};
use super::sampler::{Prometheus, together};
use super::target::{ArmTarget, Span, Target};

/// What an arm's pods did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// By the ticks' ends and the pods' names.
    pub ticks: BTreeMap<Timestamp, BTreeMap<String, PodHistory>>,
    /// Bounds of the target that some proxy's histogram did not have although calls were answered.
    pub missing_bounds: BTreeSet<u64>,
}

/// What one pod did in one tick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodHistory {
    /// What it answered.
    pub counts: Counts,
    /// Calls that are no failures, by the gRPC codes that the target asks for apart; those without any are left out.
    pub codes: BTreeMap<u8, u64>,
    /// Whether it had a fresh scrape at the tick's end.
    pub seen: bool,
}

impl Prometheus {
    /// What an arm did in these ticks, in the manner of [`Prometheus::ticks`].
    ///
    /// # Errors
    /// Any answer that is not whole.
    pub async fn history(&self, target: &Target, arm: &ArmTarget, ticks: &[Span]) -> Result<History, SampleError> {
        let mut history = History::default();
        let mut rest = ticks;
        while let Some((first, _)) = rest.first() {
            let (now, later) = together(rest, *first);
            let Some((_, last)) = now.last() else { break };
            let series = self.arm(target, arm, *first, *last).await?;
            for tick in now {
                let counted = arms::count_pods(&series, &target.what(*tick));
                history.missing_bounds.extend(counted.tally.missing_bounds);
                let pod = |pod: arms::Pod| {
                    let codes = target.codes_apart.iter().copied().zip(pod.codes);
                    PodHistory {
                        counts: pod.counts,
                        codes: codes.filter(|(_, calls)| *calls > 0).collect(),
                        seen: pod.seen_at_end,
                    }
                };
                let pods = counted.by_name.into_iter();
                let pods: BTreeMap<_, _> = pods.map(|(name, one)| (name.to_owned(), pod(one))).collect();
                if !pods.is_empty() {
                    history.ticks.insert(tick.1, pods);
                }
            }
            rest = later;
        }
        Ok(history)
    }

    /// What the target's metrics of the user's own were in these ticks, by the ticks' ends.
    ///
    /// # Errors
    /// Any answer that is not whole.
    pub async fn own_history(
        &self,
        target: &Target,
        ticks: &[Span],
    ) -> Result<BTreeMap<Timestamp, OwnTick>, SampleError> {
        let mut history = BTreeMap::new();
        let mut rest = ticks;
        while let Some((first, _)) = rest.first() {
            let (now, later) = together(rest, *first);
            let (Some(one), Some((_, last))) = (now.first(), now.last()) else {
                break;
            };
            let answers = self.own(target, *one, *last).await?;
            history.extend(now.iter().map(|tick| (tick.1, own::pods(&answers, target, *tick))));
            rest = later;
        }
        Ok(history)
    }
}
