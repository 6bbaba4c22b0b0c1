//! The lab: everything that a rollout needs, on one machine, as plain processes. For tests and the demo only; it must not be
//! known to the controller.

pub mod alertmanager;
pub mod argocd;
pub mod audit;
pub mod browser;
pub mod clock;
pub mod control_plane;
pub mod demo;
mod dir;
#[cfg(test)]
mod documents;
pub mod faults;
pub mod forward;
pub mod gate;
pub mod git_server;
pub mod jenkins;
pub mod kubelet;
#[cfg(test)]
mod manifests;
pub mod mesh;
pub mod namespaces;
pub mod net;
pub mod process;
pub mod prometheus;
pub mod reference;
pub mod remembered;
pub mod site;
pub mod tools;
pub mod wait;

use std::{
    env,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use anyhow::Context as _;

use self::{
    control_plane::ControlPlane,
    dir::Dir,
    git_server::GitServer,
    kubelet::{
        Kubelet,
        images::{Image, Images},
        sidecar::Sidecar,
    },
    mesh::{Mesh, OUTBOUND_PORT, Real},
    namespaces::Namespaces,
    net::Net,
    prometheus::Prometheus,
    tools::Tools,
};

/// The variable that keeps a lab's folder after its end.
pub const KEEP: &str = "LAB_KEEP";
/// The variable that names a linkerd2-proxy to run beside each meshed pod instead of the lab's own proxies.
pub const PROXY: &str = "LINKERD_PROXY";
/// The variable that names an Argo CD to run instead of the lab's stand-in.
pub const ARGOCD: &str = "ARGOCD_BIN";
/// The variable that names the kubeconfig of a cluster to use instead of the lab's own.
pub const KUBECONFIG: &str = "LAB_KUBECONFIG";

/// How a lab is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// The images that are there from the beginning; more can be added to [`Lab::images`] at any time.
    pub images: Vec<(String, Image)>,
    /// Those who hear of each meshed pod; more can be added with [`Kubelet::add_sidecar`].
    pub sidecars: Vec<Arc<dyn Sidecar>>,
    /// The token that may push to the config repositories.
    pub git_token: String,
    /// Keep the folder at the end.
    pub keep: bool,
    /// A cluster to use instead of the lab's own.
    pub kubeconfig: Option<PathBuf>,
    /// A linkerd2-proxy to use instead of the lab's own proxies. Only in a network of the lab's own: `make test-linkerd`.
    pub proxy: Option<PathBuf>,
    /// Argo CD's program, to use instead of the lab's stand-in.
    pub argocd: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        let path = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            images: Vec::new(),
            sidecars: Vec::new(),
            git_token: "lab-git-token".to_owned(),
            keep: env::var_os(KEEP).is_some_and(|value| value == "1"),
            kubeconfig: path(KUBECONFIG),
            proxy: path(PROXY),
            argocd: path(ARGOCD),
        }
    }
}

/// A running lab. Every process of it ends with it.
#[derive(Debug)]
pub struct Lab {
    /// Addresses and ports.
    pub net: Net,
    /// The programs that the lab runs.
    pub tools: Tools,
    /// What image references stand for.
    pub images: Images,
    /// Runs the pods.
    pub kubelet: Kubelet,
    /// Splits the meshed pods' calls.
    pub mesh: Arc<Mesh>,
    /// Scrapes the meshed pods.
    pub prometheus: Prometheus,
    /// Serves the config repositories.
    pub git: GitServer,
    /// The cluster.
    pub control_plane: ControlPlane,
    /// Argo CD's program, if the stand-in is not to be used.
    pub argocd: Option<PathBuf>,
    dir: Dir,
}

impl Lab {
    /// Starts everything, and says on standard error how far it is.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        install_crypto();
        let progress = Progress::new();
        let Options {
            images: baked,
            sidecars,
            git_token,
            keep,
            kubeconfig,
            proxy,
            argocd,
        } = options;
        let tools = Tools::load()?;
        let net = match &proxy {
            Some(_) => Net::choose_for_namespaces()?,
            None => Net::choose()?,
        };
        let dir = Dir::new(keep)?;
        progress.say(&format!(
            "network 127.{}.0.0/16, folder {}",
            net.number(),
            dir.path().display()
        ));
        let real = match proxy {
            Some(program) => {
                let namespaces = Namespaces::start(&net, &dir.path().join("hosts")).await?;
                progress.say(&format!("the proxies are {}", program.display()));
                let dir = dir.path().to_owned();
                Some(Real {
                    program,
                    namespaces,
                    dir,
                })
            }
            None => None,
        };
        let namespaces = real.as_ref().map(|real| real.namespaces.clone());
        let images = Images::default();
        for (reference, image) in baked {
            images.add(reference, image);
        }

        let cluster = async {
            let crds = project_root().join("crds");
            let control_plane = match &kubeconfig {
                Some(path) => ControlPlane::existing(path, &tools, dir.path(), &crds).await?,
                None => ControlPlane::start(&tools, &net, dir.path(), &crds).await?,
            };
            progress.say(&format!("the cluster is up at {}", control_plane.server()));
            anyhow::Ok(control_plane)
        };
        let metrics = async {
            let prometheus = Prometheus::start(&tools, &net, dir.path()).await?;
            progress.say(&format!("Prometheus is up at {}", prometheus.url()));
            anyhow::Ok(prometheus)
        };
        let git = GitServer::start(&tools, &net, dir.path(), &git_token);
        let (control_plane, prometheus, git) = tokio::try_join!(cluster, metrics, git)?;

        let mesh = Mesh::start(control_plane.client(), net.clone(), real).await?;
        let endpoint = control_plane
            .kubelet_certificates()
            .map(|certificates| kubelet::endpoint::Options {
                program: tools.kubelet_endpoint.clone(),
                certificates: certificates.clone(),
            });
        let kubelet = Kubelet::start(kubelet::Options {
            client: control_plane.client(),
            net: net.clone(),
            images: images.clone(),
            dir: dir.path().to_owned(),
            sidecars,
            namespaces,
            endpoint,
        })
        .await?;
        kubelet.add_sidecar(mesh.clone());
        kubelet.add_sidecar(prometheus.targets());
        progress.say("the lab is up");
        Ok(Self {
            net,
            tools,
            images,
            kubelet,
            mesh,
            prometheus,
            git,
            control_plane,
            argocd,
            dir,
        })
    }

    /// A program that calls meshed Services, told how to reach its proxy.
    pub fn client(&self, image: Image) -> Image {
        if self.mesh.is_transparent() {
            return image;
        }
        image.env("USER_LOAD_PROXY_PORT", OUTBOUND_PORT.to_string())
    }

    /// The lab's folder. Logs are in `logs`.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Keeps the folder, whatever the options said.
    pub fn keep(self) -> PathBuf {
        self.dir.keep()
    }

    /// Ends all processes: pods first, then what they need.
    pub async fn stop(&self) {
        self.kubelet.stop().await;
        tokio::join!(self.prometheus.stop(), self.control_plane.stop());
    }
}

/// The folder of the whole project.
pub fn project_root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// A program of this workspace: beside the running one, where cargo puts them all.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let own = env::current_exe().context("finding the programs of this workspace")?;
    let found = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file());
    found.with_context(|| {
        format!(
            "there is no program {name} beside {}; run cargo build --workspace",
            own.display()
        )
    })
}

/// TLS needs a provider of cryptography; the first one that is installed stays.
pub fn install_crypto() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Lines for people who wait.
#[derive(Debug)]
struct Progress(Instant);

impl Progress {
    fn new() -> Self {
        Self(Instant::now())
    }

    fn say(&self, what: &str) {
        eprintln!("lab: {:5.1} s  {what}", self.0.elapsed().as_secs_f64());
    }
}
