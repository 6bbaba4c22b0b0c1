//! Where the stories of Argo CD happen: an Argo CD and a Git server of a story's own, and one environment. It must not know
//! the stories.

use std::{fs, time::Duration};

use anyhow::ensure;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
};
use lab::{
    Lab,
    argocd::{ArgoCd, Environment, Install, Options, REFRESH, objects},
    git_server::{GitServer, Repository},
    process::Program,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::QUICK;
use crate::story::{SOON, eventually};

/// What stands there; null when nothing does.
pub(super) fn at<'v>(value: &'v Value, pointer: &str) -> &'v Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

/// An Argo CD of its own, a Git server of its own, and one environment.
pub(super) struct Place {
    pub(super) client: Client,
    pub(super) argocd: ArgoCd,
    pub(super) git: GitServer,
    pub(super) repository: Repository,
    pub(super) install: Install,
    pub(super) applications: Api<DynamicObject>,
    name: String,
    program: Program,
    work: TempDir,
}

impl Place {
    pub(super) async fn new(lab: &Lab, name: &str, poll: Duration) -> anyhow::Result<Self> {
        let (client, work) = (lab.control_plane.client(), tempfile::tempdir()?);
        let git = GitServer::start(&lab.tools, &lab.net, work.path(), "token").await?;
        let namespace = format!("argocd-{name}");
        let install = Install {
            namespace: namespace.clone(),
            ..Install::new(&git, "config")
        };
        let seed = work.path().join("seed");
        install.seed(&seed)?;
        install.seed_environment(&seed, name, "dev")?;
        let repository = git.create("config", &seed).await?;
        let options = Options {
            namespace: namespace.clone(),
            poll,
            ..Options::new(&lab.tools, work.path())
        };
        let argocd = ArgoCd::start(client.clone(), options).await?;
        install.apply_environment(&client, &Environment::new(name)).await?;
        let program = Program::new(&lab.tools.git)
            .clean_env()
            .env("HOME", work.path())
            .dir(work.path());
        program
            .clone()
            .args(["clone", "-q", &git.url_with_token("config"), "clone"])
            .output(SOON)
            .await?
            .text()?;
        Ok(Self {
            applications: objects(&client, &namespace, "Application"),
            client,
            argocd,
            git,
            repository,
            install,
            name: name.to_owned(),
            program,
            work,
        })
    }

    pub(super) async fn end(self) -> anyhow::Result<()> {
        self.argocd.stop().await;
        Ok(())
    }

    fn file(&self) -> String {
        format!("deploy/environments/{}/values.yaml", self.name)
    }

    pub(super) fn sets(&self) -> Api<DynamicObject> {
        objects(&self.client, &self.install.namespace, "ApplicationSet")
    }

    pub(super) fn projects(&self) -> Api<DynamicObject> {
        objects(&self.client, &self.install.namespace, "AppProject")
    }

    fn application_name(&self) -> String {
        Environment::new(&self.name).application()
    }

    pub(super) fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), &self.application_name())
    }

    /// What a Deployment's pods run.
    pub(super) async fn revision(&self, deployment: &str) -> anyhow::Result<String> {
        let object = serde_json::to_value(self.deployments().get(deployment).await?)?;
        let revision = object.pointer("/spec/template/metadata/annotations/serin.dev~1revision");
        Ok(revision.and_then(Value::as_str).unwrap_or_default().to_owned())
    }

    pub(super) async fn values(&self) -> anyhow::Result<String> {
        self.repository.file("main", &self.file()).await
    }

    pub(super) async fn commit(&self, text: &str) -> anyhow::Result<String> {
        fs::write(self.work.path().join("clone").join(self.file()), text)?;
        let identity = ["-c", "user.name=Ann", "-c", "user.email=ann@example.com"];
        let words = [&["-C", "clone"], &identity[..], &["commit", "-q", "-a", "-m", "Change"]].concat();
        self.program.clone().args(words).output(SOON).await?.text()?;
        self.program
            .clone()
            .args(["-C", "clone", "push", "-q", "origin", "HEAD:main"])
            .output(SOON)
            .await?
            .text()?;
        self.repository.head("main").await
    }

    pub(super) async fn application(&self) -> anyhow::Result<DynamicObject> {
        Ok(self.applications.get(&self.application_name()).await?)
    }

    pub(super) async fn refresh(&self) -> anyhow::Result<()> {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {REFRESH: "normal"}}}));
        self.applications
            .patch(&self.application_name(), &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    pub(super) async fn status(&self) -> anyhow::Result<Value> {
        Ok(self
            .application()
            .await?
            .data
            .get("status")
            .cloned()
            .unwrap_or_default())
    }

    /// Waits until the Application says that this commit is in the cluster.
    pub(super) async fn synced_at(&self, commit: &str, deadline: Duration) -> anyhow::Result<Value> {
        eventually("the Application is synced", deadline, || async {
            let status = self.status().await?;
            let is = at(&status, "/sync/status") == "Synced" && *at(&status, "/sync/revision") == json!(commit);
            let has_conditions = at(&status, "/conditions").as_array().is_some_and(|all| !all.is_empty());
            ensure!(is && !has_conditions, "wanted {commit}: {status}");
            Ok(status)
        })
        .await
    }

    /// Waits until the Application says what is wrong.
    pub(super) async fn complains(&self, what: &str, word: &str) -> anyhow::Result<()> {
        eventually("the Application says what is wrong", QUICK, || async {
            let status = self.status().await?;
            let condition = at(&status, "/conditions/0");
            let message = at(condition, "/message").as_str().unwrap_or_default();
            ensure!(at(condition, "/type") == "ComparisonError", "{status}");
            ensure!(message.contains(what) && message.contains(word), "{message}");
            ensure!(at(&status, "/sync/status") == "Unknown", "{status}");
            Ok(())
        })
        .await
    }
}
