//! From an ApplicationSet to Applications. It must not know what an Application does.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use futures::StreamExt as _;
use kube::{
    ResourceExt as _,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions},
    runtime::watcher::Event,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::{SET_MANAGER, Shared, clock_text, objects, template};

/// `spec` of an ApplicationSet.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Set {
    #[serde(default)]
    go_template: bool,
    #[serde(default)]
    go_template_options: Vec<String>,
    generators: Vec<Generator>,
    template: Value,
    #[serde(default)]
    template_patch: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Generator {
    list: List,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct List {
    elements: Vec<Value>,
}

/// Keeps the Applications of all sets as the sets say, for ever.
pub(super) async fn run(shared: Shared) {
    let mut sets: BTreeMap<String, DynamicObject> = BTreeMap::new();
    let mut events = super::events(&shared, "ApplicationSet");
    let mut again = interval(shared.options.sets);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let changed = tokio::select! {
            // The set's own Applications are put right again when somebody edits them.
            _ = again.tick() => sets.values().cloned().collect(),
            event = events.next() => match event {
                None => return,
                Some(Ok(Event::Init)) => {
                    sets.clear();
                    Vec::new()
                }
                Some(Ok(Event::InitDone)) => Vec::new(),
                Some(Ok(Event::Delete(set))) => {
                    sets.remove(&set.name_any());
                    // The cluster's garbage collector would do it too, but takes its time.
                    let uid = set.uid().unwrap_or_default();
                    if let Err(error) = delete_others(&shared, &uid, &BTreeMap::new()).await {
                        warn!("after the end of the ApplicationSet {}: {error:#}", set.name_any());
                    }
                    Vec::new()
                }
                Some(Ok(Event::InitApply(set) | Event::Apply(set))) => {
                    sets.insert(set.name_any(), set.clone());
                    vec![set]
                }
                Some(Err(error)) => {
                    warn!("watching ApplicationSets: {error}");
                    Vec::new()
                }
            },
        };
        for set in changed.iter().filter(|set| set.metadata.deletion_timestamp.is_none()) {
            let name = set.name_any();
            // Only who stops all stops the sets: one Application that is stopped must not hold up the others.
            let _open = shared.gate.enter("").await;
            let result = keep(&shared, set).await;
            if let Err(error) = &result {
                warn!("the ApplicationSet {name}: {error:#}");
            }
            if let Err(error) = tell(&shared, set, result.err()).await {
                warn!("the status of the ApplicationSet {name}: {error:#}");
            }
        }
    }
}

/// Applies what the set wants, and deletes what it wants no more.
async fn keep(shared: &Shared, set: &DynamicObject) -> anyhow::Result<()> {
    let namespace = &shared.options.namespace;
    let uid = set.uid().context("the set has no uid")?;
    let wanted = expand(set.data.get("spec").unwrap_or(&Value::Null), namespace)?;
    let applications = objects(shared.cluster.client(), namespace, "Application");
    for (name, mut object) in wanted.clone() {
        let owner = json!([{"apiVersion": "argoproj.io/v1alpha1", "kind": "ApplicationSet", "name": set.name_any(),
            "uid": uid, "controller": true, "blockOwnerDeletion": true}]);
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("ownerReferences".to_owned(), owner);
        }
        let how = PatchParams::apply(SET_MANAGER).force();
        let applying = || format!("applying the Application {name}");
        applications
            .patch(&name, &how, &Patch::Apply(&object))
            .await
            .with_context(applying)?;
    }
    delete_others(shared, &uid, &wanted).await
}

/// Deletes the Applications that were made for a set and are not among these.
async fn delete_others(shared: &Shared, set: &str, wanted: &BTreeMap<String, Value>) -> anyhow::Result<()> {
    let applications = objects(shared.cluster.client(), &shared.options.namespace, "Application");
    let all = applications
        .list(&ListParams::default())
        .await
        .context("listing Applications")?;
    for object in all.items {
        let name = object.name_any();
        if object.owner_references().iter().any(|owner| owner.uid == set) && !wanted.contains_key(&name) {
            // This one, and not another that has got its name since: the cluster's own garbage collector may be quicker.
            let this = DeleteParams::background().preconditions(Preconditions {
                uid: object.uid(),
                ..Preconditions::default()
            });
            match applications.delete(&name, &this).await {
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                deleted => drop(deleted.with_context(|| format!("deleting the Application {name}"))?),
            }
        }
    }
    Ok(())
}

/// The Applications by name.
fn expand(spec: &Value, namespace: &str) -> anyhow::Result<BTreeMap<String, Value>> {
    let set: Set = serde_json::from_value(spec.clone())
        .context("reading the ApplicationSet's spec; the lab's stand-in for Argo CD knows no more than it obeys")?;
    ensure!(
        set.go_template && set.go_template_options == ["missingkey=error"],
        "the lab's stand-in for Argo CD knows goTemplate with goTemplateOptions [missingkey=error] only"
    );
    let mut all = BTreeMap::new();
    for element in set.generators.iter().flat_map(|generator| &generator.list.elements) {
        let mut object = template::fill(&set.template, element).context("filling in the template")?;
        let patch = template::render(&set.template_patch, element).context("filling in the templatePatch")?;
        if !patch.trim().is_empty() {
            let patch: Value = serde_saphyr::from_str(&patch).context("reading the templatePatch")?;
            merge(&mut object, patch);
        }
        let Some(map) = object.as_object_mut() else {
            bail!("the template is no map")
        };
        if let Some(other) = map.keys().find(|key| !["metadata", "spec"].contains(&key.as_str())) {
            bail!("the template has `{other}`; it has metadata and spec");
        }
        map.insert("apiVersion".to_owned(), json!("argoproj.io/v1alpha1"));
        map.insert("kind".to_owned(), json!("Application"));
        let metadata = map
            .get_mut("metadata")
            .and_then(Value::as_object_mut)
            .context("the template has no metadata")?;
        let place = metadata.entry("namespace").or_insert_with(|| json!(namespace));
        ensure!(place == namespace, "an Application can't be in the namespace {place}");
        let name = metadata
            .get("name")
            .and_then(Value::as_str)
            .context("the template has no name")?
            .to_owned();
        if all.insert(name.clone(), object).is_some() {
            bail!("two elements make the Application {name}");
        }
    }
    Ok(all)
}

/// A merge patch: null takes away, lists are whole.
fn merge(into: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *into = patch;
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    let Some(map) = into.as_object_mut() else { return };
    for (key, value) in patch {
        if value.is_null() {
            map.remove(&key);
        } else {
            merge(map.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// Says in the set's status how it went.
async fn tell(shared: &Shared, set: &DynamicObject, error: Option<anyhow::Error>) -> anyhow::Result<()> {
    let (status, reason) = if error.is_some() {
        ("True", "ApplicationGenerationError")
    } else {
        ("False", "ApplicationSetUpToDate")
    };
    let message = error.map_or_else(
        || "All Applications are as the set says".to_owned(),
        |error| format!("{error:#}"),
    );
    let said = |key: &str| {
        set.data
            .pointer("/status/conditions/0")
            .and_then(|condition| condition.get(key)?.as_str())
    };
    if said("status") == Some(status) && said("message") == Some(message.as_str()) {
        return Ok(());
    }
    let condition = json!({"type": "ErrorOccurred", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": clock_text()});
    let sets = objects(shared.cluster.client(), &shared.options.namespace, "ApplicationSet");
    let patch = Patch::Merge(json!({"status": {"conditions": [condition]}}));
    sets.patch_status(&set.name_any(), &PatchParams::default(), &patch)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> Value {
        let path = crate::project_root().join("argocd/applicationset.yaml");
        let object: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        object["spec"].clone()
    }

    #[test]
    fn the_shipped_set_makes_one_application_for_each_environment() {
        let all = expand(&shipped(), "argocd").unwrap();
        assert_eq!(
            all.keys().collect::<Vec<_>>(),
            ["user-service-dev", "user-service-prod", "user-service-staging"]
        );
        let prod = &all["user-service-prod"];
        assert_eq!(
            prod["spec"]["source"]["helm"]["valueFiles"],
            json!(["../../environments/prod/values.yaml"])
        );
        assert_eq!(prod["spec"]["destination"]["namespace"], "user-service-prod");
        for application in all.values() {
            super::super::spec::Spec::read(&application["spec"]).unwrap();
        }
    }

    #[test]
    fn values_of_an_element_go_into_the_application() {
        let mut spec = shipped();
        spec["generators"][0]["list"]["elements"][2]["values"] = json!({"rollout": {"git": {"branch": "release"}}});
        let all = expand(&spec, "argocd").unwrap();
        let helm = |name: &str| all[name]["spec"]["source"]["helm"].clone();
        assert_eq!(
            helm("user-service-prod")["valuesObject"]["rollout"]["git"]["branch"],
            "release"
        );
        assert_eq!(helm("user-service-prod")["releaseName"], "user-service");
        assert!(helm("user-service-dev").get("valuesObject").is_none());
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        let refused = |edit: &dyn Fn(&mut Value)| {
            let mut spec = shipped();
            edit(&mut spec);
            format!("{:#}", expand(&spec, "argocd").unwrap_err())
        };
        assert!(refused(&|spec| spec["preservedFields"] = json!({})).contains("preservedFields"));
        assert!(refused(&|spec| spec["generators"] = json!([{"git": {}}])).contains("git"));
        assert!(refused(&|spec| spec["goTemplate"] = json!(false)).contains("goTemplate"));
        assert!(refused(&|spec| spec["template"]["operation"] = json!({})).contains("operation"));
        assert!(refused(&|spec| spec["template"]["metadata"]["namespace"] = json!("x")).contains("namespace"));
        assert!(refused(&|spec| spec["template"]["metadata"]["name"] = json!("x")).contains("two elements"));
    }

    #[test]
    fn a_merge_patch_takes_away_with_null() {
        let mut value = json!({"a": {"b": 1, "c": 2}, "d": [1]});
        merge(&mut value, json!({"a": {"b": null, "e": {"f": 1}}, "d": []}));
        assert_eq!(value, json!({"a": {"c": 2, "e": {"f": 1}}, "d": []}));
    }
}
