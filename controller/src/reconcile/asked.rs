//! What status says of the hooks of a trial. Pure; it must not know what an answer is good for.

use serin_core::rollout::{HookAnswer, HookRun, HookView, Observation, OnHookFailure, Phase, Plan, first_line};

use crate::api::{CanaryRolloutStatus, HookStatus};

/// So many are told: what is waited for is among them, and who wants older ones finds them in the events.
const MOST: usize = 16;
/// What is told of an answer, in bytes.
const LONGEST: usize = 160;

/// The hooks after a decision. When a trial is over its gates stay as they were.
pub(super) fn after(
    before: &CanaryRolloutStatus,
    trial: Option<&str>,
    (plan, phase): (&Plan, &Phase),
    observation: &Observation,
) -> Vec<HookStatus> {
    let (runs, is_over): (&[HookRun], bool) = match (phase.run(), phase.ending()) {
        (Some(run), _) => (&run.hooks, false),
        (None, Some(ending)) => (&ending.hooks, true),
        (None, None) => return Vec::new(),
    };
    let mut hooks: Vec<HookStatus> = runs.iter().map(|run| told(run, (plan, phase), observation)).collect();
    if is_over && trial.is_some() && before.trial.as_deref() == trial {
        let is_new = |known: &&HookStatus| !hooks.iter().any(|one| is_same(one, known));
        let kept: Vec<_> = before.hooks.iter().filter(is_new).cloned().map(dropped).collect();
        hooks.extend(kept);
    }
    // Of several that are asked in one instant the order of the spec stays.
    hooks.sort_by_key(|hook| hook.since);
    while hooks.len() > MOST {
        let oldest = hooks.iter().position(|hook| hook.until.is_none()).unwrap_or(0);
        hooks.remove(oldest);
    }
    hooks
}

/// Whether only the words of answers differ.
pub(super) fn only_words(before: &[HookStatus], after: &[HookStatus]) -> bool {
    let silent = |hook: &HookStatus| HookStatus {
        answer: String::new(),
        ..hook.clone()
    };
    before.iter().map(silent).eq(after.iter().map(silent))
}

fn is_same(one: &HookStatus, other: &HookStatus) -> bool {
    (&one.name, &one.point, one.step) == (&other.name, &other.point, other.step)
}

fn dropped(hook: HookStatus) -> HookStatus {
    match hook.until {
        None => hook,
        Some(_) => HookStatus {
            state: "Dropped".to_owned(),
            until: None,
            ..hook
        },
    }
}

fn told(run: &HookRun, (plan, phase): (&Plan, &Phase), observation: &Observation) -> HookStatus {
    let occasion = &run.occasion;
    let hook = plan.hook(&occasion.hook);
    let is_open = phase.open_hooks().any(|open| open.occasion == *occasion);
    let mut views = observation.hooks.iter().filter(|(about, _)| about == occasion);
    let (state, answer) = match (&run.answer, views.next().map(|(_, view)| view)) {
        (Some(HookAnswer::Passed), _) => ("Passed", ""),
        (Some(HookAnswer::Failed(why)), _) => ("Failed", why.as_str()),
        (Some(HookAnswer::TimedOut(why)), _) => ("TimedOut", why.as_str()),
        (Some(HookAnswer::PassedOver), _) => ("PassedOver", ""),
        (None, _) if !is_open => ("Dropped", ""),
        (None, Some(HookView::Pending(why))) => ("Asked", why.as_str()),
        (None, _) => ("Waiting", ""),
    };
    let until = hook.map(|hook| run.since.saturating_add(hook.timeout).unwrap_or(run.since));
    HookStatus {
        name: occasion.hook.clone(),
        point: occasion.point.word().to_owned(),
        step: occasion.step.and_then(|step| i32::try_from(step + 1).ok()),
        attempt: i32::try_from(occasion.attempt).unwrap_or(i32::MAX),
        state: state.to_owned(),
        since: run.since,
        until: until.filter(|_| is_open && run.answer.is_none()),
        on_failure: hook
            .filter(|_| occasion.point.is_gate())
            .map(|hook| outcome(hook.on_failure).to_owned()),
        answer: short(&first_line(answer)).to_owned(),
    }
}

fn outcome(of: OnHookFailure) -> &'static str {
    match of {
        OnHookFailure::RollBack => "RollBack",
        OnHookFailure::Pause => "Pause",
        OnHookFailure::Continue => "Continue",
    }
}

fn short(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LONGEST)).unwrap_or(text)
}

#[cfg(test)]
#[path = "asked_tests.rs"]
mod tests;
