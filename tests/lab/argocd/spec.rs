//! What an Application says, as far as the stand-in obeys it. It must not know how it is obeyed.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::{Map, Value};

/// `spec` of an Application.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Spec {
    #[serde(default = "default_project")]
    pub(super) project: String,
    pub(super) source: Source,
    pub(super) destination: Destination,
    #[serde(default)]
    pub(super) sync_policy: SyncPolicy,
    #[serde(default)]
    pub(super) ignore_differences: Vec<IgnoreDifference>,
    #[serde(default)]
    pub(super) revision_history_limit: Option<usize>,
    /// Links for people; without effect.
    #[serde(default)]
    pub(super) info: Option<Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Source {
    #[serde(rename = "repoURL")]
    pub(super) repository: String,
    #[serde(default)]
    pub(super) path: String,
    #[serde(default)]
    pub(super) target_revision: String,
    #[serde(default)]
    pub(super) helm: Helm,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Helm {
    #[serde(default)]
    pub(super) release_name: String,
    #[serde(default)]
    pub(super) value_files: Vec<String>,
    #[serde(default)]
    pub(super) ignore_missing_value_files: bool,
    #[serde(default)]
    pub(super) values: String,
    #[serde(default)]
    pub(super) values_object: Option<Map<String, Value>>,
    #[serde(default)]
    pub(super) parameters: Vec<Parameter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) value: String,
    #[serde(default)]
    pub(super) force_string: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Destination {
    #[serde(default)]
    pub(super) server: String,
    #[serde(default)]
    pub(super) name: String,
    pub(super) namespace: String,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SyncPolicy {
    #[serde(default)]
    pub(super) automated: Option<Automated>,
    #[serde(default)]
    pub(super) sync_options: Vec<String>,
    #[serde(default)]
    pub(super) retry: Retry,
    /// What a namespace has that the Application makes.
    #[serde(default)]
    pub(super) managed_namespace_metadata: Option<NamespaceMetadata>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NamespaceMetadata {
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Automated {
    #[serde(default)]
    pub(super) enabled: Option<bool>,
    #[serde(default)]
    pub(super) prune: bool,
    #[serde(default)]
    pub(super) self_heal: bool,
    #[serde(default)]
    pub(super) allow_empty: bool,
}

/// The stand-in tries a failed sync again, with the newest commit, for as long as it fails: so `refresh` is as if it were true, and
/// the rest is without effect.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Retry {
    #[serde(default)]
    pub(super) limit: Option<i64>,
    #[serde(default)]
    pub(super) refresh: bool,
    #[serde(default)]
    pub(super) backoff: Option<Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct IgnoreDifference {
    #[serde(default)]
    pub(super) group: String,
    pub(super) kind: String,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) namespace: String,
    pub(super) json_pointers: Vec<String>,
}

fn default_project() -> String {
    "default".to_owned()
}

impl Spec {
    /// Reads `spec`; what the stand-in can't obey is an error.
    pub(super) fn read(spec: &Value) -> anyhow::Result<Self> {
        let read: Self = serde_json::from_value(spec.clone())
            .context("reading the Application's spec; the lab's stand-in for Argo CD knows no more than it obeys")?;
        if !matches!(read.destination.server.as_str(), "" | "https://kubernetes.default.svc")
            || !matches!(read.destination.name.as_str(), "" | "in-cluster")
        {
            bail!("spec.destination: the lab has one cluster, https://kubernetes.default.svc");
        }
        if let Some(option) = read
            .sync_policy
            .sync_options
            .iter()
            .find(|option| !KNOWN.contains(&option.as_str()))
        {
            bail!("spec.syncPolicy.syncOptions: the lab's stand-in for Argo CD does not know {option}");
        }
        Ok(read)
    }

    pub(super) fn has_option(&self, option: &str) -> bool {
        self.sync_policy.sync_options.iter().any(|o| o == option)
    }

    /// The automated policy, unless it is off.
    pub(super) fn automated(&self) -> Option<&Automated> {
        self.sync_policy
            .automated
            .as_ref()
            .filter(|automated| automated.enabled != Some(false))
    }
}

const RESPECT: &str = "RespectIgnoreDifferences=true";
const CREATE_NAMESPACE: &str = "CreateNamespace=true";
/// Server-side apply is the only way here.
const KNOWN: [&str; 3] = [RESPECT, CREATE_NAMESPACE, "ServerSideApply=true"];

impl Spec {
    pub(super) fn respects_ignored(&self) -> bool {
        self.has_option(RESPECT)
    }

    pub(super) fn creates_namespace(&self) -> bool {
        self.has_option(CREATE_NAMESPACE)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(edit: impl FnOnce(&mut Value)) -> anyhow::Result<Spec> {
        let mut spec = json!({
            "project": "p",
            "source": {"repoURL": "http://git", "path": "chart", "targetRevision": "main"},
            "destination": {"server": "https://kubernetes.default.svc", "namespace": "ns"},
            "syncPolicy": {"automated": {"prune": true}, "syncOptions": ["CreateNamespace=true"]},
        });
        edit(&mut spec);
        Spec::read(&spec)
    }

    #[test]
    fn a_spec_says_what_is_to_happen() {
        let spec = read(|_| {}).unwrap();
        assert!(spec.creates_namespace() && !spec.respects_ignored());
        let automated = spec.automated().unwrap();
        assert!(automated.prune && !automated.self_heal && !automated.allow_empty);
        assert!(
            read(|spec| spec["syncPolicy"]["automated"]["enabled"] = json!(false))
                .unwrap()
                .automated()
                .is_none()
        );
        assert!(
            read(|spec| spec["syncPolicy"] = json!({}))
                .unwrap()
                .automated()
                .is_none()
        );
    }

    #[test]
    fn what_is_not_obeyed_is_refused_by_name() {
        let refused = |edit: &dyn Fn(&mut Value)| format!("{:#}", read(edit).unwrap_err());
        assert!(refused(&|spec| spec["sources"] = json!([])).contains("sources"));
        assert!(refused(&|spec| spec["source"]["kustomize"] = json!({})).contains("kustomize"));
        assert!(refused(&|spec| spec["source"]["helm"] = json!({"skipCrds": true})).contains("skipCrds"));
        let jq = json!([{"kind": "Deployment", "jqPathExpressions": [".spec"]}]);
        assert!(refused(&|spec| spec["ignoreDifferences"] = jq.clone()).contains("jqPathExpressions"));
        let option = json!(["ApplyOutOfSyncOnly=true"]);
        assert!(refused(&|spec| spec["syncPolicy"]["syncOptions"] = option.clone()).contains("ApplyOutOfSyncOnly"));
        assert!(refused(&|spec| spec["destination"]["server"] = json!("https://other")).contains("one cluster"));
    }
}
