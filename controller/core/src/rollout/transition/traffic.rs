//! Whether the clients' calls go where the weight says. It must not know what is done about it.

use jiff::Timestamp;

use super::Context;
use crate::Weight;
use crate::rollout::effect::{Effect, NoteKind};
use crate::rollout::observation::Answer;
use crate::rollout::state::{Run, after};

/// Adds the ticks that saw this weight alone. The counters behind a tick's start may be as old as one scrape, so the first whole
/// interval at a weight is left out.
pub(super) fn follow(cx: &mut Context<'_>, run: &mut Run, weight_at: Timestamp, weight: Weight) {
    let from = after(weight_at, cx.plan.interval);
    let before = run.following.deviation();
    for tick in &cx.obs.ticks {
        if tick.end > run.as_of && tick.start >= from {
            run.following
                .observe(tick.sent, weight, cx.obs.sides, cx.plan.steps().len());
        }
    }
    match (before, run.following.deviation()) {
        (None, Some(deviation)) => cx.note(
            NoteKind::Warning,
            "TrafficNotFollowing",
            format!("{}: {deviation}", run.revision),
        ),
        (Some(_), None) => cx.note(
            NoteKind::Normal,
            "TrafficFollows",
            format!("the calls go where the weight of {} says", run.revision),
        ),
        _ => {}
    }
}

/// What is wrong with the calls' way, and likely why; asks for the causes until they are known.
pub(super) fn strays(cx: &mut Context<'_>, run: &Run) -> Option<String> {
    let deviation = run.following.deviation()?;
    cx.effects.push(Effect::AskCauses(run.revision.clone()));
    let causes = match &cx.obs.causes {
        Some(Answer::Is(causes)) => format!("; likely causes: {causes}"),
        Some(Answer::Failed(_)) | None => String::new(),
    };
    Some(format!("{deviation}{causes}"))
}
