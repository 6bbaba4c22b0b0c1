//! Flux's Kustomization and the GitRepository that it comes from. What they say is read without the cluster.

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use kube::Client;
use serde_json::{Value, json};
use serin_core::rollout::short;

use super::{Blocked, Kind, Of, Report, SIGN, is_commit, list, quoted, text};

/// Flux looks when its value changes, and says so in `status.lastHandledReconcileAt`.
const REQUESTED: &str = "reconcile.fluxcd.io/requestedAt";

/// Which objects bring the rollout.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// Of both.
    pub namespace: &'a str,
    pub kustomization: Option<&'a str>,
    /// Without it, the source of the Kustomization.
    pub git_repository: Option<&'a str>,
}

/// What was found of them.
struct Objects {
    kustomizations: Kind,
    kustomization: Option<(String, Value)>,
    sources: Kind,
    source: Option<(String, Value)>,
}

impl Objects {
    /// The objects, if they bring this rollout to this cluster: no rollout may disturb what is not its own.
    async fn read(
        client: &Client,
        names: Names<'_>,
        of: Of<'_>,
        is_repository: &(dyn Fn(&str) -> bool + Send + Sync),
    ) -> anyhow::Result<Self> {
        let kustomizations = Kind::new(
            client,
            names.namespace,
            ("kustomize.toolkit.fluxcd.io", "v1", "Kustomization", "kustomizations"),
        );
        let mut kustomization = None;
        if let Some(name) = names.kustomization {
            let object = kustomizations.get(name).await?;
            ensure!(
                applies(&object, of),
                "the Kustomization {}/{name} does not apply the rollout {}/{} in this cluster; correct spec.flux",
                names.namespace,
                of.namespace,
                of.name
            );
            kustomization = Some((name.to_owned(), object));
        }
        let derived = kustomization
            .as_ref()
            .and_then(|(_, object)| source_of(object, names.namespace));
        let (namespace, source) = match (names.git_repository, derived) {
            (Some(name), _) => (names.namespace.to_owned(), Some(name.to_owned())),
            (None, Some((namespace, name))) => (namespace, Some(name)),
            (None, None) => (names.namespace.to_owned(), None),
        };
        let sources = Kind::new(
            client,
            &namespace,
            ("source.toolkit.fluxcd.io", "v1", "GitRepository", "gitrepositories"),
        );
        let source = match source {
            None => None,
            Some(name) => {
                let object = sources.get(&name).await?;
                ensure!(
                    is_repository(text(&object, "/spec/url")),
                    "the GitRepository {namespace}/{name} is not the repository of the rollout {}/{}; correct spec.flux",
                    of.namespace,
                    of.name
                );
                Some((name, object))
            }
        };
        Ok(Self {
            kustomizations,
            kustomization,
            sources,
            source,
        })
    }
}

/// Asks the source to fetch and the Kustomization to apply.
///
/// # Errors
/// When there are no such objects, when they are another rollout's, or when the API server refuses. Flux polls by itself, so
/// nothing depends on it but time.
pub async fn refresh(
    client: &Client,
    names: Names<'_>,
    of: Of<'_>,
    is_repository: &(dyn Fn(&str) -> bool + Send + Sync),
    now: Timestamp,
) -> anyhow::Result<()> {
    let objects = Objects::read(client, names, of, is_repository).await?;
    let asked = json!({ REQUESTED: now.to_string() });
    if let Some((name, _)) = &objects.source {
        objects.sources.annotate(name, asked.clone()).await?;
    }
    if let Some((name, _)) = &objects.kustomization {
        objects.kustomizations.annotate(name, asked).await?;
    }
    Ok(())
}

/// What Flux says of its commits.
///
/// # Errors
/// As [`refresh`].
pub async fn look(
    client: &Client,
    names: Names<'_>,
    of: Of<'_>,
    is_repository: &(dyn Fn(&str) -> bool + Send + Sync),
) -> anyhow::Result<Report> {
    let objects = Objects::read(client, names, of, is_repository)
        .await
        .context("reading where Flux stands")?;
    Ok(read(objects.kustomization.as_ref(), objects.source.as_ref()))
}

/// The GitRepository that a Kustomization comes from: its namespace and its name.
fn source_of(kustomization: &Value, namespace: &str) -> Option<(String, String)> {
    let field = |field: &str| text(kustomization, &format!("/spec/sourceRef/{field}"));
    if field("kind") != "GitRepository" || field("name").is_empty() {
        return None;
    }
    let namespace = Some(field("namespace")).filter(|n| !n.is_empty()).unwrap_or(namespace);
    Some((namespace.to_owned(), field("name").to_owned()))
}

/// The commit in `main@sha1:…`.
fn commit(revision: &str) -> Option<String> {
    let commit = revision.rsplit([':', '/']).next()?;
    is_commit(commit).then(|| commit.to_owned())
}

fn read(kustomization: Option<&(String, Value)>, source: Option<&(String, Value)>) -> Report {
    let mut report = Report::default();
    let mut words = Vec::new();
    if let Some((name, object)) = source {
        report.seen.extend(commit(text(object, "/status/artifact/revision")));
        report.blocked = blocked("GitRepository", "source git", name, object);
        if let Some(commit) = report.seen.first() {
            words.push(format!("Flux's GitRepository {name} has fetched {}", short(commit)));
        }
    }
    if let Some((name, object)) = kustomization {
        report
            .applied
            .extend(commit(text(object, "/status/lastAppliedRevision")));
        report
            .seen
            .extend(commit(text(object, "/status/lastAttemptedRevision")));
        let own = blocked("Kustomization", "kustomization", name, object);
        report.blocked = report.blocked.or(own);
        if let Some(commit) = report.applied.first() {
            words.push(format!("Flux's Kustomization {name} has applied {}", short(commit)));
        }
    }
    report.says = if words.is_empty() {
        "Flux says of no commit that it knows it".to_owned()
    } else {
        words.join("; ")
    };
    report
}

fn blocked(kind: &str, command: &str, name: &str, object: &Value) -> Option<Blocked> {
    if object.pointer("/spec/suspend") == Some(&Value::Bool(true)) {
        let words = format!("Flux's {kind} {name} is suspended: `flux resume {command} {name}`");
        return Some(Blocked::new("Suspended", words));
    }
    let fails = |kind: &str| {
        list(object, "/status/conditions").find(|c| text(c, "/type") == kind && text(c, "/status") == "False")
    };
    if let Some(condition) = fails("SourceVerified") {
        let why = quoted(text(condition, "/message"));
        let words = format!("Flux's {kind} {name} refuses the commit ({why}): {SIGN}");
        return Some(Blocked::new("SignatureRequired", words));
    }
    let condition = fails("Ready")?;
    let (reason, why) = (text(condition, "/reason"), quoted(text(condition, "/message")));
    let words = format!("Flux's {kind} {name} is not ready ({reason}): {why}; see `flux get {command} {name}`");
    Some(Blocked::new("FluxNotReady", words))
}

/// Whether the Kustomization applies to this cluster, and lists this rollout among what it applied.
fn applies(kustomization: &Value, of: Of<'_>) -> bool {
    let id = format!("{}_{}_{}_{}", of.namespace, of.name, crate::api::GROUP, Of::kind());
    let is_here = kustomization.pointer("/spec/kubeConfig").is_none();
    is_here && list(kustomization, "/status/inventory/entries").any(|entry| text(entry, "/id") == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha(c: char) -> String {
        c.to_string().repeat(40)
    }

    fn kustomization(changes: Value) -> (String, Value) {
        let mut object = json!({
            "spec": { "sourceRef": { "kind": "GitRepository", "name": "config" } },
            "status": {
                "lastAppliedRevision": format!("main@sha1:{}", sha('a')),
                "lastAttemptedRevision": format!("main@sha1:{}", sha('b')),
                "inventory": { "entries": [{ "id": "prod_web_serin.dev_CanaryRollout", "v": "v1alpha1" }] },
                "conditions": [{ "type": "Ready", "status": "True", "reason": "ReconciliationSucceeded" }],
            },
        });
        json_patch(&mut object, changes);
        ("apps".to_owned(), object)
    }

    fn json_patch(into: &mut Value, from: Value) {
        match (into, from) {
            (Value::Object(into), Value::Object(from)) => {
                for (key, value) in from {
                    json_patch(into.entry(key).or_insert(Value::Null), value);
                }
            }
            (into, from) => *into = from,
        }
    }

    #[test]
    fn only_the_kustomization_that_applies_the_rollout_here_is_asked() {
        let of = |name| Of {
            namespace: "prod",
            name,
        };
        let (_, ours) = kustomization(json!({}));
        assert!(applies(&ours, of("web")) && !applies(&ours, of("other")));
        let (_, elsewhere) = kustomization(json!({ "spec": { "kubeConfig": { "secretRef": {} } } }));
        assert!(!applies(&elsewhere, of("web")));
    }

    #[test]
    fn what_was_applied_is_read_from_the_kustomization_and_what_is_known_from_its_source() {
        let source = json!({ "status": { "artifact": { "revision": format!("main@sha1:{}", sha('c')) } } });
        let report = read(Some(&kustomization(json!({}))), Some(&("config".to_owned(), source)));
        assert_eq!(report.applied, [sha('a')]);
        assert_eq!(report.seen, [sha('c'), sha('b')]);
        assert!(
            report.blocked.is_none() && report.says.contains("has fetched cccc"),
            "{report:?}"
        );
        assert_eq!(commit("main/0123"), None);
    }

    #[test]
    fn the_source_stands_in_the_kustomizations_namespace_unless_it_says_another() {
        let (_, own) = kustomization(json!({}));
        assert_eq!(source_of(&own, "flux-system").unwrap().0, "flux-system");
        let (_, other) = kustomization(json!({ "spec": { "sourceRef": { "namespace": "teams" } } }));
        assert_eq!(source_of(&other, "flux-system").unwrap().0, "teams");
        let (_, bucket) = kustomization(json!({ "spec": { "sourceRef": { "kind": "Bucket" } } }));
        assert_eq!(source_of(&bucket, "flux-system"), None);
    }

    #[test]
    fn what_blocks_flux_is_named_with_what_to_do_about_it() {
        let condition = |kind: &str, reason: &str, message: &str| json!({ "status": { "conditions": [{ "type": kind, "status": "False", "reason": reason, "message": message }] } });
        for (changes, reason, says) in [
            (json!({ "spec": { "suspend": true } }), "Suspended", "flux resume"),
            (
                condition("Ready", "BuildFailed", "kustomize build failed: no such file"),
                "FluxNotReady",
                "no such file",
            ),
            (
                condition("SourceVerified", "InvalidCommitSignature", "no signature"),
                "SignatureRequired",
                "spec.git.signing",
            ),
        ] {
            let object = kustomization(changes);
            for (kind, report) in [
                ("Kustomization", read(Some(&object), None)),
                ("GitRepository", read(None, Some(&object))),
            ] {
                let blocked = report.blocked.unwrap();
                assert_eq!(blocked.reason, reason);
                assert!(
                    blocked.words.contains(says) && blocked.words.contains(kind),
                    "{blocked}"
                );
            }
        }
    }
}
