//! The real Argo CD instead of the stand-in: its repo-server, controllers and server as processes, from the one program that
//! `ARGOCD_BIN` names, with a Redis of their own. It must not know what they apply.
//!
//! # Caveats
//! Nobody logs in: whoever reaches the server may do all that it may do itself. No webhook: a push is told by the annotation that one
//! sets, too. The custom resource definitions are the lab's tolerant ones.

mod accounts;
mod processes;

use std::{path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};

use self::processes::Place;
use super::{Install, objects};
use crate::{
    control_plane::ControlPlane,
    net::Net,
    process::{Child, Output, Program},
    tools::Tools,
    wait::eventually,
};

/// An operation that goes on when an Application is to be left alone.
const OPERATION: Duration = Duration::from_mins(1);
/// A command.
const COMMAND: Duration = Duration::from_mins(2);

const APPLICATIONS: &str = "argocd-application-controller";
const SETS: &str = "argocd-applicationset-controller";
const REPOSITORIES: &str = "argocd-repo-server";
const SERVER: &str = "argocd-server";
/// Keeps the application-controller's hands off an Application.
const SKIP: &str = "argocd.argoproj.io/skip-reconcile";

/// A running Argo CD. Its processes end when it is dropped.
#[derive(Debug)]
pub struct Real {
    applications: Api<DynamicObject>,
    command: Program,
    _processes: Vec<Child>,
}

impl Real {
    /// Starts it for what was installed, with the settings of argocd/ in place before it reads them.
    ///
    /// # Errors
    /// When one of its processes does not answer.
    pub async fn start(
        program: &Path,
        install: &Install,
        cluster: &ControlPlane,
        tools: &Tools,
        net: &Net,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        let (client, namespace) = (cluster.client(), &install.namespace);
        install.apply_common(&client).await?;
        accounts::settings(&client, namespace).await?;
        let place = Place::make(program, namespace, tools, net, dir)?;
        let (redis, cache) = place.redis().await?;
        let (repositories, repo_server) = place.repositories(&cache).await?;
        let kubeconfig = accounts::controller(cluster, namespace, APPLICATIONS).await?;
        let applications = place.applications(&kubeconfig, &cache, &repo_server).await?;
        let kubeconfig = accounts::controller(cluster, namespace, SETS).await?;
        let sets = place.sets(&kubeconfig, &repo_server).await?;
        let kubeconfig = accounts::server(cluster, namespace).await?;
        let (server, address) = place.server(&kubeconfig, &cache, &repo_server).await?;
        Ok(Self {
            applications: objects(&client, namespace, "Application"),
            command: place.command(&address),
            _processes: vec![server, sets, applications, repositories, redis],
        })
    }

    /// The command `argocd`, which asks this one's server.
    pub fn command(&self) -> &Program {
        &self.command
    }

    /// Gives such a command and returns what it prints.
    ///
    /// # Errors
    /// When it fails.
    pub async fn give(&self, args: &[&str]) -> anyhow::Result<String> {
        let command = self.command.clone().args(args.iter().copied());
        let given = command.output(COMMAND).await.and_then(Output::text);
        given.with_context(|| format!("argocd {}", args.join(" ")))
    }

    /// Has it leave an Application alone, and waits until what goes on is done.
    ///
    /// # Errors
    /// When it goes on.
    pub async fn pause_application(&self, name: &str) -> anyhow::Result<()> {
        self.annotate(name, json!("true")).await?;
        eventually("no operation goes on", OPERATION, async || {
            let Some(application) = self.applications.get_opt(name).await? else {
                return Ok(());
            };
            let operation = application.data.get("operation").filter(|it| !it.is_null());
            ensure!(operation.is_none(), "{name}: {operation:?}");
            Ok(())
        })
        .await
    }

    /// Ends [`Self::pause_application`].
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn resume_application(&self, name: &str) -> anyhow::Result<()> {
        self.annotate(name, Value::Null).await
    }

    async fn annotate(&self, name: &str, skip: Value) -> anyhow::Result<()> {
        let patch = Patch::Merge(json!({ "metadata": { "annotations": { SKIP: skip } } }));
        match self.applications.patch(name, &PatchParams::default(), &patch).await {
            // There is nothing to be left alone.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            done => done
                .map(drop)
                .with_context(|| format!("setting {SKIP} on the Application {name}")),
        }
    }
}
