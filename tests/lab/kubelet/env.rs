//! A container's environment and command line, as Kubernetes puts them together. Reads ConfigMaps and Secrets; it must not
//! know how processes are started.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, ObjectFieldSelector, Pod, Secret};
use kube::{Api, Client};

use super::sidecar::PodInfo;

/// Why a container cannot be started as its spec is, with the words that Kubernetes uses.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Waiting {
    pub(super) fn config(message: impl fmt::Display) -> Self {
        Self {
            reason: "CreateContainerConfigError",
            message: message.to_string(),
        }
    }
}

type Variables = BTreeMap<String, String>;

/// The variables of `envFrom` and `env`, expanded, in a map.
pub(super) async fn variables(
    client: &Client,
    pod: &Pod,
    info: &PodInfo,
    container: &Container,
) -> Result<Variables, Waiting> {
    let mut sources = Sources {
        client,
        namespace: &info.namespace,
        maps: HashMap::new(),
        secrets: HashMap::new(),
    };
    let mut variables = Variables::new();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(source) = &from.config_map_ref {
            let data = sources.config_map(&source.name, source.optional == Some(true)).await?;
            variables.extend(
                data.iter()
                    .map(|(key, value)| (format!("{prefix}{key}"), value.clone())),
            );
        }
        if let Some(source) = &from.secret_ref {
            let data = sources.secret(&source.name, source.optional == Some(true)).await?;
            variables.extend(
                data.iter()
                    .map(|(key, value)| (format!("{prefix}{key}"), value.clone())),
            );
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (_, Some(source)) => sources.value(source, pod, info).await?,
            (value, None) => Some(expand(value.as_deref().unwrap_or_default(), &variables)),
        };
        if let Some(value) = value {
            variables.insert(variable.name.clone(), value);
        }
    }
    Ok(variables)
}

/// Replaces each `$(NAME)` that is known; `$$` stands for `$` and keeps what follows from being replaced.
pub(super) fn expand(text: &str, variables: &Variables) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some((name, after)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match variables.get(name) {
                Some(value) => result.push_str(value),
                None => result.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            result.push('$');
            rest = after;
        }
    }
    result.push_str(rest);
    result
}

/// What each source said, so that it is asked once.
struct Sources<'a> {
    client: &'a Client,
    namespace: &'a str,
    maps: HashMap<String, Option<Variables>>,
    secrets: HashMap<String, Option<Variables>>,
}

impl Sources<'_> {
    async fn value(&mut self, source: &EnvVarSource, pod: &Pod, info: &PodInfo) -> Result<Option<String>, Waiting> {
        if let Some(field) = &source.field_ref {
            return self::field(field, pod, info).map(Some);
        }
        let (data, name, key, optional) = if let Some(source) = &source.config_map_key_ref {
            let optional = source.optional == Some(true);
            (
                self.config_map(&source.name, optional).await?,
                &source.name,
                &source.key,
                optional,
            )
        } else if let Some(source) = &source.secret_key_ref {
            let optional = source.optional == Some(true);
            (
                self.secret(&source.name, optional).await?,
                &source.name,
                &source.key,
                optional,
            )
        } else {
            return Err(Waiting::config(
                "the lab knows only fieldRef, configMapKeyRef and secretKeyRef in valueFrom",
            ));
        };
        match data.get(key) {
            None if !optional => Err(Waiting::config(format_args!("couldn't find key {key} in {name}"))),
            value => Ok(value.cloned()),
        }
    }

    async fn config_map(&mut self, name: &str, optional: bool) -> Result<Variables, Waiting> {
        if !self.maps.contains_key(name) {
            let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), self.namespace);
            let found = api.get_opt(name).await.map_err(Waiting::config)?;
            self.maps
                .insert(name.to_owned(), found.map(|map| map.data.unwrap_or_default()));
        }
        present(&self.maps, "configmap", name, optional)
    }

    async fn secret(&mut self, name: &str, optional: bool) -> Result<Variables, Waiting> {
        if !self.secrets.contains_key(name) {
            let api: Api<Secret> = Api::namespaced(self.client.clone(), self.namespace);
            let found = api.get_opt(name).await.map_err(Waiting::config)?;
            let data = found.map(|secret| {
                let data = secret.data.unwrap_or_default();
                data.into_iter()
                    .map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned()))
                    .collect()
            });
            self.secrets.insert(name.to_owned(), data);
        }
        present(&self.secrets, "secret", name, optional)
    }
}

fn present(
    known: &HashMap<String, Option<Variables>>,
    kind: &str,
    name: &str,
    optional: bool,
) -> Result<Variables, Waiting> {
    match known.get(name).cloned().flatten() {
        None if !optional => Err(Waiting::config(format_args!("{kind} \"{name}\" not found"))),
        data => Ok(data.unwrap_or_default()),
    }
}

/// The downward API.
fn field(field: &ObjectFieldSelector, pod: &Pod, info: &PodInfo) -> Result<String, Waiting> {
    let path = field.field_path.as_str();
    let keyed = |prefix: &str| path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']");
    if let Some(key) = keyed("metadata.annotations") {
        return Ok(info.annotations.get(key).cloned().unwrap_or_default());
    }
    if let Some(key) = keyed("metadata.labels") {
        return Ok(info.labels.get(key).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => info.name.clone(),
        "metadata.namespace" => info.namespace.clone(),
        "metadata.uid" => info.uid.clone(),
        "spec.serviceAccountName" => info.service_account.clone(),
        "spec.nodeName" => pod.spec.as_ref().and_then(|s| s.node_name.clone()).unwrap_or_default(),
        // The host is the pod's own address too.
        "status.podIP" | "status.podIPs" | "status.hostIP" | "status.hostIPs" => info.ip.to_string(),
        _ => return Err(Waiting::config(format_args!("the lab does not know the field {path}"))),
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use serde_json::json;

    use super::*;

    fn known() -> Variables {
        [("A", "1"), ("B", "$(A)")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into()
    }

    #[test]
    fn known_references_are_replaced_once_and_unknown_ones_stay() {
        assert_eq!(expand("a=$(A) b=$(B) c=$(C)", &known()), "a=1 b=$(A) c=$(C)");
    }

    #[test]
    fn a_doubled_dollar_is_a_dollar_and_keeps_the_reference() {
        assert_eq!(expand("$$(A) $$$(A) $$", &known()), "$(A) $1 $");
    }

    #[test]
    fn a_lonely_dollar_stays() {
        assert_eq!(expand("cost: 5$, $HOME, $(A", &known()), "cost: 5$, $HOME, $(A");
    }

    #[test]
    fn fields_of_the_pod_are_read() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {
                "name": "p", "namespace": "n", "uid": "u",
                "labels": {"app": "web"}, "annotations": {"serin.dev/revision": "1.2.0"},
            },
            "spec": {"containers": [], "nodeName": "lab-20"},
        }))
        .unwrap();
        let info = PodInfo::new(&pod, Ipv4Addr::new(127, 20, 1, 1));
        let read = |path: &str| {
            let selector = ObjectFieldSelector {
                field_path: path.to_owned(),
                api_version: None,
            };
            field(&selector, &pod, &info).map_err(|waiting| waiting.message)
        };
        assert_eq!(read("metadata.annotations['serin.dev/revision']").unwrap(), "1.2.0");
        assert_eq!(read("metadata.labels['app']").unwrap(), "web");
        assert_eq!(read("status.podIP").unwrap(), "127.20.1.1");
        assert_eq!(read("spec.nodeName").unwrap(), "lab-20");
        assert!(read("spec.nothing").unwrap_err().contains("spec.nothing"));
    }
}
