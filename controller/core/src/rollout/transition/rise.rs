//! A step whose weight is not on the route: from the lower one to its own, as soon as the pods for it are ready. And down again
//! when pods are lost.

use std::ops::ControlFlow;

use jiff::Timestamp;

use super::hooks::{Gate, closed};
use super::trial::{again, go_blind, pause, pause_at};
use super::{Context, contest, failure, floor};
use crate::Weight;
use crate::rollout::hooks::HookPoint;
use crate::rollout::observation::Sampling;
use crate::rollout::state::{PauseReason, Phase, Progressing, RollbackReason, after};

/// So often in one trial does a weight come back by itself after pods were lost: a node may be drained, and another one.
const RETURNS: u32 = 3;

/// Writes the step's weight as soon as the pods for it are ready. What traffic the canary has meanwhile is judged as part of the
/// step that gave it.
pub(super) fn rise(cx: &mut Context<'_>, mut p: Progressing, weight: Weight) -> Phase {
    if p.had_traffic() {
        let outcome = cx.absorb(&mut p.run, Timestamp::MIN);
        if let Some(reason) = failure(&p.run, outcome) {
            return cx.roll_back(p.run, reason);
        }
        // Without traffic and without pods nothing can be seen; how long that may be is the pods' deadline. What is on the route
        // counts too: pods that came back before their weight was lowered still have it.
        if !p.from.max(cx.live()).is_zero() && cx.is_blind(&p.run) {
            return go_blind(cx, p.run, p.step);
        }
    }
    // Before the question who lowered the weight: it may have been this very rollback, by a controller that was killed.
    if !has_pods(cx, weight) && cx.elapsed(p.since, cx.plan.progress_deadline) {
        return cx.roll_back(p.run, RollbackReason::ProgressDeadline);
    }
    if cx.live() < p.from {
        return contest::lowered(cx, p.run, p.step);
    }
    let p = match shed_excess(cx, p, weight) {
        ControlFlow::Continue(p) => p,
        ControlFlow::Break(phase) => return phase,
    };
    if !cx.baseline_holds(&p.run) {
        return pause(cx, p.run, p.step, PauseReason::StableChanged);
    }
    if cx.obs.canary.revision.is_some() && cx.capacity_for(weight) {
        return with_pods(cx, p, weight);
    }
    cx.say(format!(
        "{weight} waits for canary pods: {} of {} ready",
        cx.obs.canary.ready,
        cx.plan.replicas_for(weight, cx.obs.stable.desired)
    ));
    Phase::Progressing(p)
}

/// What there is too much of while the weight is on its way up: for the pods that are left, or because somebody else raised it.
pub(super) fn shed_excess(cx: &mut Context<'_>, mut p: Progressing, weight: Weight) -> ControlFlow<Phase, Progressing> {
    let (from, has_pods) = (p.from, has_pods(cx, weight));
    if let Some(to) = cx.lost(&mut p.run, from) {
        return ControlFlow::Break(lower(cx, p, from, to));
    }
    if cx.live() > weight {
        let right = if has_pods { weight } else { from };
        return ControlFlow::Break(contest::raised(cx, p, right));
    }
    if cx.live() > from && p.run.footing.lowered.is_some() && !has_pods {
        // It was recorded before, so that nobody takes it for a failure that could not be.
        cx.first(from);
        cx.say(format!("lowering {} to {from}, as pods were lost", p.run.revision));
        return ControlFlow::Break(Phase::Progressing(p));
    }
    ControlFlow::Continue(p)
}

/// Whether the canary's pods are enough for this weight.
fn has_pods(cx: &Context<'_>, weight: Weight) -> bool {
    let need = cx.plan.replicas_for(weight, cx.obs.stable.desired);
    cx.obs.canary.revision.is_some() && cx.obs.canary.ready >= need
}

/// All that is to be asked besides pods.
fn with_pods(cx: &mut Context<'_>, mut p: Progressing, weight: Weight) -> Phase {
    let out_of_sight = p.run.fresh_at < p.run.as_of || cx.obs.sampling != Sampling::Answered;
    // A weight that stands lower than wanted comes back on what was seen since, and on nothing older.
    let interval = cx.plan.interval;
    let lowered = p.run.footing.lowered;
    let is_unseen = lowered.is_some_and(|lowered| p.run.fresh_at < after(lowered.at, interval));
    if p.had_traffic() && (out_of_sight || is_unseen) {
        cx.say(format!("{weight} waits for a fresh scrape of {}", p.run.revision));
        return Phase::Progressing(p);
    }
    if lowered.is_some() && p.from.is_zero() {
        // What the later steps stood on is gone with the pods.
        return again(cx, p.run);
    }
    if !floor::stands(cx) {
        return Phase::Progressing(p);
    }
    match cx.gate(&mut p.run, HookPoint::BeforeTrafficIncrease, Some(p.step)) {
        Gate::Open => {}
        Gate::Waiting(waits) => {
            cx.say(format!("{weight} for {} {waits}", p.run.revision));
            return Phase::Progressing(p);
        }
        Gate::Closed(how) => return closed(cx, p.run, p.step, how),
    }
    cx.first(weight);
    cx.say(format!("raising {} to {weight}", p.run.revision));
    Phase::Progressing(p)
}

/// The step begins again from what the pods that are left can carry. That is recorded first and written by the next decision: a
/// weight that is lower than status says would be taken for somebody else's word. Proxies send nothing to pods that are not
/// ready, so nothing is lost by it.
pub(super) fn lower(cx: &mut Context<'_>, mut p: Progressing, from: Weight, to: Weight) -> Phase {
    cx.note_lost(&mut p.run, from, to);
    p.run.footing.times = p.run.footing.times.saturating_add(1);
    if p.run.footing.times > RETURNS {
        cx.first(to.min(cx.live()));
        return pause_at(cx, p.run, p.step, PauseReason::PodsLost, to);
    }
    cx.say(format!("{} goes down to {to}, as pods were lost", p.run.revision));
    cx.wake = Some(cx.now);
    if p.weight_at.take().is_some() {
        p.since = cx.now;
    }
    Phase::Progressing(Progressing { from: to, ..p })
}
