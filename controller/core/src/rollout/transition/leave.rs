//! A rollout that is being deleted: all traffic on stable, stable able to carry it, then everything is released.

use super::{Context, floor};
use crate::rollout::effect::Effect;
use crate::rollout::observation::LiveWeight;
use crate::rollout::plan::RouteOrigin;
use crate::rollout::state::Phase;

pub(super) fn leave(cx: &mut Context<'_>, phase: Phase) -> Phase {
    if cx.live().is_zero() {
        if !floor::give_back(cx) {
            cx.say("deleted: stable's autoscaler gets its minimum back");
        } else if cx.idle_canary() {
            let_go(cx);
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

/// The route goes first and its Services later: a proxy that still follows a route whose Service is gone fails its calls.
fn let_go(cx: &mut Context<'_>) {
    let services_stand = cx.obs.pinned.is_some();
    match (cx.plan.route, cx.obs.weight) {
        (RouteOrigin::Generated, LiveWeight::At(_)) => {
            cx.effects.push(Effect::RemoveRoute);
            cx.say("deleted: the route goes, then its Services");
        }
        (RouteOrigin::Generated, LiveWeight::Absent) if services_stand && !forgotten(cx) => {
            cx.say("deleted: the Services stay until every proxy has forgotten the route");
        }
        _ => {
            cx.say("all traffic is on stable; released");
            cx.effects.push(Effect::Release);
        }
    }
}

/// Whether proxies had the time of a drain to hear that the route is gone.
fn forgotten(cx: &mut Context<'_>) -> bool {
    let since = cx.routeless_since.unwrap_or(cx.now);
    cx.elapsed(since, cx.plan.drain)
}
