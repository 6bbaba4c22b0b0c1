//! From an Application's source to the objects that it wants: repository, commit, Helm. It must not know the cluster's state,
//! but for the Secrets with the repositories' credentials.

use std::{
    fs,
    path::{Component, Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::ListParams};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    Options,
    cluster::Cluster,
    git::{Credentials, Mirrors},
    spec::{Helm, Spec},
};
use crate::process::Program;

const DEADLINE: Duration = Duration::from_mins(1);

/// Renders sources.
#[derive(Debug)]
pub(super) struct Source {
    cluster: Arc<Cluster>,
    options: Arc<Options>,
    mirrors: Mirrors,
}

/// What a source wants at one commit.
#[derive(Debug, Clone)]
pub(super) struct Rendered {
    /// The commit.
    pub(super) revision: String,
    /// The same key, the same objects.
    key: String,
    pub(super) objects: Arc<Vec<Value>>,
}

impl Source {
    pub(super) fn new(cluster: Arc<Cluster>, options: Arc<Options>) -> Self {
        let mirrors = Mirrors::new(options.git.clone(), options.dir.clone());
        Self {
            cluster,
            options,
            mirrors,
        }
    }

    /// Renders the source as Git has it after `since`; what did not change since `before` is taken from there.
    pub(super) async fn render(
        &self,
        application: &str,
        spec: &Spec,
        since: Instant,
        before: Option<&Rendered>,
    ) -> anyhow::Result<Rendered> {
        let source = &spec.source;
        let credentials = self.credentials(&source.repository).await?;
        let mirror = self.mirrors.get(&source.repository).await;
        mirror.fetch(since, credentials.as_ref()).await?;
        let revision = mirror.resolve(&source.target_revision).await?;
        let chart = inside(Path::new(""), &source.path).context("spec.source.path")?;
        let files = value_files(&chart, &source.helm)?;
        let mut paths = vec![chart.clone()];
        paths.extend(files.iter().cloned());
        let ids = mirror.ids(&revision, &paths).await?;
        // The Application and the contents, not the commit: most commits change other folders.
        let key = format!("{application} {spec:?} {ids:?}");
        if let Some(before) = before.filter(|before| before.key == key) {
            return Ok(Rendered {
                revision,
                ..before.clone()
            });
        }
        if ids.first().is_none_or(Option::is_none) {
            bail!("commit {revision} has no folder {chart}");
        }
        let present = |(file, id): (&String, &Option<String>)| match id {
            Some(_) => Ok(Some(file.clone())),
            None if source.helm.ignore_missing_value_files => Ok(None),
            None => bail!("commit {revision} has no values file {file}"),
        };
        let files: Vec<_> = files
            .iter()
            .zip(ids.iter().skip(1))
            .map(present)
            .collect::<Result<_, _>>()?;
        let tree = tempfile::tempdir_in(&self.options.dir)?;
        mirror.export(&revision, tree.path()).await?;
        let objects = self
            .helm(application, spec, tree.path(), &chart, files.iter().flatten())
            .await
            .with_context(|| format!("rendering {chart} at commit {revision}"))?;
        Ok(Rendered {
            revision,
            key,
            objects: Arc::new(objects),
        })
    }

    async fn helm(
        &self,
        application: &str,
        spec: &Spec,
        tree: &Path,
        chart: &str,
        files: impl Iterator<Item = &String>,
    ) -> anyhow::Result<Vec<Value>> {
        let Helm {
            release_name,
            values,
            values_object,
            parameters,
            ..
        } = &spec.source.helm;
        let release = if release_name.is_empty() {
            application
        } else {
            release_name
        };
        let mut program = self.options.helm_program(&self.options.dir);
        program = program.args(["template", release]).arg(tree.join(chart));
        program = program.args(["--namespace", &spec.destination.namespace, "--include-crds=false"]);
        for file in files {
            program = program.arg("--values").arg(tree.join(file));
        }
        // `valuesObject` goes before `values`, as in Argo CD.
        let inline = match values_object {
            Some(object) => Some(serde_json::to_string(object)?),
            None => Some(values.clone()).filter(|values| !values.is_empty()),
        };
        let inline_file = tree.join(".argocd-values.yaml");
        if let Some(inline) = inline {
            fs::write(&inline_file, inline)?;
            program = program.arg("--values").arg(&inline_file);
        }
        for parameter in parameters {
            let flag = if parameter.force_string {
                "--set-string"
            } else {
                "--set"
            };
            program = program
                .arg(flag)
                .arg(format!("{}={}", parameter.name, parameter.value.replace(',', "\\,")));
        }
        let text = program.output(DEADLINE).await?.text()?;
        documents(&text).context("reading what Helm printed")
    }

    /// From the Secrets with the label of repositories: one for exactly this URL, else the longest prefix of `repo-creds`.
    async fn credentials(&self, url: &str) -> anyhow::Result<Option<Credentials>> {
        const LABEL: &str = "argocd.argoproj.io/secret-type";
        let api: Api<Secret> = Api::namespaced(self.cluster.client().clone(), &self.options.namespace);
        let selector = format!("{LABEL} in (repository, repo-creds)");
        let secrets = api
            .list(&ListParams::default().labels(&selector))
            .await
            .context("listing repositories' Secrets")?;
        let text = |secret: &Secret, key: &str| {
            let bytes = &secret.data.as_ref()?.get(key)?.0;
            Some(String::from_utf8_lossy(bytes).into_owned())
        };
        let same = |a: &str, b: &str| a.trim_end_matches(".git") == b.trim_end_matches(".git");
        let rank = |secret: &Secret| {
            let exact = secret.metadata.labels.as_ref()?.get(LABEL)? == "repository";
            let of = text(secret, "url")?;
            let fits = if exact { same(&of, url) } else { url.starts_with(&of) };
            fits.then_some((exact, of.len()))
        };
        let best = secrets
            .items
            .iter()
            .filter_map(|secret| Some((rank(secret)?, secret)))
            .max_by_key(|(rank, _)| *rank);
        Ok(best.and_then(|(_, secret)| {
            let password = text(secret, "password")?;
            Some(Credentials {
                username: text(secret, "username").unwrap_or_else(|| "git".to_owned()),
                password,
            })
        }))
    }
}

impl Options {
    /// Helm, with all that it writes in this folder.
    pub(super) fn helm_program(&self, home: &Path) -> Program {
        let mut program = Program::new(&self.helm).clean_env().env("HOME", home);
        for (name, folder) in [("CACHE", "cache"), ("CONFIG", "config"), ("DATA", "data")] {
            program = program.env(format!("HELM_{name}_HOME"), home.join("helm").join(folder));
        }
        program
    }
}

/// The objects of a stream of YAML documents; empty ones are passed over.
pub(super) fn documents(text: &str) -> anyhow::Result<Vec<Value>> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text)?;
    let mut objects = Vec::new();
    for document in all.into_iter().filter(|document| !document.is_null()) {
        if document.get("kind").is_some_and(|kind| kind == "List") {
            objects.extend(
                document
                    .get("items")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .cloned(),
            );
        } else if document.get("kind").is_none_or(|kind| !kind.is_string()) {
            bail!("a document is no object: it has no kind");
        } else {
            objects.push(document);
        }
    }
    Ok(objects)
}

/// The values files' paths in the repository. They are relative to the chart.
fn value_files(chart: &str, helm: &Helm) -> anyhow::Result<Vec<String>> {
    let path = |file: &String| match file.strip_prefix('/') {
        Some(from_root) => inside(Path::new(""), from_root),
        None => inside(Path::new(chart), file),
    };
    helm.value_files
        .iter()
        .map(path)
        .collect::<Result<_, _>>()
        .context("spec.source.helm.valueFiles")
}

/// A path below `from` that stays in the repository.
fn inside(from: &Path, path: &str) -> anyhow::Result<String> {
    let mut result = PathBuf::new();
    for component in from.join(path).components() {
        match component {
            Component::Normal(name) => result.push(name),
            Component::CurDir => {}
            Component::ParentDir if result.pop() => {}
            _ => bail!("`{path}` leaves the repository"),
        }
    }
    Ok(result.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_files_stand_beside_the_chart_and_in_the_repository() {
        let helm = |file: &str| Helm {
            value_files: vec![file.to_owned()],
            ..Helm::default()
        };
        let resolve = |file: &str| value_files("deploy/charts/user-service", &helm(file)).map(|all| all[0].clone());
        assert_eq!(
            resolve("../../environments/prod/values.yaml").unwrap(),
            "deploy/environments/prod/values.yaml"
        );
        assert_eq!(
            resolve("./values.yaml").unwrap(),
            "deploy/charts/user-service/values.yaml"
        );
        assert_eq!(resolve("/a.yaml").unwrap(), "a.yaml");
        assert!(format!("{:#}", resolve("../../../../secrets").unwrap_err()).contains("leaves the repository"));
    }

    #[test]
    fn documents_are_objects() {
        let text = "---\n# nothing\n---\nkind: A\n---\nkind: List\nitems: [{kind: B}, {kind: C}]\n";
        let kinds: Vec<_> = documents(text).unwrap().iter().map(|o| o["kind"].clone()).collect();
        assert_eq!(kinds, ["A", "B", "C"]);
        assert!(documents("a: 1").is_err());
        assert!(documents("a: [").is_err());
    }
}
