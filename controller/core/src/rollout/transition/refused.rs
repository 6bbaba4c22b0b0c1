//! The spec makes no sense any more, or names what is not there: without a plan nothing is decided, and what is not judged gets no
//! traffic. It must not know what is wrong with the spec.

use jiff::Timestamp;

use crate::Weight;
use crate::rollout::state::{PauseReason, Paused, Phase, Progressing, State};

/// What a rollout remembers once its traffic was taken away because its spec was refused: a trial under way waits for a person, with
/// all that was counted. `None`: nothing of it had traffic, or what has it goes on when the spec is mended: a start by itself, a
/// promotion and a rollback as well.
pub fn refused(state: &State, now: Timestamp) -> Option<State> {
    let (run, step) = match &state.phase {
        Phase::Progressing(Progressing { run, step, .. }) => (run, *step),
        // One without traffic goes on waiting for what it waited for.
        Phase::Paused(Paused { run, step, weight, .. }) if !weight.is_zero() => (run, *step),
        _ => return None,
    };
    let paused = Paused {
        run: run.clone(),
        step,
        reason: PauseReason::SpecRefused,
        weight: Weight::ZERO,
        since: now,
    };
    Some(State {
        phase: Phase::Paused(paused),
        ..state.clone()
    })
}
