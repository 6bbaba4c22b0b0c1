//! A bare API server with all that stands there for 200 rollouts, their repositories, and the controller's process. It must not know
//! what is to become of the rollouts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use kube::Client;
use lab::{
    audit::WeightWrite,
    binary,
    control_plane::ControlPlane,
    net::Net,
    process::{Child, Program},
    project_root,
    tools::Tools,
};
use serde_json::{Value, json};
use serin::api::FIELD_MANAGER;
use tempfile::TempDir;

use super::objects::{Arm, CANARY_REVISION, COUNT, NAMESPACE, Role, Rollout, STABLE_REVISION, subject};
use super::source::Source;

/// So many rollouts are created at once.
const AT_ONCE: usize = 16;
/// The longest that git takes here.
const GIT: Duration = Duration::from_secs(60);
const CLUSTER: &str = "crowd";
const ACCOUNT: &str = "serin";

const CORE: &str = "/api/v1";
const APPS: &str = "/apis/apps/v1";
const ROUTES: &str = "/apis/gateway.networking.k8s.io/v1";
const SERIN: &str = "/apis/serin.dev/v1alpha1";

/// Writes of the controller, and those of routes with what came of them.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted, Panic]
omitManagedFields: true
rules:
  - level: RequestResponse
    userGroups: [\"system:serviceaccounts\"]
    verbs: [patch, update, create]
    resources:
      - {group: gateway.networking.k8s.io, resources: [grpcroutes]}
  - level: None
";

/// Everything of this story. Its processes end with it.
pub(super) struct Place {
    pub(super) source: Source,
    cluster: ControlPlane,
    serin: Child,
    repository: PathBuf,
    dir: TempDir,
}

impl Place {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("serin-crowd-").tempdir()?;
        let (tools, net) = (Tools::load()?, Net::choose()?);
        let crds = project_root().join("crds");
        let cluster = ControlPlane::bare(&tools, &net, dir.path(), &crds, AUDIT_POLICY).await?;
        let (source, prometheus) = Source::serve(net.listen().await?)?;
        let repository = dir.path().join("config.git");
        let commits = import(dir.path(), &repository).await?;
        let garbage = dir.path().join("garbage.git");
        litter(&garbage)?;

        let client = cluster.client();
        let namespace = json!({ "metadata": { "name": NAMESPACE } });
        post(&client, &format!("{CORE}/namespaces"), &namespace).await?;
        account(&client).await?;
        let all = stream::iter((0..COUNT).map(Rollout)).map(|of| {
            let repository = if of.role() == Role::Garbage {
                &garbage
            } else {
                &repository
            };
            create(&client, of, repository, commits.get(&of).map(String::as_str))
        });
        all.buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;

        let serin = Program::new(binary("serin")?)
            .args(["controller", "--no-page", "--lease-namespace", NAMESPACE])
            .args(["--cluster-id", CLUSTER])
            .arg(format!("--prometheus-url=http://{prometheus}"))
            .arg(format!("--cache-dir={}", dir.path().join("mirrors").display()))
            .arg(format!("--bind-address={}", net.infra()))
            .arg(format!("--http-port={}", net.free_port()?))
            .env(
                "KUBECONFIG",
                cluster.kubeconfig_for_service_account(NAMESPACE, ACCOUNT).await?,
            )
            .log(dir.path().join("logs/serin.log"))
            .spawn()
            .await?;
        Ok(Self {
            source,
            cluster,
            serin,
            repository,
            dir,
        })
    }

    /// Ends it; the folder with the logs is kept where something failed.
    pub(super) async fn stop(self, keep: bool) -> Option<PathBuf> {
        self.serin.stop(Duration::from_secs(10)).await;
        self.cluster.stop().await;
        keep.then(|| self.dir.keep().join("logs"))
    }

    pub(super) fn client(&self) -> Client {
        self.cluster.client()
    }

    /// An error when the controller has ended.
    pub(super) fn alive(&self) -> anyhow::Result<()> {
        match self.serin.exited() {
            None => Ok(()),
            Some(_) => Err(self.serin.obituary()),
        }
    }

    /// The weights that the controller wrote, in the order of time.
    pub(super) fn weights(&self) -> anyhow::Result<Vec<WeightWrite>> {
        let log = self.cluster.audit_log().context("the cluster has no audit log")?;
        log.weights(NAMESPACE)
    }

    /// Those whose revision has a rollback commit.
    pub(super) async fn rollbacks(&self) -> anyhow::Result<BTreeSet<Rollout>> {
        let format = "--format=%(trailers:key=Serin-Action,valueonly,separator=) %(trailers:key=Serin-Rollout,valueonly,separator=)";
        let log = git(&self.repository, &["log", format, "main"]).await?;
        let names = log.lines().filter_map(|line| line.strip_prefix("rollback crowd/"));
        let all: Vec<_> = names.filter_map(Rollout::of).collect();
        let distinct: BTreeSet<_> = all.iter().copied().collect();
        ensure!(all.len() == distinct.len(), "one has two rollback commits: {all:?}");
        Ok(distinct)
    }
}

/// All that stands there for one rollout; its status comes last, as it says that the rest is in place.
async fn create(client: &Client, of: Rollout, repository: &Path, commit: Option<&str>) -> anyhow::Result<()> {
    let at = |group: &str, plural: &str| format!("{group}/namespaces/{NAMESPACE}/{plural}");
    let (services, deployments, sets) = (at(CORE, "services"), at(APPS, "deployments"), at(APPS, "replicasets"));
    post(client, &services, &of.apex()).await?;
    for arm in Arm::BOTH {
        let deployment = post(client, &deployments, &of.arm_deployment(arm)).await?;
        status(client, &deployments, &deployment, &of.deployment_pods(arm)).await?;
        let set = post(client, &sets, &of.replica_set(arm, uid(&deployment)?)).await?;
        if of.is_on_trial() {
            status(client, &sets, &set, &of.pods(arm)).await?;
            post(client, &services, &of.arm_service(arm)).await?;
        }
    }
    let url = format!("file://{}", repository.display());
    let rollouts = at(SERIN, "canaryrollouts");
    let rollout = post(client, &rollouts, &of.rollout(&url)).await?;
    if of.is_on_trial() {
        post(client, &at(ROUTES, "grpcroutes"), &of.route(uid(&rollout)?)?).await?;
    }
    status(client, &rollouts, &rollout, &of.status(&url, commit, now())?).await
}

fn now() -> Timestamp {
    lab::clock::now()
}

fn uid(object: &Value) -> anyhow::Result<&str> {
    let uid = object.pointer("/metadata/uid").and_then(Value::as_str);
    uid.context("the API server gave it no uid")
}

/// The controller's, which may do everything: what it needs is judged elsewhere.
async fn account(client: &Client) -> anyhow::Result<()> {
    let accounts = format!("{CORE}/namespaces/{NAMESPACE}/serviceaccounts");
    post(client, &accounts, &json!({ "metadata": { "name": ACCOUNT } })).await?;
    let binding = json!({
        "metadata": { "name": ACCOUNT },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [{ "kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE }],
    });
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    post(client, bindings, &binding).await.map(drop)
}

/// Objects are written as Serin writes them: those that it made are its own.
async fn post(client: &Client, path: &str, object: &Value) -> anyhow::Result<Value> {
    send(client, ("POST", "application/json"), path, object).await
}

async fn status(client: &Client, plural: &str, of: &Value, status: &Value) -> anyhow::Result<()> {
    let name = of.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let path = format!("{plural}/{name}/status");
    send(client, ("PATCH", "application/merge-patch+json"), &path, status)
        .await
        .map(drop)
}

async fn send(client: &Client, (method, kind): (&str, &str), path: &str, object: &Value) -> anyhow::Result<Value> {
    let request = http::Request::builder()
        .method(method)
        .uri(format!("{path}?fieldManager={FIELD_MANAGER}"))
        .header("content-type", kind)
        .body(serde_json::to_vec(object)?)?;
    let answer = client.request(request).await;
    answer.with_context(|| format!("{method} {path}"))
}

/// The config repository, with a commit for each canary that is on trial: those, by the rollouts whose they are.
async fn import(folder: &Path, place: &Path) -> anyhow::Result<BTreeMap<Rollout, String>> {
    let path = place.to_string_lossy();
    git(folder, &["init", "-q", "--bare", "-b", "main", &path]).await?;
    let import = Program::new("git").dir(place).args(["fast-import", "--quiet"]);
    import
        .output_with_input(history()?.as_bytes(), GIT)
        .await?
        .text()
        .context("git fast-import")?;
    let log = git(place, &["log", "--format=%H %s", "main"]).await?;
    let mut commits = BTreeMap::new();
    for of in (0..COUNT).map(Rollout) {
        let line = log
            .lines()
            .find_map(|line| line.split_once(' ').filter(|(_, s)| *s == subject(of)));
        commits.extend(line.map(|(id, _)| (of, id.to_owned())));
    }
    Ok(commits)
}

fn history() -> anyhow::Result<String> {
    let mut out = String::new();
    let mut commit = |nth: usize, message: &str, files: &[(Rollout, &str)]| -> anyhow::Result<()> {
        let (when, length) = (1_700_000_000 + nth * 60, message.len());
        writeln!(
            out,
            "commit refs/heads/main\ncommitter Ann <ann@example.com> {when} +0000"
        )?;
        writeln!(out, "data {length}\n{message}")?;
        for (of, canary) in files {
            let text = values(canary);
            writeln!(
                out,
                "M 100644 inline {}/values.yaml\ndata {}\n{text}",
                of.name(),
                text.len()
            )?;
        }
        Ok(())
    };
    let all: Vec<_> = (0..COUNT).map(|n| (Rollout(n), STABLE_REVISION)).collect();
    commit(0, "Begin", &all)?;
    for (of, _) in all.iter().filter(|(of, _)| of.is_on_trial()) {
        let message = format!(
            "{}\n\nSerin-Cluster: {CLUSTER}\nSerin-Rollout: {NAMESPACE}/{}\nSerin-Revision: {CANARY_REVISION}\nSerin-Action: canary\n",
            subject(*of),
            of.name(),
        );
        commit(of.0 + 1, &message, &[(*of, CANARY_REVISION)])?;
    }
    Ok(out)
}

fn values(canary: &str) -> String {
    let arm = |name: &str, tag: &str| format!("{name}:\n  image: {{tag: \"{tag}\"}}\n");
    arm("stable", STABLE_REVISION) + &arm("canary", canary)
}

/// What git takes for a repository, with nothing in it that it can read.
fn litter(place: &Path) -> anyhow::Result<()> {
    for folder in ["objects/pack", "objects/ab", "refs/heads"] {
        fs::create_dir_all(place.join(folder))?;
    }
    let head = "ab".repeat(20);
    for (file, text) in [
        ("HEAD", "ref: refs/heads/main\n"),
        ("config", "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"),
        ("refs/heads/main", head.as_str()),
        (&format!("objects/ab/{}", "ab".repeat(19)), "garbage"),
        ("objects/pack/pack-0.pack", "PACKgarbage"),
    ] {
        fs::write(place.join(file), text)?;
    }
    Ok(())
}

async fn git(dir: &Path, args: &[&str]) -> anyhow::Result<String> {
    let ran = Program::new("git").dir(dir).args(args.iter().copied());
    let text = ran.output(GIT).await?.text();
    text.with_context(|| format!("git {args:?}"))
}
