//! Computes the commit that makes a canary's subtree stable's. Writes objects only, no branch.

use super::error::Result;
use super::find;
use super::history::only_arms;
use super::later;
use super::layout::Arms;
use super::repository::Mirror;
use super::spec::{Identity, Subject};
use super::trailers::{self, Action, Message, Trailers};
use super::writer::Step;

/// What to promote.
#[derive(Debug, Clone)]
pub struct PromoteRequest {
    /// The id of the trial that it ends, if there was one.
    pub trial: Option<String>,
    pub subject: Subject,
    /// The revision that passed.
    pub revision: String,
    /// Its commit, as it was found; without it, it is looked for.
    pub canary_commit: Option<String>,
    /// The revision that stable had when the canary was compared with it.
    pub baseline: Option<String>,
}

/// How a promotion ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PromoteOutcome {
    Committed {
        sha: String,
    },
    /// It was done before.
    AlreadyCommitted {
        sha: String,
    },
    /// Stable's subtree equals the judged canary's already: people promoted it themselves.
    AlreadyThere,
    /// Stable is not the baseline any more: somebody's hotfix must not be overwritten.
    StableChanged {
        found: Option<String>,
    },
    /// The branch's canary is not what was judged.
    CanaryChanged {
        found: Option<String>,
    },
    /// The revision was rolled back.
    RolledBack {
        sha: String,
    },
}

pub(super) async fn compute(
    mirror: &Mirror,
    head: &str,
    request: &PromoteRequest,
    identity: &Identity,
) -> Result<Step<PromoteOutcome>> {
    let subject = &request.subject;
    let settled = |outcome| Ok(Step::Settled(outcome));
    let arms = Arms::at(mirror, head, subject).await?;
    let changed = || {
        // A canary without a name is none that could take this one's place: somebody broke the file.
        arms.check_name(mirror, subject)?;
        settled(PromoteOutcome::CanaryChanged {
            found: arms.canary.revision.clone(),
        })
    };
    let canary_commit = match &request.canary_commit {
        Some(sha) => Some(sha.clone()),
        None => find::canary(mirror, head, subject, Some(&request.revision))
            .await?
            .map(|commit| commit.sha),
    };
    let Some(canary_commit) = canary_commit else {
        return changed();
    };
    let answers = find::answers(mirror, head, subject).await?;
    // The rollback first: a promotion that was rolled back is not a promotion any more.
    if let Some(answer) = find::answer_to(&answers, Action::Rollback, &canary_commit) {
        return settled(PromoteOutcome::RolledBack {
            sha: answer.sha.clone(),
        });
    }
    if let Some(answer) = find::answer_to(&answers, Action::Promote, &canary_commit) {
        return settled(PromoteOutcome::AlreadyCommitted {
            sha: answer.sha.clone(),
        });
    }
    if arms.canary.revision.as_ref() != Some(&request.revision) {
        return changed();
    }
    if !mirror.is_ancestor(&canary_commit, head).await? {
        return if arms.at_rest() {
            settled(PromoteOutcome::AlreadyThere)
        } else {
            Err(later::gone(mirror, subject, &canary_commit))
        };
    }
    let judged = Arms::once(mirror, &canary_commit, subject).await?;
    let Some(judged) = judged.filter(|judged| judged.canary == arms.canary) else {
        return changed();
    };
    if arms.at_rest() {
        return settled(PromoteOutcome::AlreadyThere);
    }
    let now = arms.stable.revision.as_deref();
    let is_baseline = request.baseline.as_deref().is_none_or(|baseline| now == Some(baseline));
    // A hotfix may change stable and keep its revision's name.
    let is_same = judged.stable.revision.as_deref() != now || judged.stable == arms.stable;
    let is_known = request.baseline.is_some() || judged.stable == arms.stable;
    if !(is_baseline && is_same && is_known) {
        return settled(PromoteOutcome::StableChanged {
            found: arms.stable.revision.clone(),
        });
    }
    let tree = arms
        .tree_with(mirror, head, subject, (Some(&arms.canary), None))
        .await?;
    only_arms(mirror, head, &tree, subject, "a promotion").await?;
    let message = Message {
        subject: format!("Promote {} to {}", subject.rollout(), request.revision),
        paragraphs: vec![trailers::promotes(&canary_commit)],
        trailers: Trailers {
            cluster: subject.cluster.clone(),
            rollout: subject.rollout(),
            revision: request.revision.clone(),
            action: Action::Promote,
            trial: request.trial.clone(),
            reason: None,
        },
    };
    let sha = mirror
        .commit_tree(&tree, head, &message.text(), identity, identity)
        .await?;
    Ok(Step::Commit {
        sha: sha.clone(),
        done: PromoteOutcome::Committed { sha },
    })
}
