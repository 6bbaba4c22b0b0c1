//! A values file as a tree of nodes that know where in the text they stand. Pure; it must not know Git, nor what an arm is.
//!
//! Scalars keep their spelling: `1.10` without quotes is the number that Helm reads, and is not the text `"1.10"`.
//! Comparing spellings, not numbers, means that a copy is a copy.

mod parse;
mod scalars;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub(super) use parse::{Entry, Node, Shape, parse};
pub(super) use scalars::is_ambiguous;

/// Why a values file cannot be read or edited.
#[derive(Debug, thiserror::Error)]
pub enum YamlError {
    #[error("it is not valid YAML: {0}; correct the file")]
    Syntax(String),
    #[error("it is too large to be a values file ({0}); check git.path, and the file's name below it")]
    TooLarge(String),
    #[error("line {line} has {what}, which Serin does not edit; write it in another way")]
    Unsupported { what: &'static str, line: usize },
    #[error("it has no key {0}; check the names of the arms' subtrees, and add the key to the file")]
    NoKey(String),
    #[error("its key {key} is {found}, and {wanted} is needed there; correct the file")]
    WrongKind {
        key: String,
        found: &'static str,
        wanted: &'static str,
    },
    #[error(
        "key {0} cannot be changed without changing something else too (an anchor in it is used elsewhere); write its value out"
    )]
    Entangled(String),
    #[error(
        "it is {found}, and Serin edits kustomizations and strategic-merge patches of a Deployment, the same for both arms; \
         write the arm as one of these"
    )]
    Shape { found: String },
    #[error("{key} has several entries ({names}); say in git.kustomize.image which one a revision is about")]
    Several { key: String, names: String },
    #[error(
        "{key} names the file {path}, which would not go with a revision; write its content as literals, or share it from the base (../…)"
    )]
    OwnFile { key: String, path: String },
    #[error(
        "{0} cannot be set; with Kustomize only env.NAME can: a literal of an overlay's one configMapGenerator, or the container's env in a patch. Write other values into the file"
    )]
    NotSettable(String),
}

/// What a node means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Yaml {
    /// Null, a boolean or a number, as it is spelled.
    Plain(String),
    /// A string.
    Text(String),
    List(Vec<Yaml>),
    Map(BTreeMap<String, Yaml>),
}

impl Yaml {
    /// The text of a scalar; none for null and for collections.
    pub fn as_scalar(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Plain(text) if text != "null" => Some(text),
            Self::Plain(_) | Self::List(_) | Self::Map(_) => None,
        }
    }

    /// The value below a key of this mapping.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(map) => map.get(key),
            Self::Plain(_) | Self::Text(_) | Self::List(_) => None,
        }
    }

    /// The value at the end of a path.
    pub fn at(&self, path: &KeyPath) -> Option<&Self> {
        path.0.iter().try_fold(self, |node, key| node.get(key))
    }

    /// Sets the value at the end of a path; mappings on the way are made when they are missing or null.
    pub fn set(&mut self, path: &KeyPath, value: Self) -> Result<(), YamlError> {
        let mut node = self;
        for (depth, key) in path.0.iter().enumerate() {
            if matches!(node, Self::Plain(text) if text == "null") {
                *node = Self::Map(BTreeMap::new());
            }
            let found = node.kind();
            let Self::Map(map) = node else {
                return Err(YamlError::WrongKind {
                    key: KeyPath(path.0.iter().take(depth).cloned().collect()).to_string(),
                    found,
                    wanted: "a mapping",
                });
            };
            node = map.entry(key.clone()).or_insert_with(|| Self::Map(BTreeMap::new()));
        }
        *node = value;
        Ok(())
    }

    /// The same without what stands at these paths; a mapping that is empty then goes too.
    #[must_use]
    pub(super) fn without(&self, paths: &[KeyPath]) -> Self {
        let mut rest = self.clone();
        for path in paths {
            rest.remove(path.keys());
        }
        rest
    }

    fn remove(&mut self, keys: &[String]) {
        let (Self::Map(map), Some((key, below))) = (self, keys.split_first()) else {
            return;
        };
        let Some(node) = map.get_mut(key) else { return };
        node.remove(below);
        if below.is_empty() || matches!(node, Self::Map(map) if map.is_empty()) {
            map.remove(key);
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Plain(text) if text == "null" => "empty",
            Self::Plain(_) => "a number or a boolean",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// A path of keys, written with dots: `canary.image.tag`; `\.` is a dot in a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPath(Vec<String>);

impl KeyPath {
    pub fn parse(dotted: &str) -> Self {
        let mut keys = vec![String::new()];
        let mut chars = dotted.chars();
        while let Some(char) = chars.next() {
            match char {
                '.' => keys.push(String::new()),
                '\\' => keys.last_mut().into_iter().for_each(|key| key.extend(chars.next())),
                other => keys.last_mut().into_iter().for_each(|key| key.push(other)),
            }
        }
        Self(keys)
    }

    #[must_use]
    pub fn join(&self, below: &Self) -> Self {
        Self(self.0.iter().chain(&below.0).cloned().collect())
    }

    pub fn keys(&self) -> &[String] {
        &self.0
    }

    /// The paths on the way, the whole one too, from the top.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = Self> {
        (1..=self.0.len()).map(|length| Self(self.0.iter().take(length).cloned().collect()))
    }
}

impl std::fmt::Display for KeyPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<String> = self.0.iter().map(|key| key.replace('.', "\\.")).collect();
        f.write_str(&keys.join("."))
    }
}
