//! The plan with the present step. Pure.

use jiff::SignedDuration;
use serde::Serialize;
use serin_core::rollout::OnInconclusive;

use crate::api::{CanaryRolloutSpec, CanaryRolloutStatus, StepForecast, parse};

/// Where the rollout is with a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Place {
    Done,
    Now,
    Ahead,
    /// No revision is on its way through the steps.
    Off,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Step {
    /// From 1.
    pub(crate) number: usize,
    /// In percent.
    pub(crate) weight: u8,
    pub(crate) hold: String,
    pub(crate) at_most: String,
    pub(crate) approval: bool,
    /// What it does when its time is over without a verdict.
    pub(crate) unproven: &'static str,
    pub(crate) place: Place,
    /// What it is expected to take still.
    pub(crate) forecast: Option<String>,
}

/// The steps; none for a spec that makes no sense, which a condition tells of.
pub(crate) fn steps(spec: &CanaryRolloutSpec, status: &CanaryRolloutStatus) -> Vec<Step> {
    let Ok(parsed) = parse(spec) else { return vec![] };
    let now = status
        .step
        .as_deref()
        .and_then(|step| step.split('/').next()?.parse().ok());
    let passed_all = matches!(status.phase.as_deref(), Some("Promoting" | "Promoted"));
    let on_its_way = status.phase.as_deref() == Some("Starting");
    let place = |number: usize| match now {
        _ if passed_all => Place::Done,
        Some(now) if number < now => Place::Done,
        Some(now) if number == now => Place::Now,
        Some(_) => Place::Ahead,
        None if on_its_way => Place::Ahead,
        None => Place::Off,
    };
    let steps = parsed.plan.steps().iter().zip(1..);
    let step = |(step, number): (&serin_core::rollout::Step, usize)| Step {
        number,
        weight: step.weight.percent(),
        hold: span(step.hold),
        at_most: span(step.at_most),
        approval: step.approval,
        unproven: match step.on_inconclusive {
            OnInconclusive::Advance => "goes on",
            OnInconclusive::Pause => "waits for a person",
            OnInconclusive::RollBack => "rolls back",
        },
        place: place(number),
        forecast: forecast(status, number),
    };
    steps.map(step).collect()
}

fn span(of: SignedDuration) -> String {
    format!("{of:#}")
}

fn forecast(status: &CanaryRolloutStatus, number: usize) -> Option<String> {
    let mut steps = status.forecast.as_ref()?.steps.iter();
    steps
        .find(|step| usize::try_from(step.step).ok() == Some(number))
        .map(still)
}

/// What a step is expected to take still.
pub(crate) fn still(of: &StepForecast) -> String {
    let late = if of.decides { "" } else { ", longer than it has" };
    match (of.calls, &of.time) {
        (Some(calls), Some(time)) => format!("about {calls} calls, {time}{late}"),
        (Some(calls), None) => format!("about {calls} calls{late}"),
        (None, _) => "no number of calls would do".to_owned(),
    }
}
