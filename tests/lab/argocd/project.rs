//! What an AppProject lets its Applications do. Pure.

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::Value;

use super::{object::Key, spec::Spec, windows::Windows};

/// `spec` of an AppProject.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Project {
    #[serde(default, rename = "description")]
    _description: String,
    #[serde(default)]
    source_repos: Vec<String>,
    #[serde(default)]
    destinations: Vec<Destination>,
    /// None of them when there is no list.
    #[serde(default)]
    cluster_resource_whitelist: Vec<Kind>,
    /// All of them when there is no list.
    #[serde(default)]
    namespace_resource_whitelist: Option<Vec<Kind>>,
    #[serde(default)]
    pub(super) sync_windows: Windows,
    /// Of people, whom the lab's Argo CD has none of.
    #[serde(default, rename = "roles")]
    _roles: Vec<Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Destination {
    #[serde(default)]
    server: String,
    #[serde(default)]
    name: String,
    namespace: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kind {
    group: String,
    kind: String,
}

impl Project {
    pub(super) fn read(object: &Value) -> anyhow::Result<Self> {
        let spec = object.get("spec").cloned().unwrap_or_default();
        let read: Self = serde_json::from_value(spec)
            .context("reading the AppProject; the lab knows no more of it than it obeys")?;
        read.sync_windows.check()?;
        Ok(read)
    }

    /// The project `default` where nobody made one.
    pub(super) fn anything() -> Self {
        let any = || "*".to_owned();
        Self {
            source_repos: vec![any()],
            destinations: vec![Destination {
                server: any(),
                name: any(),
                namespace: any(),
            }],
            cluster_resource_whitelist: vec![Kind {
                group: any(),
                kind: any(),
            }],
            ..Self::default()
        }
    }

    /// Whether an Application may be at all.
    pub(super) fn admit(&self, spec: &Spec) -> anyhow::Result<()> {
        let repository = &spec.source.repository;
        if !self.source_repos.iter().any(|pattern| glob(pattern, repository)) {
            bail!(
                "the repository {repository} is not permitted in project {}",
                spec.project
            );
        }
        let namespace = &spec.destination.namespace;
        let fits = |d: &Destination| {
            let cluster = glob(&d.server, "https://kubernetes.default.svc") || glob(&d.name, "in-cluster");
            cluster && glob(&d.namespace, namespace)
        };
        if !self.destinations.iter().any(fits) {
            bail!(
                "the destination namespace {namespace} is not permitted in project {}",
                spec.project
            );
        }
        Ok(())
    }

    /// Whether this object may be applied.
    pub(super) fn permit(&self, key: &Key, namespaced: bool) -> anyhow::Result<()> {
        let listed = |list: &[Kind]| {
            list.iter()
                .any(|k| glob(&k.group, &key.group) && glob(&k.kind, &key.kind))
        };
        let permitted = if namespaced {
            let reached = |d: &Destination| glob(&d.namespace, &key.namespace);
            self.namespace_resource_whitelist.as_deref().is_none_or(listed) && self.destinations.iter().any(reached)
        } else {
            listed(&self.cluster_resource_whitelist)
        };
        if !permitted {
            bail!("{key} is not permitted in the project");
        }
        Ok(())
    }
}

/// `*` stands for anything.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(start) else {
        return false;
    };
    rest.is_empty() || (0..=text.len()).any(|at| text.get(at..).is_some_and(|tail| glob(rest, tail)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        assert!(glob("*", ""));
        assert!(glob("https://*/config.git", "https://git/config.git"));
        assert!(!glob("https://*/config.git", "https://git/other.git"));
        assert!(glob("user-*-prod", "user-service-prod"));
        assert!(!glob("", "x"));
    }

    #[test]
    fn a_project_limits_repositories_places_and_kinds() {
        let project = Project::read(&json!({"spec": {
            "sourceRepos": ["http://git"],
            "destinations": [{"server": "https://kubernetes.default.svc", "namespace": "ns"}],
            "namespaceResourceWhitelist": [{"group": "apps", "kind": "Deployment"}],
        }}))
        .unwrap();
        let spec = |url: &str, namespace: &str| {
            let spec = json!({"project": "p", "source": {"repoURL": url}, "destination": {"namespace": namespace}});
            Spec::read(&spec).unwrap()
        };
        assert!(project.admit(&spec("http://git", "ns")).is_ok());
        assert!(
            project
                .admit(&spec("http://other", "ns"))
                .unwrap_err()
                .to_string()
                .contains("repository")
        );
        assert!(
            project
                .admit(&spec("http://git", "other"))
                .unwrap_err()
                .to_string()
                .contains("namespace")
        );
        let key = |api: &str, kind: &str| {
            Key::of(
                &json!({"apiVersion": api, "kind": kind, "metadata": {"name": "x"}}),
                "ns",
            )
            .unwrap()
        };
        assert!(project.permit(&key("apps/v1", "Deployment"), true).is_ok());
        assert!(project.permit(&key("v1", "Secret"), true).is_err());
        assert!(
            project
                .permit(&key("rbac.authorization.k8s.io/v1", "ClusterRole"), false)
                .is_err()
        );
    }
}
