//! Where the programs are that the lab runs: `tools.json` in the cache, as tests/lab/setup/all.sh wrote it. It must not know
//! what the programs are for, and installs nothing.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow, bail};
use serde::Deserialize;

/// The start of an argument list: a program, and what selects the role in it.
pub type Role = Vec<String>;

/// The programs and folders, all absolute.
#[derive(Debug, Clone, Deserialize)]
pub struct Tools {
    /// etcd.
    pub etcd: Role,
    /// kube-apiserver.
    pub kube_apiserver: Role,
    /// kube-controller-manager.
    pub kube_controller_manager: Role,
    /// What the API server asks in the place of the lab's kubelet.
    pub kubelet_endpoint: PathBuf,
    /// The folder with the Gateway API's standard CRDs.
    pub gateway_crds: PathBuf,
    /// Prometheus.
    pub prometheus: PathBuf,
    /// Prometheus's checker of configurations and rules.
    pub promtool: PathBuf,
    /// Helm.
    pub helm: PathBuf,
    /// kubectl.
    pub kubectl: PathBuf,
    /// git.
    pub git: PathBuf,
    /// git's CGI program for smart HTTP.
    pub git_http_backend: PathBuf,
    /// setpriv of util-linux.
    pub setpriv: PathBuf,
}

const NEXT: &str = "run `make tools` (tests/lab/setup/all.sh), which installs or builds what is missing";

impl Tools {
    /// Reads `tools.json` from the cache and checks that everything in it is there.
    pub fn load() -> anyhow::Result<Self> {
        let path = cache_dir()?.join("tools.json");
        Self::read(&path).with_context(|| format!("reading the list of the lab's tools, {}; {NEXT}", path.display()))
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path)?;
        let tools: Self = serde_json::from_str(&text)?;
        let Self {
            etcd,
            kube_apiserver,
            kube_controller_manager,
            kubelet_endpoint,
            gateway_crds,
            prometheus,
            promtool,
            helm,
            kubectl,
            git,
            git_http_backend,
            setpriv,
        } = &tools;
        let roles = [etcd, kube_apiserver, kube_controller_manager];
        let files = [
            kubelet_endpoint,
            gateway_crds,
            prometheus,
            promtool,
            helm,
            kubectl,
            git,
            git_http_backend,
            setpriv,
        ];
        let programs = roles
            .iter()
            .map(|role| role.first().map(Path::new).ok_or_else(|| anyhow!("a role is empty")));
        for file in programs.chain(files.into_iter().map(|f| Ok(f.as_path()))) {
            let file = file?;
            if !file.exists() {
                bail!("{} is gone", file.display());
            }
        }
        Ok(tools)
    }
}

/// The folder for what is installed or built once a machine: `$SERIN_CACHE`, else `serin` in the user's cache folder.
pub fn cache_dir() -> anyhow::Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("SERIN_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("serin")))
        .or_else(|| set("HOME").map(|dir| dir.join(".cache/serin")))
        .context("choosing the cache folder: none of SERIN_CACHE, XDG_CACHE_HOME and HOME is set; set SERIN_CACHE")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_list_says_what_to_run() {
        let error = Tools::read(Path::new("/nowhere/tools.json")).context(NEXT).unwrap_err();
        assert!(format!("{error:#}").contains("make tools"), "{error:#}");
    }

    #[test]
    fn a_tool_that_is_gone_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tools.json");
        let names = [
            "kubelet_endpoint",
            "gateway_crds",
            "prometheus",
            "promtool",
            "helm",
            "kubectl",
            "git",
            "git_http_backend",
            "setpriv",
        ];
        let mut list: serde_json::Map<_, _> = names.iter().map(|n| ((*n).to_owned(), "/bin/sh".into())).collect();
        for role in ["etcd", "kube_apiserver"] {
            list.insert(role.to_owned(), serde_json::json!(["/bin/sh", role]));
        }
        list.insert(
            "kube_controller_manager".to_owned(),
            serde_json::json!(["/nowhere/kcm"]),
        );
        fs::write(&path, serde_json::to_vec(&list).unwrap()).unwrap();
        assert_eq!(Tools::read(&path).unwrap_err().to_string(), "/nowhere/kcm is gone");
    }
}
