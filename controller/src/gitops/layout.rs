//! Where a rollout's two arms stand in its folder: in one Helm values file, or in two files of Kustomize. Pure; it must not
//! know Git, nor how files are edited.

use super::error::{Error, Result};
use super::kustomize;
use super::values::Values;
use super::yaml::{KeyPath, Yaml, YamlError};

/// The files and keys of two arms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// Two subtrees of one values file.
    Helm {
        /// Below the rollout's folder.
        file: String,
        /// The key of stable's subtree, with dots.
        stable: String,
        /// The key of the canary's subtree, with dots.
        canary: String,
    },
    /// A file for each arm: the overlay's kustomization, or a strategic-merge patch of the arm's Deployment.
    Kustomize {
        /// Stable's, below the rollout's folder.
        stable: String,
        /// The canary's, below the rollout's folder.
        canary: String,
        /// The entry of `images` or the container that a revision is about; none where there is only one.
        image: Option<String>,
    },
}

/// One arm as its file says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arm {
    /// The subtree; with Kustomize a mapping from the keys that belong to the arm to what stands there.
    pub(super) says: Yaml,
    pub(super) revision: Option<String>,
}

/// What is wrong with one of the layout's files.
#[derive(Debug)]
pub(super) struct BadFile {
    pub(super) nth: usize,
    pub(super) source: YamlError,
}

/// How the texts of two versions differ beside the arms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beside {
    Same,
    /// A comment or a spelling.
    Text,
    Meaning,
}

/// The two arms, and the layout's files that say them.
#[derive(Debug)]
pub(super) struct Arms {
    files: Vec<Values>,
    pub(super) stable: Arm,
    pub(super) canary: Arm,
}

impl Layout {
    /// The files that hold the arms, below the rollout's folder: with Kustomize stable's and the canary's.
    pub(super) fn files(&self) -> Vec<&str> {
        match self {
            Self::Helm { file, .. } => vec![file],
            Self::Kustomize { stable, canary, .. } => vec![stable, canary],
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        let invalid = |what, value: String, why| Err(Error::Invalid { what, value, why });
        match self {
            Self::Helm { stable, canary, .. } => {
                let (first, second) = (KeyPath::parse(stable), KeyPath::parse(canary));
                let inside = |inner: &KeyPath, outer: &KeyPath| inner.keys().starts_with(outer.keys());
                if inside(&first, &second)
                    || inside(&second, &first)
                    || first.keys().contains(&String::new())
                    || second.keys().contains(&String::new())
                {
                    let value = format!("{stable} and {canary}");
                    return invalid("the arms' keys", value, "they must be two subtrees apart");
                }
            }
            Self::Kustomize { stable, canary, .. } if stable == canary => {
                let why = "each arm needs an overlay, or a patch of its Deployment, of its own";
                return invalid("the file of both arms", stable.clone(), why);
            }
            Self::Kustomize { .. } => {}
        }
        Ok(())
    }

    /// Reads the files' texts, in the order of [`Self::files`].
    pub(super) fn read(&self, texts: Vec<String>) -> Result<Arms, BadFile> {
        let bad = |nth| move |source| BadFile { nth, source };
        let mut files = Vec::with_capacity(texts.len());
        for (nth, text) in texts.into_iter().enumerate() {
            files.push(Values::parse(text).map_err(bad(nth))?);
        }
        let missing = || bad(0)(YamlError::NoKey("(file)".to_owned()));
        match (self, files.as_slice()) {
            (Self::Helm { stable, canary, .. }, [values]) => {
                let arm = |key: &str| values.subtree(&KeyPath::parse(key)).map(subtree).map_err(bad(0));
                let (stable, canary) = (arm(stable)?, arm(canary)?);
                Ok(Arms { files, stable, canary })
            }
            (Self::Kustomize { image, .. }, [first, second]) => {
                let stable = kustomize::arm(first.root(), image.as_deref()).map_err(bad(0))?;
                let canary = kustomize::arm(second.root(), image.as_deref()).map_err(bad(1))?;
                kustomize::same_shape(first.root(), second.root()).map_err(bad(1))?;
                Ok(Arms { files, stable, canary })
            }
            _ => Err(missing()),
        }
    }
}

fn subtree(says: &Yaml) -> Arm {
    let scalar = |path: &str| says.at(&KeyPath::parse(path)).and_then(Yaml::as_scalar);
    Arm {
        says: says.clone(),
        revision: scalar("revision").or_else(|| scalar("image.tag")).map(str::to_owned),
    }
}

/// What is wrong with a subtree that names no revision.
fn no_name(key: &KeyPath, says: &Yaml) -> YamlError {
    let named = ["image.tag", "revision"].map(KeyPath::parse);
    match named.iter().find_map(|path| Some((path, says.at(path)?))) {
        Some((path, found)) => YamlError::WrongKind {
            key: key.join(path).to_string(),
            found: found.kind(),
            wanted: "a text",
        },
        None => YamlError::NoKey(key.join(&KeyPath::parse("image.tag")).to_string()),
    }
}

impl Arms {
    /// Whether Git is at rest: the canary says what stable says.
    pub(super) fn at_rest(&self) -> bool {
        self.stable == self.canary
    }

    /// Why the canary has no name, if it has none although it differs from stable: nobody could say which revision it is.
    pub(super) fn nameless(&self, layout: &Layout) -> Option<BadFile> {
        if self.at_rest() || self.canary.revision.is_some() {
            return None;
        }
        let source = match layout {
            Layout::Helm { canary, .. } => no_name(&KeyPath::parse(canary), &self.canary.says),
            Layout::Kustomize { image, .. } => kustomize::no_name(&self.canary.says, image.as_deref()),
        };
        let nth = self.files.len().saturating_sub(1);
        Some(BadFile { nth, source })
    }

    /// The canary's own file.
    pub(super) fn canary_file(&self) -> Option<&Values> {
        self.files.last()
    }

    /// The files' texts with the arms as they shall be, and nothing else changed; those that change, by their place.
    pub(super) fn with(
        &self,
        layout: &Layout,
        stable: Option<&Yaml>,
        canary: Option<&Yaml>,
    ) -> Result<Vec<(usize, String)>, BadFile> {
        let mut texts = Vec::new();
        match layout {
            Layout::Helm {
                stable: stable_key,
                canary: canary_key,
                ..
            } => {
                let edit = |values: &Values| {
                    let mut text = values.text().to_owned();
                    for (key, wanted) in [(stable_key, stable), (canary_key, canary)] {
                        if let Some(wanted) = wanted {
                            text = Values::parse(text)?.with_subtree(&KeyPath::parse(key), wanted)?;
                        }
                    }
                    Ok(text)
                };
                for (nth, values) in self.files.iter().enumerate() {
                    texts.push((nth, edit(values).map_err(|source| BadFile { nth, source })?));
                }
            }
            Layout::Kustomize { .. } => {
                for (nth, (values, wanted)) in self.files.iter().zip([stable, canary]).enumerate() {
                    if let Some(wanted) = wanted {
                        let text = kustomize::with_arm(values, wanted).map_err(|source| BadFile { nth, source })?;
                        texts.push((nth, text));
                    }
                }
            }
        }
        texts.retain(|(nth, text)| self.files.get(*nth).is_some_and(|values| values.text() != text));
        Ok(texts)
    }

    /// How another version differs from this one beside the arms.
    pub(super) fn beside(&self, other: &Self, layout: &Layout) -> Beside {
        let mut worst = Beside::Same;
        for (old, new) in self.files.iter().zip(&other.files) {
            let keys = match layout {
                Layout::Helm { stable, canary, .. } => vec![KeyPath::parse(stable), KeyPath::parse(canary)],
                Layout::Kustomize { .. } => kustomize::keys(old.root()),
            };
            if old.root().without(&keys) != new.root().without(&keys) {
                return Beside::Meaning;
            }
            if old.outside(&keys, new.root()) != new.outside(&keys, old.root()) {
                worst = Beside::Text;
            }
        }
        worst
    }
}
