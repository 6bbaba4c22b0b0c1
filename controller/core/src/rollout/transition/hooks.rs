//! Hooks: what is asked is recorded first, and asked by the decisions after that one until an answer is there. It must not know
//! what an answer is good for beyond its gate.

use jiff::Timestamp;

use super::Context;
use super::trial::pause;
use crate::rollout::effect::{Effect, NoteKind};
use crate::rollout::hooks::{Hook, HookAnswer, HookPoint, HookRun, HookView, Occasion, OnHookFailure, first_line};
use crate::rollout::plan::Plan;
use crate::rollout::state::{Ending, PauseReason, Phase, RollbackReason, Run, after};

/// Whether a rollout may go on at a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    /// For whom it waits, and until when.
    Waiting(String),
    Closed(Closed),
}

/// What a no does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Closed {
    /// With the reason.
    RollBack(String),
    Pause,
}

impl Context<'_> {
    /// Takes the answers to what was asked before, and asks again where there is none. To be called once a decision, before any
    /// gate.
    pub(super) fn hear(&mut self, runs: &mut [HookRun], gates: bool) {
        let open = runs
            .iter_mut()
            .filter(|run| run.answer.is_none() && run.occasion.point.is_gate() == gates);
        for run in open {
            run.answer = self.answer(run);
            let told = match &run.answer {
                None => {
                    self.effects.push(Effect::RunHook(run.occasion.clone()));
                    continue;
                }
                Some(HookAnswer::PassedOver) => continue,
                Some(HookAnswer::Passed) => (NoteKind::Normal, "HookPassed", format!("{} passed", run.occasion)),
                Some(HookAnswer::Failed(_)) => (NoteKind::Warning, "HookFailed", run.failure().unwrap_or_default()),
                Some(HookAnswer::TimedOut(_)) => (NoteKind::Warning, "HookTimedOut", run.failure().unwrap_or_default()),
            };
            let (kind, reason, message) = told;
            self.note(kind, reason, message);
        }
    }

    /// What came of an occasion; none while it is waited for.
    fn answer(&mut self, run: &HookRun) -> Option<HookAnswer> {
        let Some(hook) = self.plan.hook(&run.occasion.hook) else {
            return Some(HookAnswer::PassedOver);
        };
        let why = match self.view(&run.occasion) {
            Some(HookView::Passed) => return Some(HookAnswer::Passed),
            Some(HookView::Failed(why)) => return Some(HookAnswer::Failed(first_line(why))),
            Some(HookView::Pending(why)) => first_line(why),
            None => String::new(),
        };
        let timeout = hook.timeout;
        self.elapsed(run.since, timeout).then_some(HookAnswer::TimedOut(why))
    }

    fn view(&self, occasion: &Occasion) -> Option<&HookView> {
        let mut views = self.obs.hooks.iter();
        views.find(|(about, _)| about == occasion).map(|(_, view)| view)
    }

    /// Asks all hooks of a point, and says what their answers mean. A no of any comes before the waiting for others.
    pub(super) fn gate(&mut self, run: &mut Run, point: HookPoint, step: Option<usize>) -> Gate {
        let (mut waits, mut pauses) = (Vec::new(), false);
        let plan = self.plan;
        for hook in plan.hooks.iter().filter(|hook| hook.at.contains(&point)) {
            let Some(asked) = run.hooks.iter().find(|asked| asked.is_of(hook, point, step)) else {
                let asked = self.ask_hook(&mut run.hooks, hook, point, step);
                waits.push(self.wait(hook, &asked));
                continue;
            };
            match (asked.failure(), hook.on_failure) {
                (None, _) if asked.answer.is_none() => waits.push(self.wait(hook, asked)),
                (None, _) | (Some(_), OnHookFailure::Continue) => {}
                (Some(why), OnHookFailure::RollBack) => return Gate::Closed(Closed::RollBack(why)),
                (Some(_), OnHookFailure::Pause) => pauses = true,
            }
        }
        if pauses {
            Gate::Closed(Closed::Pause)
        } else if waits.is_empty() {
            Gate::Open
        } else {
            Gate::Waiting(format!("waits for {}", waits.join(", ")))
        }
    }

    /// Records that a hook is asked; the next decision asks.
    fn ask_hook(&mut self, runs: &mut Vec<HookRun>, hook: &Hook, point: HookPoint, step: Option<usize>) -> HookRun {
        let occasion = Occasion {
            hook: hook.name.clone(),
            point,
            step,
            attempt: 0,
        };
        self.note(NoteKind::Normal, "HookAsked", format!("{occasion} is asked"));
        self.wake = Some(self.now);
        let asked = HookRun::begin(occasion, self.now);
        runs.push(asked.clone());
        asked
    }

    fn wait(&self, hook: &Hook, asked: &HookRun) -> String {
        let until = after(asked.since, hook.timeout);
        let until = Timestamp::from_second(until.as_second()).unwrap_or(until);
        match self.view(&asked.occasion) {
            Some(HookView::Pending(why)) if !why.is_empty() => {
                format!("hook {} until {until} ({})", hook.name, first_line(why))
            }
            _ => format!("hook {} until {until}", hook.name),
        }
    }

    /// Asks the hooks of a point for whose answers nothing waits, once.
    pub(super) fn announce(&mut self, runs: &mut Vec<HookRun>, point: HookPoint) {
        let plan = self.plan;
        for hook in plan.hooks.iter().filter(|hook| hook.at.contains(&point)) {
            if !runs.iter().any(|asked| asked.is_of(hook, point, None)) {
                self.ask_hook(runs, hook, point, None);
            }
        }
    }
}

/// What becomes of a trial whose gate said no.
pub(super) fn closed(cx: &mut Context<'_>, run: Run, step: usize, closed: Closed) -> Phase {
    match closed {
        Closed::RollBack(why) => cx.roll_back(run, RollbackReason::Hook(why)),
        Closed::Pause => pause(cx, run, step, PauseReason::Hook),
    }
}

/// Hooks that were asked when a revision came to its end are listened for until the next one comes.
pub(super) fn afterwards(cx: &mut Context<'_>, phase: &mut Phase) {
    if let Phase::Promoted(Ending { hooks, .. }) | Phase::RolledBack(Ending { hooks, .. }) = phase {
        cx.hear(hooks, false);
    }
}

/// What is to be listened for when a trial is over.
pub(super) fn left(run: &Run) -> Vec<HookRun> {
    let runs = run.hooks.iter().filter(|run| !run.occasion.point.is_gate());
    runs.cloned().collect()
}

/// The failures that hold a rollout up, in words.
pub(super) fn held_by(plan: &Plan, run: &Run) -> Option<String> {
    let held = run.hooks.iter().filter(|asked| holds(plan, asked));
    let held: Vec<String> = held.filter_map(HookRun::failure).collect();
    (!held.is_empty()).then(|| held.join("; "))
}

fn holds(plan: &Plan, asked: &HookRun) -> bool {
    asked.failure().is_some() && plan.on_failure(asked) == OnHookFailure::Pause
}

/// A person has them asked again.
pub(super) fn ask_again(cx: &mut Context<'_>, run: &mut Run) {
    let (plan, now) = (cx.plan, cx.now);
    for asked in run.hooks.iter_mut().filter(|asked| holds(plan, asked)) {
        asked.occasion.attempt = asked.occasion.attempt.saturating_add(1);
        *asked = HookRun::begin(asked.occasion.clone(), now);
    }
}

/// A person goes past those that hold the rollout up, or are waited for. Says whether the weight is to rise now.
pub(super) fn pass_over(plan: &Plan, run: &mut Run) -> bool {
    let mut rises = false;
    for asked in &mut run.hooks {
        let waits = asked.answer.is_none() && asked.occasion.point.is_gate();
        if waits || holds(plan, asked) {
            asked.answer = Some(HookAnswer::PassedOver);
            rises |= asked.occasion.point == HookPoint::BeforeTrafficIncrease;
        }
    }
    rises
}

/// A person goes straight to this step and on to the promotion: past every gate on the way.
pub(super) fn pass_over_all(cx: &Context<'_>, run: &mut Run, step: usize) {
    pass_over(cx.plan, run);
    for hook in &cx.plan.hooks {
        for point in hook.at.iter().copied().filter(|point| point.is_gate()) {
            let step = point.is_of_a_step().then_some(step);
            run.hooks.retain(|asked| !asked.is_of(hook, point, step));
            let occasion = Occasion {
                hook: hook.name.clone(),
                point,
                step,
                attempt: 0,
            };
            run.hooks.push(HookRun {
                answer: Some(HookAnswer::PassedOver),
                ..HookRun::begin(occasion, cx.now)
            });
        }
    }
}
