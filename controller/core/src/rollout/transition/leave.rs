//! A rollout that is being deleted: all traffic on stable, stable able to carry it, then everything is released.

use super::Context;
use crate::rollout::effect::Effect;
use crate::rollout::state::Phase;

pub(super) fn leave(cx: &mut Context<'_>, phase: Phase) -> Phase {
    if cx.live().is_zero() {
        if cx.idle_canary() {
            cx.say("all traffic is on stable; released");
            cx.effects.push(Effect::Release);
        } else {
            cx.say("deleted: the canary drains");
        }
        return phase;
    }
    if cx.obs.stable.ready_any == 0 || (!cx.obs.stable.settled && cx.obs.canary.ready > 0) {
        cx.say("deleted: waiting for stable to be available before the canary's traffic is taken away");
        return phase;
    }
    cx.take_away();
    cx.say("deleted: all traffic goes to stable");
    phase
}
