//! Somebody else writes the weights: what is too high is lowered at once, what is too low is never raised again by itself.
//! It must not know verdicts.

use super::Context;
use super::trial::{pause, pause_at};
use crate::Weight;
use crate::rollout::effect::NoteKind;
use crate::rollout::state::{Contest, PauseReason, Phase, Progressing, Run};

/// So often in one trial is a weight corrected before the rollout waits for a person: once may be a slip of the hand.
const CORRECTIONS: u32 = 1;

/// The live weight is higher than this one: it is lowered first of all, and the step's time begins anew at its own weight.
pub(super) fn raised(cx: &mut Context<'_>, mut p: Progressing, weight: Weight) -> Phase {
    tell(cx, &mut p.run, weight);
    cx.first(weight);
    if p.run
        .contest
        .as_ref()
        .is_some_and(|contest| contest.times > CORRECTIONS)
    {
        return pause_at(cx, p.run, p.step, PauseReason::WeightContested, weight);
    }
    let live = cx.live();
    cx.say(format!("correcting the weight from {live} to {weight}"));
    // Ticks of the wrong weight count for nothing; and from here on a lower one is somebody's word.
    p.run.following.begin_step();
    Phase::Progressing(Progressing {
        from: weight,
        weight_at: None,
        ..p
    })
}

/// The live weight is lower than it was left: it may be a rollback that a killed controller did not record, so it never goes up
/// again without a person's word.
pub(super) fn lowered(cx: &mut Context<'_>, mut run: Run, step: usize) -> Phase {
    count(cx, &mut run);
    pause(cx, run, step, PauseReason::WeightContested)
}

/// Says who wrote.
pub(super) fn tell(cx: &mut Context<'_>, run: &mut Run, weight: Weight) {
    let by = count(cx, run);
    let live = cx.live();
    cx.note(
        NoteKind::Warning,
        "WeightContested",
        format!(
            "{by} set the weight of {} to {live}; it goes back to {weight}",
            run.revision
        ),
    );
}

fn count(cx: &Context<'_>, run: &mut Run) -> String {
    let times = run.contest.as_ref().map_or(0, |contest| contest.times);
    let by = cx.obs.writer.clone().unwrap_or_else(|| "somebody".to_owned());
    run.contest = Some(Contest {
        by: by.clone(),
        times: times.saturating_add(1),
    });
    by
}
