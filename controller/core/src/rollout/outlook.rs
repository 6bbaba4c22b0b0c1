//! How the steps are expected to go if the canary is as good as stable: calls, time, and whether the step's time is enough.
//! For people; no decision rests on it.

use jiff::SignedDuration;

use super::plan::{Plan, Step};
use crate::Weight;
use crate::analysis::{Analysis, Need, Prospects};

/// What is expected of the steps from the present one on.
#[derive(Debug, Clone, PartialEq)]
pub struct Outlook {
    /// Calls a second of both arms together.
    pub traffic: f64,
    /// In the order of the plan.
    pub steps: Vec<StepOutlook>,
}

/// What is expected of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepOutlook {
    /// Its index.
    pub step: usize,
    /// The canary's share.
    pub weight: Weight,
    /// Calls on the canary that are still needed; `None`: no number would do.
    pub calls: Option<u64>,
    /// The time that they take.
    pub time: Option<SignedDuration>,
    /// Whether that is within the time that the step has.
    pub decides: bool,
}

impl Plan {
    /// The outlook from the step `index` on, which began `elapsed` ago; `None` for the time before the first step, when
    /// nothing of it has passed. Without any knowledge of stable there is no outlook.
    pub fn outlook(&self, analysis: &Analysis, index: usize, elapsed: Option<SignedDuration>) -> Option<Outlook> {
        let traffic = analysis.traffic()?;
        let prospects = analysis.prospects();
        let mut steps = Vec::new();
        // How many calls testers make is their own affair.
        let steps_ahead = self.steps().iter().enumerate().skip(index);
        for (step, of) in steps_ahead.filter(|(_, of)| !of.weight.is_zero()) {
            let elapsed = elapsed.filter(|_| step == index);
            steps.push(one(&prospects, step, of, elapsed, traffic)?);
        }
        Some(Outlook { traffic, steps })
    }
}

fn one(
    prospects: &Prospects,
    step: usize,
    of: &Step,
    elapsed: Option<SignedDuration>,
    traffic: f64,
) -> Option<StepOutlook> {
    let share = f64::from(of.weight.percent()) / 100.0;
    let calls = match prospects.need(1.0 - share, elapsed.is_some()) {
        Need::Calls(calls) => Some(calls),
        Need::Never => None,
        Need::Unknown => return None,
    };
    let time = calls.and_then(|calls| seconds(calls, traffic * share));
    let left = of.at_most.saturating_sub(elapsed.unwrap_or_default());
    Some(StepOutlook {
        step,
        weight: of.weight,
        calls,
        time,
        decides: time.is_some_and(|time| time <= left),
    })
}

/// Whole seconds for so many calls; `None` when that is beyond a year.
#[expect(clippy::cast_precision_loss, reason = "calls are at most 10^15")]
fn seconds(calls: u64, per_second: f64) -> Option<SignedDuration> {
    let seconds = (calls as f64 / per_second).ceil();
    if !(0.0..=31_536_000.0).contains(&seconds) {
        return None;
    }
    SignedDuration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Baseline, PodCounts};
    use crate::rollout::plan::tests::plan;

    /// An hour of stable at so many calls a second, one of 2,000 failing.
    fn outlook(per_second: u64) -> Option<Outlook> {
        let plan = plan(&[5, 50, 100]);
        let pod = PodCounts {
            requests: 20 * per_second,
            failures: per_second / 100,
            slow: vec![0],
            ..PodCounts::default()
        };
        let baseline = Baseline {
            bounds_ms: vec![500],
            tick_ms: 20_000,
            ticks: vec![vec![pod]; 180],
            ..Baseline::default()
        };
        plan.outlook(&plan.analysis(&baseline), 0, None)
    }

    #[test]
    fn more_traffic_decides_sooner_and_a_larger_share_does_too() {
        let busy = outlook(5_000).unwrap();
        assert!((busy.traffic - 5_000.0).abs() < 1e-6);
        assert!(busy.steps.iter().all(|step| step.decides), "{busy:?}");
        let quiet = outlook(100).unwrap();
        let times = |outlook: &Outlook| outlook.steps.iter().map(|s| s.time.unwrap()).collect::<Vec<_>>();
        assert!(
            times(&quiet)
                .iter()
                .zip(times(&busy))
                .all(|(quiet, busy)| *quiet > busy)
        );
        assert!(times(&busy)[1] < times(&busy)[0], "{busy:?}");
    }

    #[test]
    fn says_beforehand_when_a_step_can_not_decide_in_its_time() {
        let slow = outlook(100).unwrap();
        // 5 calls a second on the canary, and the step has a minute.
        assert!(!slow.steps[0].decides, "{slow:?}");
    }

    #[test]
    fn without_calls_there_is_nothing_to_say() {
        assert_eq!(outlook(0), None);
    }
}
