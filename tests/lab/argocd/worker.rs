//! One Application's life: looks at Git when asked and now and then, compares, syncs, and says so. It must not know what it
//! applies.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use kube::api::DynamicObject;
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tracing::warn;

use super::{
    Shared,
    application::Application,
    clock_text,
    compare::{Comparison, Item},
    health::Health,
    object::Key,
    operation::{self, Operation},
    project::Project,
    source::Rendered,
    spec::Spec,
    status::{Resource, Status},
};
use crate::clock;

/// How many entries a history has that nobody limits.
const HISTORY: usize = 10;

/// The shortest pause before something that can't be done now is looked at again.
const AGAIN: Duration = Duration::from_millis(100);

/// Takes care of one Application.
pub(super) struct Worker {
    shared: Shared,
    objects: watch::Receiver<DynamicObject>,
    application: Application,
    comparison: Comparison,
    /// The spec for which the rest was found.
    spec: serde_json::Value,
    found: Option<(Spec, Project)>,
    /// What was rendered last; after a failure it is no more than a memory.
    rendered: Option<Rendered>,
    /// The spec and the commit that were synced, or tried.
    tried: Option<(serde_json::Value, String)>,
    look_at: Instant,
    compare_at: Instant,
    failures: u32,
}

/// A condition's type, and what is the matter.
type Trouble = (&'static str, anyhow::Error);

impl Worker {
    pub(super) fn new(shared: Shared, mut objects: watch::Receiver<DynamicObject>) -> Self {
        let object = objects.borrow_and_update().clone();
        let api = super::objects(shared.cluster.client(), &shared.options.namespace, "Application");
        let (comparison, now) = (Comparison::new(shared.cluster.clone()), Instant::now());
        Self {
            shared,
            objects,
            application: Application::new(api, object),
            comparison,
            spec: serde_json::Value::Null,
            found: None,
            rendered: None,
            tried: None,
            look_at: now,
            compare_at: now,
            failures: 0,
        }
    }

    /// Until the Application is gone.
    pub(super) async fn run(mut self) {
        let name = self.application.name();
        loop {
            let open = self.shared.gate.enter(&name).await;
            let newest = self.objects.borrow_and_update().clone();
            self.application.see(newest);
            if let Err(error) = self.round().await {
                warn!("the Application {name}: {error:#}");
            }
            drop(open);
            tokio::select! {
                changed = self.objects.changed() => if changed.is_err() { return },
                () = sleep_until(self.look_at.min(self.compare_at)) => {}
            }
        }
    }

    /// Does what is due. An error is one of writing to the Application; all others are in its conditions.
    async fn round(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        let is_asked = self.application.is_refresh_asked();
        let is_new = self.spec != *self.application.spec();
        let is_ordered = self.application.is_ordered();
        let look = is_asked || is_new || is_ordered || now >= self.look_at;
        // After a failure there is nothing to compare with until the next look.
        let compare = self.found.is_some() && now >= self.compare_at;
        if self.application.is_going() || !(look || compare) {
            // What can't be done now must not be due all the time.
            self.look_at = self.look_at.max(now + AGAIN);
            self.compare_at = self.compare_at.max(now + AGAIN);
            return Ok(());
        }
        self.compare_at = now + self.shared.options.compare;
        if look {
            self.look_at = now + self.shared.options.poll;
        }
        if is_asked {
            self.application.clear_refresh().await?;
        }
        let mut status = self.application.status();
        let before = status.clone();
        "Helm".clone_into(&mut status.source_type);
        let trouble = self
            .reconcile(&mut status, look, is_asked || is_new || is_ordered)
            .await
            .err();
        match &trouble {
            None => self.failures = 0,
            Some((kind, _)) => {
                if *kind != SYNC_ERROR {
                    status.unknown();
                }
                // Sooner than the next poll, with whatever is the newest commit then.
                self.failures = self.failures.saturating_add(1).min(16);
                let pause = self.shared.options.compare * 2u32.saturating_pow(self.failures - 1);
                self.look_at = self.look_at.min(Instant::now() + pause);
            }
        }
        let text = trouble.as_ref().map(|(kind, error)| (*kind, format!("{error:#}")));
        status.set_condition(text.as_ref().map(|(kind, text)| (*kind, text.as_str())), &clock_text());
        if is_asked || status != before {
            status.reconciled_at = Some(clock_text());
        } else {
            let at_rest = status.sync.status == "Synced" && status.health.status == Health::Healthy.as_str();
            let options = &self.shared.options;
            self.compare_at = now + if at_rest { options.at_rest } else { options.compare * 2 };
        }
        self.application.write_status(&status).await
    }

    async fn reconcile(&mut self, status: &mut Status, look: bool, now: bool) -> Result<(), Trouble> {
        if look {
            self.look(now).await?;
        }
        let found = self.found.clone().zip(self.rendered.clone());
        let ((spec, project), rendered) = found.ok_or_else(|| (COMPARISON_ERROR, anyhow!("nothing is rendered")))?;
        let name = self.application.name();
        let comparing = |error| (COMPARISON_ERROR, error);
        let wanted = self
            .comparison
            .wanted(&name, &spec, &project, &rendered)
            .await
            .map_err(comparing)?;
        let items = self
            .comparison
            .compare(&name, &spec, &wanted, &status.resources)
            .await
            .map_err(comparing)?;
        self.say(status, &spec, &rendered, &items);
        self.sync(status, &spec, &rendered, items).await
    }

    /// Reads the spec and its project, and renders what Git has.
    async fn look(&mut self, now: bool) -> Result<(), Trouble> {
        self.found = None;
        self.spec = self.application.spec().clone();
        let read = || {
            self.application.check()?;
            Spec::read(&self.spec)
        };
        let spec = read().map_err(|error| (INVALID_SPEC, error))?;
        let project = self.project(&spec).await.map_err(|error| (INVALID_SPEC, error))?;
        // Without haste, what another Application fetched a moment ago is new enough.
        let grace = if now || self.failures > 0 {
            Duration::ZERO
        } else {
            self.shared.options.poll / 2
        };
        let since = Instant::now().checked_sub(grace).unwrap_or_else(Instant::now);
        let rendered = self
            .shared
            .source
            .render(&self.application.name(), &spec, since, self.rendered.as_ref())
            .await;
        let rendered = rendered
            .context("Failed to load target state")
            .map_err(|error| (COMPARISON_ERROR, error))?;
        self.found = Some((spec, project));
        self.rendered = Some(rendered);
        Ok(())
    }

    async fn project(&self, spec: &Spec) -> anyhow::Result<Project> {
        let projects = super::objects(
            self.shared.cluster.client(),
            &self.shared.options.namespace,
            "AppProject",
        );
        let object = projects
            .get_opt(&spec.project)
            .await
            .context("reading the Application's project")?;
        let project = match object {
            Some(object) => Project::read(&serde_json::to_value(object)?)?,
            None if spec.project == "default" => Project::anything(),
            None => bail!("there is no project {}", spec.project),
        };
        project.admit(spec)?;
        Ok(project)
    }

    /// What was found, as it stands in the status.
    fn say(&self, status: &mut Status, spec: &Spec, rendered: &Rendered, items: &[Item]) {
        let synced = items.iter().all(|item| item.is_synced);
        let state = if synced { "Synced" } else { "OutOfSync" };
        state.clone_into(&mut status.sync.status);
        status.sync.revision.clone_from(&rendered.revision);
        status.sync.compared_to = json!({
            "source": self.application.source(),
            "destination": {"server": spec.destination.server, "namespace": spec.destination.namespace},
        });
        status.resources = items.iter().map(Item::resource).collect();
        let wanted = items.iter().filter(|item| item.wanted.is_some());
        status.health = Status::worst(wanted.filter_map(|item| Health::of(item.live.as_ref())));
    }

    /// The sync that is to be done now, if there is one: what people ask for goes before what Argo CD would do by itself.
    fn due(&self, spec: &Spec, rendered: &Rendered, items: &[Item]) -> anyhow::Result<Option<Operation>> {
        if let Some(asked) = self.application.operation()? {
            return Ok(Some(asked));
        }
        let Some(automated) = spec.automated() else {
            return Ok(None);
        };
        let tried = self.tried.as_ref();
        let is_new = tried.is_none_or(|(spec, commit)| *spec != self.spec || *commit != rendered.revision);
        let is_due = items.iter().any(|item| item.is_due(automated.prune)) && (is_new || automated.self_heal);
        Ok(is_due.then(|| Operation::of(automated)))
    }

    /// Brings what differs into the cluster, if that is wanted now and no window of the project is in the way.
    async fn sync(
        &mut self,
        status: &mut Status,
        spec: &Spec,
        rendered: &Rendered,
        mut items: Vec<Item>,
    ) -> Result<(), Trouble> {
        let invalid = |error| (INVALID_SPEC, error);
        let Some(due) = self.due(spec, rendered, &items).map_err(invalid)? else {
            return Ok(());
        };
        let source = self.application.source().clone();
        let mut operation = due.begins(&rendered.revision, &source, clock_text());
        // As it is at this moment: a window may have been put there, or taken away.
        let project = self.project(spec).await.map_err(invalid)?;
        let (name, to) = (self.application.name(), &spec.destination);
        let windows = &project.sync_windows;
        if !windows
            .admit(&name, to, due.is_manual(), clock::now())
            .map_err(invalid)?
        {
            // Of its own sync that it does not begin Argo CD says nothing.
            if self.application.has_operation() {
                status.operation_state = Some(operation::waiting(operation, status.operation_state.as_ref()));
            }
            return Ok(());
        }
        self.tried = Some((self.spec.clone(), rendered.revision.clone()));
        // Before anything is applied, so that what is applied is known to be ours whatever happens next.
        status.operation_state = Some(operation.clone());
        let written = self.application.write_status(status).await;
        written.map_err(|error| (SYNC_ERROR, error))?;
        let result = async {
            if items.iter().all(|item| item.wanted.is_none()) && due.keeps_something() {
                bail!(
                    "nothing is wanted any more, and syncPolicy.automated.allowEmpty is not set: all would be pruned"
                );
            }
            if spec.creates_namespace() {
                self.create_namespace(spec, &project).await?;
            }
            self.comparison.sync(spec, &mut items, due.prunes()).await
        }
        .await;
        self.say(status, spec, rendered, &items);
        operation.finished_at = Some(clock_text());
        operation.sync_result.resources = status.resources.iter().map(result_of).collect();
        let (phase, message) = match &result {
            Ok(()) => ("Succeeded", "successfully synced (all tasks run)".to_owned()),
            Err(error) => ("Failed", format!("{error:#}")),
        };
        (operation.phase, operation.message) = (phase.to_owned(), message);
        status.operation_state = Some(operation);
        if result.is_ok() {
            let limit = spec.revision_history_limit.unwrap_or(HISTORY);
            status.deployed(&rendered.revision, &source, &clock_text(), limit);
        }
        if self.application.has_operation() {
            let cleared = self.application.clear_operation().await;
            cleared.map_err(|error| (SYNC_ERROR, error))?;
        }
        result.map_err(|error| (SYNC_ERROR, error))
    }

    async fn create_namespace(&self, spec: &Spec, project: &Project) -> anyhow::Result<()> {
        let name = &spec.destination.namespace;
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        project.permit(&Key::of(&object, "")?, false)?;
        match &spec.sync_policy.managed_namespace_metadata {
            Some(metadata) => self.shared.cluster.label_namespace(name, &metadata.labels).await,
            None => self.shared.cluster.ensure_namespace(name).await,
        }
    }
}

const INVALID_SPEC: &str = "InvalidSpecError";
const COMPARISON_ERROR: &str = "ComparisonError";
const SYNC_ERROR: &str = "SyncError";

/// How one object fared in a sync.
fn result_of(resource: &Resource) -> serde_json::Value {
    let Resource {
        group,
        version,
        kind,
        namespace,
        name,
        status,
        requires_pruning,
        ..
    } = resource;
    let state = match (status.as_str(), requires_pruning) {
        (_, true) => "Pruned",
        ("Synced", _) => "Synced",
        _ => "SyncFailed",
    };
    json!({"group": group, "version": version, "kind": kind, "namespace": namespace, "name": name, "status": state})
}
