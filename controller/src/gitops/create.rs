//! Computes the commit that brings a canary revision: what a pipeline asks for. Writes objects only, no branch.

use super::error::{Error, Result};
use super::history::Arms;
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
        if !is_tag(&self.image_tag) {
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

    /// The canary's subtree as it shall be.
    fn wanted(&self, canary: &Yaml) -> Result<Yaml, YamlError> {
        let below = |key: &str| self.subject.canary_key().join(&KeyPath::parse(key));
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
    let file = subject.file_path();
    let bad_values = |source| Error::Values {
        repository: mirror.repo().name(),
        file: file.clone(),
        source,
    };
    let wanted = request.wanted(&arms.canary).map_err(bad_values)?;
    if wanted == arms.canary {
        let what = format!(
            "the canary of {} in {file} is {} already",
            subject.rollout(),
            request.revision
        );
        return Err(Error::Nothing(what));
    }
    let text = arms
        .values
        .with_subtree(&subject.canary_key(), &wanted)
        .map_err(bad_values)?;
    let tree = mirror.tree_with(head, &file, &text).await?;
    if mirror.changed_paths(head, &tree).await? != [file] {
        return Err(Error::Unsafe {
            repository: mirror.repo().name(),
            why: "a canary revision changes other files".into(),
        });
    }
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
