//! Stable's floor: while its traffic is elsewhere, stable's autoscaler would take it down, and a rollback would then meet too few
//! pods. So its minimum is held at what stable had when the first weight rose, and given back when the traffic is. It must
//! not know why weights rise or fall.

use super::Context;
use crate::rollout::effect::Effect;
use crate::rollout::observation::Autoscaler;
use crate::rollout::state::{Floor, Phase, after};

/// Whether stable could take everything back at once: a weight may rise only then. What is to be given back is recorded before
/// anything is written.
pub(super) fn stands(cx: &mut Context<'_>) -> bool {
    let Some(autoscaler) = cx.obs.autoscaler.clone() else {
        return true;
    };
    let stable = &cx.obs.stable;
    if cx
        .floor
        .as_ref()
        .is_none_or(|floor| floor.autoscaler != autoscaler.name)
    {
        let is_enough = autoscaler.minimum >= stable.desired;
        if is_enough && cx.floor.is_none() {
            return true;
        }
        // Another autoscaler than the one that was held is there now, or there was none.
        cx.floor = (!is_enough).then_some(Floor {
            autoscaler: autoscaler.name,
            original: autoscaler.minimum,
            held: stable.desired,
        });
        cx.wake = Some(cx.now);
        cx.say(format!("stable is to stay at {} pods", stable.desired));
        return false;
    }
    let Some(floor) = cx.floor.clone() else { return true };
    if autoscaler.minimum >= floor.held && stable.ready_any >= floor.held {
        return true;
    }
    cx.say(format!(
        "the weight waits for stable: {} of {} pods ready, and its autoscaler {} may go down to {}",
        stable.ready_any, floor.held, floor.autoscaler, autoscaler.minimum
    ));
    false
}

/// Holds the floor while traffic may be away from stable, and gives it back afterwards.
pub(super) fn settle(cx: &mut Context<'_>, phase: &Phase) {
    let is_tried = matches!(
        phase,
        Phase::Starting(_) | Phase::Progressing(_) | Phase::Paused(_) | Phase::Promoting(_)
    );
    if is_tried || !cx.live().is_zero() {
        hold(cx);
    } else {
        give_back(cx);
    }
}

fn hold(cx: &mut Context<'_>) {
    let Some((mut floor, autoscaler)) = cx.floor.clone().zip(cx.obs.autoscaler.clone()) else {
        return;
    };
    if autoscaler.name != floor.autoscaler || autoscaler.minimum >= floor.held {
        return;
    }
    if autoscaler.minimum == floor.original {
        write(cx, &autoscaler, floor.held);
        return;
    }
    // Somebody else's word since: theirs is what is given back.
    floor.original = autoscaler.minimum;
    cx.floor = Some(floor);
    cx.wake = Some(cx.now);
}

/// Says whether there is nothing to give back any more.
pub(super) fn give_back(cx: &mut Context<'_>) -> bool {
    let Some(floor) = cx.floor.clone() else { return true };
    match cx.obs.autoscaler.clone() {
        Some(autoscaler) if autoscaler.name == floor.autoscaler && autoscaler.minimum == floor.held => {
            write(cx, &autoscaler, floor.original);
            false
        }
        // It is given back, or gone, or somebody else has written another one since.
        _ => {
            cx.floor = None;
            true
        }
    }
}

/// Recorded before: what this decision itself would record is written by the next one. Nothing else waits for it: where it can't
/// be written it is tried again.
fn write(cx: &mut Context<'_>, autoscaler: &Autoscaler, minimum: i32) {
    let again = after(cx.now, cx.plan.interval);
    cx.wake_at(again);
    if cx.recorded_floor == cx.floor {
        cx.effects.push(Effect::SetMinimum {
            autoscaler: autoscaler.name.clone(),
            minimum,
        });
    }
}
