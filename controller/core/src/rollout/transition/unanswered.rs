//! Before Prometheus has answered: what there is too much of is taken away, and nothing else is decided. It must not know verdicts, nor
//! the time: an answer may hold a failure that nobody has seen yet, or sight where the clock alone would say blind.

use std::ops::ControlFlow;

use super::rise::{lower, shed_excess};
use super::trial::{hold, replaced_by, take_from_newcomer};
use super::{Context, capacity, contest};
use crate::rollout::state::{Paused, Phase, Progressing};

pub(super) fn go_on(cx: &mut Context<'_>, mut phase: Phase) -> Phase {
    cx.say("Prometheus has not answered yet");
    if let Phase::Progressing(Progressing { run, .. }) | Phase::Paused(Paused { run, .. }) = &phase
        && let Some(canary) = replaced_by(cx, run)
    {
        take_from_newcomer(cx, run, &canary);
        return phase;
    }
    match phase {
        Phase::Progressing(p) => progressing(cx, p),
        Phase::Paused(mut p) => {
            hold(cx, &mut p);
            Phase::Paused(p)
        }
        Phase::Promoting(_) => {
            capacity::while_promoting(cx, &mut phase);
            phase
        }
        // None of these waits for samples.
        Phase::Starting(_)
        | Phase::RollingBack(_)
        | Phase::Idle(_)
        | Phase::Withdrawn(_)
        | Phase::Promoted(_)
        | Phase::RolledBack(_) => phase,
    }
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
