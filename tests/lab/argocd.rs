//! A stand-in for Argo CD: it expands ApplicationSets, renders each Application's chart from Git with Helm, applies it by
//! server-side apply, prunes, heals drift, obeys `ignoreDifferences`, and tells all that in the Application's status. It must
//! not know what it applies, and touches nothing that it did not render.
//!
//! # Caveats
//! One cluster; Helm charts only; no hooks or waves. What an Application or an object says that
//! would change what happens and is not known here is an error in the conditions, never passed over. When an Application is
//! deleted, what it applied stays. Argo CD itself writes the live value of an ignored field back when it syncs, and so comes to
//! own it too; the stand-in leaves it out, so a stale value is never written back here. And it compares by the API server's own
//! account of what applying would change; Argo CD computes that itself, and takes for a difference what the server adds to a list.
//! `make test-argocd` runs the real one.

mod application;
mod applicationset;
mod cluster;
mod compare;
mod gate;
mod git;
mod health;
mod install;
mod installed;
#[cfg(test)]
mod lua;
#[cfg(test)]
mod manifests;
mod object;
mod operation;
mod project;
mod real;
mod record;
mod source;
mod spec;
mod status;
mod template;
mod windows;
mod worker;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use futures::{StreamExt as _, stream::BoxStream};
use kube::{
    Api, Client, ResourceExt as _,
    api::DynamicObject,
    core::{ApiResource, GroupVersionKind},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tracing::warn;

use self::{cluster::Cluster, gate::Gate, source::Source, worker::Worker};
pub use self::{
    install::{Environment, Install},
    installed::Installed,
    real::Real,
    record::Record,
};
use crate::{clock, tools::Tools};

/// Who applies what is in Git.
pub const FIELD_MANAGER: &str = "argocd-controller";
/// Who applies the Applications of an ApplicationSet.
const SET_MANAGER: &str = "argocd-applicationset-controller";
/// Asks for a comparison with Git at once; it is removed when that begins.
pub const REFRESH: &str = "argocd.argoproj.io/refresh";
/// Says which Application an object belongs to.
pub const TRACKING: &str = "argocd.argoproj.io/tracking-id";

/// How the stand-in is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the Applications are.
    pub namespace: String,
    /// Helm.
    pub helm: PathBuf,
    /// git.
    pub git: PathBuf,
    /// A folder of its own, for mirrors of repositories.
    pub dir: PathBuf,
    /// How often Git is looked at without being asked.
    pub poll: Duration,
    /// How often the cluster is compared with what is wanted.
    pub compare: Duration,
    /// The same where nothing has moved since the last comparison. Argo CD watches; each of these asks for every object.
    pub at_rest: Duration,
    /// How often Applications that somebody edited are put right again by their sets.
    pub sets: Duration,
}

impl Options {
    /// The lab's usual ones.
    pub fn new(tools: &Tools, dir: &Path) -> Self {
        Self {
            namespace: "argocd".to_owned(),
            helm: tools.helm.clone(),
            git: tools.git.clone(),
            dir: dir.join("argocd"),
            poll: Duration::from_secs(5),
            compare: Duration::from_secs(2),
            at_rest: Duration::from_secs(8),
            sets: Duration::from_secs(30),
        }
    }
}

/// What all workers share.
#[derive(Clone)]
struct Shared {
    options: Arc<Options>,
    cluster: Arc<Cluster>,
    source: Arc<Source>,
    gate: Gate,
}

/// A running stand-in. It ends when it is dropped.
#[derive(Debug)]
pub struct ArgoCd {
    tasks: Vec<JoinHandle<()>>,
    gate: Gate,
}

impl ArgoCd {
    /// Starts it. The CRDs of Argo CD have to be there.
    pub async fn start(client: Client, options: Options) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&options.dir)
            .with_context(|| format!("making Argo CD's folder {}", options.dir.display()))?;
        let cluster = Arc::new(Cluster::new(client));
        cluster.ensure_namespace(&options.namespace).await?;
        let options = Arc::new(options);
        let source = Arc::new(Source::new(cluster.clone(), options.clone()));
        let gate = Gate::default();
        let shared = Shared {
            options,
            cluster,
            source,
            gate: gate.clone(),
        };
        let sets = tokio::spawn(applicationset::run(shared.clone()));
        let applications = tokio::spawn(supervise(shared));
        Ok(Self {
            tasks: vec![sets, applications],
            gate,
        })
    }

    /// Stops all reconciliation, and waits until what goes on is done.
    pub async fn pause(&self) {
        self.gate.shut(None).await;
    }

    /// Ends [`Self::pause`]; what was asked for in the meantime is done at once.
    pub fn resume(&self) {
        self.gate.open(None);
    }

    /// As [`Self::pause`], for one Application.
    pub async fn pause_application(&self, name: &str) {
        self.gate.shut(Some(name)).await;
    }

    /// Ends [`Self::pause_application`].
    pub fn resume_application(&self, name: &str) {
        self.gate.open(Some(name));
    }

    /// Ends it; what is applied stays.
    pub async fn stop(mut self) {
        for task in &self.tasks {
            task.abort();
        }
        for task in self.tasks.drain(..) {
            // The only way that it ends is that it was aborted.
            let _ = task.await;
        }
    }
}

impl Drop for ArgoCd {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// One worker for each Application, told of every change of it. Dropping the set of workers ends them all.
async fn supervise(shared: Shared) {
    let mut workers = JoinSet::new();
    let mut known: BTreeMap<String, watch::Sender<DynamicObject>> = BTreeMap::new();
    let mut listed = Vec::new();
    let mut events = events(&shared, "Application");
    while let Some(event) = events.next().await {
        while workers.try_join_next().is_some() {}
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitDone) => known.retain(|name, _| listed.contains(name)),
            Ok(Event::Delete(object)) => {
                known.remove(&object.name_any());
            }
            Ok(Event::InitApply(object) | Event::Apply(object)) => {
                let name = object.name_any();
                listed.push(name.clone());
                match known.get(&name).filter(|sender| !sender.is_closed()) {
                    Some(sender) => {
                        sender.send_replace(object);
                    }
                    None => {
                        let (sender, receiver) = watch::channel(object);
                        workers.spawn(Worker::new(shared.clone(), receiver).run());
                        known.insert(name, sender);
                    }
                }
            }
            Err(error) => warn!("watching Applications: {error}"),
        }
    }
}

/// Events of one of Argo CD's kinds in its namespace; a broken watch starts again by itself.
fn events(shared: &Shared, kind: &str) -> BoxStream<'static, Result<Event<DynamicObject>, watcher::Error>> {
    let api = objects(shared.cluster.client(), &shared.options.namespace, kind);
    watcher::watcher(api, watcher::Config::default())
        .default_backoff()
        .boxed()
}

/// The objects of one of Argo CD's own kinds in its namespace.
pub fn objects(client: &Client, namespace: &str, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("argoproj.io", "v1alpha1", kind));
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// The present, as it stands in a status.
fn clock_text() -> String {
    clock::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
