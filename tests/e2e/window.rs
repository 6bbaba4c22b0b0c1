//! The sync window that argocd/README.md shows, brought to the present, and how people pass it. It must not know who is kept from syncing.

use std::fs;

use anyhow::{Context as _, ensure};
use jiff::{SignedDuration, Timestamp};
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
};
use lab::project_root;
use serde_json::{Value, json};

const README: &str = "argocd/README.md";

/// A window of the document's kind, which began with this minute.
pub(crate) struct Window {
    shown: Value,
    began: Timestamp,
}

impl Window {
    /// As the document shows it, but for its time.
    pub(crate) fn of_the_readme(now: Timestamp) -> anyhow::Result<Self> {
        let text = fs::read_to_string(project_root().join(README)).with_context(|| format!("reading {README}"))?;
        let example = text
            .split_once("## Freezes")
            .and_then(|(_, text)| text.split_once("```yaml\n"));
        let example = example
            .and_then(|(_, text)| text.split_once("```"))
            .context("it shows no window")?;
        let spec: Value = serde_saphyr::from_str(example.0)?;
        let shown = spec
            .pointer("/spec/syncWindows/0")
            .cloned()
            .context("it shows no window")?;
        ensure!(
            shown.get("kind") == Some(&json!("deny")) && shown.get("manualSync") == Some(&json!(true)),
            "{README} shows another kind of window: {shown}"
        );
        let second = now.as_second();
        let began = Timestamp::from_second(second - second.rem_euclid(60))?;
        Ok(Self { shown, began })
    }

    /// As it stands in a project, over at that time; people pass it if they may.
    pub(crate) fn until(&self, end: Timestamp, may_people: bool) -> anyhow::Result<Value> {
        let lasts = end.duration_since(self.began);
        ensure!(
            lasts.is_positive() && lasts < SignedDuration::from_hours(24),
            "it would be open for {lasts:?}"
        );
        let mut window = self.shown.clone();
        for (key, value) in [
            ("schedule", json!(self.began.strftime("%-M %-H * * *").to_string())),
            ("duration", json!(format!("{}ms", lasts.as_millis()))),
            ("manualSync", json!(may_people)),
        ] {
            *window
                .get_mut(key)
                .with_context(|| format!("{README} shows no {key}"))? = value;
        }
        Ok(window)
    }
}

/// Gives a project these windows and no other.
pub(crate) async fn set(projects: &Api<DynamicObject>, project: &str, windows: &[Value]) -> anyhow::Result<()> {
    let patch = Patch::Merge(json!({ "spec": { "syncWindows": windows } }));
    let set = projects.patch(project, &PatchParams::default(), &patch).await;
    set.map(drop).context("setting the project's sync windows")
}

/// What `argocd app sync` writes for somebody.
pub(crate) async fn sync(applications: &Api<DynamicObject>, application: &str) -> anyhow::Result<()> {
    let operation = json!({ "initiatedBy": { "username": "ann" }, "sync": { "prune": true } });
    let patch = Patch::Merge(json!({ "operation": operation }));
    let asked = applications.patch(application, &PatchParams::default(), &patch).await;
    asked.map(drop).context("asking for a sync")
}
