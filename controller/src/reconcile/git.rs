//! From the core's questions to the words of the config repository and back: the rollout's place in it, and what each outcome
//! means to the core.

use std::sync::Arc;

use kube::{Client, ResourceExt as _};
use serin_core::rollout::{Commit, Origin, PriorAnswer, PromotionOutcome, Revision, RollbackOutcome};

use super::desk::Reply;
use super::{Context, repository};
use crate::api::{CanaryRollout, Layout};
use crate::gitops::{self, Action, GitOps, PromoteOutcome, PromoteRequest, RollbackRequest, Subject};
use crate::runtime::clock;
use crate::runtime::crash::{self, Point};

/// What status holds of an author's name and a commit's subject; a repository may hold any text.
const LONGEST: usize = 200;

/// One question of one rollout, with all that it takes along: it outlives the reconcile that asked it.
pub(super) struct Job {
    client: Client,
    gitops: Arc<GitOps>,
    subject: Subject,
    rollout: CanaryRollout,
}

impl Job {
    pub(super) fn of(cx: &Context, rollout: &CanaryRollout, layout: &Layout) -> Self {
        Self {
            client: cx.client.clone(),
            gitops: cx.gitops.clone(),
            subject: subject(&cx.cluster, rollout, layout),
            rollout: rollout.clone(),
        }
    }

    /// Where the canary's revision comes from, and how it was answered before.
    pub(super) async fn origin(self, revision: Revision) -> anyhow::Result<Reply> {
        let repo = repository::of(&self.client, &self.rollout).await?;
        let sight = self.gitops.look(&repo, &self.subject, &revision.name).await?;
        let newest = sight.answers.iter().find(|answer| answer.revision == revision.name);
        // What was promoted since asks for nothing: a canary that returns to it, as after a rollback, is no new one.
        let is_promoted = |sha: &String| {
            let promotions = sight.answers.iter().filter(|answer| answer.action == Action::Promote);
            promotions.into_iter().any(|answer| answer.names.contains(sha))
        };
        let brought_by = sight.brought_by.filter(|c| !is_promoted(&c.sha));
        Ok(Reply::Origin(Origin {
            commit: brought_by.map(|c| Commit {
                id: c.sha,
                author: short(&format!("{} <{}>", c.author, c.email)),
                subject: short(&c.subject),
            }),
            at_rest: sight.at_rest,
            prior: newest.and_then(|answer| match answer.action {
                Action::Promote => Some(PriorAnswer::Promoted),
                Action::Rollback => Some(PriorAnswer::RolledBack),
                Action::Canary => None,
            }),
        }))
    }

    pub(super) async fn roll_back(
        self,
        revision: Revision,
        canary_commit: Option<String>,
        promotion: Option<String>,
        reason: String,
    ) -> anyhow::Result<Reply> {
        let repo = repository::of(&self.client, &self.rollout).await?;
        let request = RollbackRequest {
            subject: self.subject,
            revision: revision.name,
            canary_commit,
            promotion,
            reason,
            // Nobody has judged what stands there instead.
            keep_successor: true,
        };
        let outcome = self.gitops.roll_back(&repo, &request).await?;
        crash::here(Point::AfterPush);
        Ok(Reply::Rollback(match outcome {
            gitops::RollbackOutcome::Committed {
                sha,
                own_fields_because,
                ..
            } => RollbackOutcome::Committed {
                id: sha,
                at: clock::now(),
                own_fields_because,
            },
            gitops::RollbackOutcome::AlreadyCommitted { sha } => RollbackOutcome::Committed {
                id: sha,
                at: clock::now(),
                own_fields_because: None,
            },
            gitops::RollbackOutcome::AlreadyAtRest | gitops::RollbackOutcome::Withdrawn => RollbackOutcome::AtRest,
            gitops::RollbackOutcome::Superseded { .. } => RollbackOutcome::Superseded,
        }))
    }

    pub(super) async fn promote(
        self,
        revision: Revision,
        baseline: Revision,
        canary_commit: Option<String>,
    ) -> anyhow::Result<Reply> {
        let repo = repository::of(&self.client, &self.rollout).await?;
        let request = PromoteRequest {
            subject: self.subject,
            revision: revision.name,
            canary_commit,
            // An arm without the annotation is named by its hash, which stands nowhere in Git.
            baseline: (baseline.name != baseline.hash).then_some(baseline.name),
        };
        let outcome = self.gitops.promote(&repo, &request).await?;
        crash::here(Point::AfterPush);
        Ok(Reply::Promotion(match outcome {
            PromoteOutcome::Committed { sha } | PromoteOutcome::AlreadyCommitted { sha } => {
                PromotionOutcome::Committed {
                    id: sha,
                    at: clock::now(),
                }
            }
            PromoteOutcome::AlreadyThere => PromotionOutcome::AlreadyThere,
            PromoteOutcome::StableChanged { .. } => PromotionOutcome::StableChanged,
            PromoteOutcome::CanaryChanged { .. } => PromotionOutcome::CanaryChanged,
            PromoteOutcome::RolledBack { .. } => PromotionOutcome::RolledBack,
        }))
    }
}

fn short(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

/// The rollout's place in the config repository.
fn subject(cluster: &str, rollout: &CanaryRollout, layout: &Layout) -> Subject {
    let git = &rollout.spec.git;
    Subject {
        cluster: cluster.to_owned(),
        namespace: rollout.namespace().unwrap_or_default(),
        name: rollout.name_any(),
        path: git.path.clone(),
        layout: match layout.clone() {
            Layout::Helm(helm) => gitops::Layout::Helm {
                file: helm.file,
                stable: helm.stable,
                canary: helm.canary,
            },
            Layout::Kustomize(kustomize) => gitops::Layout::Kustomize {
                stable: kustomize.stable,
                canary: kustomize.canary,
                image: kustomize.image,
            },
        },
    }
}
