//! Containers as Kubernetes starts them under the restricted standard: the image's user, a read-only root, no capability, nothing
//! gained by programs with privileges. They are in the host's network, as they have to be called. It must not know what runs.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};
use lab::{
    process::{Child, Output, Program},
    wait::eventually,
};
use serde_json::{Value, json};

use crate::workshop::{Image, Workshop};

const DEADLINE: Duration = Duration::from_secs(60);

/// A container that is to run, or runs.
#[derive(Debug)]
pub(crate) struct Container<'a> {
    workshop: &'a Workshop,
    folder: tempfile::TempDir,
    spec: Value,
}

impl<'a> Container<'a> {
    /// What the image starts, with more arguments.
    pub(crate) fn of(workshop: &'a Workshop, image: &Image, args: &[&str]) -> anyhow::Result<Self> {
        let (uid, gid) = image
            .config
            .user
            .split_once(':')
            .context("the image's user is not UID:GID")?;
        let entry = image.config.entrypoint.iter().map(String::as_str);
        let args: Vec<_> = entry.chain(args.iter().copied()).collect();
        let mount = |at: &str, kind: &str, options: Value| json!({ "destination": at, "type": kind, "source": kind, "options": options });
        let spec = json!({
            "ociVersion": "1.0.0",
            "process": {
                "terminal": false,
                "user": { "uid": uid.parse::<u32>()?, "gid": gid.parse::<u32>()? },
                "args": args,
                "env": image.config.env,
                "cwd": "/",
                "capabilities": { "bounding": [], "effective": [], "permitted": [], "inheritable": [], "ambient": [] },
                "noNewPrivileges": true,
            },
            "root": { "path": image.rootfs, "readonly": true },
            "mounts": [
                mount("/proc", "proc", json!([])),
                mount("/dev", "tmpfs", json!(["nosuid", "mode=755"])),
                mount("/tmp", "tmpfs", json!(["nosuid", "nodev", "mode=1777"])),
            ],
            "linux": { "namespaces": [{ "type": "mount" }, { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }] },
        });
        Ok(Self {
            workshop,
            folder: workshop.folder()?,
            spec,
        })
    }

    /// Runs this instead of the image's program.
    pub(crate) fn command(mut self, args: &[&str]) -> Self {
        if let Some(own) = self.spec.pointer_mut("/process/args") {
            *own = json!(args);
        }
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        if let Some(env) = self.spec.pointer_mut("/process/env").and_then(Value::as_array_mut) {
            env.push(json!(format!("{name}={value}")));
        }
        self
    }

    /// A file of the container, as kubelet brings /etc/resolv.conf.
    pub(crate) fn file(mut self, at: &str, text: &str) -> anyhow::Result<Self> {
        let source = self.folder.path().join(at.trim_start_matches('/').replace('/', "-"));
        fs::write(&source, text)?;
        let mount = json!({ "destination": at, "type": "bind", "source": source, "options": ["bind", "ro"] });
        self.spec
            .pointer_mut("/mounts")
            .and_then(Value::as_array_mut)
            .context("no mounts")?
            .push(mount);
        Ok(self)
    }

    fn crun(&self, args: &[&str]) -> Vec<String> {
        let state = self.folder.path().join("crun");
        let crun = [
            self.workshop.crun.to_string_lossy(),
            "--cgroup-manager=disabled".into(),
            "--root".into(),
            state.to_string_lossy(),
        ];
        crun.iter()
            .map(|part| part.clone().into_owned())
            .chain(args.iter().map(|arg| (*arg).to_owned()))
            .collect()
    }

    fn name(&self) -> String {
        let folder = self.folder.path().file_name().unwrap_or_default();
        // Names of keyrings that begin with a dot are the kernel's.
        folder.to_string_lossy().trim_start_matches('.').to_owned()
    }

    /// In namespaces of its own, so that nothing of it outlives whoever started it. crun needs the second hierarchy of cgroups,
    /// which some machines mount elsewhere, or not at all.
    fn runs(&self) -> anyhow::Result<Program> {
        const PREPARED: &str =
            r#"[ -e /sys/fs/cgroup/cgroup.controllers ] || mount -t cgroup2 none /sys/fs/cgroup; exec "$0" "$@""#;
        fs::write(self.folder.path().join("config.json"), self.spec.to_string())?;
        let bundle = self.folder.path().to_string_lossy();
        let unshare = [
            "--mount",
            "--propagation",
            "private",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
            PREPARED,
        ];
        Ok(Program::new("unshare")
            .args(unshare)
            .args(self.crun(&["run", "--bundle", &bundle, &self.name()])))
    }

    /// Runs a program beside the container's first one, where it is seen.
    async fn beside(&self, child: &Child, args: Vec<String>) -> anyhow::Result<Output> {
        let spaces = format!("/proc/{}/ns", child.pid());
        let enter = [
            format!("--mount={spaces}/mnt"),
            format!("--pid={spaces}/pid_for_children"),
        ];
        Program::new("nsenter").args(enter).args(args).output(DEADLINE).await
    }

    /// Runs it to its end.
    pub(crate) async fn output(&self) -> anyhow::Result<Output> {
        self.runs()?.output(DEADLINE).await
    }

    /// Starts it; it ends when the answer is dropped.
    pub(crate) async fn start(&self) -> anyhow::Result<Child> {
        self.runs()?.log(self.log()).spawn().await
    }

    /// Where its output goes after [`Self::start`].
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Runs a program in the container that runs, as Docker does a health check.
    pub(crate) async fn exec(&self, child: &Child, args: &[&str]) -> anyhow::Result<Output> {
        let name = self.name();
        let all: Vec<_> = ["exec", &name].into_iter().chain(args.iter().copied()).collect();
        self.beside(child, self.crun(&all)).await
    }

    /// What Linux says of its first process.
    pub(crate) async fn status(&self, child: &Child) -> anyhow::Result<String> {
        let state = self.beside(child, self.crun(&["state", &self.name()])).await?.text()?;
        let state: Value = serde_json::from_str(&state)?;
        let pid = state.get("pid").context("crun tells no pid")?;
        let file = format!("/proc/{pid}/status");
        self.beside(child, vec!["cat".to_owned(), file])
            .await?
            .text()
            .context("reading the process's status")
    }

    /// Until the health check succeeds.
    pub(crate) async fn until_healthy(&self, child: &Child, check: &[&str]) -> anyhow::Result<String> {
        eventually("the container is healthy", DEADLINE, async || {
            ensure!(child.exited().is_none(), "{}", child.obituary());
            self.exec(child, check).await?.text()
        })
        .await
    }
}

/// No user but the image's, no capability, no way to either.
pub(crate) fn is_unprivileged(status: &str) -> anyhow::Result<()> {
    let line = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
            .unwrap_or_default()
    };
    let ids = "65532\t65532\t65532\t65532";
    ensure!(line("Uid:") == ids && line("Gid:") == ids, "{status}");
    for set in ["CapEff:", "CapPrm:", "CapBnd:", "CapAmb:"] {
        ensure!(
            line(set).trim_matches('0').is_empty() && !line(set).is_empty(),
            "{status}"
        );
    }
    ensure!(line("NoNewPrivs:") == "1", "{status}");
    Ok(())
}
