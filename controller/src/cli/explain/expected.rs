//! How long a rollout is expected to take at some traffic, in words. Pure.

use std::fmt::Write as _;

use jiff::SignedDuration;
use serin_core::rollout::{OnInconclusive, Plan, Step, StepOutlook};

use super::traffic::Traffic;
use crate::cli::table::table;

/// The steps of a canary that is as good as stable.
pub(super) fn expected(plan: &Plan, traffic: &Traffic) -> String {
    let Some(outlook) = plan.outlook(&plan.analysis(&traffic.baseline), 0, None) else {
        return "Nothing can be said of how long that takes: stable answers no calls.\n".to_owned();
    };
    let steps: Vec<_> = plan.steps().iter().enumerate().collect();
    let of = |index: usize| outlook.steps.iter().find(|step| step.step == index);
    let (rows, times): (Vec<_>, Vec<_>) = steps
        .into_iter()
        .map(|(index, step)| {
            let (time, why) = one(step, of(index));
            let row = vec![
                format!("  step {}", index + 1),
                step.weight.to_string(),
                format!("{time:#}"),
                why,
            ];
            (row, time)
        })
        .unzip();
    let all = times
        .into_iter()
        .fold(SignedDuration::ZERO, SignedDuration::saturating_add);
    let rate = rate(outlook.traffic);
    let mut out = match &traffic.assumed {
        None => format!("At the present traffic, {rate} calls a second,"),
        Some(why) => format!("Assumed are {rate} calls a second, none of which fails or is slow: {why}.\nAt these"),
    };
    let _ = writeln!(
        out,
        " a canary that is as good as stable is expected to go through the steps in {all:#}:\n"
    );
    out += &table(&rows);
    out += "\nPods, pauses, approvals, hooks and commits come on top.\n";
    out
}

fn rate(per_second: f64) -> String {
    if per_second < 10.0 {
        format!("{per_second:.1}")
    } else {
        format!("{per_second:.0}")
    }
}

/// How long a step is expected to take, and why.
fn one(step: &Step, outlook: Option<&StepOutlook>) -> (SignedDuration, String) {
    let Some(StepOutlook {
        calls, time, decides, ..
    }) = outlook
    else {
        return (step.hold, "testers' calls alone are judged".to_owned());
    };
    let enough = match (calls, time) {
        (Some(calls), Some(time)) => format!("about {calls} calls on the canary prove it: {time:#}"),
        (Some(calls), None) => format!("about {calls} calls on the canary would prove it, more than come in a year"),
        (None, _) => "no number of calls proves it: stable itself is not within the limits, or a metric is not counted"
            .to_owned(),
    };
    match time {
        Some(time) if *decides => (step.hold.max(*time), enough),
        _ => {
            let then = match step.on_inconclusive {
                OnInconclusive::Advance => "goes on unproven",
                OnInconclusive::Pause => "waits for a person",
                OnInconclusive::RollBack => "is rolled back",
            };
            (step.at_most, format!("{enough}; not in its time, so it {then}"))
        }
    }
}
