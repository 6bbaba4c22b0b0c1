//! The processes of an Argo CD: each with ports and folders of the lab's own in place of those of the image. It must not know what
//! they are for.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;

use super::{APPLICATIONS, REPOSITORIES, SERVER, SETS, SKIP};
use crate::{
    net::Net,
    process::{Child, Output, Program},
    project_root,
    tools::Tools,
};

const READY: Duration = Duration::from_mins(2);
/// Installing Redis, where that has not been done.
const SETUP: Duration = Duration::from_mins(10);

/// The image brings a script of this name, which tells who signed a commit; no project here asks for that.
const VERIFY: &str = "#!/bin/sh\ngit verify-commit \"$1\" 2>&1 || true\n";

/// What the processes have in common.
pub(super) struct Place<'a> {
    net: &'a Net,
    namespace: &'a str,
    /// Programs by the names by which Argo CD calls them.
    bin: PathBuf,
    home: PathBuf,
    logs: PathBuf,
}

impl<'a> Place<'a> {
    pub(super) fn make(
        program: &Path,
        namespace: &'a str,
        tools: &Tools,
        net: &'a Net,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        let home = dir.join("argocd");
        let bin = home.join("bin");
        let make = || -> std::io::Result<()> {
            for folder in ["bin", "tmp", "gpg", "tls", "ssh", "redis"] {
                fs::create_dir_all(home.join(folder))?;
            }
            for name in ["argocd", APPLICATIONS, SETS, REPOSITORIES, SERVER] {
                symlink(program, bin.join(name))?;
            }
            symlink(&tools.helm, bin.join("helm"))?;
            symlink(&tools.git, bin.join("git"))?;
            let verify = bin.join("git-verify-wrapper.sh");
            fs::write(&verify, VERIFY)?;
            fs::set_permissions(&verify, fs::Permissions::from_mode(0o755))
        };
        make().with_context(|| format!("making Argo CD's folder {}", home.display()))?;
        Ok(Self {
            net,
            namespace,
            bin,
            home,
            logs: dir.join("logs"),
        })
    }

    /// One of Argo CD's programs, with folders of its own in place of those of the image.
    fn program(&self, name: &str) -> Program {
        let path = std::env::var("PATH").unwrap_or_default();
        let folder = |name: &str| self.home.join(name);
        Program::new(self.bin.join(name))
            .clean_env()
            .env("PATH", format!("{}:{path}", self.bin.display()))
            .env("HOME", &self.home)
            .env("TMPDIR", folder("tmp"))
            .env("ARGOCD_ASK_PASS_SOCK", folder("ask-pass.sock"))
            .env("ARGOCD_GPG_ENABLED", "false")
            .env("ARGOCD_GPG_DATA_PATH", folder("gpg"))
            .env("ARGOCD_TLS_DATA_PATH", folder("tls"))
            .env("ARGOCD_SSH_DATA_PATH", folder("ssh"))
            // The cluster by its usual name, https://kubernetes.default.svc, is that of the kubeconfig.
            .env("ARGOCD_FAKE_IN_CLUSTER", "true")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .lazy_gc()
            .dir(&self.home)
            .log(self.logs.join(format!("{name}.log")))
    }

    fn daemon(&self, name: &str) -> Program {
        self.program(name).args(["--logformat", "text"])
    }

    fn address(&self) -> anyhow::Result<String> {
        Ok(format!("{}:{}", self.net.infra(), self.net.free_port()?))
    }

    pub(super) async fn redis(&self) -> anyhow::Result<(Child, String)> {
        let setup = Program::new(project_root().join("tests/lab/setup/redis.sh"));
        let printed = setup.output(SETUP).await.and_then(Output::text)?;
        let program = printed
            .lines()
            .next()
            .context("tests/lab/setup/redis.sh printed no path")?;
        let (host, port) = (self.net.infra().to_string(), self.net.free_port()?);
        let redis = Program::new(program)
            .args(["--bind", &host, "--port", &port.to_string(), "--protected-mode", "no"])
            // A cache: nothing of it is written down.
            .args(["--save", "", "--appendonly", "no"])
            .dir(self.home.join("redis"))
            .log(self.logs.join("redis.log"))
            .spawn()
            .await?;
        let address = format!("{host}:{port}");
        redis.listens(&address, READY).await?;
        Ok((redis, address))
    }

    /// A process that others of Argo CD's ask, and its address.
    async fn serve(&self, server: Program) -> anyhow::Result<(Child, String)> {
        let (host, port) = (self.net.infra().to_string(), self.net.free_port()?);
        let metrics = self.net.free_port()?.to_string();
        let server = server
            .args(["--address", &host, "--port", &port.to_string()])
            .args(["--metrics-address", &host, "--metrics-port", &metrics])
            .spawn()
            .await?;
        let address = format!("{host}:{port}");
        server.listens(&address, READY).await?;
        Ok((server, address))
    }

    pub(super) async fn repositories(&self, cache: &str) -> anyhow::Result<(Child, String)> {
        let server = self
            .daemon(REPOSITORIES)
            // Over loopback without TLS, and so without an authority for its clients, which it takes from the image by itself.
            .args(["--redis", cache, "--disable-tls", "--client-ca-path="]);
        self.serve(server).await
    }

    pub(super) async fn applications(
        &self,
        kubeconfig: &Path,
        cache: &str,
        repo_server: &str,
    ) -> anyhow::Result<Child> {
        let metrics = self.net.free_port()?;
        let controller = self
            .daemon(APPLICATIONS)
            .env("KUBECONFIG", kubeconfig)
            .args(["--namespace", self.namespace, "--redis", cache])
            .args(["--repo-server", repo_server, "--repo-server-plaintext"])
            .args(["--metrics-port", &metrics.to_string()])
            .spawn()
            .await?;
        controller
            .listens(&format!("{}:{metrics}", self.net.infra()), READY)
            .await?;
        Ok(controller)
    }

    pub(super) async fn sets(&self, kubeconfig: &Path, repo_server: &str) -> anyhow::Result<Child> {
        let probe = self.address()?;
        let controller = self
            .daemon(SETS)
            .env("KUBECONFIG", kubeconfig)
            .args(["--namespace", self.namespace])
            .args(["--argocd-repo-server", repo_server, "--repo-server-plaintext"])
            .args(["--probe-addr", &probe, "--metrics-addr", &self.address()?])
            .args(["--webhook-addr", &self.address()?])
            // Or it would end what a story has put off.
            .args(["--preserved-annotations", SKIP])
            .spawn()
            .await?;
        controller.listens(&probe, READY).await?;
        Ok(controller)
    }

    pub(super) async fn server(
        &self,
        kubeconfig: &Path,
        cache: &str,
        repo_server: &str,
    ) -> anyhow::Result<(Child, String)> {
        let server = self
            .daemon(SERVER)
            .env("KUBECONFIG", kubeconfig)
            .args(["--namespace", self.namespace, "--redis", cache])
            .args(["--repo-server", repo_server, "--repo-server-plaintext"])
            .args(["--insecure", "--disable-auth"]);
        self.serve(server).await
    }

    /// The command line, which knows where the server is.
    pub(super) fn command(&self, server: &str) -> Program {
        self.program("argocd")
            .env("ARGOCD_SERVER", server)
            .env("ARGOCD_OPTS", "--plaintext")
    }
}
