//! From the last step to the end of the hand-over: commit, stable runs the revision, traffic returns share by share.

use super::trial::{ending, pause};
use super::{Context, capacity, failure};
use crate::Weight;
use crate::analysis::Judged;
use crate::rollout::effect::{Effect, NoteKind};
use crate::rollout::hooks::HookPoint;
use crate::rollout::observation::{Answer, Arm, PromotionOutcome};
use crate::rollout::state::{
    Ending, PauseReason, Phase, PromoteStage, Promoting, Pushed, Revision, RollbackGit, RollbackReason, RollingBack,
    Way, short,
};

/// What is left on the canary while traffic returns to stable in shares of 25, 50 and 100 %.
const RETURN: [i64; 3] = [75, 50, 0];

pub(super) fn promoting(cx: &mut Context<'_>, mut p: Promoting) -> Phase {
    let judged_since = match &p.stage {
        PromoteStage::Returning { weight_at, .. } => weight_at.unwrap_or(cx.now),
        PromoteStage::Committing | PromoteStage::Applying | PromoteStage::Draining => p.since,
    };
    let outcome = cx.absorb(&mut p.run, judged_since);
    if let Some(reason) = failure(&p.run, outcome) {
        return fail(cx, p, reason);
    }
    if p.way == Way::Trial && matches!(p.stage, PromoteStage::Committing | PromoteStage::Applying) {
        cx.keep_capacity(&p.run, Weight::FULL);
    }
    let mut phase = match p.stage.clone() {
        PromoteStage::Committing => committing(cx, p),
        PromoteStage::Applying => applying(cx, p),
        PromoteStage::Returning { share, weight_at } => returning(cx, p, share, weight_at),
        PromoteStage::Draining => draining(cx, p),
    };
    capacity::while_promoting(cx, &mut phase);
    phase
}

impl Promoting {
    /// Whether stable's Deployment carries what is promoted.
    pub fn is_applied(&self, stable: &Arm) -> bool {
        // Without the annotation each arm's revision is called by its own hash: then that stable has changed has to do.
        let is_it =
            |r: &Revision| r.name == self.run.revision.name || (r.is_unnamed() && self.run.revision.is_unnamed());
        let is_promoted = |r: &Revision| is_it(r) && *r != self.run.baseline;
        stable.revision.as_ref().is_some_and(is_promoted)
    }
}

fn committing(cx: &mut Context<'_>, mut p: Promoting) -> Phase {
    let answer = cx.obs.git.promotion.as_ref();
    match answer.and_then(|answer| answer.about(&p.run.revision)) {
        Some(Answer::Is(PromotionOutcome::Committed { id, at, committed })) => {
            cx.say(format!(
                "promotion of {} is commit {}; stable has to run it",
                p.run.revision,
                short(id)
            ));
            cx.note(
                NoteKind::Normal,
                "PromotionCommitted",
                format!("{} is promoted by {}", p.run.revision, short(id)),
            );
            cx.effects.push(Effect::Refresh);
            p.commit = Some(Pushed {
                id: id.clone(),
                at: *at,
                committed: *committed,
            });
            p.stage = PromoteStage::Applying;
            p.since = cx.now;
        }
        Some(Answer::Is(PromotionOutcome::AlreadyThere)) => {
            cx.say(format!(
                "{} was promoted in Git by others; stable has to run it",
                p.run.revision
            ));
            cx.effects.push(Effect::Refresh);
            p.stage = PromoteStage::Applying;
            p.since = cx.now;
        }
        Some(Answer::Is(PromotionOutcome::StableChanged)) => {
            let last = cx.plan.steps().len().saturating_sub(1);
            return pause(cx, p.run, last, PauseReason::StableChanged);
        }
        Some(Answer::Is(PromotionOutcome::RolledBack)) => {
            let why = "Git has a rollback commit for it".to_owned();
            return cx.roll_back(p.run, RollbackReason::Aborted(why));
        }
        Some(Answer::Is(PromotionOutcome::CanaryChanged)) => {
            // The newer revision takes over as soon as it is applied; until then this one keeps its traffic.
            if cx
                .obs
                .canary
                .revision
                .as_ref()
                .is_some_and(|canary| *canary != p.run.revision)
            {
                let reason = "a newer canary revision came before its promotion".to_owned();
                cx.take_away();
                return Phase::Withdrawn(ending(cx, &p.run, reason));
            }
            cx.say(format!(
                "the config repository has a newer canary than {}; waiting for it",
                p.run.revision
            ));
            ask(cx, &p);
        }
        Some(Answer::Failed(why)) => {
            cx.say(format!("the promotion commit of {} is pending: {why}", p.run.revision));
            ask(cx, &p);
        }
        None => {
            cx.say(format!("committing the promotion of {}", p.run.revision));
            ask(cx, &p);
        }
    }
    Phase::Promoting(p)
}

fn ask(cx: &mut Context<'_>, p: &Promoting) {
    cx.effects.push(Effect::CommitPromotion {
        revision: p.run.revision.clone(),
        baseline: p.run.baseline.clone(),
        commit: p.run.commit.clone(),
    });
}

fn applying(cx: &mut Context<'_>, mut p: Promoting) -> Phase {
    let stable = &cx.obs.stable;
    if p.is_applied(stable) && stable.settled {
        p.run.analysis = p.run.analysis.of_stable();
        begin_share(&mut p, 0);
        p.run.fresh_at = cx.now;
        p.run.as_of = cx.now;
        p.stage = PromoteStage::Returning {
            share: 0,
            weight_at: None,
        };
        p.since = cx.now;
        let message = match p.way {
            Way::Trial => format!("stable runs {}; traffic returns to it", p.run.revision),
            Way::FastReturn => format!("stable runs {} again; it is judged for a while", p.run.revision),
        };
        cx.say(message.clone());
        cx.note(NoteKind::Normal, "StableUpdated", message);
        cx.wake = Some(cx.now);
        return Phase::Promoting(p);
    }
    if cx.elapsed(p.since, cx.plan.promote_deadline) {
        return fail(cx, p, RollbackReason::PromoteDeadline);
    }
    cx.say(format!(
        "stable takes up {}: {} pods ready",
        p.run.revision, stable.ready
    ));
    Phase::Promoting(p)
}

fn returning(cx: &mut Context<'_>, mut p: Promoting, share: usize, weight_at: Option<jiff::Timestamp>) -> Phase {
    let want = RETURN
        .get(share)
        .and_then(|w| Weight::try_from(*w).ok())
        .unwrap_or(Weight::ZERO);
    if cx.live() > want {
        cx.first(want);
        cx.say(format!("traffic returns to stable: {want} stays on the canary"));
        return Phase::Promoting(p);
    }
    let at = weight_at.unwrap_or(cx.now);
    // Two intervals: one whole tick of stable's answers at this share has been judged by then.
    let judged = cx.elapsed(at, cx.plan.interval.saturating_mul(2));
    p.stage = if want.is_zero() {
        PromoteStage::Draining
    } else if judged {
        cx.wake = Some(cx.now);
        begin_share(&mut p, share + 1);
        PromoteStage::Returning {
            share: share + 1,
            weight_at: None,
        }
    } else {
        PromoteStage::Returning {
            share,
            weight_at: Some(at),
        }
    };
    cx.say(match p.way {
        Way::Trial => format!("traffic returns to stable: {want} stays on the canary"),
        Way::FastReturn => format!("stable runs {} again and is judged", p.run.revision),
    });
    Phase::Promoting(p)
}

/// Stable is judged anew at each share, beside what is left on the canary.
fn begin_share(p: &mut Promoting, share: usize) {
    let left = RETURN
        .get(share)
        .and_then(|w| Weight::try_from(*w).ok())
        .unwrap_or(Weight::ZERO);
    p.run.analysis.begin_step(share, f64::from(left.percent()) / 100.0);
}

fn draining(cx: &mut Context<'_>, p: Promoting) -> Phase {
    cx.take_away();
    if cx.idle_canary() {
        let reason = match p.way {
            Way::Trial => "passed every step",
            Way::FastReturn => "was promoted before and returned without a canary",
        };
        let reason = reason.to_owned();
        cx.remember(&p.run.revision);
        cx.say(format!("{} is promoted", p.run.revision));
        cx.note(
            NoteKind::Normal,
            "Promoted",
            format!("{} runs as stable; the canary is idle", p.run.revision),
        );
        let answer = p.commit.clone();
        let mut hooks = Vec::new();
        cx.announce(&mut hooks, HookPoint::AfterPromotion);
        return Phase::Promoted(Ending {
            answer,
            hooks,
            ..ending(cx, &p.run, reason)
        });
    }
    cx.say(format!(
        "all traffic is on stable with {}; the canary drains",
        p.run.revision
    ));
    Phase::Promoting(p)
}

/// Fails a promotion. Before its commit is pushed this is a rollback like any other; afterwards traffic stands on an arm
/// that is ready and has no fail verdict, and one commit restores both arms.
pub(super) fn fail(cx: &mut Context<'_>, p: Promoting, reason: RollbackReason) -> Phase {
    let Some(pushed) = p.commit else {
        return cx.roll_back(p.run, reason);
    };
    cx.forget(&p.run.revision);
    let canary_failed = matches!(&reason, RollbackReason::Failed(e) if e.arm == Judged::Canary)
        || matches!(reason, RollbackReason::Aborted(_));
    let on_canary = if canary_failed {
        cx.obs.stable.ready_any == 0
    } else {
        cx.obs.canary.ready > 0
    };
    if on_canary {
        if cx.live() != Weight::FULL {
            cx.first(Weight::FULL);
        }
    } else {
        cx.take_away();
    }
    cx.say(format!("rolling the promotion of {} back: {reason}", p.run.revision));
    cx.note(
        NoteKind::Warning,
        "RollingBack",
        format!("the promotion of {} is rolled back: {reason}", p.run.revision),
    );
    Phase::RollingBack(RollingBack {
        run: p.run,
        reason,
        since: cx.now,
        traffic_at: None,
        promoted: Some(pushed),
        on_canary,
        own_fields_because: None,
        git: RollbackGit::Committing,
    })
}
