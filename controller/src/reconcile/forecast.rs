//! The forecast of a trial for status: what the steps still take, in numbers and in a sentence. Pure.

use jiff::{SignedDuration, Timestamp};
use serin_core::analysis::Judged;
use serin_core::rollout::{Outlook, Phase, Plan, StepOutlook};

use crate::api::{ForecastStatus, StepForecast};

/// The forecast, while there are steps to come and something is known of stable.
pub(super) fn of(phase: &Phase, plan: &Plan, now: Timestamp) -> Option<ForecastStatus> {
    let (step, elapsed) = match phase {
        Phase::Starting(_) => (0, None),
        Phase::Progressing(p) => (p.step, p.weight_at.map(|at| now.duration_since(at))),
        // Time goes by without ending the step.
        Phase::Paused(p) => (p.step, Some(SignedDuration::ZERO)),
        _ => return None,
    };
    let run = phase.run().filter(|run| run.analysis.judged == Judged::Canary)?;
    let outlook = plan.outlook(&run.analysis, step, elapsed)?;
    Some(ForecastStatus {
        message: sentence(&outlook, plan.steps().len()),
        steps: outlook.steps.iter().map(one).collect(),
    })
}

fn one(step: &StepOutlook) -> StepForecast {
    StepForecast {
        step: i32::try_from(step.step + 1).unwrap_or(i32::MAX),
        weight: i32::from(step.weight.percent()),
        calls: step.calls.map(|calls| i64::try_from(calls).unwrap_or(i64::MAX)),
        time: step.time.map(|time| format!("{time:#}")),
        decides: step.decides,
    }
}

/// Such as "if the canary is as good as stable, step 1 of 4 takes about 480 more calls on it: 48s at 200 calls a second; step 3
/// takes longer than it has".
fn sentence(outlook: &Outlook, steps: usize) -> String {
    let Some(first) = outlook.steps.first() else {
        return "no step is left".to_owned();
    };
    let mut text = format!(
        "if the canary is as good as stable, step {} of {steps} takes ",
        first.step + 1
    );
    text += &match (first.calls, first.time) {
        (Some(0), _) => "no more calls".to_owned(),
        (Some(calls), Some(time)) => format!(
            "about {calls} more calls on it: {time:#} at {:.0} calls a second",
            outlook.traffic
        ),
        (Some(calls), None) => format!("about {calls} more calls on it, more than come in a year"),
        (None, _) => {
            "more than any number of calls: stable itself is not within the limits, or a metric is not counted"
                .to_owned()
        }
    };
    let late: Vec<_> = outlook.steps.iter().filter(|step| !step.decides).collect();
    let number = |step: &&StepOutlook| (step.step + 1).to_string();
    match late.as_slice() {
        [] => {}
        [one] => text += &format!("; step {} takes longer than it has", number(one)),
        many => {
            let numbers: Vec<_> = many.iter().map(number).collect();
            text += &format!("; steps {} take longer than they have", numbers.join(", "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serin_core::Weight;

    use super::*;

    fn step(step: usize, calls: Option<u64>, seconds: i64, decides: bool) -> StepOutlook {
        StepOutlook {
            step,
            weight: Weight::FULL,
            calls,
            time: calls.map(|_| SignedDuration::from_secs(seconds)),
            decides,
        }
    }

    fn said(steps: Vec<StepOutlook>) -> String {
        sentence(&Outlook { traffic: 200.0, steps }, 4)
    }

    #[test]
    fn says_what_a_person_wants_to_know() {
        let steps = vec![step(1, Some(480), 100, true), step(2, Some(900), 9_000, false)];
        assert_eq!(
            said(steps),
            "if the canary is as good as stable, step 2 of 4 takes about 480 more calls on it: 1m 40s at 200 calls a second; \
             step 3 takes longer than it has"
        );
        let never = said(vec![step(0, None, 0, false), step(1, None, 0, false)]);
        assert!(
            never.contains("stable itself is not within the limits")
                && never.ends_with("steps 1, 2 take longer than they have"),
            "{never}"
        );
        assert!(said(vec![step(3, Some(0), 0, true)]).ends_with("takes no more calls"));
    }
}
