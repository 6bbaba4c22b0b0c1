//! Between a pushed commit and the cluster that carries it: tells Argo CD or Flux of it, and finds out what keeps them from applying
//! it. Nothing waits for what is found: that a commit is applied is seen in the live Deployments.

use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use serin_core::rollout::{Phase, PromoteStage, Revision, RollbackGit, State};

use super::desk::{Question, Reply};
use super::{Context, repository};
use crate::api::{CanaryRollout, FluxSpec};
use crate::delivery::{Of, Report, argocd, flux};
use crate::gitops::{self, GitOps, RepoSpec};
use crate::runtime::clock;

/// Tells whoever applies Git that there is something new; they look by themselves a little later, so a failure is only said.
pub(super) async fn refresh(cx: &Context, rollout: &CanaryRollout) {
    let (namespace, name) = (rollout.namespace().unwrap_or_default(), rollout.name_any());
    let of = Of {
        namespace: &namespace,
        name: &name,
    };
    let said = |who: &str, what: anyhow::Result<()>| match what {
        Ok(()) => tracing::debug!("{who} was asked for a refresh"),
        Err(error) => tracing::warn!("no refresh: {error:#}; {who} looks by itself"),
    };
    if let Some(application) = &rollout.spec.argocd {
        let asked = argocd::refresh(&cx.client, &application.namespace, &application.application, of).await;
        said("Argo CD", asked);
    }
    if let Some(spec) = &rollout.spec.flux {
        let asked = flux::refresh(&cx.client, names(spec), of, &is_repository(rollout), clock::now()).await;
        said("Flux", asked);
    }
}

/// Asks what keeps the commit from the cluster, as long as it is waited for.
pub(super) fn ask(cx: &Context, rollout: &CanaryRollout, state: &State) {
    let key = ObjectRef::from_obj(rollout);
    let is_known = rollout.spec.argocd.is_some() || rollout.spec.flux.is_some();
    let Some((revision, commit)) = waited_for(&state.phase).filter(|_| is_known) else {
        return cx.desk.forget_delivery(&key);
    };
    let (client, gitops, rollout) = (cx.client.clone(), cx.gitops.clone(), rollout.clone());
    cx.desk.ask(&key, Question::Delivery, &revision, || async move {
        let reports = look(&client, &rollout).await?;
        let Some(commit) = commit else {
            return stands(&reports, false, false);
        };
        let repo = repository::of(&client, &gitops, &rollout).await?;
        let [mut is_applied, mut is_seen] = [false; 2];
        for report in &reports {
            is_applied |= holds(&gitops, &repo, &commit, &report.applied).await?;
            is_seen |= holds(&gitops, &repo, &commit, &report.seen).await?;
        }
        stands(&reports, is_applied, is_seen)
    });
}

/// Whether any of these commits is ours, or came after it.
async fn holds(gitops: &GitOps, repo: &RepoSpec, ours: &str, commits: &[String]) -> gitops::Result<bool> {
    for theirs in commits {
        if gitops.applied(repo, ours, theirs).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The revision whose commit is pushed and not seen in the cluster, and the commit where there is one.
fn waited_for(phase: &Phase) -> Option<(Revision, Option<String>)> {
    match phase {
        Phase::RollingBack(r) => match &r.git {
            RollbackGit::Committing => None,
            RollbackGit::Applying(pushed) => Some((r.run.revision.clone(), Some(pushed.id.clone()))),
            RollbackGit::AtRest => Some((r.run.revision.clone(), None)),
        },
        Phase::Promoting(p) => match p.stage {
            PromoteStage::Applying => Some((
                p.run.revision.clone(),
                p.commit.as_ref().map(|pushed| pushed.id.clone()),
            )),
            PromoteStage::Committing | PromoteStage::Returning { .. } | PromoteStage::Draining => None,
        },
        Phase::Idle(_)
        | Phase::Starting(_)
        | Phase::Progressing(_)
        | Phase::Paused(_)
        | Phase::Withdrawn(_)
        | Phase::Promoted(_)
        | Phase::RolledBack(_) => None,
    }
}

async fn look(client: &kube::Client, rollout: &CanaryRollout) -> anyhow::Result<Vec<Report>> {
    let (namespace, name) = (rollout.namespace().unwrap_or_default(), rollout.name_any());
    let of = Of {
        namespace: &namespace,
        name: &name,
    };
    let mut reports = Vec::new();
    if let Some(spec) = &rollout.spec.argocd {
        reports.push(argocd::look(client, &spec.namespace, &spec.application, of, clock::now()).await?);
    }
    if let Some(spec) = &rollout.spec.flux {
        reports.push(flux::look(client, names(spec), of, &is_repository(rollout)).await?);
    }
    Ok(reports)
}

/// What that comes to: an error as long as it is not applied, so that it is asked again.
fn stands(reports: &[Report], is_applied: bool, is_seen: bool) -> anyhow::Result<Reply> {
    if is_applied {
        return Ok(Reply::Delivery(()));
    }
    let blocked = reports.iter().find_map(|report| report.blocked.clone());
    let held = || {
        reports
            .iter()
            .find_map(|report| report.held.clone())
            .filter(|_| is_seen)
    };
    if let Some(blocked) = blocked.or_else(held) {
        return Err(blocked.into());
    }
    let says: Vec<&str> = reports.iter().map(|report| report.says.as_str()).collect();
    Err(anyhow::anyhow!(says.join("; ")))
}

fn names(spec: &FluxSpec) -> flux::Names<'_> {
    flux::Names {
        namespace: &spec.namespace,
        kustomization: spec.kustomization.as_deref(),
        git_repository: spec.git_repository.as_deref(),
    }
}

/// Whether an address is that of the rollout's repository.
fn is_repository(rollout: &CanaryRollout) -> impl Fn(&str) -> bool + Send + Sync + use<> {
    let own = gitops::place(&rollout.spec.git.repository);
    move |url| gitops::place(url) == own
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Blocked;

    fn report(blocked: Option<&'static str>, held: Option<&'static str>) -> Report {
        let named = |reason| Blocked {
            reason,
            words: reason.to_owned(),
        };
        Report {
            blocked: blocked.map(named),
            held: held.map(named),
            says: "it is on its way".to_owned(),
            ..Report::default()
        }
    }

    #[test]
    fn what_is_applied_is_not_blocked_and_what_holds_a_commit_counts_when_it_was_seen() {
        let both = [report(Some("SyncFailed"), Some("NoAutoSync"))];
        assert!(
            stands(&both, true, true).is_ok(),
            "an earlier failure does not matter any more"
        );
        let word = |reports: &[Report], is_seen| match stands(reports, false, is_seen) {
            Ok(_) => panic!("it is not applied"),
            Err(error) => error.to_string(),
        };
        assert_eq!(word(&both, true), "SyncFailed");
        let held = [report(None, Some("NoAutoSync"))];
        assert_eq!(word(&held, true), "NoAutoSync");
        assert_eq!(
            word(&held, false),
            "it is on its way",
            "it may be synced as soon as it is seen"
        );
    }
}
