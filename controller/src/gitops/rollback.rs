//! Computes the commit that returns a rollout to its rest state. Writes objects only, no branch.
//!
//! One commit on the head that undoes every canary commit since Git last rested, and names each. The true reverts are taken
//! where they give exactly the rest state; else only the rollout's own fields are restored, and the message says why.

use super::error::{Error, Result};
use super::find::{self, Answer};
use super::history::{SinceRest, only_arms, since_rest};
use super::later::{self, behind, blocked, described};
use super::layout::{Arm, Arms, Beside};
use super::objects::Commit;
use super::repository::Mirror;
use super::spec::{Identity, Subject};
use super::trailers::{self, Action, Message, Trailers};
use super::writer::Step;

/// What to roll back, and why.
#[derive(Debug, Clone)]
pub struct RollbackRequest {
    /// The id of the trial that it ends, if there was one.
    pub trial: Option<String>,
    pub subject: Subject,
    /// The revision that failed.
    pub revision: String,
    /// Its commit, as it was found; without it, it is looked for.
    pub canary_commit: Option<String>,
    /// Its promotion commit, if that is pushed already: then the fields of both arms are restored. Without it, it is looked for.
    pub promotion: Option<String>,
    /// Why, in one line.
    pub reason: String,
    /// Leave a newer canary alone that nobody has judged.
    pub keep_successor: bool,
}

/// How a rollback ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RollbackOutcome {
    Committed {
        sha: String,
        /// The commits that it undoes, newest first.
        undone: Vec<String>,
        /// Why only the rollout's own fields were restored; none when the commits were truly reverted.
        own_fields_because: Option<String>,
    },
    /// It was done before.
    AlreadyCommitted {
        sha: String,
        /// As in [`Self::Committed`], as the commit's message says it.
        own_fields_because: Option<String>,
    },
    /// The canary's subtree equals stable's already: people returned there themselves.
    AlreadyAtRest,
    /// The revision's commit is not part of what the branch says now.
    Withdrawn,
    /// The branch holds a newer canary, which was to be left alone.
    Superseded { by: Option<String> },
}

/// What the two arms shall be, and which commits that undoes.
struct Target {
    stable: Arm,
    canary: Arm,
    undone: Vec<Commit>,
    /// The canary's commit, where it came to the branch with a merge that is undone: named, so that it counts as answered.
    came_with: Option<String>,
}

pub(super) async fn compute(
    mirror: &Mirror,
    head: &str,
    request: &RollbackRequest,
    identity: &Identity,
) -> Result<Step<RollbackOutcome>> {
    let subject = &request.subject;
    let answers = find::answers(mirror, head, subject).await?;
    let canary_commit = match &request.canary_commit {
        Some(sha) => Some(sha.clone()),
        None => find::canary(mirror, head, subject, Some(&request.revision))
            .await?
            .map(|found| found.sha),
    };
    if let Some(Answer { sha, .. }) = canary_commit
        .as_deref()
        .and_then(|sha| find::answer_to(&answers, Action::Rollback, sha))
    {
        let commit = mirror.commit(sha).await?;
        return Ok(Step::Settled(RollbackOutcome::AlreadyCommitted {
            sha: sha.clone(),
            own_fields_because: commit.and_then(|commit| trailers::own_fields_because(&commit.message)),
        }));
    }
    // A promotion that was pushed by a controller which was killed before it could record it is known to Git alone.
    let pushed = canary_commit
        .as_deref()
        .and_then(|sha| find::answer_to(&answers, Action::Promote, sha))
        .map(|answer| answer.sha.clone());
    let promotion = request.promotion.clone().or(pushed);
    let (canary_commit, promotion) = (canary_commit.as_deref(), promotion.as_deref());
    let read: Result<_> = async {
        let arms = Arms::at(mirror, head, subject).await?;
        let target = target_of(mirror, head, request, &arms, canary_commit, promotion).await?;
        Ok((arms, target))
    }
    .await;
    let (arms, target) = match read {
        Err(error @ (Error::NoFile { .. } | Error::File { .. } | Error::Values { .. })) => {
            return Err(match canary_commit {
                // Without the canary's commit nothing says that there is something to roll back.
                Some(sha) => blocked(mirror, head, request, sha, &error).await?,
                None => error,
            });
        }
        read => read?,
    };
    let target = match target {
        Ok(target) => target,
        Err(outcome) => return Ok(Step::Settled(outcome)),
    };
    let (tree, own_fields_because) = match reverted(mirror, head, subject, &arms, &target).await? {
        Ok(tree) => (tree, None),
        Err(why) => {
            let own_fields = (Some(&target.stable), Some(&target.canary));
            match arms.tree_with(mirror, head, subject, own_fields).await {
                Ok(tree) => (tree, Some(why)),
                Err(error @ Error::Values { .. }) => {
                    let first = target.undone.last().map_or(head, |commit| &commit.sha);
                    return Err(blocked(mirror, head, request, first, &error).await?);
                }
                Err(error) => return Err(error),
            }
        }
    };
    only_arms(mirror, head, &tree, subject, "a rollback").await?;
    let message = message(request, &target, own_fields_because.as_deref());
    let sha = mirror
        .commit_tree(&tree, head, &message.text(), identity, identity)
        .await?;
    let undone = target.undone.into_iter().map(|commit| commit.sha).collect();
    Ok(Step::Commit {
        sha: sha.clone(),
        done: RollbackOutcome::Committed {
            sha,
            undone,
            own_fields_because,
        },
    })
}

async fn target_of(
    mirror: &Mirror,
    head: &str,
    request: &RollbackRequest,
    arms: &Arms,
    canary_commit: Option<&str>,
    promotion: Option<&str>,
) -> Result<Result<Target, RollbackOutcome>> {
    let subject = &request.subject;
    let is_newer = request.keep_successor && arms.canary.revision.as_ref() != Some(&request.revision);
    if let Some(promotion) = promotion
        && let Some(target) = before_promotion(mirror, head, subject, arms, promotion, is_newer).await?
    {
        return Ok(Ok(target));
    }
    if arms.at_rest() {
        return Ok(Err(RollbackOutcome::AlreadyAtRest));
    }
    if is_newer {
        // What has no name is no newer revision, but one that somebody broke.
        arms.check_name(mirror, subject)?;
        let by = arms.canary.revision.clone();
        return Ok(Err(RollbackOutcome::Superseded { by }));
    }
    let since = since_rest(mirror, head, subject).await?;
    let Some((undone, came_with)) = ours(mirror, head, request, arms, canary_commit, since).await? else {
        return Ok(Err(RollbackOutcome::Withdrawn));
    };
    Ok(Ok(Target {
        stable: arms.stable.clone(),
        canary: arms.stable.clone(),
        undone,
        came_with,
    }))
}

/// The commits to undo, if what failed is among them; and its own commit, if a merge stands for it.
///
/// Where no commit brought a canary, stable alone has moved: there is nothing of a canary's to undo. And a canary that people
/// took back and replaced by another is not what failed.
async fn ours(
    mirror: &Mirror,
    head: &str,
    request: &RollbackRequest,
    arms: &Arms,
    canary_commit: Option<&str>,
    since: SinceRest,
) -> Result<Option<(Vec<Commit>, Option<String>)>> {
    let SinceRest { commits, found_rest } = since;
    let Some(sha) = canary_commit else {
        return Ok((!commits.is_empty()).then_some((commits, None)));
    };
    if commits.iter().any(|commit| commit.sha == sha) {
        return Ok(Some((commits, None)));
    }
    if !mirror.is_ancestor(sha, head).await? {
        return Err(later::gone(mirror, &request.subject, sha));
    }
    let Some(rest) = commits.last().and_then(|oldest| oldest.parents.first()) else {
        // The file was moved with the canary in it: no commit of the new place brought it.
        let is_moved = !found_rest && arms.canary.revision.as_ref() == Some(&request.revision);
        return if is_moved {
            Ok(mirror.commit(sha).await?.map(|commit| (vec![commit], None)))
        } else {
            Ok(None)
        };
    };
    // A merge can make somebody's own line the branch's first one: then the canary's commit stands beside it.
    let came_with_a_merge = !mirror.is_ancestor(sha, rest).await?;
    Ok(came_with_a_merge.then(|| (commits, Some(sha.to_owned()))))
}

/// The state before a promotion; none if stable is no longer what was promoted: then it is somebody else's hotfix.
async fn before_promotion(
    mirror: &Mirror,
    head: &str,
    subject: &Subject,
    arms: &Arms,
    promotion: &str,
    keep_canary: bool,
) -> Result<Option<Target>> {
    if !mirror.is_ancestor(promotion, head).await? {
        return Ok(None);
    }
    let Some(commit) = mirror.commit(promotion).await? else {
        return Ok(None);
    };
    let Some(parent) = commit.parents.first().cloned() else {
        return Ok(None);
    };
    let (before, after) = (
        Arms::once(mirror, &parent, subject).await?,
        Arms::once(mirror, &commit.sha, subject).await?,
    );
    let (Some(before), Some(after)) = (before, after) else {
        return Ok(None);
    };
    if arms.stable != after.stable || before.stable == after.stable {
        return Ok(None);
    }
    let canary = if keep_canary {
        arms.canary.clone()
    } else {
        before.stable.clone()
    };
    let mut undone = if keep_canary {
        Vec::new()
    } else {
        since_rest(mirror, head, subject).await?.commits
    };
    undone.push(commit);
    undone.extend(since_rest(mirror, &parent, subject).await?.commits);
    Ok(Some(Target {
        stable: before.stable,
        canary,
        undone,
        came_with: None,
    }))
}

/// The tree of the true reverts, or why it cannot be used.
async fn reverted(
    mirror: &Mirror,
    head: &str,
    subject: &Subject,
    arms: &Arms,
    target: &Target,
) -> Result<Result<String, String>> {
    let (mut onto, mut tree) = (head.to_owned(), None);
    for commit in &target.undone {
        let next = match mirror.revert(commit, &onto).await? {
            Ok(next) => next,
            Err(paths) => {
                let mut why = format!("commit {} conflicts with later ones", commit.sha);
                if !paths.is_empty() {
                    why.push_str(&format!(" in {}", paths.join(", ")));
                }
                let mut later = behind(mirror, head, &commit.sha, subject).await?;
                later.retain(|later| target.undone.iter().all(|undone| undone.sha != later.sha));
                if !later.is_empty() {
                    why.push_str(&format!(" ({})", described(&later).join("; ")));
                }
                return Ok(Err(why));
            }
        };
        onto = mirror.scratch_commit(&next, &onto).await?;
        tree = Some(next);
    }
    let Some(tree) = tree else {
        return Ok(Err("no commit was found that brought the canary".into()));
    };
    let files = subject.files();
    let changed = mirror.changed_paths(head, &tree).await?;
    let others: Vec<&str> = changed
        .iter()
        .filter(|path| !files.contains(path))
        .map(String::as_str)
        .take(5)
        .collect();
    if !others.is_empty() {
        return Ok(Err(format!(
            "the commits changed other files too ({})",
            others.join(", ")
        )));
    }
    let Some(after) = Arms::once(mirror, &tree, subject).await? else {
        return Ok(Err(
            "reverting the commits would leave a file that is no valid YAML".into()
        ));
    };
    let is_rest = after.stable == target.stable && after.canary == target.canary;
    match arms.beside(&after, &subject.layout) {
        Beside::Same if is_rest => Ok(Ok(tree)),
        Beside::Text if is_rest => Ok(Err("the commits changed the file's text outside of the arms too".into())),
        _ => Ok(Err("reverting the commits would not give the rest state: they changed other fields too, or stable has changed since".into())),
    }
}

fn message(request: &RollbackRequest, target: &Target, own_fields_because: Option<&str>) -> Message {
    let rollout = request.subject.rollout();
    let back_to = target.stable.revision.as_deref().unwrap_or("stable");
    let mut paragraphs: Vec<String> = Vec::new();
    let names: Vec<String> = target
        .undone
        .iter()
        .map(|commit| &commit.sha)
        .chain(&target.came_with)
        .map(|sha| trailers::reverts(sha))
        .collect();
    paragraphs.push(names.join("\n"));
    if let Some(why) = own_fields_because {
        paragraphs.push(trailers::own_fields(why));
    }
    Message {
        subject: format!("Roll back {rollout} to {back_to} ({} failed)", request.revision),
        paragraphs,
        trailers: Trailers {
            cluster: request.subject.cluster.clone(),
            rollout,
            revision: request.revision.clone(),
            action: Action::Rollback,
            trial: request.trial.clone(),
            reason: Some(request.reason.clone()),
        },
    }
}
