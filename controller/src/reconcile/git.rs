//! From the core's questions to the words of the config repository and back: the rollout's place in it, and what each outcome
//! means to the core.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client, ResourceExt as _};
use serin_core::rollout::{Commit, Origin, PriorAnswer, PromotionOutcome, Revision, RollbackOutcome};

use super::desk::Reply;
use super::{Context, call, repository};
use crate::api::{CanaryRollout, Layout, REVISION_ANNOTATION};
use crate::gitops::{self, Action, GitOps, PromoteOutcome, PromoteRequest, RepoSpec, RollbackRequest, Subject};
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
    /// The id of the trial that it ends.
    trial: Option<String>,
}

impl Job {
    pub(super) fn of(cx: &Context, rollout: &CanaryRollout, layout: &Layout) -> Self {
        Self {
            client: cx.client.clone(),
            gitops: cx.gitops.clone(),
            subject: subject(&cx.cluster_name, rollout, layout),
            rollout: rollout.clone(),
            trial: None,
        }
    }

    /// Its commit says that it ends this trial.
    pub(super) fn ending(self, trial: Option<&str>) -> Self {
        Self {
            trial: trial.map(str::to_owned),
            ..self
        }
    }

    /// Where the canary's revision comes from, and how it was answered before.
    pub(super) async fn origin(self, revision: Revision) -> anyhow::Result<Reply> {
        let repo = repository::of(&self.client, &self.gitops, &self.rollout).await?;
        let name = self.name(&repo, &revision, None).await?;
        let sight = self.gitops.look(&repo, &self.subject, &name).await?;
        // Revisions without a name of their own may have the same image: then the commit tells them apart.
        let brought_by = sight.brought_by.as_ref().map(|commit| &commit.sha);
        let newest = sight.answers.iter().find(|answer| {
            let is_named = answer.revision == name;
            is_named && (!revision.is_unnamed() || brought_by.is_some_and(|sha| answer.names.contains(sha)))
        });
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
        let repo = repository::of(&self.client, &self.gitops, &self.rollout).await?;
        let request = RollbackRequest {
            trial: self.trial.clone(),
            revision: self.name(&repo, &revision, canary_commit.as_deref()).await?,
            subject: self.subject,
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
            }
            | gitops::RollbackOutcome::AlreadyCommitted {
                sha,
                own_fields_because,
            } => RollbackOutcome::Committed {
                at: clock::now(),
                committed: self.gitops.committed_at(&repo, &sha).await.ok().flatten(),
                id: sha,
                own_fields_because,
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
        let repo = repository::of(&self.client, &self.gitops, &self.rollout).await?;
        let request = PromoteRequest {
            trial: self.trial.clone(),
            revision: self.name(&repo, &revision, canary_commit.as_deref()).await?,
            subject: self.subject,
            canary_commit,
            baseline: (!baseline.is_unnamed()).then_some(baseline.name),
        };
        let outcome = self.gitops.promote(&repo, &request).await?;
        crash::here(Point::AfterPush);
        Ok(Reply::Promotion(match outcome {
            PromoteOutcome::Committed { sha } | PromoteOutcome::AlreadyCommitted { sha } => {
                PromotionOutcome::Committed {
                    at: clock::now(),
                    committed: self.gitops.committed_at(&repo, &sha).await.ok().flatten(),
                    id: sha,
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

impl Job {
    /// The name by which Git knows a canary's revision. One without the annotation is named by its hash, which stands nowhere in
    /// Git: then its commit says the name, or else the branch's head, if that is what the Deployment runs.
    async fn name(&self, repo: &RepoSpec, revision: &Revision, commit: Option<&str>) -> anyhow::Result<String> {
        if !revision.is_unnamed() {
            return Ok(revision.name.clone());
        }
        if let Some(commit) = commit
            && let Some((_, name)) = self.gitops.canary_of(repo, &self.subject, commit).await?
        {
            return Ok(name);
        }
        let rest = self.gitops.rest_state(repo, &self.subject).await?;
        let name = rest.canary_revision.with_context(|| {
            format!(
                "{} gives the canary no name: neither a revision nor an image's tag; give its pods the annotation {REVISION_ANNOTATION}",
                self.rollout.spec.git.path
            )
        })?;
        if rest.at_rest {
            return Ok(name);
        }
        let images = self.images().await?;
        ensure!(
            images.iter().any(|image| is_tagged(image, &name)),
            "the head of {} has the canary {name}, and the Deployment runs {}: it has to be applied first; or give the canary's pods the annotation {REVISION_ANNOTATION}",
            repo.branch,
            images.join(", ")
        );
        Ok(name)
    }

    /// What the canary Deployment's containers run.
    async fn images(&self) -> anyhow::Result<Vec<String>> {
        let (namespace, name) = (&self.subject.namespace, &self.rollout.spec.canary.deployment);
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
        let doing = || format!("reading the Deployment {namespace}/{name}");
        let deployment = call(doing, api.get(name)).await?;
        let pod = deployment.spec.and_then(|spec| spec.template.spec);
        let containers = pod.map(|pod| pod.containers).unwrap_or_default();
        Ok(containers.into_iter().filter_map(|container| container.image).collect())
    }
}

/// Whether an image has this tag, or this digest.
fn is_tagged(image: &str, name: &str) -> bool {
    let (tagged, digest) = image.split_once('@').unwrap_or((image, ""));
    // The port of a registry comes before a slash.
    let tag = tagged.rsplit_once(':').map_or("", |(_, tag)| tag);
    !name.is_empty() && (name == digest || name == tag) && !tag.contains('/')
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_known_by_its_tag_or_its_digest() {
        for (image, name, is) in [
            ("registry.example.com/web:1.1.0", "1.1.0", true),
            ("registry.example.com/web:1.1.0@sha256:ab", "1.1.0", true),
            ("registry.example.com/web@sha256:ab", "sha256:ab", true),
            ("registry.example.com:5000/web", "5000/web", false),
            ("registry.example.com/web:1.1.0", "1.1", false),
            ("web", "", false),
        ] {
            assert_eq!(is_tagged(image, name), is, "{image} {name}");
        }
    }
}
