//! One environment: a folder of the config repository, applied to a namespace by Argo CD, with clients at a steady rate. It
//! must not know what Serin ought to do there.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Pod, Secret},
    events::v1::Event,
};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams, PostParams},
    config::Kubeconfig,
    runtime::wait::await_condition,
};
use serde_json::{Value, json};
use serin::api::{CanaryRollout, CanaryRolloutStatus};
use tokio::time::{Instant, sleep, timeout_at};
use user_client::load::record::{self, Call};

use super::{CLUSTER, CONFIG, DEADLINE, Detours, RECORD, Serin, Site, pod_folder};
use crate::{
    argocd,
    audit::{Asked, AuditLog, WeightWrite},
    binary, clock,
    jenkins::Jenkins,
    process::{Output, Program},
    project_root, wait,
};

/// The rollout's, the apex Service's and the stable Deployment's name in the chart's defaults.
pub const SERVICE: &str = "user-service";
/// The canary Deployment's name.
pub const CANARY: &str = "user-service-canary";
/// Between two looks at what nothing tells of.
const LOOK: Duration = Duration::from_millis(250);

/// How an environment is to be.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Values that go over those of production; those that the lab needs are there already.
    pub values: Value,
    /// A Serin of its own, for this namespace only.
    pub own_serin: bool,
}

/// An environment that is up: stable runs, clients call it, and Serin has seen its rollout.
#[derive(Debug)]
pub struct Environment {
    /// The installation that it is part of.
    pub site: Arc<Site>,
    /// Its name; the folder is `deploy/environments/<name>`.
    pub name: String,
    /// Its own Serin, if it has one.
    pub serin: Option<Serin>,
    /// The values that go over those of its file.
    pub(super) over: Value,
    /// When it was up; what clients met before is nobody's business.
    up: Timestamp,
}

impl Environment {
    /// Brings the environment up, with production's values file as its own unless it has one.
    pub async fn start(site: &Arc<Site>, name: &str, setup: Setup) -> anyhow::Result<Self> {
        Self::start_with(site, name, setup, &json!({}), Detours::default()).await
    }

    /// As [`Self::start`]; these values go over those of its own Serin's chart, and this stands around it.
    pub async fn start_with(
        site: &Arc<Site>,
        name: &str,
        setup: Setup,
        serin: &Value,
        detours: Detours,
    ) -> anyhow::Result<Self> {
        let mut environment = Self {
            site: site.clone(),
            name: name.to_owned(),
            serin: None,
            over: Value::Null,
            up: clock::now(),
        };
        let namespace = environment.namespace();
        environment.prepare(&namespace).await?;
        if setup.own_serin {
            let release = format!("serin-{name}");
            let installed = Serin::install_with(site, &release, &namespace, true, serin, detours).await?;
            environment.serin = Some(installed);
        }
        let mut values = values_of_the_lab();
        merge(&mut values, &setup.values);
        environment.over.clone_from(&values);
        environment.apply(values).await?;
        let up = |rollout: &CanaryRolloutStatus| rollout.phase.is_some();
        environment
            .until("the rollout is seen", Duration::from_secs(90), up)
            .await?;
        environment.until_calls_succeed().await?;
        environment.up = clock::now();
        Ok(environment)
    }

    /// What an operator makes by hand: the namespace, the Secret with which Serin pushes, and the one that names the database:
    /// a file of SQLite, which stable and canary share.
    async fn prepare(&self, namespace: &str) -> anyhow::Result<()> {
        let client = self.client();
        let made: Namespace = serde_json::from_value(json!({ "metadata": { "name": namespace } }))?;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces
            .create(&PostParams::default(), &made)
            .await
            .with_context(|| format!("making {namespace}"))?;
        let databases = self.site.lab.dir().join("databases");
        fs::create_dir_all(&databases).context("making the folder of the databases")?;
        let database = format!("sqlite://{}/{}.db", databases.display(), self.name);
        let secrets: Api<Secret> = Api::namespaced(client, namespace);
        for (name, data) in [
            (
                "config-repo",
                json!({ "username": "serin", "password": self.site.lab.git.token() }),
            ),
            ("user-service-database", json!({ "DATABASE_URL": database })),
        ] {
            let secret: Secret = serde_json::from_value(json!({ "metadata": { "name": name }, "stringData": data }))?;
            secrets
                .create(&PostParams::default(), &secret)
                .await
                .with_context(|| format!("making the Secret {name}"))?;
        }
        Ok(())
    }

    async fn apply(&self, values: Value) -> anyhow::Result<()> {
        let file = format!("{}/values.yaml", self.folder());
        if self.site.config.file("main", &file).await.is_err() {
            let production = self
                .site
                .config
                .file("main", "deploy/environments/prod/values.yaml")
                .await?;
            let mine = production.replace("deploy/environments/prod", &self.folder());
            let mine = mine.replace("user-service-prod", &self.application());
            let clone = super::Clone::new(&self.site).await?;
            clone
                .edit(&file, &format!("Add the environment {}", self.name), |_| mine.clone())
                .await?;
        }
        let environment = argocd::Environment {
            name: self.name.clone(),
            values: Some(values),
        };
        argocd::Install::new(&self.site.lab.git, CONFIG)
            .apply_environment(&self.client(), &environment)
            .await
    }

    /// The namespace.
    pub fn namespace(&self) -> String {
        format!("user-service-{}", self.name)
    }

    /// The Application's name.
    pub fn application(&self) -> String {
        self.namespace()
    }

    /// The folder in the config repository.
    pub fn folder(&self) -> String {
        format!("deploy/environments/{}", self.name)
    }

    /// An admin's client.
    pub fn client(&self) -> Client {
        self.site.lab.control_plane.client()
    }

    /// Commits a canary revision with the commands of the Jenkinsfile's stage; returns the commit's id.
    pub async fn commit(&self, version: &str, set: Option<&str>) -> anyhow::Result<String> {
        let mut more = vec![("GIT_TOKEN", self.site.lab.git.token())];
        more.extend(set.map(|set| ("SET", set)));
        let printed = self
            .stage("Production: canary revision", version, &more)
            .await?
            .text()
            .context("the canary stage failed")?;
        let answer: Value = printed
            .lines()
            .find_map(|line| serde_json::from_str(line).ok())
            .context("it printed no commit")?;
        self.refresh().await?;
        let id = answer
            .get("commit")
            .and_then(Value::as_str)
            .context("it printed no commit")?;
        Ok(id.to_owned())
    }

    /// Waits for the verdict with the commands of the Jenkinsfile's stage; the exit code tells which it was.
    pub async fn verdict(&self, version: &str) -> anyhow::Result<Output> {
        let kubeconfig = self.site.lab.control_plane.kubeconfig_admin();
        let more = [("KUBECONFIG", &*kubeconfig.to_string_lossy()), ("WAIT", "4m")];
        self.stage("Production: verdict", version, &more).await
    }

    async fn stage(&self, name: &str, version: &str, more: &[(&str, &str)]) -> anyhow::Result<Output> {
        let serin = binary("serin")?;
        let path = serin.parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned();
        let search = format!("{path}:{}", std::env::var("PATH").unwrap_or_default());
        let (repository, rollout) = (self.site.lab.git.url(CONFIG), format!("{}/{SERVICE}", self.namespace()));
        let env = [
            ("PATH", search.as_str()),
            ("VERSION", version),
            ("CONFIG_REPOSITORY", &repository),
            ("ENVIRONMENT", &self.name),
            ("ROLLOUT", &rollout),
            ("CLUSTER", CLUSTER),
        ];
        let env: BTreeMap<String, String> = env
            .iter()
            .chain(more)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Jenkins::new(project_root().join("Jenkinsfile"))?
            .run_stage(name, &env)
            .await
    }

    /// Edits the values file as a person would; returns the commit's id.
    pub async fn edit(&self, subject: &str, edit: impl Fn(&str) -> String) -> anyhow::Result<String> {
        let clone = super::Clone::new(&self.site).await?;
        let id = clone
            .edit(&format!("{}/values.yaml", self.folder()), subject, edit)
            .await?;
        self.refresh().await?;
        Ok(id)
    }

    /// What the host's webhook tells Argo CD after a push.
    async fn refresh(&self) -> anyhow::Result<()> {
        let applications = argocd::objects(&self.client(), "argocd", "Application");
        let patch = json!({ "metadata": { "annotations": { argocd::REFRESH: "normal" } } });
        let patch = Patch::Merge(patch);
        match applications
            .patch(&self.application(), &PatchParams::default(), &patch)
            .await
        {
            // Somebody else brings it to the cluster.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            asked => asked.map(drop).context("asking for a refresh of the Application"),
        }
    }

    /// The values file on the branch.
    pub async fn values(&self) -> anyhow::Result<String> {
        self.site
            .config
            .file("main", &format!("{}/values.yaml", self.folder()))
            .await
    }

    /// The rollouts of the namespace.
    pub fn rollouts(&self) -> Api<CanaryRollout> {
        Api::namespaced(self.client(), &self.namespace())
    }

    /// The rollout.
    pub async fn rollout(&self) -> anyhow::Result<CanaryRollout> {
        self.rollouts().get(SERVICE).await.context("reading the rollout")
    }

    /// The rollout's status as it is now.
    pub async fn status(&self) -> anyhow::Result<CanaryRolloutStatus> {
        Ok(self.rollout().await?.status.unwrap_or_default())
    }

    /// One of the two Deployments.
    pub async fn deployment(&self, name: &str) -> anyhow::Result<Deployment> {
        let api: Api<Deployment> = Api::namespaced(self.client(), &self.namespace());
        api.get(name)
            .await
            .with_context(|| format!("reading the Deployment {name}"))
    }

    /// Gives a command as the cluster's admin.
    pub async fn order(&self, verb: &str) -> anyhow::Result<()> {
        let args = [
            verb,
            SERVICE,
            "--namespace",
            &self.namespace(),
            "--reason",
            "the story says so",
        ];
        let kubeconfig = self.site.lab.control_plane.kubeconfig_admin();
        let serin = Program::new(binary("serin")?).env("KUBECONFIG", kubeconfig).args(args);
        serin
            .output(DEADLINE)
            .await?
            .text()
            .context("giving a command")
            .map(drop)
    }

    /// Runs `serin` in this namespace as another user, as `kubectl --as` does.
    pub async fn serin_as(&self, user: &str, args: &[&str]) -> anyhow::Result<Output> {
        let admin = self.site.lab.control_plane.kubeconfig_admin();
        let mut kubeconfig = Kubeconfig::read_from(&admin).context("reading the admin's kubeconfig")?;
        for named in &mut kubeconfig.auth_infos {
            named.auth_info.get_or_insert_default().impersonate = Some(user.to_owned());
        }
        let file = tempfile::NamedTempFile::new().context("making a kubeconfig")?;
        // JSON is YAML. What is secret in it is written as it is only by its own type.
        fs::write(file.path(), serde_json::to_string(&kubeconfig)?)?;
        let serin = Program::new(binary("serin")?).env("KUBECONFIG", file.path());
        let serin = serin
            .args(args.iter().copied())
            .args(["--namespace", &self.namespace()]);
        serin.output(DEADLINE).await
    }

    /// Waits until the status is so; the error tells the last one. It is watched: asking again and again takes the machine from
    /// those who are watched.
    pub async fn until(
        &self,
        what: &str,
        within: Duration,
        holds: impl Fn(&CanaryRolloutStatus) -> bool,
    ) -> anyhow::Result<CanaryRolloutStatus> {
        let end = Instant::now() + within;
        let holds = |rollout: Option<&CanaryRollout>| {
            let status = rollout.and_then(|rollout| rollout.status.as_ref());
            status.map_or_else(|| holds(&CanaryRolloutStatus::default()), &holds)
        };
        loop {
            match timeout_at(end, await_condition(self.rollouts(), SERVICE, holds)).await {
                Ok(Ok(rollout)) => return Ok(rollout.and_then(|rollout| rollout.status).unwrap_or_default()),
                // A watch that broke is begun again.
                Ok(Err(_)) => sleep(LOOK).await,
                Err(_) => {
                    let plight = self.plight().await;
                    bail!("{}: waited {within:?} for this: {what}; now: {plight}", self.name);
                }
            }
        }
    }

    /// Waits for a phase of this revision.
    pub async fn until_phase(
        &self,
        phase: &str,
        revision: &str,
        within: Duration,
    ) -> anyhow::Result<CanaryRolloutStatus> {
        let is = |status: &CanaryRolloutStatus| {
            status.phase.as_deref() == Some(phase) && status.revision.as_ref().is_some_and(|r| r.name == revision)
        };
        self.until(&format!("{phase} of {revision}"), within, is).await
    }

    /// All weights that were written so far, by the API server's own account.
    pub fn weights(&self) -> anyhow::Result<Vec<WeightWrite>> {
        self.audit_log()?.weights(&self.namespace())
    }

    /// Everything that an account asked of the API server, as far as the audit log has it.
    pub fn asked_by(&self, account: &str) -> anyhow::Result<Vec<Asked>> {
        self.audit_log()?.asked_by(account)
    }

    fn audit_log(&self) -> anyhow::Result<&AuditLog> {
        let log = self.site.lab.control_plane.audit_log();
        log.context("this cluster gives no audit log to read")
    }

    /// All calls that clients made since the environment was up, by their own records, in the order in which they were due.
    pub fn calls(&self) -> anyhow::Result<Vec<Call>> {
        let mut calls = Vec::new();
        let folder = pod_folder(&self.site.lab, &self.namespace(), "user-load");
        let (parent, prefix) = (
            folder.parent().context("no folder")?,
            folder.file_name().unwrap_or_default().to_string_lossy(),
        );
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let record = entry.path().join(RECORD);
            if entry.file_name().to_string_lossy().starts_with(&*prefix) && record.exists() {
                calls.extend(record::records(&record)?);
            }
        }
        calls.retain(|call| call.start >= self.up);
        calls.sort_by_key(|call| call.start);
        Ok(calls)
    }

    /// Events of the rollout, in order.
    pub async fn events(&self) -> anyhow::Result<Vec<Event>> {
        self.events_on("CanaryRollout", SERVICE).await
    }

    /// Serin's events of one object, in order.
    pub async fn events_on(&self, kind: &str, name: &str) -> anyhow::Result<Vec<Event>> {
        let api: Api<Event> = Api::namespaced(self.client(), &self.namespace());
        let mut events = api.list(&ListParams::default()).await.context("listing events")?.items;
        events.retain(|event| {
            let is_of = event
                .regarding
                .as_ref()
                .is_some_and(|of| of.kind.as_deref() == Some(kind) && of.name.as_deref() == Some(name));
            is_of && event.reporting_controller.as_deref() == Some("serin.dev/serin")
        });
        events.sort_by_key(|event| event.event_time.clone());
        Ok(events)
    }

    /// Waits until the Deployments carry what the branch says: stable and canary run these revisions.
    pub async fn until_arms(&self, stable: &str, canary: &str, within: Duration) -> anyhow::Result<Timestamp> {
        let end = Instant::now() + within;
        loop {
            let now = (
                revision(&self.deployment(SERVICE).await?),
                revision(&self.deployment(CANARY).await?),
            );
            if now == (stable.to_owned(), canary.to_owned()) {
                return Ok(clock::now());
            }
            ensure!(
                Instant::now() < end,
                "{}: the arms run {now:?}, not {stable} and {canary}, after {within:?}",
                self.name
            );
            sleep(LOOK).await;
        }
    }

    /// Waits until the canary has no pods, ending ones among them. It is applied with some, which Serin takes away where there is
    /// nothing to try; a revision that is committed meanwhile gets a pod for that moment.
    pub async fn until_idle(&self) -> anyhow::Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.client(), &self.namespace());
        let of_canary = ListParams::default().labels("serin.dev/track=canary");
        wait::eventually("the canary has no pods", DEADLINE, || async {
            let left = pods
                .list_metadata(&of_canary)
                .await
                .context("listing the canary's pods")?;
            ensure!(left.items.is_empty(), "{}: there are {}", self.name, left.items.len());
            Ok(())
        })
        .await
    }

    async fn until_calls_succeed(&self) -> anyhow::Result<()> {
        let end = Instant::now() + Duration::from_secs(60);
        while !self.calls()?.iter().any(|call| !call.is_failure()) {
            ensure!(
                Instant::now() < end,
                "{}: no call of a client has succeeded after a minute",
                self.name
            );
            sleep(LOOK).await;
        }
        Ok(())
    }
}

impl Drop for Environment {
    /// Its clients and pods end, so that they take nothing from those who come after; the objects stay to be looked at.
    fn drop(&mut self) {
        let (site, namespace, application) = (self.site.clone(), self.namespace(), self.application());
        let end = async move {
            // Or it would heal what is scaled here.
            if let Err(error) = site.argocd.pause_application(&application).await {
                tracing::debug!(application, error = format!("{error:#}"), "ending an environment");
            }
            let api: Api<Deployment> = Api::namespaced(site.lab.control_plane.client(), &namespace);
            let none = Patch::Merge(json!({ "spec": { "replicas": 0 } }));
            for deployment in api.list(&ListParams::default()).await.into_iter().flatten() {
                let name = deployment.metadata.name.unwrap_or_default();
                if let Err(error) = api.patch(&name, &PatchParams::default(), &none).await {
                    tracing::debug!(namespace, name, %error, "ending an environment");
                }
            }
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(end);
        }
    }
}

/// What differs from production in any lab: times that are short enough to watch, and margins that few calls can prove, as
/// two cores serve hundreds of calls a second and not thousands.
fn values_of_the_lab() -> Value {
    json!({
        "replicas": 2,
        // Nobody collects traces in the lab, unless a story does.
        "traces": { "endpoint": "" },
        // The lab has no metrics of pods to scale by.
        "autoscaling": { "enabled": false },
        "probes": { "readiness": { "periodSeconds": 1, "failureThreshold": 2 } },
        "load": { "enabled": true, "rate": 40 },
        "rollout": {
            "canary": { "drain": "1s" },
            "analysis": {
                "interval": "2s",
                "scrapeInterval": "1s",
                "warmUp": "2s",
                "successRate": { "objective": "95%", "tolerance": "1%", "passTolerance": "5%" },
                "latency": [{ "share": "95%", "within": "1000ms" }],
                // The past of an environment is its start, which is like nothing that follows.
                "baseline": "0s",
                // Arms that share two cores with everything else are never alike in it.
                "latencyAgainstStable": "DryRun",
            },
            "plan": {
                "steps": [
                    { "weight": 10, "hold": "2s", "atMost": "90s" },
                    { "weight": 25, "hold": "2s", "atMost": "90s" },
                    { "weight": 50, "hold": "2s", "atMost": "90s" },
                    { "weight": 100, "hold": "2s", "atMost": "90s" },
                ],
                "onInconclusive": "Pause",
                "minRequests": 20,
                "progressDeadline": "60s",
                "promoteDeadline": "60s",
                "blindDeadline": "15s",
            },
        },
    })
}

/// What a Deployment is to run.
pub fn revision(deployment: &Deployment) -> String {
    let template = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.template.metadata.as_ref());
    let annotations = template.and_then(|meta| meta.annotations.as_ref());
    annotations
        .and_then(|a| a.get(serin::api::REVISION_ANNOTATION))
        .cloned()
        .unwrap_or_default()
}

/// Puts values over others, as Helm does: maps are merged, all else is replaced.
pub(super) fn merge(under: &mut Value, over: &Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                merge(under.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_over_others_as_with_helm() {
        let mut values = json!({ "a": { "b": 1, "c": [1, 2] }, "d": 1 });
        merge(&mut values, &json!({ "a": { "c": [3] }, "e": 2 }));
        assert_eq!(values, json!({ "a": { "b": 1, "c": [3] }, "d": 1, "e": 2 }));
    }
}
