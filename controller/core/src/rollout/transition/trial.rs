//! A revision on trial: from waiting for its pods, through the steps, to the verdict.

use jiff::Timestamp;

use super::hooks::{Gate, closed, held_by, left};
use super::rest::{Considered, consider};
use super::rise::{lower, rise};
use super::{Context, contest, failure, traffic};
use crate::Weight;
use crate::analysis::Outcome;
use crate::rollout::effect::{Effect, NoteKind};
use crate::rollout::hooks::HookPoint;
use crate::rollout::observation::{Answer, LiveWeight};
use crate::rollout::plan::{OnInconclusive, Plan};
use crate::rollout::state::{
    Baseline, Ending, PauseReason, Paused, Phase, Preflight, Progressing, PromoteStage, Promoting, RestNote, Revision,
    RollbackReason, Run, Starting, Way,
};

pub(super) fn starting(cx: &mut Context<'_>, mut starting: Starting) -> Phase {
    if let Some(phase) = interrupted(cx, &starting.run, || Phase::Starting(starting.clone())) {
        return phase;
    }
    cx.hear(&mut starting.run.hooks, true);
    if !cx.take_away() {
        cx.say("taking all traffic from the canary before its pods are exchanged");
        return Phase::Starting(starting);
    }
    if let Some(phase) = stable_moved(cx, &mut starting) {
        return phase;
    }
    if !passes_preflight(cx, &mut starting) {
        return Phase::Starting(starting);
    }
    let hash = &starting.run.revision.hash;
    let stands = cx.obs.weight != LiveWeight::Absent && cx.obs.pinned.as_ref() == Some(hash);
    if !stands {
        cx.effects.push(Effect::EnsureObjects { pin: hash.clone() });
    }
    let first = cx.plan.step(0).weight;
    let ready = cx.capacity_for(first) && cx.obs.canary.revision.is_some();
    // A gate was asked when they were ready, and has a time of its own.
    let is_late = !ready && !starting.run.waits_for_hooks();
    if is_late && cx.elapsed(starting.since, cx.plan.progress_deadline) {
        return cx.roll_back(starting.run, RollbackReason::ProgressDeadline);
    }
    cx.say(format!(
        "{} waits for its pods: {} of {} ready",
        starting.run.revision,
        cx.obs.canary.ready,
        cx.plan.replicas_for(first, cx.obs.stable.desired)
    ));
    freeze(cx, &mut starting, ready);
    if stands && cx.obs.route_accepted == Some(false) {
        // It stands only now, and is not served: its line says why.
        starting.preflight = Preflight::Wanted;
        return Phase::Starting(starting);
    }
    if stands && ready && starting.baseline == Baseline::Frozen {
        match cx.gate(&mut starting.run, HookPoint::BeforeRollout, None) {
            Gate::Open => return enter(cx, starting.run, 0, Weight::ZERO),
            Gate::Waiting(waits) => cx.say(format!("{} is ready and {waits}", starting.run.revision)),
            Gate::Closed(how) => return closed(cx, starting.run, 0, how),
        }
    }
    Phase::Starting(starting)
}

/// Whether nothing stands in the way of the start. What does is said once, and asked again until it is mended; the time that
/// takes is nobody's fault, so the wait for capacity begins after it.
fn passes_preflight(cx: &mut Context<'_>, starting: &mut Starting) -> bool {
    let told = match &starting.preflight {
        Preflight::Passed => return true,
        Preflight::Wanted => None,
        Preflight::Refused(why) => Some(why.clone()),
    };
    let revision = starting.run.revision.clone();
    match (cx.obs.preflight.clone(), told) {
        (Some(Answer::Is(warnings)), _) => {
            for warning in warnings {
                cx.note(NoteKind::Warning, "PreflightWarning", warning);
            }
            starting.preflight = Preflight::Passed;
            starting.since = cx.now;
            return true;
        }
        (Some(Answer::Failed(why)), told) => {
            cx.say(format!("{revision} does not start: {why}"));
            if told.as_ref() != Some(&why) {
                cx.note(NoteKind::Warning, "PreflightFailed", why.clone());
            }
            starting.preflight = Preflight::Refused(why);
        }
        (None, Some(why)) => cx.say(format!("{revision} does not start: {why}")),
        (None, None) => cx.say(format!("asking whether a trial of {revision} would work")),
    }
    cx.effects.push(Effect::AskPreflight(revision));
    false
}

/// Nothing was compared yet: what stable runs now is what the canary is judged beside. Unless it moved because people
/// promoted the revision by hand, or put the canary back: then there is nothing to judge, and only Git can tell.
fn stable_moved(cx: &mut Context<'_>, starting: &mut Starting) -> Option<Phase> {
    let stable = cx.obs.stable.revision.clone()?;
    if stable == starting.run.baseline {
        return None;
    }
    let revision = starting.run.revision.clone();
    let at_rest = match &cx.obs.git.origin {
        Some(Answer::Is((about, origin))) if *about == revision => origin.at_rest,
        failed => {
            cx.say(match failed {
                Some(Answer::Failed(why)) => format!("stable runs {stable} now; can't tell what Git says: {why}"),
                _ => format!("stable runs {stable} now; asking Git whether {revision} still differs from it"),
            });
            cx.effects.push(Effect::AskOrigin(revision));
            return Some(Phase::Starting(starting.clone()));
        }
    };
    if !at_rest {
        starting.run.baseline = stable;
        return None;
    }
    let reason = "the canary equals stable in Git".to_owned();
    cx.say(format!("{revision} needs no trial: {reason}"));
    cx.note(NoteKind::Normal, "Withdrawn", format!("{revision}: {reason}"));
    Some(Phase::Withdrawn(ending(cx, &starting.run, reason)))
}

/// Asks what stable did before, and freezes what the whole trial is judged by.
fn freeze(cx: &mut Context<'_>, starting: &mut Starting, ready: bool) {
    if starting.baseline == Baseline::Frozen {
        return;
    }
    match &cx.obs.baseline {
        Some(Answer::Is(baseline)) => {
            starting.run.analysis = cx.plan.analysis(baseline);
            starting.baseline = Baseline::Frozen;
            return;
        }
        Some(Answer::Failed(why)) if ready => {
            let message = format!(
                "{} is ready and can't start yet, as what stable did before can't be read: {why}",
                starting.run.revision
            );
            cx.say(message);
        }
        None if ready => cx.say(format!(
            "{} is ready; asking what stable did before",
            starting.run.revision
        )),
        _ => {}
    }
    cx.effects.push(Effect::AskBaseline(starting.run.revision.clone()));
}

/// Enters a step. Its weight is written by the next decision, when this one is in status.
pub(super) fn enter(cx: &mut Context<'_>, mut run: Run, step: usize, from: Weight) -> Phase {
    let weight = cx.plan.step(step).weight;
    cx.say(format!("step {} of {}: {weight}", step + 1, cx.plan.steps().len()));
    let message = format!(
        "{} goes to {weight} (step {} of {})",
        run.revision,
        step + 1,
        cx.plan.steps().len()
    );
    cx.note(NoteKind::Normal, "StepEntered", message);
    cx.wake = Some(cx.now);
    run.footing.lowered = None;
    Phase::Progressing(Progressing {
        run,
        step,
        since: cx.now,
        from,
        weight_at: None,
    })
}

pub(super) fn progressing(cx: &mut Context<'_>, mut p: Progressing) -> Phase {
    if let Some(phase) = interrupted(cx, &p.run, || Phase::Progressing(p.clone())) {
        return phase;
    }
    cx.hear(&mut p.run.hooks, true);
    let step = cx.plan.step(p.step).clone();
    let live = cx.live();
    // One that is to be lowered, as pods were lost, is not there to stay; unless they came back before it was.
    let lowered = p.run.footing.lowered.is_some();
    if live == step.weight && p.weight_at.is_none() && (!lowered || cx.carries(&p.run, live)) {
        if lowered {
            let message = format!("{} has its pods again and stands at {live}", p.run.revision);
            cx.note(NoteKind::Normal, "PodsReturned", message);
        }
        // Ticks that nobody counted, as the controller that wrote the weight was killed before it saw it.
        if p.had_traffic() {
            let outcome = cx.absorb(&mut p.run, Timestamp::MIN);
            if let Some(reason) = failure(&p.run, outcome) {
                return cx.roll_back(p.run, reason);
            }
        }
        p.run.footing.lowered = None;
        p.weight_at = Some(cx.now);
        p.run.as_of = cx.now;
        if p.from.is_zero() {
            // Until now there was nothing to see.
            p.run.fresh_at = cx.now;
        }
        let stable_share = f64::from(100 - step.weight.percent()) / 100.0;
        p.run.analysis.begin_step(p.step, stable_share);
        p.run.following.begin_step();
    }
    let Some(weight_at) = p.weight_at else {
        return rise(cx, p, step.weight);
    };

    let counts_from = p.counts_from(cx.plan, weight_at);
    traffic::follow(cx, &mut p.run, weight_at, step.weight);
    let outcome = cx.absorb(&mut p.run, counts_from);
    if let Some(reason) = failure(&p.run, outcome) {
        return cx.roll_back(p.run, reason);
    }
    if cx.is_blind(&p.run) {
        return go_blind(cx, p.run, p.step);
    }
    if !cx.baseline_holds(&p.run) {
        return pause(cx, p.run, p.step, PauseReason::StableChanged);
    }
    if live > step.weight {
        return contest::raised(cx, p, step.weight);
    }
    // A pass on traffic that went elsewhere proves nothing.
    let is_proven = outcome == Outcome::Pass && p.run.following.deviation().is_none();
    let is_over = cx.elapsed(weight_at, step.at_most) && !is_proven;
    if is_over && step.on_inconclusive == OnInconclusive::RollBack {
        return cx.roll_back(p.run, RollbackReason::Inconclusive);
    }
    if live < step.weight {
        return contest::lowered(cx, p.run, p.step);
    }
    cx.keep_capacity(&p.run, step.weight);
    if let Some(to) = cx.lost(&mut p.run, step.weight) {
        return lower(cx, p, step.weight, to);
    }
    if p.run.analysis.unusable().is_some() {
        return pause(cx, p.run, p.step, PauseReason::MetricUnusable);
    }
    let strays = traffic::strays(cx, &p.run);
    let passes = cx.elapsed(weight_at, step.hold) && is_proven;
    let enough = p.run.analysis.step_requests() >= cx.plan.min_requests;
    let clear = outcome != Outcome::Hold && !p.run.analysis.verdict().suspect;
    let may_advance = step.on_inconclusive == OnInconclusive::Advance && strays.is_none() && enough && clear;
    let advances = is_over && may_advance;
    let mut gate = cx.gate(&mut p.run, HookPoint::Step, Some(p.step));
    if gate == Gate::Open && cx.plan.is_last(p.step) && (passes || advances) {
        gate = cx.gate(&mut p.run, HookPoint::BeforePromotion, None);
    }
    let waits = match gate {
        Gate::Open => None,
        Gate::Waiting(waits) => Some(waits),
        Gate::Closed(how) => return closed(cx, p.run, p.step, how),
    };
    // Unproven or not: where a person is asked for, a person is asked.
    if (passes || advances) && waits.is_none() {
        if step.approval {
            return pause(cx, p.run, p.step, PauseReason::Approval);
        }
        return next(cx, p.run, p.step);
    }
    if is_over && !advances {
        let reason = match step.on_inconclusive {
            OnInconclusive::Advance | OnInconclusive::Pause if strays.is_some() => PauseReason::TrafficNotFollowing,
            _ => PauseReason::Inconclusive,
        };
        return pause(cx, p.run, p.step, reason);
    }
    let next = if cx.plan.is_last(p.step) {
        "promotion".to_owned()
    } else {
        format!("{} next", cx.plan.step(p.step + 1).weight)
    };
    let problem = cx
        .obs
        .sampling
        .problem()
        .map(|why| format!("; no samples: {why}"))
        .unwrap_or_default();
    let problem = strays.map(|why| format!("{problem}; {why}")).unwrap_or(problem);
    let problem = waits.map(|waits| format!("{problem}; {waits}")).unwrap_or(problem);
    cx.say(format!(
        "step {} of {}: {}, verdict {} on {} calls, {next}{problem}",
        p.step + 1,
        cx.plan.steps().len(),
        step.weight,
        outcome.name(),
        p.run.analysis.step_requests(),
    ));
    Phase::Progressing(p)
}

/// The step passed, by a verdict or by a person's word.
pub(super) fn next(cx: &mut Context<'_>, run: Run, step: usize) -> Phase {
    if cx.plan.is_last(step) {
        return promote(cx, run);
    }
    let from = cx.live();
    enter(cx, run, step + 1, from)
}

/// The revision is good: it is to become stable. The commit is asked for by the next decision.
pub(super) fn promote(cx: &mut Context<'_>, run: Run) -> Phase {
    cx.say(format!("promoting {}", run.revision));
    cx.note(
        NoteKind::Normal,
        "Promoting",
        format!("{} passed its last step and is promoted", run.revision),
    );
    cx.wake = Some(cx.now);
    Phase::Promoting(Promoting {
        run,
        way: Way::Trial,
        stage: PromoteStage::Committing,
        since: cx.now,
        commit: None,
    })
}

/// Holds the present weight for a person.
pub(super) fn pause(cx: &mut Context<'_>, run: Run, step: usize, reason: PauseReason) -> Phase {
    let weight = cx.live();
    pause_at(cx, run, step, reason, weight)
}

/// Holds this weight, which is written already or is being written.
pub(super) fn pause_at(cx: &mut Context<'_>, run: Run, step: usize, reason: PauseReason, weight: Weight) -> Phase {
    let message = format!("{} waits at {weight}: {}", run.revision, why(cx.plan, &run, reason));
    cx.say(message.clone());
    let kind = if reason == PauseReason::Approval {
        NoteKind::Normal
    } else {
        NoteKind::Warning
    };
    cx.note(kind, "Paused", message);
    Phase::Paused(Paused {
        run,
        step,
        reason,
        weight,
        since: cx.now,
    })
}

pub(super) fn go_blind(cx: &mut Context<'_>, run: Run, step: usize) -> Phase {
    take_out_of_sight(cx, &run);
    Phase::Paused(Paused {
        run,
        step,
        reason: PauseReason::Blind,
        weight: Weight::ZERO,
        since: cx.now,
    })
}

/// What can't be seen gets no traffic.
fn take_out_of_sight(cx: &mut Context<'_>, run: &Run) {
    cx.take_away();
    let why = cx.obs.sampling.problem().map(|p| format!(" ({p})")).unwrap_or_default();
    let message = format!(
        "no fresh scrape of {} for the blind deadline{why}; its traffic is taken away",
        run.revision
    );
    cx.say(message.clone());
    cx.note(NoteKind::Warning, "Blind", message);
}

fn why(plan: &Plan, run: &Run, reason: PauseReason) -> String {
    if let (PauseReason::Hook, Some(held)) = (reason, held_by(plan, run)) {
        return format!("{held} (`serin resume` asks again, `serin promote` goes past it)");
    }
    let unusable = run.analysis.unusable();
    if let (PauseReason::MetricUnusable, Some(unusable)) = (reason, unusable) {
        return format!("{}: {} (`serin resume` starts again)", unusable.field, unusable.problem);
    }
    if let (PauseReason::WeightContested, Some(contest)) = (reason, &run.contest) {
        return format!("{} writes its weight too (`serin resume` starts again)", contest.by);
    }
    let text = match reason {
        PauseReason::Operator => "an operator paused it",
        PauseReason::Approval => "the step asks for an approval (`serin approve`)",
        PauseReason::Inconclusive => "the step's time is over without a verdict (`serin promote`, `resume` or `abort`)",
        PauseReason::Blind => "no fresh scrapes",
        PauseReason::StableChanged => {
            "stable no longer runs the baseline (`serin resume` starts again beside the new one)"
        }
        PauseReason::WeightContested => "somebody lowered its weight (`serin resume` starts again)",
        PauseReason::MetricUnusable => "a metric could not be read; it can be now (`serin resume` starts again)",
        PauseReason::SpecRefused => "its spec was refused; it makes sense now (`serin resume` starts again)",
        PauseReason::TrafficNotFollowing => {
            "its calls do not go where the weight says (`serin resume` tries the step again)"
        }
        PauseReason::Hook => "a hook held it up; it would not now (`serin resume`)",
        PauseReason::PodsLost => "its pods were lost again and again (`serin resume` tries the step again)",
    };
    text.to_owned()
}

pub(super) fn paused(cx: &mut Context<'_>, mut p: Paused) -> Phase {
    if let Some(phase) = interrupted(cx, &p.run, || Phase::Paused(p.clone())) {
        return phase;
    }
    cx.hear(&mut p.run.hooks, true);
    if cx.live() == p.weight {
        let lowered_at = p.run.footing.lowered.map_or(p.since, |lowered| lowered.at);
        let (since, weight) = (p.since.max(lowered_at), p.weight);
        traffic::follow(cx, &mut p.run, since, weight);
    }
    let outcome = cx.absorb(&mut p.run, p.since);
    if let Some(reason) = failure(&p.run, outcome) {
        return cx.roll_back(p.run, reason);
    }
    hold(cx, &mut p);
    if p.reason == PauseReason::Blind {
        if p.run.fresh_at > p.since {
            cx.note(
                NoteKind::Normal,
                "SightReturned",
                format!("{} is seen again; first step again", p.run.revision),
            );
            return again(cx, p.run);
        }
    } else if !p.weight.is_zero() && cx.is_blind(&p.run) {
        // It still waits for what it waited for: sight alone lets nothing rise that a person holds.
        take_out_of_sight(cx, &p.run);
        p.weight = Weight::ZERO;
        return Phase::Paused(p);
    }
    let strays = traffic::strays(cx, &p.run)
        .map(|why| format!("; {why}"))
        .unwrap_or_default();
    let message = format!(
        "{} waits at {}: {}{strays}",
        p.run.revision,
        p.weight,
        why(cx.plan, &p.run, p.reason)
    );
    cx.say(message);
    Phase::Paused(p)
}

/// The weight is no higher than it was left, and than the pods that are left can carry.
pub(super) fn hold(cx: &mut Context<'_>, p: &mut Paused) {
    let live = cx.live();
    if live > p.weight {
        contest::tell(cx, &mut p.run, p.weight);
        let weight = p.weight;
        cx.first(weight);
    } else {
        p.weight = live;
    }
    let held = p.weight;
    cx.keep_capacity(&p.run, held);
    if let Some(to) = cx.lost(&mut p.run, held) {
        // Nothing rises here by itself, so a lower weight is nobody's word; it may be written before it is recorded.
        cx.note_lost(&mut p.run, held, to);
        cx.first(to);
        p.weight = to;
    }
}

/// The same trial from its first step; what was counted against it stays counted.
pub(super) fn again(cx: &mut Context<'_>, mut run: Run) -> Phase {
    run.footing.lowered = None;
    cx.say(format!("{} begins again at its first step", run.revision));
    Phase::Starting(Starting {
        run,
        preflight: Preflight::Wanted,
        baseline: Baseline::Frozen,
        since: cx.now,
    })
}

/// Another revision stands in the canary's place: its traffic goes first, then Git says what that means.
fn interrupted(cx: &mut Context<'_>, run: &Run, phase: impl FnOnce() -> Phase) -> Option<Phase> {
    let canary = replaced_by(cx, run)?;
    if !take_from_newcomer(cx, run, &canary) {
        return Some(phase());
    }
    let Some(stable) = cx.obs.stable.revision.clone() else {
        return Some(phase());
    };
    Some(match consider(cx, &canary, &stable) {
        Considered::Unknown => phase(),
        considered @ (Considered::AtRest | Considered::Recorded) => {
            let reason = match considered {
                Considered::AtRest => "the canary was put back to stable's revision in Git".to_owned(),
                _ => format!("{canary} took its place, which no canary commit brought"),
            };
            cx.say(format!("{} was withdrawn: {reason}", run.revision));
            cx.note(NoteKind::Normal, "Withdrawn", format!("{}: {reason}", run.revision));
            Phase::Withdrawn(ending(cx, run, reason))
        }
        Considered::Held => Phase::Idle(RestNote::Held),
        Considered::Start(starting) => {
            gives_way(cx, run, &canary);
            Phase::Starting(*starting)
        }
        Considered::Return(promoting) => {
            gives_way(cx, run, &canary);
            Phase::Promoting(*promoting)
        }
    })
}

/// The revision that stands in the place of the one on trial, if another one does.
pub(super) fn replaced_by(cx: &Context<'_>, run: &Run) -> Option<Revision> {
    cx.obs.canary.revision.clone().filter(|canary| *canary != run.revision)
}

/// Nobody has judged what took the place of the one on trial. Says whether the traffic is gone already.
pub(super) fn take_from_newcomer(cx: &mut Context<'_>, run: &Run, canary: &Revision) -> bool {
    let is_gone = cx.take_away();
    if !is_gone {
        cx.say(format!(
            "{canary} took the place of {}; taking all traffic from the canary",
            run.revision
        ));
    }
    is_gone
}

fn gives_way(cx: &mut Context<'_>, run: &Run, to: &Revision) {
    let message = format!("{} gives way to {to}", run.revision);
    cx.note(NoteKind::Normal, "Superseded", message);
}

/// The end of a trial that needed no commit of ours.
pub(super) fn ending(cx: &Context<'_>, run: &Run, reason: String) -> Ending {
    Ending {
        revision: run.revision.clone(),
        commit: run.commit.clone(),
        began: run.began,
        at: cx.now,
        answer: None,
        reason,
        traffic_at: cx.quiet_since,
        hooks: left(run),
    }
}
