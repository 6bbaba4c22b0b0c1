//! Nothing is judged: weight 0, canary idle, and an eye on what the canary is to run.

use super::{Context, hooks};
use crate::rollout::effect::{Effect, NoteKind};
use crate::rollout::observation::{Answer, Origin, PriorAnswer};
use crate::rollout::state::{
    Baseline, Commit, Phase, Preflight, PromoteStage, Promoting, RestNote, Revision, Run, Starting, Way, short,
};

pub(super) fn rest(cx: &mut Context<'_>, mut phase: Phase) -> Phase {
    cx.take_away();
    cx.idle_canary();
    hooks::afterwards(cx, &mut phase);
    let (Some(canary), Some(stable)) = (cx.obs.canary.revision.clone(), cx.obs.stable.revision.clone()) else {
        cx.say("waiting for the Deployment controller to take up the arms' templates");
        return phase;
    };
    if cx.seen.as_ref() == Some(&canary) {
        return unchanged(cx, phase, &canary, &stable);
    }
    match consider(cx, &canary, &stable) {
        Considered::Unknown => phase,
        Considered::AtRest => match phase {
            Phase::Idle(_) if are_same(&canary, &stable) == Some(false) => Phase::Idle(RestNote::Stale),
            Phase::Idle(_) => Phase::Idle(RestNote::Quiet),
            ended => ended,
        },
        Considered::Recorded => match phase {
            Phase::Idle(_) if are_same(&canary, &stable) == Some(true) => Phase::Idle(RestNote::Quiet),
            Phase::Idle(_) => Phase::Idle(RestNote::Stale),
            ended => ended,
        },
        Considered::Held => Phase::Idle(RestNote::Held),
        Considered::Start(starting) => Phase::Starting(*starting),
        Considered::Return(promoting) => Phase::Promoting(*promoting),
    }
}

/// Whether both arms run the same revision; none when they have no names, and only Git can tell.
fn are_same(canary: &Revision, stable: &Revision) -> Option<bool> {
    let is_known = !canary.is_unnamed() && !stable.is_unnamed();
    is_known.then(|| canary.name == stable.name)
}

fn unchanged(cx: &mut Context<'_>, phase: Phase, canary: &Revision, stable: &Revision) -> Phase {
    let same = are_same(canary, stable);
    match phase {
        Phase::Idle(RestNote::Held) if same != Some(true) => {
            cx.say(format!(
                "{canary} was rolled back before; `serin retry` starts it again"
            ));
            Phase::Idle(RestNote::Held)
        }
        Phase::Idle(RestNote::Quiet) if same.is_none() => {
            cx.say(format!(
                "the canary ({canary}) equalled stable in Git when it came; a new canary revision starts a trial"
            ));
            Phase::Idle(RestNote::Quiet)
        }
        Phase::Idle(_) if same != Some(true) => {
            cx.say(format!(
                "the canary runs {canary}, stable runs {stable}; a new canary revision starts a trial"
            ));
            Phase::Idle(RestNote::Stale)
        }
        Phase::Idle(_) => {
            cx.say(format!("both arms run {stable}; a new canary revision starts a trial"));
            Phase::Idle(RestNote::Quiet)
        }
        Phase::Promoted(ending) => {
            cx.say(format!("{} is promoted", ending.revision));
            Phase::Promoted(ending)
        }
        Phase::RolledBack(ending) => {
            cx.say(format!("{} was rolled back: {}", ending.revision, ending.reason));
            Phase::RolledBack(ending)
        }
        Phase::Withdrawn(ending) => {
            cx.say(format!("{} was withdrawn: {}", ending.revision, ending.reason));
            Phase::Withdrawn(ending)
        }
        other => other,
    }
}

/// What a canary revision that was not there before means.
pub(super) enum Considered {
    /// Git has not answered yet.
    Unknown,
    /// Git says that the canary equals stable.
    AtRest,
    /// A difference that nobody committed as a canary: recorded, not started.
    Recorded,
    /// It was rolled back before.
    Held,
    /// A trial begins.
    Start(Box<Starting>),
    /// It was promoted lately: its promotion begins, without a trial.
    Return(Box<Promoting>),
}

/// Asks Git where the canary's revision comes from, and decides on its answer.
pub(super) fn consider(cx: &mut Context<'_>, canary: &Revision, stable: &Revision) -> Considered {
    let origin = match &cx.obs.git.origin {
        Some(Answer::Is((revision, origin))) if revision == canary => origin.clone(),
        failed => {
            cx.say(match failed {
                Some(Answer::Failed(why)) => format!("can't tell where {canary} comes from: {why}"),
                _ => format!("asking Git where {canary} comes from"),
            });
            cx.effects.push(Effect::AskOrigin(canary.clone()));
            return Considered::Unknown;
        }
    };
    let first = cx.seen.is_none();
    cx.seen = Some(canary.clone());
    let Origin { commit, at_rest, prior } = origin;
    if at_rest {
        cx.say(format!("the canary equals stable in Git ({canary}); nothing to judge"));
        return Considered::AtRest;
    }
    if prior == Some(PriorAnswer::RolledBack) {
        cx.say(format!(
            "{canary} was rolled back before; `serin retry` starts it again"
        ));
        cx.note(
            NoteKind::Warning,
            "Held",
            format!("{canary} was rolled back before and does not start by itself"),
        );
        return Considered::Held;
    }
    // What no canary commit asks for is not started: our own rollback commit beside a hotfix of stable is one such canary.
    if commit.is_none() || (first && prior == Some(PriorAnswer::Promoted)) {
        cx.say(format!(
            "recorded {canary} as it was found; a new canary revision starts a trial"
        ));
        return Considered::Recorded;
    }
    // Without its commit nobody could promote it.
    if commit.is_some() && cx.returns(canary) {
        return Considered::Return(Box::new(fast_return(cx, canary, stable, commit)));
    }
    cx.say(format!("{canary} starts"));
    let by = commit
        .as_ref()
        .map(|c| format!(", committed as {}", short(&c.id)))
        .unwrap_or_default();
    cx.note(
        NoteKind::Normal,
        "Starting",
        format!("canary revision {canary}{by}; stable is {stable}"),
    );
    let run = Run::begin(canary.clone(), stable.clone(), commit, cx.plan, cx.now);
    Considered::Start(Box::new(Starting {
        run,
        preflight: Preflight::Wanted,
        baseline: Baseline::Wanted,
        since: cx.now,
    }))
}

/// The promotion of what was promoted before. No traffic moves: stable takes it up under its own Deployment's guard, and is
/// judged for a while then.
fn fast_return(cx: &mut Context<'_>, canary: &Revision, stable: &Revision, commit: Option<Commit>) -> Promoting {
    let message = format!("{canary} was promoted lately and returns without a canary; stable is {stable}");
    cx.say(message.clone());
    cx.note(NoteKind::Normal, "FastReturn", message);
    cx.wake = Some(cx.now);
    Promoting {
        run: Run::begin(canary.clone(), stable.clone(), commit, cx.plan, cx.now),
        way: Way::FastReturn,
        stage: PromoteStage::Committing,
        since: cx.now,
        commit: None,
    }
}
