//! Argo CD's Application, with one source, several, or hydrated ones. What it says is read without the cluster.

use anyhow::ensure;
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use serde_json::{Value, json};
use serin_core::rollout::short;

use super::windows::Windows;
use super::{Blocked, Kind, Of, Report, SIGN, is_commit, is_signature, list, quoted, text};

/// Argo CD removes them when it has looked.
const REFRESH: &str = "argocd.argoproj.io/refresh";
const HYDRATE: &str = "argocd.argoproj.io/hydrate";
/// Somebody told Argo CD to look away.
const SKIP: &str = "argocd.argoproj.io/skip-reconcile";
/// How an Application names the cluster that Argo CD itself runs in.
const HERE: [&str; 2] = ["https://kubernetes.default.svc", "in-cluster"];
/// An operation that runs longer waits for something.
const LONG: SignedDuration = SignedDuration::from_secs(60);

fn applications(client: &Client, namespace: &str) -> Kind {
    Kind::new(
        client,
        namespace,
        ("argoproj.io", "v1alpha1", "Application", "applications"),
    )
}

/// The Application, if it applies this rollout here: no rollout may disturb an Application that is not its own.
async fn own(kind: &Kind, name: &str, of: Of<'_>) -> anyhow::Result<Value> {
    let object = kind.get(name).await?;
    ensure!(
        applies(&object, of),
        "the Application {}/{name} does not apply the rollout {}/{} in this cluster; correct spec.argocd",
        kind.namespace,
        of.namespace,
        of.name
    );
    Ok(object)
}

/// Asks for a refresh of the Application that applies this rollout; one that hydrates is asked to do that first.
///
/// # Errors
/// When there is no such Application, when it is another rollout's, or when the API server refuses. Argo CD polls Git by
/// itself, so nothing depends on it but time.
pub async fn refresh(client: &Client, namespace: &str, application: &str, of: Of<'_>) -> anyhow::Result<()> {
    let kind = applications(client, namespace);
    let object = own(&kind, application, of).await?;
    let mut annotations = json!({ REFRESH: "normal" });
    if is_hydrated(&object)
        && let Some(map) = annotations.as_object_mut()
    {
        map.insert(HYDRATE.to_owned(), json!("normal"));
    }
    kind.annotate(application, annotations).await
}

/// What the Application says of its commits at this moment.
///
/// # Errors
/// As [`refresh`].
pub async fn look(
    client: &Client,
    namespace: &str,
    application: &str,
    of: Of<'_>,
    now: Timestamp,
) -> anyhow::Result<Report> {
    let object = own(&applications(client, namespace), application, of).await?;
    let project = text(&object, "/spec/project");
    let projects = Kind::new(
        client,
        namespace,
        ("argoproj.io", "v1alpha1", "AppProject", "appprojects"),
    );
    // Who may not read it knows no window.
    let project = projects
        .get(if project.is_empty() { "default" } else { project })
        .await
        .ok();
    Ok(read(application, &object, project.as_ref(), now))
}

fn is_hydrated(application: &Value) -> bool {
    application.pointer("/spec/sourceHydrator").is_some()
}

/// `revision`, or all of `revisions`.
fn revisions(value: &Value, pointer: &str) -> Vec<String> {
    let several = format!("{pointer}/revisions");
    let one = text(value, &format!("{pointer}/revision"));
    let all = list(value, &several).filter_map(Value::as_str).chain([one]);
    let mut commits: Vec<String> = all.filter(|text| is_commit(text)).map(str::to_owned).collect();
    commits.dedup();
    commits
}

fn read(name: &str, application: &Value, project: Option<&Value>, now: Timestamp) -> Report {
    let phase = text(application, "/status/operationState/phase");
    let synced = text(application, "/status/sync/status");
    let (mut seen, mut applied) = (revisions(application, "/status/sync"), Vec::new());
    if phase == "Succeeded" {
        applied = revisions(application, "/status/operationState/syncResult");
        // A later commit that changes nothing here needs no operation.
        if synced == "Synced" {
            applied.extend(seen.clone());
        }
    }
    if is_hydrated(application) {
        // What is synced is a commit of the hydrated branch; the one that it was made of is ours.
        let of = |field: &str| text(application, &format!("/status/sourceHydrator/{field}")).to_owned();
        let (dry, hydrated) = (
            of("lastSuccessfulOperation/drySHA"),
            of("lastSuccessfulOperation/hydratedSHA"),
        );
        let is_in = |commits: &[String]| commits.contains(&hydrated) && is_commit(&dry);
        (seen, applied) = (
            if is_in(&seen) { vec![dry.clone()] } else { vec![] },
            if is_in(&applied) { vec![dry] } else { vec![] },
        );
    }
    let says = match seen.first() {
        Some(commit) => format!("Argo CD's Application {name} is {synced} at {}", short(commit)),
        None => format!("Argo CD's Application {name} says of no commit that it knows it"),
    };
    let windows = Windows::about(name, application, project);
    Report {
        blocked: blocked(name, application, &windows, now),
        held: held(name, application, &windows),
        applied,
        seen,
        says,
    }
}

/// What keeps an Application from a new sync.
fn blocked(name: &str, application: &Value, windows: &Windows<'_>, now: Timestamp) -> Option<Blocked> {
    let skip = format!("/metadata/annotations/{}", SKIP.replace('/', "~1"));
    if text(application, &skip) == "true" {
        let words = format!("Argo CD skips the Application {name}: take its annotation {SKIP} away");
        return Some(Blocked::new("ReconcileSkipped", words));
    }
    if text(application, "/status/sourceHydrator/currentOperation/phase") == "Failed" {
        let why = quoted(text(application, "/status/sourceHydrator/currentOperation/message"));
        let words = format!("Argo CD cannot hydrate the Application {name}: {why}; mend what it renders");
        return Some(Blocked::new("HydrationFailed", words));
    }
    let operation = "/status/operationState";
    let field = |field: &str| text(application, &format!("{operation}/{field}"));
    let (phase, message) = (field("phase"), quoted(field("message")));
    let retries = application
        .pointer(&format!("{operation}/retryCount"))
        .and_then(Value::as_i64)
        .unwrap_or_default();
    let terminate = format!("`argocd app terminate-op {name}`");
    match phase {
        "Running" | "Terminating" if message.to_lowercase().contains("sync window") => {
            return Some(windows.hold_up(name));
        }
        "Running" if retries > 0 => {
            let words = format!(
                "Argo CD's Application {name} tries a failed sync again ({retries} times so far: {message}) and takes no newer commit meanwhile: end it with {terminate}, and set syncPolicy.retry.refresh: true"
            );
            return Some(Blocked::new("OperationRetries", words));
        }
        "Running" | "Terminating" => {
            let began: Option<Timestamp> = field("startedAt").parse().ok();
            let since = began.map(|began| now.duration_since(began));
            if since.is_some_and(|since| since > LONG) {
                let words = format!(
                    "a sync operation of Argo CD's Application {name} has run for {} s ({message}) and takes no newer commit meanwhile: see what it waits for (a hook, a wave), or end it with {terminate}",
                    since.map_or(0, |since| since.as_secs())
                );
                return Some(Blocked::new("OperationRunning", words));
            }
        }
        "Failed" | "Error" if is_signature(&message) => return Some(signature(name, &message)),
        "Failed" | "Error" => {
            let words = format!(
                "the last sync of Argo CD's Application {name} failed: {message}; mend it, or sync again with `argocd app sync {name}`"
            );
            return Some(Blocked::new("SyncFailed", words));
        }
        _ => {}
    }
    let error = list(application, "/status/conditions").find(|c| text(c, "/type").ends_with("Error"))?;
    let why = quoted(text(error, "/message"));
    Some(if is_signature(&why) {
        signature(name, &why)
    } else {
        let words = format!(
            "Argo CD's Application {name} reports {}: {why}; it applies nothing before that is mended",
            text(error, "/type")
        );
        Blocked::new("ApplicationError", words)
    })
}

/// What keeps an Application from applying what it has compared with.
fn held(name: &str, application: &Value, windows: &Windows<'_>) -> Option<Blocked> {
    let automated = application.pointer("/spec/syncPolicy/automated");
    let is_on = automated.is_some_and(|automated| automated.get("enabled") != Some(&Value::Bool(false)));
    if !is_on {
        let words = format!(
            "automatic sync of Argo CD's Application {name} is off: sync it with `argocd app sync {name}`, or turn it on"
        );
        return Some(Blocked::new("NoAutoSync", words));
    }
    // It orders a sync before it says that it is out of sync, unless a window is in the way.
    let is_ordered = application
        .get("operation")
        .is_some_and(|operation| !operation.is_null());
    let is_on_its_way = is_ordered || text(application, "/status/operationState/phase") == "Running";
    let is_behind = text(application, "/status/sync/status") == "OutOfSync";
    (!windows.is_empty() && is_behind && !is_on_its_way).then(|| windows.keep_away(name))
}

fn signature(name: &str, why: &str) -> Blocked {
    let words = format!("Argo CD's Application {name} refuses the commit ({why}): {SIGN}");
    Blocked::new("SignatureRequired", words)
}

/// Whether the Application goes to this cluster and this namespace, and lists this rollout among what it applied.
fn applies(application: &Value, of: Of<'_>) -> bool {
    let here = ["server", "name"]
        .iter()
        .any(|field| HERE.contains(&text(application, &format!("/spec/destination/{field}"))));
    let lists = list(application, "/status/resources").any(|resource| {
        text(resource, "/group") == crate::api::GROUP
            && text(resource, "/kind") == Of::kind()
            && text(resource, "/namespace") == of.namespace
            && text(resource, "/name") == of.name
    });
    here && text(application, "/spec/destination/namespace") == of.namespace && lists
}

#[cfg(test)]
#[path = "argocd_tests.rs"]
mod tests;
