//! Before Prometheus has answered: what there is too much of is taken away, and nothing else is decided. It must not know verdicts, nor
//! the time: an answer may hold a failure that nobody has seen yet, or sight where the clock alone would say blind.

use std::ops::ControlFlow;

use super::rise::{lower, shed_excess};
use super::trial::{hold, replaced_by, take_from_newcomer};
use super::{Context, capacity, contest};
use crate::rollout::state::{Phase, Progressing};

pub(super) fn go_on(cx: &mut Context<'_>, mut phase: Phase) -> Phase {
    cx.say("Prometheus has not answered yet");
    match &mut phase {
        Phase::Progressing(p) => match replaced_by(cx, &p.run) {
            Some(canary) => drop(take_from_newcomer(cx, &p.run, &canary)),
            None => return progressing(cx, p.clone()),
        },
        Phase::Paused(p) => match replaced_by(cx, &p.run) {
            Some(canary) => drop(take_from_newcomer(cx, &p.run, &canary)),
            None => hold(cx, p),
        },
        Phase::Promoting(_) => capacity::while_promoting(cx, &mut phase),
        // None of these waits for samples.
        Phase::Starting(_)
        | Phase::RollingBack(_)
        | Phase::Idle(_)
        | Phase::Withdrawn(_)
        | Phase::Promoted(_)
        | Phase::RolledBack(_) => {}
    }
    phase
}

fn progressing(cx: &mut Context<'_>, mut p: Progressing) -> Phase {
    let weight = cx.plan.step(p.step).weight;
    let (live, stands) = (cx.live(), p.weight_at.is_some());
    // One that is lower than it was left may be a rollback that nobody could record.
    if live < if stands { weight } else { p.from } {
        return Phase::Progressing(p);
    }
    if !stands {
        return match shed_excess(cx, p, weight) {
            ControlFlow::Continue(p) => Phase::Progressing(p),
            ControlFlow::Break(phase) => phase,
        };
    }
    if live > weight {
        return contest::raised(cx, p, weight);
    }
    match cx.lost(&mut p.run, weight) {
        Some(to) => lower(cx, p, weight, to),
        None => Phase::Progressing(p),
    }
}
