//! Computes the commit that brings a canary revision: what a pipeline asks for. Writes objects only, no branch.

use super::error::{Error, Result};
use super::history::{bad_values, only_arms};
use super::kustomize::{self, NewRevision};
use super::layout::{Arm, Arms, BadFile, Layout};
use super::repository::Mirror;
use super::spec::{Identity, Subject};
use super::trailers::{Action, Message, Trailers};
use super::writer::Step;
use super::yaml::{KeyPath, Yaml, YamlError, is_ambiguous};

/// A canary revision to be committed.
#[derive(Debug, Clone)]
pub struct CreateRequest {
    pub subject: Subject,
    pub revision: String,
    /// A tag; with Kustomize a digest (`sha256:…`) too.
    pub image_tag: String,
    /// Another repository of the image; none keeps the one that stands there.
    pub image_repository: Option<String>,
    /// Further values below the canary's subtree: key with dots, value.
    pub set: Vec<(String, String)>,
    /// Who asked for it; none is Serin's own identity.
    pub author: Option<Identity>,
    /// The commit's subject line, if not the usual one.
    pub message: Option<String>,
}

/// The commit that was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    pub sha: String,
}

impl CreateRequest {
    pub fn check(&self) -> Result<()> {
        self.subject.check()?;
        let invalid = |what, value: &str, why| {
            Err(Error::Invalid {
                what,
                value: value.to_owned(),
                why,
            })
        };
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let is_tag = |tag: &str| {
            tag.len() <= 128
                && tag.chars().all(word)
                && tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        };
        let is_kustomize = matches!(self.subject.layout, Layout::Kustomize { .. });
        let is_digest = |tag: &str| {
            tag.strip_prefix("sha256:")
                .is_some_and(|hex| hex.len() == 64 && hex.chars().all(|c| c.is_ascii_hexdigit()))
        };
        if !(is_tag(&self.image_tag) || is_kustomize && is_digest(&self.image_tag)) {
            return invalid("the image's tag", &self.image_tag, "it is no tag of an image");
        }
        let is_revision = |c: char| word(c) || matches!(c, '+' | '/' | ':' | '@');
        if self.revision.is_empty() || self.revision.len() > 253 || !self.revision.chars().all(is_revision) {
            return invalid("the revision", &self.revision, "use letters, digits and ._-+/:@");
        }
        if let Some(repository) = &self.image_repository
            && (repository.is_empty() || !repository.chars().all(|c| word(c) || matches!(c, '/' | ':')))
        {
            return invalid("the image's repository", repository, "it is no repository of an image");
        }
        if let Some((key, _)) = self
            .set
            .iter()
            .find(|(key, _)| KeyPath::parse(key).keys().contains(&String::new()))
        {
            return invalid("a key to set", key, "a part of it is empty");
        }
        Ok(())
    }

    /// The canary as it shall be.
    fn wanted(&self, arms: &Arms) -> Result<Arm, YamlError> {
        let says = match &self.subject.layout {
            Layout::Helm { canary, .. } => self.subtree(&KeyPath::parse(canary), &arms.canary.says)?,
            Layout::Kustomize { image, .. } => {
                let new = NewRevision {
                    name: &self.revision,
                    tag: &self.image_tag,
                    repository: self.image_repository.as_deref(),
                    set: &self.set,
                };
                let says = &arms.canary.says;
                match arms.canary_file() {
                    Some(file) => kustomize::with_revision(file.root(), says, image.as_deref(), new)?,
                    None => says.clone(),
                }
            }
        };
        let revision = Some(self.revision.clone());
        Ok(Arm { says, revision })
    }

    /// The canary's subtree of a values file as it shall be.
    fn subtree(&self, key: &KeyPath, canary: &Yaml) -> Result<Yaml, YamlError> {
        let below = |below: &str| key.join(&KeyPath::parse(below));
        let must_be_scalar = |key: &str| match canary.at(&KeyPath::parse(key)) {
            Some(Yaml::Plain(_) | Yaml::Text(_)) => Ok(()),
            Some(other) => Err(YamlError::WrongKind {
                key: below(key).to_string(),
                found: other.kind(),
                wanted: "a text",
            }),
            None => Err(YamlError::NoKey(below(key).to_string())),
        };
        let mut wanted = canary.clone();
        let mut set = |key: &str, value: &str| {
            let path = KeyPath::parse(key);
            // A number or a boolean that is replaced by another one stays one, as with Helm's --set.
            let was_plain = matches!(canary.at(&path), Some(Yaml::Plain(old)) if old != "null");
            let value = if was_plain && is_ambiguous(value) {
                Yaml::Plain(value.into())
            } else {
                Yaml::Text(value.into())
            };
            wanted.set(&path, value)
        };
        must_be_scalar("image.tag")?;
        // A tag or a revision is a text, also where the file has it as a number by mistake.
        if let Some(repository) = &self.image_repository {
            must_be_scalar("image.repository")?;
            set("image.repository", repository)?;
        }
        for (key, value) in &self.set {
            set(key, value)?;
        }
        wanted.set(&KeyPath::parse("image.tag"), Yaml::Text(self.image_tag.clone()))?;
        wanted.set(&KeyPath::parse("revision"), Yaml::Text(self.revision.clone()))?;
        Ok(wanted)
    }
}

pub(super) async fn compute(
    mirror: &Mirror,
    head: &str,
    request: &CreateRequest,
    identity: &Identity,
) -> Result<Step<Created>> {
    let subject = &request.subject;
    let arms = Arms::at(mirror, head, subject).await?;
    let bad = |source| {
        let nth = subject.layout.files().len() - 1;
        bad_values(mirror, subject, BadFile { nth, source })
    };
    let wanted = request.wanted(&arms).map_err(bad)?;
    if wanted.says == arms.canary.says {
        let file = subject.files().pop().unwrap_or_default();
        let what = format!(
            "the canary of {} in {file} is {} already",
            subject.rollout(),
            request.revision
        );
        return Err(Error::Nothing(what));
    }
    let tree = arms.tree_with(mirror, head, subject, (None, Some(&wanted))).await?;
    only_arms(mirror, head, &tree, subject, "a canary revision").await?;
    let message = Message {
        subject: request
            .message
            .clone()
            .unwrap_or_else(|| format!("Canary {} {}", subject.rollout(), request.revision)),
        paragraphs: Vec::new(),
        trailers: Trailers {
            cluster: subject.cluster.clone(),
            rollout: subject.rollout(),
            revision: request.revision.clone(),
            action: Action::Canary,
            trial: None,
            reason: None,
        },
    };
    let author = request.author.as_ref().unwrap_or(identity);
    let sha = mirror
        .commit_tree(&tree, head, &message.text(), author, identity)
        .await?;
    Ok(Step::Commit {
        sha: sha.clone(),
        done: Created { sha },
    })
}
