//! Installs the manifests of argocd/ as an operator would who follows argocd/README.md. It must not know what they make
//! Argo CD do.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{objects, source};
use crate::git_server::GitServer;

/// What stands in the project where an operator's own repository belongs.
const EXAMPLE: &str = "https://git.example.com/platform/config.git";
/// Who installs.
const MANAGER: &str = "operator";

/// An installation of the manifests for one config repository.
#[derive(Debug, Clone)]
pub struct Install {
    /// The project's folder, in which argocd/ and deploy/ are.
    pub root: PathBuf,
    /// Argo CD's namespace.
    pub namespace: String,
    /// The URL of the config repository.
    pub repository: String,
    /// Its branch.
    pub branch: String,
    /// Who fetches.
    pub username: String,
    /// The token that lets Argo CD fetch.
    pub password: String,
}

/// An environment, `<name>` in `user-service-<name>`: its Application, its AppProject and its namespace are called so, and its
/// values are those of `deploy/environments/<name>/values.yaml` in the config repository.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Its name.
    pub name: String,
    /// Values that go over the file's, if there are any.
    pub values: Option<Value>,
}

impl Environment {
    /// One with the file's values only.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            values: None,
        }
    }

    /// What its Application, its AppProject and its namespace are called.
    pub fn application(&self) -> String {
        format!("user-service-{}", self.name)
    }
}

impl Install {
    /// For a repository of the lab's Git server.
    pub fn new(git: &GitServer, repository: &str) -> Self {
        Self {
            root: crate::project_root(),
            namespace: "argocd".to_owned(),
            repository: git.url(repository),
            branch: "main".to_owned(),
            username: "argocd".to_owned(),
            password: git.token().to_owned(),
        }
    }

    /// Copies what a config repository holds, deploy/, into a folder, with this repository's URL in it.
    pub fn seed(&self, into: &Path) -> anyhow::Result<()> {
        let from = self.root.join("deploy");
        self.copy(&from, &into.join("deploy"))
            .with_context(|| format!("copying {}", from.display()))
    }

    /// Puts the values file of one more environment into such a folder, made from that of another, `like`.
    pub fn seed_environment(&self, into: &Path, name: &str, like: &str) -> anyhow::Result<()> {
        let environments = into.join("deploy/environments");
        let from = environments.join(like).join("values.yaml");
        let text = fs::read_to_string(&from).with_context(|| format!("reading {}", from.display()))?;
        let text = text
            .replace(
                &format!("deploy/environments/{like}"),
                &format!("deploy/environments/{name}"),
            )
            .replace(&format!("user-service-{like}"), &format!("user-service-{name}"));
        fs::create_dir_all(environments.join(name))?;
        fs::write(environments.join(name).join("values.yaml"), text)?;
        Ok(())
    }

    fn copy(&self, from: &Path, to: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let to = to.join(entry.file_name());
            // Through links: the chart links to what stands beside it.
            if entry.path().is_dir() {
                self.copy(&entry.path(), &to)?;
            } else {
                fs::write(to, fs::read_to_string(entry.path())?.replace(EXAMPLE, &self.repository))?;
            }
        }
        Ok(())
    }

    /// All that the manifests have: the three environments.
    pub async fn apply(&self, client: &Client) -> anyhow::Result<()> {
        self.apply_common(client).await?;
        for manifest in ["projects.yaml", "applicationset.yaml"] {
            for object in self.read(manifest)? {
                self.put(client, object).await?;
            }
        }
        Ok(())
    }

    /// One more environment: an AppProject made from the first in projects.yaml, and an ApplicationSet, the manifests' own but
    /// for its name and its elements. Other environments are left alone, so those who do this at once don't meet.
    pub async fn apply_environment(&self, client: &Client, environment: &Environment) -> anyhow::Result<()> {
        self.apply_common(client).await?;
        self.put(client, self.project(environment)?).await?;
        self.put(client, self.set(environment)?).await
    }

    fn project(&self, environment: &Environment) -> anyhow::Result<Value> {
        let mut project = self
            .read("projects.yaml")?
            .into_iter()
            .next()
            .context("projects.yaml is empty")?;
        let name = environment.application();
        change(&mut project, "/metadata/name", json!(name))?;
        change(&mut project, "/spec/destinations/0/namespace", json!(name))?;
        Ok(project)
    }

    fn set(&self, environment: &Environment) -> anyhow::Result<Value> {
        let mut set = self
            .read("applicationset.yaml")?
            .into_iter()
            .next()
            .context("applicationset.yaml is empty")?;
        let Environment { name, values } = environment;
        let mut element = json!({"env": name, "repository": self.repository, "branch": self.branch});
        if let (Some(values), Some(element)) = (values, element.as_object_mut()) {
            element.insert("values".to_owned(), values.clone());
        }
        change(&mut set, "/metadata/name", json!(environment.application()))?;
        change(&mut set, "/spec/generators/0/list/elements", json!([element]))?;
        Ok(set)
    }

    /// The namespace, the repository's Secret, and what Argo CD has to know of a CanaryRollout.
    pub async fn apply_common(&self, client: &Client) -> anyhow::Result<()> {
        let namespace = &self.namespace;
        put::<Namespace>(&Api::all(client.clone()), &json!({"metadata": {"name": namespace}})).await?;
        let secret = json!({
            "metadata": {"name": self.secret_name(), "labels": {"argocd.argoproj.io/secret-type": "repository"}},
            "stringData": {"url": self.repository, "username": self.username, "password": self.password},
        });
        put::<Secret>(&Api::namespaced(client.clone(), namespace), &secret).await?;
        for mut map in self.read("argocd-cm.yaml")? {
            change(&mut map, "/metadata/namespace", json!(namespace))?;
            put::<ConfigMap>(&Api::namespaced(client.clone(), namespace), &map).await?;
        }
        Ok(())
    }

    /// One a repository.
    fn secret_name(&self) -> String {
        let name: String = self
            .repository
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        format!("repository-{}", name.to_ascii_lowercase().trim_matches('-'))
    }

    /// The objects of a manifest, with this repository's URL in them.
    fn read(&self, file: &str) -> anyhow::Result<Vec<Value>> {
        let path = self.root.join("argocd").join(file);
        let read = || source::documents(&fs::read_to_string(&path)?.replace(EXAMPLE, &self.repository));
        read().with_context(|| format!("reading {}", path.display()))
    }

    /// Applies one of Argo CD's own kinds, in Argo CD's namespace.
    async fn put(&self, client: &Client, mut object: Value) -> anyhow::Result<()> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let kind = text("/kind").context("a manifest has no kind")?;
        let name = text("/metadata/name").context("a manifest has no name")?;
        change(&mut object, "/metadata/namespace", json!(self.namespace))?;
        if kind == "ApplicationSet" {
            change(&mut object, "/spec/template/metadata/namespace", json!(self.namespace))?;
        }
        let objects = objects(client, &self.namespace, &kind);
        let how = PatchParams::apply(MANAGER).force();
        let applying = || format!("applying {kind} {name}");
        objects
            .patch(&name, &how, &Patch::Apply(&object))
            .await
            .with_context(applying)?;
        Ok(())
    }
}

/// Applies one object of a kind that Kubernetes has.
pub(super) async fn put<K>(api: &Api<K>, object: &Value) -> anyhow::Result<()>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let mut object = object.clone();
    let map = object.as_object_mut().context("an object is no map")?;
    map.insert("apiVersion".to_owned(), json!(K::api_version(&())));
    map.insert("kind".to_owned(), json!(K::kind(&())));
    let name = map
        .get("metadata")
        .and_then(|metadata| metadata.get("name")?.as_str())
        .context("an object has no name")?;
    let name = name.to_owned();
    let how = PatchParams::apply(MANAGER).force();
    let applying = || format!("applying {} {name}", K::kind(&()));
    let apply = async || api.patch(&name, &how, &Patch::Apply(&object)).await;
    match apply().await {
        // Somebody made it at the same moment; now it is there.
        Err(kube::Error::Api(status)) if status.code == 409 => drop(apply().await.with_context(applying)?),
        applied => drop(applied.with_context(applying)?),
    }
    Ok(())
}

/// Changes what is there.
fn change(object: &mut Value, pointer: &str, value: Value) -> anyhow::Result<()> {
    *object
        .pointer_mut(pointer)
        .with_context(|| format!("a manifest has no {pointer}"))? = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install() -> Install {
        Install {
            root: crate::project_root(),
            namespace: "argocd".to_owned(),
            repository: "http://127.1.2.3:80/config.git".to_owned(),
            branch: "main".to_owned(),
            username: "argocd".to_owned(),
            password: "token".to_owned(),
        }
    }

    #[test]
    fn the_repository_stands_in_every_manifest() {
        let install = install();
        for file in ["projects.yaml", "applicationset.yaml"] {
            let text = serde_json::to_string(&install.read(file).unwrap()).unwrap();
            assert!(
                text.contains(&install.repository) && !text.contains("git.example.com"),
                "{file}"
            );
        }
        let dir = tempfile::tempdir().unwrap();
        install.seed(dir.path()).unwrap();
        let values = fs::read_to_string(dir.path().join("deploy/environments/prod/values.yaml")).unwrap();
        assert!(values.contains(&install.repository) && !values.contains("git.example.com"));
        install.seed_environment(dir.path(), "x", "prod").unwrap();
        let values = fs::read_to_string(dir.path().join("deploy/environments/x/values.yaml")).unwrap();
        assert!(values.contains("path: deploy/environments/x\n") && values.contains("application: user-service-x\n"));
    }

    #[test]
    fn an_environment_has_a_project_and_a_set_of_its_own() {
        let environment = Environment {
            values: Some(json!({"replicas": 2})),
            ..Environment::new("x")
        };
        let project = install().project(&environment).unwrap();
        assert_eq!(project["metadata"]["name"], "user-service-x");
        assert_eq!(project["spec"]["destinations"][0]["namespace"], "user-service-x");
        let set = install().set(&environment).unwrap();
        assert_eq!(
            set["spec"]["generators"][0]["list"]["elements"][0]["values"]["replicas"],
            2
        );
        assert_eq!(install().secret_name(), "repository-http---127-1-2-3-80-config-git");
    }
}
