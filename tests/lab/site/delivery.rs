//! Who else brings an environment from Git to the cluster: an Application of Argo CD's whose manifests are hydrated, and Flux. Each
//! takes the place of the lab's Argo CD, and acts when its annotation asks for it and at no other time. It must not know any story.
//!
//! # Caveats
//! Stand-ins for what others see of them: objects, annotations, statuses, the hydrated branch. Nothing is pruned, and drift is not
//! healed.

use std::{fs, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::{CONFIG, Environment, SERVICE, Site, environment::merge};
use crate::{
    argocd::{REFRESH, objects},
    clock,
    wait::eventually,
};

const ARGOCD: &str = "argocd";
const HYDRATE: &str = "argocd.argoproj.io/hydrate";
const REQUESTED: &str = "reconcile.fluxcd.io/requestedAt";
/// The names of Flux's two objects, beside the rollout.
pub const KUSTOMIZATION: &str = "apps";
/// As [`KUSTOMIZATION`].
pub const GIT_REPOSITORY: &str = "config";
/// Between two looks at the annotations.
const LOOK: Duration = Duration::from_millis(200);

/// Who brings it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Argo CD, by way of a branch of manifests.
    Hydrated,
    /// A Kustomization and its GitRepository.
    Flux,
}

/// A stand-in that has taken an environment over. It ends when it is dropped.
#[derive(Debug)]
pub struct Delivery {
    worker: Arc<Worker>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Worker {
    site: Arc<Site>,
    way: Way,
    namespace: String,
    application: String,
    folder: String,
    branch: String,
    /// Values that go over the file's.
    over: Value,
}

impl Delivery {
    /// Takes the environment over from the lab's Argo CD; what that has applied stays.
    pub async fn take_over(environment: &Environment, way: Way) -> anyhow::Result<Self> {
        let worker = Arc::new(Worker {
            site: environment.site.clone(),
            way,
            namespace: environment.namespace(),
            application: environment.application(),
            folder: environment.folder(),
            branch: format!("hydrated/{}", environment.name),
            over: environment.over.clone(),
        });
        worker
            .begin()
            .await
            .context("taking an environment over from Argo CD")?;
        let own = worker.clone();
        let task = tokio::spawn(async move {
            loop {
                // What fails is tried again as long as the annotation stands.
                if let Err(error) = own.round().await {
                    tracing::warn!("bringing {} to the cluster: {error:#}", own.namespace);
                }
                sleep(LOOK).await;
            }
        });
        Ok(Self { worker, task })
    }

    /// What the host's webhook does after a push.
    pub async fn tell(&self) -> anyhow::Result<()> {
        self.worker.tell().await
    }

    /// The branch of the hydrated manifests.
    pub fn branch(&self) -> &str {
        &self.worker.branch
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Worker {
    fn client(&self) -> Client {
        self.site.lab.control_plane.client()
    }

    fn argocd(&self, kind: &str) -> Api<DynamicObject> {
        objects(&self.client(), ARGOCD, kind)
    }

    fn kustomizations(&self) -> Api<DynamicObject> {
        let gvk = GroupVersionKind::gvk("kustomize.toolkit.fluxcd.io", "v1", "Kustomization");
        Api::namespaced_with(self.client(), &self.namespace, &ApiResource::from_gvk(&gvk))
    }

    fn sources(&self) -> Api<DynamicObject> {
        let gvk = GroupVersionKind::gvk("source.toolkit.fluxcd.io", "v1", "GitRepository");
        let resource = ApiResource::from_gvk_with_plural(&gvk, "gitrepositories");
        Api::namespaced_with(self.client(), &self.namespace, &resource)
    }

    async fn begin(&self) -> anyhow::Result<()> {
        // Whoever stands for Argo CD leaves an Application of this name alone from now on.
        self.site.argocd.pause_application(&self.application).await?;
        let sets = self.argocd("ApplicationSet");
        sets.delete(&self.application, &DeleteParams::default()).await?;
        let end = Instant::now() + super::DEADLINE;
        while self.argocd("Application").get_opt(&self.application).await?.is_some() {
            ensure!(Instant::now() < end, "the Application {} does not go", self.application);
            sleep(LOOK).await;
        }
        let head = self.site.config.head("main").await?;
        match self.way {
            Way::Hydrated => loop {
                match self.stand(&head).await {
                    Err(_) if Instant::now() < end => sleep(LOOK).await,
                    stands => return stands,
                }
            },
            Way::Flux => {
                let source = json!({
                    "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
                    "metadata": { "name": GIT_REPOSITORY },
                    "spec": { "url": self.site.lab.git.url(CONFIG), "ref": { "branch": "main" }, "interval": "1h" },
                });
                put(&self.sources(), GIT_REPOSITORY, &source).await?;
                let kustomization = json!({
                    "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
                    "metadata": { "name": KUSTOMIZATION },
                    "spec": { "sourceRef": { "kind": "GitRepository", "name": GIT_REPOSITORY }, "path": self.folder,
                        "interval": "1h", "prune": false },
                });
                put(&self.kustomizations(), KUSTOMIZATION, &kustomization).await?;
                self.fetched(&head, "").await?;
                self.reconciled(&head, "").await
            }
        }
    }

    /// The hydrated Application, and its manifests as of this commit.
    async fn stand(&self, head: &str) -> anyhow::Result<()> {
        let application = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
            "metadata": { "name": self.application },
            "spec": {
                "project": self.application,
                "sourceHydrator": {
                    "drySource": { "repoURL": self.site.lab.git.url(CONFIG), "targetRevision": "main",
                        "path": "deploy/charts/user-service" },
                    "syncSource": { "targetBranch": self.branch, "path": "." },
                },
                "destination": { "server": "https://kubernetes.default.svc", "namespace": self.namespace },
                "syncPolicy": { "automated": { "prune": true } },
            },
        });
        put(&self.argocd("Application"), &self.application, &application).await?;
        self.hydrate(head).await
    }

    async fn tell(&self) -> anyhow::Result<()> {
        let asked = |name: &str, value: &str| Patch::Merge(json!({ "metadata": { "annotations": { name: value } } }));
        let how = PatchParams::default();
        match self.way {
            Way::Hydrated => {
                let api = self.argocd("Application");
                // It may be on its way out with the set that had made it, and about to stand again.
                eventually("its Application is told", super::DEADLINE, async || {
                    let told = api.patch(&self.application, &how, &asked(HYDRATE, "normal")).await;
                    told.map(drop).context("asking for hydration")
                })
                .await?;
            }
            Way::Flux => {
                let now = clock::now().to_string();
                self.sources()
                    .patch(GIT_REPOSITORY, &how, &asked(REQUESTED, &now))
                    .await?;
            }
        }
        Ok(())
    }

    async fn round(&self) -> anyhow::Result<()> {
        match self.way {
            Way::Hydrated => {
                let api = self.argocd("Application");
                // What the set that is gone had made may have been made once more, and goes with its owner.
                let Some(object) = api.get_opt(&self.application).await? else {
                    return self.stand(&self.site.config.head("main").await?).await;
                };
                if !annotations(&object).contains_key(HYDRATE) {
                    return Ok(());
                }
                let none = json!({ "metadata": { "annotations": { HYDRATE: null, REFRESH: null } } });
                api.patch(&self.application, &PatchParams::default(), &Patch::Merge(none))
                    .await?;
                self.hydrate(&self.site.config.head("main").await?).await
            }
            Way::Flux => {
                let source = self.sources().get(GIT_REPOSITORY).await?;
                let mut artifact = text(&source, "/status/artifact/revision").to_owned();
                if let Some(asked) = asked(&source) {
                    let head = self.site.config.head("main").await?;
                    self.fetched(&head, &asked).await?;
                    artifact = revision(&head);
                }
                let kustomization = self.kustomizations().get(KUSTOMIZATION).await?;
                let asked = asked(&kustomization);
                if asked.is_none() && text(&kustomization, "/status/lastAppliedRevision") == artifact {
                    return Ok(());
                }
                let commit = artifact.rsplit(':').next().unwrap_or_default();
                let manifests = self.render(commit).await?;
                self.apply("kustomize-controller", &manifests).await?;
                let handled = text(&kustomization, "/status/lastHandledReconcileAt").to_owned();
                self.reconciled(commit, &asked.unwrap_or(handled)).await
            }
        }
    }

    /// The objects that the environment has at a commit.
    async fn render(&self, commit: &str) -> anyhow::Result<String> {
        let file = format!("{commit}:{}/values.yaml", self.folder);
        let file = self.site.config.run(&["cat-file", "blob", &file]).await?;
        let mut values: Value = serde_saphyr::from_str(&file).context("reading the values file")?;
        merge(&mut values, &self.over);
        self.site
            .render("user-service", SERVICE, &self.namespace, &values, &[])
            .await
    }

    async fn apply(&self, manager: &str, manifests: &str) -> anyhow::Result<()> {
        let manager = format!("--field-manager={manager}");
        let args = ["apply", "--server-side", "--force-conflicts", &manager, "-f", "-"];
        self.site.kubectl(&args, manifests.as_bytes()).await.map(drop)
    }

    /// Writes the manifests of a commit to their branch, applies what stands there, and says both in the status.
    async fn hydrate(&self, dry: &str) -> anyhow::Result<()> {
        let config = &self.site.config;
        let tree = tempfile::tempdir().context("making a folder of manifests")?;
        fs::write(tree.path().join("manifest.yaml"), self.render(dry).await?)?;
        fs::write(
            tree.path().join("hydrator.metadata"),
            json!({ "drySha": dry }).to_string(),
        )?;
        let folder = tree.path().to_string_lossy();
        config.run(&["--work-tree", &folder, "add", "--all", "."]).await?;
        let tree = config.run(&["write-tree"]).await?;
        let before = config.head(&self.branch).await.ok();
        let message = format!("Hydrate {dry}");
        let mut args = vec!["-c", "user.name=Argo CD", "-c", "user.email=argo-cd@example.com"];
        args.extend(["commit-tree", tree.trim(), "-m", &message]);
        args.extend(before.iter().flat_map(|before| ["-p", before.as_str()]));
        let hydrated = config.run(&args).await?.trim().to_owned();
        let branch = format!("refs/heads/{}", self.branch);
        config.run(&["update-ref", &branch, &hydrated]).await?;
        let manifests = config.file(&self.branch, "manifest.yaml").await?;
        self.apply(crate::argocd::FIELD_MANAGER, &manifests).await?;
        let now = clock::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let status = json!({ "status": {
            "sourceHydrator": {
                "currentOperation": { "phase": "Hydrated", "drySHA": dry, "hydratedSHA": hydrated, "startedAt": now, "finishedAt": now },
                "lastSuccessfulOperation": { "drySHA": dry, "hydratedSHA": hydrated },
            },
            "sync": { "status": "Synced", "revision": hydrated },
            "operationState": { "phase": "Succeeded", "message": "successfully synced (all tasks run)", "startedAt": now,
                "finishedAt": now, "syncResult": { "revision": hydrated } },
            "resources": [{ "group": serin::api::GROUP, "version": "v1alpha1", "kind": "CanaryRollout",
                "namespace": self.namespace, "name": SERVICE, "status": "Synced" }],
        } });
        let how = PatchParams::default();
        let api = self.argocd("Application");
        api.patch(&self.application, &how, &Patch::Merge(status)).await?;
        Ok(())
    }

    async fn fetched(&self, head: &str, asked: &str) -> anyhow::Result<()> {
        let status = json!({ "status": {
            "artifact": { "revision": revision(head) },
            "lastHandledReconcileAt": asked,
            "conditions": [{ "type": "Ready", "status": "True", "reason": "Succeeded" }],
        } });
        let how = PatchParams::default();
        self.sources()
            .patch_status(GIT_REPOSITORY, &how, &Patch::Merge(status))
            .await?;
        Ok(())
    }

    async fn reconciled(&self, commit: &str, asked: &str) -> anyhow::Result<()> {
        let id = format!("{}_{SERVICE}_{}_CanaryRollout", self.namespace, serin::api::GROUP);
        let status = json!({ "status": {
            "lastAppliedRevision": revision(commit),
            "lastAttemptedRevision": revision(commit),
            "lastHandledReconcileAt": asked,
            "inventory": { "entries": [{ "id": id, "v": "v1alpha1" }] },
            "conditions": [{ "type": "Ready", "status": "True", "reason": "ReconciliationSucceeded" }],
        } });
        let how = PatchParams::default();
        self.kustomizations()
            .patch_status(KUSTOMIZATION, &how, &Patch::Merge(status))
            .await?;
        Ok(())
    }
}

async fn put(api: &Api<DynamicObject>, name: &str, object: &Value) -> anyhow::Result<()> {
    let how = PatchParams::apply("operator").force();
    api.patch(name, &how, &Patch::Apply(object))
        .await
        .with_context(|| format!("making {name}"))?;
    Ok(())
}

fn annotations(object: &DynamicObject) -> std::collections::BTreeMap<String, String> {
    object.metadata.annotations.clone().unwrap_or_default()
}

/// What was asked for and is not done.
fn asked(object: &DynamicObject) -> Option<String> {
    let asked = annotations(object).remove(REQUESTED)?;
    (asked != text(object, "/status/lastHandledReconcileAt")).then_some(asked)
}

fn text<'o>(object: &'o DynamicObject, pointer: &str) -> &'o str {
    object.data.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// As Flux writes a commit.
fn revision(commit: &str) -> String {
    format!("main@sha1:{commit}")
}
