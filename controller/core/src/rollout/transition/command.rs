//! Operators' commands: what each does in which phase, and why it is refused in others.

use super::rest::{Considered, consider};
use super::trial::{again, enter, next, pause, promote};
use super::{Context, hooks, promoting};
use crate::rollout::effect::NoteKind;
use crate::rollout::observation::{Answer, Command, Verb};
use crate::rollout::state::{
    Baseline, CommandAnswer, PauseReason, Paused, Phase, Preflight, Progressing, RestNote, RollbackGit, RollbackReason,
    Run, Starting,
};

/// Whether a command changed the phase.
pub(super) enum Obeyed {
    Changed,
    Unchanged,
}

/// Carries out the command that was observed, if any, and records the answer.
pub(super) fn obey(cx: &mut Context<'_>, phase: Phase) -> (Phase, Obeyed) {
    let Some(command) = cx.obs.command.clone() else {
        return (phase, Obeyed::Unchanged);
    };
    if cx.last_command.as_ref().is_some_and(|last| last.id == command.id) {
        return (phase, Obeyed::Unchanged);
    }
    let name = phase.name();
    let (phase, done) = carry_out(cx, phase, &command);
    let message = match done {
        Done::Yes(message) => {
            answer(cx, command, true, message);
            return (phase, Obeyed::Changed);
        }
        Done::NotYet => return (phase, Obeyed::Unchanged),
        Done::No(why) => format!("refused in phase {name}: {why}"),
    };
    answer(cx, command, false, message);
    (phase, Obeyed::Unchanged)
}

/// Records the answer, and tells it: who steered a rollout, when and why must not be lost with the next command.
fn answer(cx: &mut Context<'_>, command: Command, accepted: bool, message: String) {
    let (kind, reason) = if accepted {
        (NoteKind::Normal, "CommandDone")
    } else {
        (NoteKind::Warning, "CommandRefused")
    };
    cx.note(kind, reason, format!("{}: {message}", words(&command)));
    cx.last_command = Some(CommandAnswer {
        id: command.id,
        verb: command.verb.name().to_owned(),
        by: command.by,
        reason: command.reason,
        accepted,
        message,
    });
}

/// The command with whose it is and why, as far as they were said.
fn words(command: &Command) -> String {
    let mut words = command.verb.name().to_owned();
    if let Some(by) = &command.by {
        words = format!("{words} by {by}");
    }
    if !command.reason.is_empty() {
        words = format!("{words} ({})", command.reason);
    }
    words
}

/// Why a rollback was asked for, as it stands in the commit.
fn aborted(command: &Command) -> RollbackReason {
    RollbackReason::Aborted(match &command.by {
        Some(by) if command.reason.is_empty() => by.clone(),
        Some(by) => format!("{} ({by})", command.reason),
        None => command.reason.clone(),
    })
}

/// What `promote` says where it only answers for hooks.
const PASSED_OVER: &str = "the hooks that it waited for are passed over";

enum Done {
    Yes(String),
    NotYet,
    No(&'static str),
}

fn carry_out(cx: &mut Context<'_>, phase: Phase, command: &Command) -> (Phase, Done) {
    let yes = |message: &str| Done::Yes(message.to_owned());
    match (command.verb, phase) {
        (Verb::Pause, Phase::Progressing(Progressing { run, step, .. })) => (
            pause(cx, run, step, PauseReason::Operator),
            yes("paused; the weight is held and still judged"),
        ),
        (Verb::Approve, Phase::Paused(p)) if p.reason == PauseReason::Approval => (resume(cx, p), yes("approved")),
        (Verb::Promote, Phase::Progressing(mut p)) if p.weight_at.is_some() => {
            hooks::pass_over(cx.plan, &mut p.run);
            (next(cx, p.run, p.step), yes("the rest of the step is skipped"))
        }
        (Verb::Promote, Phase::Progressing(mut p)) if p.run.waits_for_hooks() => {
            hooks::pass_over(cx.plan, &mut p.run);
            (Phase::Progressing(p), yes(PASSED_OVER))
        }
        (Verb::Promote, Phase::Starting(mut s)) if s.run.waits_for_hooks() => {
            hooks::pass_over(cx.plan, &mut s.run);
            (Phase::Starting(s), yes(PASSED_OVER))
        }
        (Verb::Promote, Phase::Paused(p)) if p.reason == PauseReason::Hook => go_past(cx, p),
        (Verb::Promote, Phase::Paused(p)) if goes_on(p.reason) => {
            (next(cx, p.run, p.step), yes("the rest of the step is skipped"))
        }
        (Verb::PromoteFull, Phase::Progressing(p)) => skip_all(cx, p.run),
        (Verb::PromoteFull, Phase::Paused(p)) if goes_on(p.reason) => skip_all(cx, p.run),
        (Verb::Resume, Phase::Paused(p)) => (resume(cx, p), yes("resumed")),
        (
            Verb::Abort,
            Phase::Starting(Starting { run, .. })
            | Phase::Progressing(Progressing { run, .. })
            | Phase::Paused(Paused { run, .. }),
        ) => (cx.roll_back(run, aborted(command)), yes("rolling back")),
        (Verb::Abort, Phase::Promoting(p)) => (
            promoting::fail(cx, p, aborted(command)),
            yes("rolling the promotion back"),
        ),
        (Verb::Retry, phase @ (Phase::Idle(RestNote::Held) | Phase::RolledBack(_))) => retry(cx, phase),
        // Its commit is answered: if the revision still stands there, people have committed it again.
        (Verb::Retry, Phase::RollingBack(r)) if r.traffic_at.is_some() && r.git != RollbackGit::Committing => {
            retry(cx, Phase::RollingBack(r))
        }
        (Verb::Approve, phase) => (phase, Done::No("there is no approval to give")),
        (Verb::Pause, phase) => (phase, Done::No("only a rollout in a step can be paused")),
        (Verb::Resume, phase) => (phase, Done::No("it is not paused")),
        (Verb::Abort, phase) => (phase, Done::No("no revision is on trial")),
        (Verb::Retry, phase) => (phase, Done::No("no revision was rolled back")),
        (Verb::Promote | Verb::PromoteFull, phase) => (phase, Done::No("no step can be skipped now")),
    }
}

fn goes_on(reason: PauseReason) -> bool {
    matches!(
        reason,
        PauseReason::Operator
            | PauseReason::Approval
            | PauseReason::Inconclusive
            | PauseReason::TrafficNotFollowing
            | PauseReason::Hook
    )
}

/// Straight to the last step's weight and on to the promotion: the last step is entered, so that capacity is there
/// before all traffic is, and everything it would wait for is a person's word already.
fn skip_all(cx: &mut Context<'_>, mut run: Run) -> (Phase, Done) {
    let last = cx.plan.steps().len().saturating_sub(1);
    hooks::pass_over_all(cx, &mut run, last);
    let from = cx.live();
    if cx.live() == cx.plan.step(last).weight {
        return (
            promote(cx, run),
            Done::Yes("promoting without further steps".to_owned()),
        );
    }
    (
        enter(cx, run, last, from),
        Done::Yes("straight to the last step; `promote` again skips its hold".to_owned()),
    )
}

/// Past the hooks that hold it up: to the weight that they kept back, or over the rest of the step.
fn go_past(cx: &mut Context<'_>, mut p: Paused) -> (Phase, Done) {
    let rises = hooks::pass_over(cx.plan, &mut p.run);
    let phase = if p.weight.is_zero() {
        again(cx, p.run)
    } else if rises {
        enter(cx, p.run, p.step, p.weight)
    } else {
        next(cx, p.run, p.step)
    };
    (phase, Done::Yes("the hooks that held it up are passed over".to_owned()))
}

fn resume(cx: &mut Context<'_>, mut p: Paused) -> Phase {
    if p.reason == PauseReason::Hook {
        hooks::ask_again(cx, &mut p.run);
    }
    p.run.footing.times = 0;
    match p.reason {
        PauseReason::MetricUnusable => {
            cx.take_away();
            // With the queries of the present spec: what is judged changes, so all of it is judged anew.
            Phase::Starting(Starting {
                run: p.run,
                preflight: Preflight::Wanted,
                baseline: Baseline::Wanted,
                since: cx.now,
            })
        }
        // Its traffic was taken away meanwhile: what the later steps stood on is gone.
        _ if p.weight.is_zero() => again(cx, p.run),
        PauseReason::Approval => next(cx, p.run, p.step),
        PauseReason::Operator
        | PauseReason::Inconclusive
        | PauseReason::TrafficNotFollowing
        | PauseReason::Hook
        | PauseReason::PodsLost => enter(cx, p.run, p.step, p.weight),
        PauseReason::Blind | PauseReason::StableChanged | PauseReason::WeightContested | PauseReason::SpecRefused => {
            cx.take_away();
            again(cx, p.run)
        }
    }
}

fn retry(cx: &mut Context<'_>, phase: Phase) -> (Phase, Done) {
    let (Some(canary), Some(stable)) = (cx.obs.canary.revision.clone(), cx.obs.stable.revision.clone()) else {
        return (phase, Done::NotYet);
    };
    if canary.name == stable.name {
        return (
            phase,
            Done::No("the canary runs stable's revision: commit the canary revision again, then retry"),
        );
    }
    // Where it comes from has to be known for its rollback; that it was rolled back is what the person overrules.
    let seen = cx.seen.take();
    match consider(cx, &canary, &stable) {
        Considered::Unknown => {
            cx.seen = seen;
            (phase, Done::NotYet)
        }
        Considered::AtRest => (
            phase,
            Done::No("Git is at rest: commit the canary revision again, then retry"),
        ),
        Considered::Start(starting) => (Phase::Starting(*starting), Done::Yes(format!("{canary} starts again"))),
        Considered::Return(promoting) => (
            Phase::Promoting(*promoting),
            Done::Yes(format!("{canary} returns without a canary")),
        ),
        Considered::Held | Considered::Recorded => {
            let commit = match &cx.obs.git.origin {
                Some(Answer::Is((_, origin))) => origin.commit.clone(),
                _ => None,
            };
            if commit.is_none() {
                // It could neither be promoted nor rolled back.
                let why = "no canary commit in Git brought it: commit the canary revision again, then retry";
                return (phase, Done::No(why));
            }
            let run = Run::begin(canary.clone(), stable, commit, cx.plan, cx.now);
            (
                Phase::Starting(Starting {
                    run,
                    preflight: Preflight::Wanted,
                    baseline: Baseline::Wanted,
                    since: cx.now,
                }),
                Done::Yes(format!("{canary} starts again")),
            )
        }
    }
}
