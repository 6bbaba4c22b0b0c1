//! A failed revision: weight 0, drain, the rollback commit, and the cluster back in line with Git.

use super::Context;
use super::trial::ending;
use crate::Weight;
use crate::rollout::effect::{Effect, NoteKind};
use crate::rollout::hooks::HookPoint;
use crate::rollout::observation::{Answer, Arm, RollbackOutcome};
use crate::rollout::state::{Ending, Phase, Pushed, Revision, RollbackGit, RollingBack, short};

pub(super) fn rolling_back(cx: &mut Context<'_>, mut r: RollingBack) -> Phase {
    let is_back = r.git != RollbackGit::Committing && stable_is_back(cx, &r);
    place_traffic(cx, &mut r, is_back);
    if !r.on_canary && cx.live().is_zero() {
        r.traffic_at = r.traffic_at.or(Some(cx.now));
    }
    let applied = commit(cx, &mut r);
    tell_hooks(cx, &mut r);
    let superseded = r.promoted.is_none() && successor(cx, &r);
    // The canary is scaled down only when stable carries all traffic and is able to.
    let down = !r.on_canary && stable_carries(cx, &r) && cx.live().is_zero() && cx.idle_canary();
    let done = r.traffic_at.is_some() && (superseded || (applied && down));
    if !done {
        return Phase::RollingBack(r);
    }
    let reason = if let Some(why) = &r.own_fields_because {
        format!("{}; {}", r.reason, own_fields(why))
    } else if superseded {
        format!(
            "{}; a newer revision took its place before the rollback commit",
            r.reason
        )
    } else {
        r.reason.to_string()
    };
    cx.say(format!("{} was rolled back: {reason}", r.run.revision));
    cx.note(
        NoteKind::Warning,
        "RolledBack",
        format!("{} was rolled back: {reason}", r.run.revision),
    );
    let answer = match r.git {
        RollbackGit::Applying(pushed) => Some(pushed),
        RollbackGit::Committing | RollbackGit::AtRest => None,
    };
    let traffic_at = r.traffic_at;
    Phase::RolledBack(Ending {
        answer,
        traffic_at,
        ..ending(cx, &r.run, reason)
    })
}

/// Once the traffic is gone, and never in the way of anything.
fn tell_hooks(cx: &mut Context<'_>, r: &mut RollingBack) {
    cx.hear(&mut r.run.hooks, false);
    if r.traffic_at.is_some() {
        cx.announce(&mut r.run.hooks, HookPoint::OnRollback);
    }
}

fn own_fields(why: &str) -> String {
    format!("only the rollout's own fields were restored, as {why}")
}

/// Traffic that had to stand on the canary leaves it when stable is back, or when the canary's pods are not there any more.
fn place_traffic(cx: &mut Context<'_>, r: &mut RollingBack, is_back: bool) {
    let is_another = cx
        .obs
        .canary
        .revision
        .as_ref()
        .is_some_and(|canary| *canary != r.run.revision);
    let is_gone = cx.obs.canary.ready == 0 || is_another;
    if is_back || (is_gone && cx.obs.stable.ready_any > 0) {
        r.on_canary = false;
    }
    if r.on_canary {
        if cx.live() != Weight::FULL {
            cx.first(Weight::FULL);
        }
    } else {
        cx.take_away();
    }
}

/// Sees to the commit; says whether the cluster carries what Git says.
fn commit(cx: &mut Context<'_>, r: &mut RollingBack) -> bool {
    let revision = r.run.revision.clone();
    match &r.git {
        RollbackGit::Committing => {
            let placed = r.on_canary || cx.live().is_zero();
            match cx.obs.git.rollback.as_ref().and_then(|answer| answer.about(&revision)) {
                Some(Answer::Is(RollbackOutcome::Committed {
                    id,
                    at,
                    committed,
                    own_fields_because,
                })) => {
                    cx.say(format!(
                        "rollback of {revision} is commit {}; the cluster has to follow",
                        short(id)
                    ));
                    cx.note(
                        NoteKind::Normal,
                        "RollbackCommitted",
                        match own_fields_because {
                            None => format!("{revision} is reverted by {}", short(id)),
                            Some(why) => format!("{revision} is undone by {}; {}", short(id), own_fields(why)),
                        },
                    );
                    r.own_fields_because.clone_from(own_fields_because);
                    cx.effects.push(Effect::Refresh);
                    r.git = RollbackGit::Applying(Pushed {
                        id: id.clone(),
                        at: *at,
                        committed: *committed,
                    });
                }
                Some(Answer::Is(RollbackOutcome::AtRest | RollbackOutcome::Superseded)) => {
                    cx.say(format!(
                        "Git holds nothing of {revision} to undo; the cluster has to follow"
                    ));
                    cx.effects.push(Effect::Refresh);
                    r.git = RollbackGit::AtRest;
                }
                other if placed => {
                    cx.say(match other {
                        Some(Answer::Failed(why)) => format!("the rollback commit of {revision} is pending: {why}"),
                        _ => format!("committing the rollback of {revision}: {}", r.reason),
                    });
                    cx.effects.push(Effect::CommitRollback {
                        revision,
                        baseline: r.run.baseline.clone(),
                        commit: r.run.commit.clone(),
                        promoted: r.promoted.clone(),
                        reason: r.reason.to_string(),
                    });
                }
                _ => cx.say(format!("taking all traffic from {revision}: {}", r.reason)),
            }
            false
        }
        RollbackGit::Applying(_) | RollbackGit::AtRest => {
            let applied = r.is_applied(&cx.obs.stable, &cx.obs.canary);
            if !applied {
                cx.say(format!(
                    "waiting for Git to be applied: {revision} was rolled back ({})",
                    r.reason
                ));
            }
            applied
        }
    }
}

impl RollingBack {
    /// Whether the live Deployments carry our commit. A canary that is neither the failed revision nor stable's carries a
    /// later commit, whose ancestry ours is.
    pub fn is_applied(&self, stable: &Arm, canary: &Arm) -> bool {
        let (Some(canary), Some(stable)) = (&canary.revision, &stable.revision) else {
            return false;
        };
        // Git rests, and both arms run the same: people made the failed revision stable, and there is nothing to undo.
        let by_people = self.git == RollbackGit::AtRest && canary.name == stable.name;
        // Also where no promotion is recorded: Git may have known of one.
        let restored = *stable == self.run.baseline || stable.name != self.run.revision.name;
        by_people || (restored && *canary != self.run.revision)
    }
}

/// Whether stable runs something else than what failed, with all of its pods.
fn stable_is_back(cx: &Context<'_>, r: &RollingBack) -> bool {
    let stable = &cx.obs.stable;
    let other = |revision: &Revision| *revision == r.run.baseline || revision.name != r.run.revision.name;
    stable.settled && stable.revision.as_ref().is_some_and(other)
}

/// Whether a newer revision has taken the failed one's place in the cluster.
fn successor(cx: &Context<'_>, r: &RollingBack) -> bool {
    let (Some(canary), Some(stable)) = (&cx.obs.canary.revision, &cx.obs.stable.revision) else {
        return false;
    };
    let not_ours = !matches!(r.git, RollbackGit::Applying(_));
    not_ours && *canary != r.run.revision && canary.name != stable.name
}

fn stable_carries(cx: &Context<'_>, r: &RollingBack) -> bool {
    r.promoted.is_none() || cx.obs.stable.settled
}
