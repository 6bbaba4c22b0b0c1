//! What applies Git to the cluster, Argo CD or Flux: tells it to look at Git now, and reads which commits it has applied and what
//! keeps it from more. It must not know what was committed, nor decide anything.

pub mod argocd;
pub mod flux;
mod windows;

use std::time::Duration;

use anyhow::Context as _;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use serde_json::{Value, json};

use crate::api::{CanaryRollout, FIELD_MANAGER};

/// The longest wait for one answer of the API server.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What an Application, or Flux's objects, say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Commits whose content it has applied with success, as far as it says.
    pub applied: Vec<String>,
    /// Commits that it knows of, applied or not.
    pub seen: Vec<String>,
    /// What keeps it from applying anything newer.
    pub blocked: Option<Blocked>,
    /// What would keep it from applying a commit that it knows of and has not applied.
    pub held: Option<Blocked>,
    /// Where it stands, in a few words.
    pub says: String,
}

/// Something that does not go away by waiting, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{words}")]
pub struct Blocked {
    /// The word for it in a condition.
    pub reason: &'static str,
    pub words: String,
}

impl Blocked {
    fn new(reason: &'static str, words: impl Into<String>) -> Self {
        Self {
            reason,
            words: words.into(),
        }
    }
}

/// The rollout that is applied.
#[derive(Debug, Clone, Copy)]
pub struct Of<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
}

impl Of<'_> {
    fn kind() -> String {
        <CanaryRollout as kube::Resource>::kind(&()).into_owned()
    }
}

/// Objects of one kind in one namespace.
struct Kind {
    api: Api<DynamicObject>,
    /// As in `Application`.
    name: &'static str,
    namespace: String,
}

impl Kind {
    fn new(client: &Client, namespace: &str, (group, version, name, plural): (&str, &str, &'static str, &str)) -> Self {
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, name), plural);
        Self {
            api: Api::namespaced_with(client.clone(), namespace, &resource),
            name,
            namespace: namespace.to_owned(),
        }
    }

    async fn get(&self, name: &str) -> anyhow::Result<Value> {
        let doing = || format!("reading the {} {}/{name}", self.name, self.namespace);
        let object = tokio::time::timeout(TIMEOUT, self.api.get(name))
            .await
            .with_context(|| format!("{}: the API server did not answer in {TIMEOUT:?}", doing()))?
            .with_context(doing)?;
        let mut value = object.data;
        if let Some(map) = value.as_object_mut() {
            map.insert("metadata".to_owned(), serde_json::to_value(object.metadata)?);
        }
        Ok(value)
    }

    async fn annotate(&self, name: &str, annotations: Value) -> anyhow::Result<()> {
        let doing = || format!("refreshing the {} {}/{name}", self.name, self.namespace);
        let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        tokio::time::timeout(TIMEOUT, self.api.patch(name, &params, &patch))
            .await
            .with_context(|| format!("{}: the API server did not answer in {TIMEOUT:?}", doing()))?
            .with_context(doing)?;
        Ok(())
    }
}

/// The text that stands there; empty when none does.
fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The entries of a list; none when it is no list.
fn list<'v>(value: &'v Value, pointer: &str) -> impl Iterator<Item = &'v Value> + use<'v> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// Whether a text is a commit's id, and no version of a chart.
fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.chars().all(|c| c.is_ascii_hexdigit())
}

/// Words of somebody else, for a sentence of ours.
fn quoted(words: &str) -> String {
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(300).collect()
}

/// Whether what is refused is a commit without a signature.
fn is_signature(words: &str) -> bool {
    let words = words.to_lowercase();
    ["signature", "not signed", "gpg", "source integrity"]
        .iter()
        .any(|sign| words.contains(sign))
}

const SIGN: &str = "it takes signed commits only: give Serin a key by spec.git.signing, and make it known there";
