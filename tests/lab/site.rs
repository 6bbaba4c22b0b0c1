//! A team's installation in the lab: the config repository seeded from `deploy/` and `argocd/`, Argo CD, and environments in
//! which user-service runs, each with its clients. Done as the READMEs tell an operator. It must not know any story.

mod delivery;
mod environment;
mod operator;
mod plight;
mod serin;

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;

pub use self::{
    delivery::{Delivery, GIT_REPOSITORY, KUSTOMIZATION, Way},
    environment::{CANARY, Environment, SERVICE, Setup, revision},
    operator::Clone,
    serin::{CLUSTER, Detours, Serin},
};
use crate::{
    Lab,
    argocd::{self, ArgoCd, Installed},
    binary,
    git_server::Repository,
    kubelet::images::Image,
    process::Program,
    project_root,
};

/// The config repository's name on the Git server.
pub const CONFIG: &str = "config";
/// The images of user-service in the values files.
pub const IMAGE: &str = "registry.example.com/user-service";
/// The records of a client's calls, in its pod's folder.
const RECORD: &str = "calls.jsonl";
const DEADLINE: Duration = Duration::from_secs(60);

/// The installation. It ends with the lab.
#[derive(Debug)]
pub struct Site {
    /// What it stands on.
    pub lab: Arc<Lab>,
    /// The config repository, seen from its server.
    pub config: Repository,
    /// Applies what is in it.
    pub argocd: Installed,
}

impl Site {
    /// Seeds the config repository, fills the image store and starts Argo CD.
    pub async fn install(lab: Arc<Lab>) -> anyhow::Result<Arc<Self>> {
        let seed = tempfile::tempdir().context("making the seed of the config repository")?;
        let install = argocd::Install::new(&lab.git, CONFIG);
        install.seed(seed.path())?;
        let config = lab.git.create(CONFIG, seed.path()).await?;
        lab.images.add(
            "registry.example.com/user-load:latest",
            lab.client(Image::new(binary("user-load")?).env("USER_LOAD_RECORD", RECORD)),
        );
        let argocd = start_argocd(&lab, &install).await?;
        let site = Self { lab, config, argocd };
        site.admit_operators().await?;
        Ok(Arc::new(site))
    }

    /// What the chart brings for people, once for the cluster: the controllers of single namespaces leave it out.
    async fn admit_operators(&self) -> anyhow::Result<()> {
        let values = serde_json::json!({ "clusterId": CLUSTER });
        let manifests = self.render("serin", "serin", "serin-system", &values, &["templates/operators.yaml"]);
        self.kubectl(&["apply", "--server-side", "-f", "-"], manifests.await?.as_bytes())
            .await
            .map(drop)
    }

    /// Puts a version of user-service into the image store, as the pipeline's push would, with faults baked in.
    pub fn push_image(&self, tag: &str, faults: &[(&str, &str)]) -> anyhow::Result<()> {
        let image = faults
            .iter()
            .fold(Image::new(binary("user-service")?), |image, (name, value)| {
                image.env(*name, *value)
            });
        self.lab.images.add(format!("{IMAGE}:{tag}"), image);
        Ok(())
    }

    /// Runs kubectl as the cluster's admin and returns what it prints.
    pub async fn kubectl(&self, args: &[&str], input: &[u8]) -> anyhow::Result<String> {
        let doing = || format!("kubectl {}", args.join(" "));
        let kubectl = Program::new(&self.lab.tools.kubectl)
            .env("KUBECONFIG", self.lab.control_plane.kubeconfig_admin())
            .args(args.iter().copied());
        kubectl
            .output_with_input(input, DEADLINE)
            .await
            .and_then(crate::process::Output::text)
            .with_context(doing)
    }

    /// Renders a chart of `deploy/charts` with Helm, or `only` some of its templates.
    pub async fn render(
        &self,
        chart: &str,
        release: &str,
        namespace: &str,
        values: &serde_json::Value,
        only: &[&str],
    ) -> anyhow::Result<String> {
        let file = tempfile::NamedTempFile::new().context("making a values file")?;
        // JSON is YAML.
        fs::write(file.path(), values.to_string())?;
        let helm = Program::new(&self.lab.tools.helm)
            .args(["template", release])
            .arg(project_root().join("deploy/charts").join(chart))
            .args(["--namespace", namespace, "--values"])
            .arg(file.path())
            .args(only.iter().flat_map(|template| ["--show-only", template]));
        helm.output(DEADLINE)
            .await
            .and_then(crate::process::Output::text)
            .with_context(|| format!("rendering the chart {chart}"))
    }
}

async fn start_argocd(lab: &Lab, install: &argocd::Install) -> anyhow::Result<Installed> {
    let Lab {
        control_plane,
        tools,
        net,
        ..
    } = lab;
    Ok(match &lab.argocd {
        Some(program) => {
            let started = argocd::Real::start(program, install, control_plane, tools, net, lab.dir()).await;
            let started = started.with_context(|| format!("starting Argo CD, {}", program.display()))?;
            Installed::Real(Box::new(started))
        }
        None => {
            let options = argocd::Options::new(tools, lab.dir());
            Installed::StandIn(ArgoCd::start(control_plane.client(), options).await?)
        }
    })
}

/// Where a pod's process runs.
fn pod_folder(lab: &Lab, namespace: &str, name: &str) -> PathBuf {
    lab.dir().join("pods").join(format!("{namespace}_{name}"))
}
