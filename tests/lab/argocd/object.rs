//! Objects as values: what makes one an Application's, which fields are ignored, and whether two say the same. Pure; it must not
//! know the cluster.

use std::fmt;

use anyhow::{Context as _, bail};
use kube::core::GroupVersionKind;
use serde_json::{Map, Value, json};

use super::{FIELD_MANAGER, TRACKING, spec::IgnoreDifference};

/// Which object it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
    /// Empty for cluster-wide ones.
    pub(super) namespace: String,
    pub(super) name: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            group,
            kind,
            namespace,
            name,
            version: _,
        } = self;
        let dot = if group.is_empty() { "" } else { "." };
        let slash = if namespace.is_empty() { "" } else { "/" };
        write!(f, "{kind}{dot}{group} {namespace}{slash}{name}")
    }
}

impl Key {
    /// Of an object in a manifest; `namespace` is for those that say none.
    pub(super) fn of(object: &Value, namespace: &str) -> anyhow::Result<Self> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let api_version = text("/apiVersion").context("an object has no apiVersion")?;
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        Ok(Self {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: text("/kind").context("an object has no kind")?,
            namespace: text("/metadata/namespace").unwrap_or_else(|| namespace.to_owned()),
            name: text("/metadata/name").context("an object has no name")?,
        })
    }

    pub(super) fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind::gvk(&self.group, &self.version, &self.kind)
    }

    /// The same object, whatever the version.
    pub(super) fn is(&self, other: &Self) -> bool {
        let Self {
            group,
            version: _,
            kind,
            namespace,
            name,
        } = self;
        (group, kind, namespace, name) == (&other.group, &other.kind, &other.namespace, &other.name)
    }

    /// As it stands in the annotation of what an Application applies.
    pub(super) fn tracking(&self, application: &str) -> String {
        let Self {
            group,
            kind,
            namespace,
            name,
            version: _,
        } = self;
        format!("{application}:{group}/{kind}:{namespace}/{name}")
    }

    /// What others need comes first, what needs others last.
    pub(super) fn order(&self) -> usize {
        const FIRST: [&str; 12] = [
            "Namespace",
            "NetworkPolicy",
            "ResourceQuota",
            "LimitRange",
            "ServiceAccount",
            "Secret",
            "ConfigMap",
            "CustomResourceDefinition",
            "ClusterRole",
            "ClusterRoleBinding",
            "Role",
            "RoleBinding",
        ];
        let known = FIRST
            .iter()
            .chain(&["Service", "Pod", "Deployment"])
            .position(|kind| *kind == self.kind);
        known.unwrap_or(FIRST.len() + 3)
    }
}

/// Makes the object the Application's.
pub(super) fn adopt(object: &mut Value, key: &Key, application: &str) -> anyhow::Result<()> {
    let metadata = object
        .get_mut("metadata")
        .and_then(Value::as_object_mut)
        .context("an object has no metadata")?;
    if !key.namespace.is_empty() {
        metadata.insert("namespace".to_owned(), json!(key.namespace));
    }
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    if annotations.is_null() {
        *annotations = json!({});
    }
    let Some(annotations) = annotations.as_object_mut() else {
        bail!("{key}: metadata.annotations is no map")
    };
    annotations.insert(TRACKING.to_owned(), json!(key.tracking(application)));
    Ok(())
}

/// Whether the live object says that it is the Application's.
pub(super) fn is_tracked(live: &Value, key: &Key, application: &str) -> bool {
    let found = live
        .pointer("/metadata/annotations")
        .and_then(|annotations| annotations.get(TRACKING));
    found.and_then(Value::as_str) == Some(&key.tracking(application))
}

/// The pointers of the fields that the Application ignores in this object.
pub(super) fn ignored<'i>(key: &Key, rules: &'i [IgnoreDifference]) -> Vec<&'i str> {
    let fits = |rule: &&IgnoreDifference| {
        let IgnoreDifference {
            group,
            kind,
            name,
            namespace,
            json_pointers: _,
        } = rule;
        let any = |wanted: &str, is: &str| wanted.is_empty() || wanted == is;
        let glob = |wanted: &str, is: &str| wanted == "*" || wanted == is;
        glob(group, &key.group) && glob(kind, &key.kind) && any(name, &key.name) && any(namespace, &key.namespace)
    };
    rules
        .iter()
        .filter(fits)
        .flat_map(|rule| rule.json_pointers.iter().map(String::as_str))
        .collect()
}

/// Leaves ignored fields to whoever has them: they are not said, so that nobody loses them and no value that was read is
/// written back late. Only where the Application alone has one (from the object's creation) its live value is said again:
/// server-side apply would take it away otherwise.
pub(super) fn keep_live(wanted: &mut Value, live: &Value, pointers: &[&str]) {
    for pointer in pointers {
        match live.pointer(pointer).filter(|_| is_ours_alone(live, pointer)) {
            Some(value) => set(wanted, pointer, value.clone()),
            None => remove(wanted, pointer),
        }
    }
}

fn is_ours_alone(live: &Value, pointer: &str) -> bool {
    let managers = live
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let (ours, others): (Vec<_>, Vec<_>) = managers
        .filter(|entry| entry.get("fieldsV1").is_some_and(|fields| has(fields, pointer)))
        .partition(|entry| entry.get("manager").is_some_and(|manager| manager == FIELD_MANAGER));
    !ours.is_empty() && others.is_empty()
}

/// Whether a manager's fields have the pointer's. Items of lists go by their keys there, so in a list the answer is yes.
fn has(fields: &Value, pointer: &str) -> bool {
    let mut at = fields;
    for part in pointer.split('/').skip(1) {
        let Some(map) = at.as_object().filter(|map| !map.is_empty()) else {
            return true;
        };
        match map.get(&format!("f:{}", part.replace("~1", "/").replace("~0", "~"))) {
            Some(next) => at = next,
            None => return map.keys().any(|key| key.starts_with("k:") || key.starts_with("v:")),
        }
    }
    true
}

/// Whether two states of an object say the same, but for what the server writes and for ignored fields.
pub(super) fn same(a: &Value, b: &Value, pointers: &[&str]) -> bool {
    reduced(a, pointers) == reduced(b, pointers)
}

/// An object without what the server writes, and without ignored fields.
pub(super) fn reduced(object: &Value, pointers: &[&str]) -> Value {
    let mut object = object.clone();
    let volatile = [
        "/status",
        "/metadata/managedFields",
        "/metadata/resourceVersion",
        "/metadata/generation",
    ];
    for pointer in volatile.iter().chain(pointers) {
        remove(&mut object, pointer);
    }
    object
}

/// The holder of the last part of a pointer, and that part.
fn parent<'v>(value: &'v mut Value, pointer: &str) -> Option<(&'v mut Value, String)> {
    let (holder, last) = pointer.rsplit_once('/')?;
    Some((value.pointer_mut(holder)?, last.replace("~1", "/").replace("~0", "~")))
}

fn remove(value: &mut Value, pointer: &str) {
    match parent(value, pointer) {
        Some((Value::Object(map), key)) => {
            map.remove(&key);
        }
        Some((Value::Array(items), key)) => {
            if let Some(at) = key.parse().ok().filter(|at: &usize| *at < items.len()) {
                items.remove(at);
            }
        }
        _ => {}
    }
}

/// Sets a field; maps on the way are made, list items are not.
fn set(value: &mut Value, pointer: &str, new: Value) {
    let mut at = value;
    let mut parts = pointer
        .split('/')
        .skip(1)
        .map(|part| part.replace("~1", "/").replace("~0", "~"))
        .peekable();
    while let Some(part) = parts.next() {
        let next = match at {
            Value::Object(map) => Some(map.entry(part).or_insert(Value::Null)),
            Value::Array(items) => part.parse().ok().and_then(|index: usize| items.get_mut(index)),
            _ => None,
        };
        let Some(next) = next else { return };
        if parts.peek().is_some() && next.is_null() {
            *next = Value::Object(Map::new());
        }
        at = next;
    }
    *at = new;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(replicas: Option<i64>) -> Value {
        let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"paused": false}});
        if let Some(replicas) = replicas {
            object["spec"]["replicas"] = json!(replicas);
        }
        object
    }

    fn rule(edit: impl FnOnce(&mut IgnoreDifference)) -> Vec<IgnoreDifference> {
        let mut rule = IgnoreDifference {
            group: "apps".into(),
            kind: "Deployment".into(),
            name: String::new(),
            namespace: String::new(),
            json_pointers: vec!["/spec/replicas".into()],
        };
        edit(&mut rule);
        vec![rule]
    }

    #[test]
    fn rules_name_the_objects_they_are_for() {
        let key = Key::of(&deployment(None), "ns").unwrap();
        assert_eq!(ignored(&key, &rule(|_| {})), ["/spec/replicas"]);
        assert_eq!(ignored(&key, &rule(|r| r.name = "d".into())), ["/spec/replicas"]);
        assert!(ignored(&key, &rule(|r| r.name = "other".into())).is_empty());
        assert!(ignored(&key, &rule(|r| r.namespace = "other".into())).is_empty());
        assert!(ignored(&key, &rule(|r| r.group = String::new())).is_empty());
    }

    fn managed(mut object: Value, managers: &[(&str, Value)]) -> Value {
        let entry = |(manager, fields): &(&str, Value)| json!({"manager": manager, "fieldsV1": fields});
        object["metadata"]["managedFields"] = managers.iter().map(entry).collect();
        object
    }

    #[test]
    fn ignored_fields_are_kept_and_make_no_difference() {
        let replicas = json!({"f:spec": {"f:replicas": {}}});
        let kept = |live: Option<i64>, managers: &[(&str, Value)]| {
            let mut wanted = deployment(Some(2));
            keep_live(&mut wanted, &managed(deployment(live), managers), &["/spec/replicas"]);
            wanted
        };
        assert_eq!(kept(Some(5), &[("serin", replicas.clone())]), deployment(None));
        assert_eq!(kept(Some(5), &[(FIELD_MANAGER, replicas.clone())]), deployment(Some(5)));
        assert_eq!(
            kept(
                Some(5),
                &[(FIELD_MANAGER, replicas.clone()), ("serin", replicas.clone())]
            ),
            deployment(None)
        );
        assert_eq!(
            kept(Some(5), &[(FIELD_MANAGER, json!({"f:spec": {"f:paused": {}}}))]),
            deployment(None)
        );
        assert_eq!(kept(None, &[]), deployment(None));
        assert!(same(&deployment(Some(1)), &deployment(Some(2)), &["/spec/replicas"]));
        assert!(!same(&deployment(Some(1)), &deployment(Some(2)), &[]));
    }

    #[test]
    fn pointers_reach_escaped_keys_and_list_items() {
        let live =
            json!({"metadata": {"annotations": {"a/b": "live"}}, "spec": {"rules": [{"weight": 1}, {"weight": 2}]}});
        let all = json!({"f:metadata": {"f:annotations": {"f:a/b": {}}}, "f:spec": {"f:rules": {}}});
        let mut wanted = json!({"spec": {"rules": [{"weight": 9}, {"weight": 9}]}});
        let pointers = [
            "/metadata/annotations/a~1b",
            "/spec/rules/1/weight",
            "/spec/rules/7/weight",
        ];
        keep_live(&mut wanted, &managed(live, &[(FIELD_MANAGER, all)]), &pointers);
        let expected =
            json!({"metadata": {"annotations": {"a/b": "live"}}, "spec": {"rules": [{"weight": 9}, {"weight": 2}]}});
        assert_eq!(wanted, expected);
        remove(&mut wanted, "/spec/rules/0");
        assert_eq!(wanted["spec"]["rules"], json!([{"weight": 2}]));
    }

    #[test]
    fn what_the_server_writes_makes_no_difference() {
        let mut live = deployment(None);
        live["metadata"]["resourceVersion"] = json!("7");
        live["status"] = json!({"replicas": 1});
        assert!(same(&deployment(None), &live, &[]));
    }

    #[test]
    fn an_applied_object_says_whose_it_is() {
        let mut object = deployment(None);
        let key = Key::of(&object, "ns").unwrap();
        adopt(&mut object, &key, "app").unwrap();
        assert_eq!(object["metadata"]["annotations"][TRACKING], "app:apps/Deployment:ns/d");
        assert_eq!(object["metadata"]["namespace"], "ns");
        assert!(is_tracked(&object, &key, "app"));
        assert!(!is_tracked(&object, &key, "another"));
        assert!(!is_tracked(&deployment(None), &key, "app"));
    }
}
