//! From the core's questions to the words of the config repository and back: the rollout's place in it, its credentials, and
//! what each outcome means to the core.

use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt as _};
use serin_core::rollout::{Commit, Origin, PriorAnswer, PromotionOutcome, Revision, RollbackOutcome};

use super::desk::Reply;
use super::{Context, call};
use crate::api::CanaryRollout;
use crate::gitops::{
    self, Action, Credentials, GitOps, PromoteOutcome, PromoteRequest, RepoSpec, RollbackRequest, Subject,
};
use crate::runtime::clock;

/// One question of one rollout, with all that it takes along: it outlives the reconcile that asked it.
pub(super) struct Job {
    client: Client,
    gitops: Arc<GitOps>,
    subject: Subject,
    rollout: CanaryRollout,
}

impl Job {
    pub(super) fn of(cx: &Context, rollout: &CanaryRollout) -> Self {
        Self {
            client: cx.client.clone(),
            gitops: cx.gitops.clone(),
            subject: subject(&cx.cluster, rollout),
            rollout: rollout.clone(),
        }
    }

    /// Where the canary's revision comes from, and how it was answered before.
    pub(super) async fn origin(self, revision: Revision) -> anyhow::Result<Reply> {
        let repo = repository(&self.client, &self.rollout).await?;
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
                author: format!("{} <{}>", c.author, c.email),
                subject: c.subject,
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
        let repo = repository(&self.client, &self.rollout).await?;
        let request = RollbackRequest {
            subject: self.subject,
            revision: revision.name,
            canary_commit,
            promotion,
            reason,
            // Nobody has judged what stands there instead.
            keep_successor: true,
        };
        Ok(Reply::Rollback(match self.gitops.roll_back(&repo, &request).await? {
            gitops::RollbackOutcome::Committed { sha, .. } | gitops::RollbackOutcome::AlreadyCommitted { sha } => {
                RollbackOutcome::Committed {
                    id: sha,
                    at: clock::now(),
                }
            }
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
        let repo = repository(&self.client, &self.rollout).await?;
        let request = PromoteRequest {
            subject: self.subject,
            revision: revision.name,
            canary_commit,
            // An arm without the annotation is named by its hash, which stands nowhere in Git.
            baseline: (baseline.name != baseline.hash).then_some(baseline.name),
        };
        Ok(Reply::Promotion(match self.gitops.promote(&repo, &request).await? {
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

/// The rollout's place in the config repository.
fn subject(cluster: &str, rollout: &CanaryRollout) -> Subject {
    let git = &rollout.spec.git;
    Subject {
        cluster: cluster.to_owned(),
        namespace: rollout.namespace().unwrap_or_default(),
        name: rollout.name_any(),
        path: git.path.clone(),
        file: git.helm.file.clone(),
        stable: git.helm.stable.clone(),
        canary: git.helm.canary.clone(),
    }
}

/// The repository with its credentials, read anew for each job: a token that was exchanged is used at once.
async fn repository(client: &Client, rollout: &CanaryRollout) -> anyhow::Result<RepoSpec> {
    let git = &rollout.spec.git;
    let credentials = match &git.secret_ref {
        None => Credentials::None,
        Some(reference) => {
            let namespace = rollout.namespace().unwrap_or_default();
            let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
            let doing = || {
                format!(
                    "reading the Secret {namespace}/{} of spec.git.secretRef",
                    reference.name
                )
            };
            let secret = call(doing, api.get(&reference.name)).await?;
            credentials(&secret).with_context(|| format!("using the Secret {namespace}/{}", reference.name))?
        }
    };
    Ok(RepoSpec {
        url: git.repository.clone(),
        branch: git.branch.clone(),
        credentials,
    })
}

/// The credentials that a Secret holds, by the keys that Argo CD uses too.
pub(super) fn credentials(secret: &Secret) -> anyhow::Result<Credentials> {
    let text = |key: &str| -> anyhow::Result<Option<String>> {
        let Some(value) = secret.data.as_ref().and_then(|data| data.get(key)) else {
            return Ok(None);
        };
        let text = String::from_utf8(value.0.clone()).with_context(|| format!("the key {key} is not UTF-8"))?;
        Ok(Some(text))
    };
    if let Some(token) = text("password")? {
        let username = text("username")?.unwrap_or_else(|| "git".to_owned());
        return Ok(Credentials::Token {
            username: username.trim().to_owned(),
            token: token.trim().to_owned(),
        });
    }
    if let Some(private_key) = text("sshPrivateKey")? {
        let known_hosts = text("knownHosts")?.context("it has sshPrivateKey but no knownHosts; add the host's key")?;
        return Ok(Credentials::Ssh {
            private_key,
            known_hosts,
        });
    }
    anyhow::bail!("it has neither `password` (a token, with `username`) nor `sshPrivateKey` (with `knownHosts`)")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn secret(entries: &[(&str, &str)]) -> Secret {
        let data = entries
            .iter()
            .map(|(k, v)| ((*k).to_owned(), ByteString(v.as_bytes().to_vec())))
            .collect();
        Secret {
            data: Some(data),
            ..Secret::default()
        }
    }

    #[test]
    fn reads_a_token_or_a_key() {
        let token = credentials(&secret(&[("username", "ci"), ("password", "t0ken\n")])).unwrap();
        assert!(matches!(token, Credentials::Token { username, token } if username == "ci" && token == "t0ken"));
        assert!(credentials(&secret(&[("sshPrivateKey", "k"), ("knownHosts", "h")])).is_ok());
    }

    #[test]
    fn says_what_a_secret_lacks() {
        let missing = credentials(&secret(&[("sshPrivateKey", "k")])).unwrap_err().to_string();
        assert!(missing.contains("knownHosts"), "{missing}");
        assert!(credentials(&secret(&[])).unwrap_err().to_string().contains("password"));
    }
}
