//! Serin's permissions, judged at the end by what the API server wrote down of all stories: none was missing, and none is there that
//! nothing uses. It must not know any story.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, ensure};
use lab::{
    Lab,
    audit::Asked,
    process::{Output, Program},
    project_root,
};
use serde::Deserialize as _;
use serde_json::Value;

/// What the API server asks about in the course of other requests, so that it never is one: to make an object that keeps its
/// owner from going. The lab's API server does ask (an admission plugin), and without it no Service could be made.
const ASKED_INWARDLY: [[&str; 3]; 1] = [["serin.dev", "canaryrollouts/finalizers", "update"]];
/// What the chart lets Serin read, of all Secrets.
const SECRETS: [&str; 1] = ["config-repo"];

/// A group, a resource and a verb.
type Permission = [String; 3];

/// That nothing was refused which Serin needs; and, when all stories were told, that one of them uses each permission.
pub(crate) async fn judge(lab: &Lab, all_stories: bool) -> anyhow::Result<String> {
    let Some(log) = lab.control_plane.audit_log() else {
        return Ok("this cluster gives no audit log to read".to_owned());
    };
    let asked: Vec<Asked> = log
        .asked_by("system:serviceaccount:")?
        .into_iter()
        .filter(|asked| {
            asked
                .user
                .rsplit(':')
                .next()
                .is_some_and(|name| name.starts_with("serin"))
        })
        .collect();
    let refused = asked
        .iter()
        .find(|asked| asked.code == 403 && !is_none_of_its_business(asked));
    ensure!(refused.is_none(), "the chart's Role lacks a permission: {refused:?}");
    let used: BTreeSet<Permission> = asked
        .iter()
        .filter(|asked| asked.code < 400)
        .map(|asked| [asked.group.clone(), asked.resource.clone(), asked.verb.clone()])
        .collect();
    let given = given(lab).await?;
    let strange: Vec<_> = used.difference(&given).collect();
    ensure!(
        strange.is_empty() || asked.is_empty(),
        "Serin did what the chart does not allow: {strange:?}"
    );
    let unused: Vec<_> = given.difference(&used).collect();
    ensure!(
        !all_stories || unused.is_empty(),
        "no story uses {unused:?}: take it out of the chart's Role, or tell the story that needs it"
    );
    Ok(format!("{} permissions, {} of them used", given.len(), used.len()))
}

/// What stories try that Serin must not have: the Secrets of others, Applications elsewhere; and the clients' namespaces, in
/// which the preflight looks where it may.
fn is_none_of_its_business(asked: &Asked) -> bool {
    match asked.resource.as_str() {
        "secrets" => !SECRETS.contains(&asked.name.as_str()),
        "applications" => asked.namespace != "argocd",
        // An environment's own Serin has a Role in its namespace and nothing else.
        "serviceprofiles" | "grpcroutes" | "httproutes" | "trafficsplits" => {
            asked.verb == "list" && asked.namespace.is_empty() && asked.user.contains(":serin-")
        }
        _ => false,
    }
}

/// What the chart allows.
async fn given(lab: &Lab) -> anyhow::Result<BTreeSet<Permission>> {
    let helm = Program::new(&lab.tools.helm)
        .args(["template", "serin"])
        .arg(project_root().join("deploy/charts/serin"))
        .args([
            "--namespace",
            "serin",
            "--set",
            "clusterId=lab,namespaced=true,flux.namespace=flux-system,hooks.jobs=true",
        ]);
    let manifests = helm.output(Duration::from_secs(60)).await.and_then(Output::text)?;
    let mut given = BTreeSet::new();
    for document in manifests.split("\n---").filter(|text| text.contains("kind: Role\n")) {
        let role: Value = serde_saphyr::from_str(document.trim_start_matches("---"))
            .with_context(|| format!("reading a Role of the chart: {document}"))?;
        for rule in role.get("rules").and_then(Value::as_array).into_iter().flatten() {
            let words = |field: &str| Vec::<String>::deserialize(rule.get(field).unwrap_or(&Value::Null));
            for group in words("apiGroups")? {
                for resource in words("resources")? {
                    for verb in words("verbs")? {
                        given.insert([group.clone(), resource.clone(), verb]);
                    }
                }
            }
        }
    }
    ensure!(!given.is_empty(), "the chart has no Role");
    for inward in ASKED_INWARDLY {
        ensure!(given.remove(&inward.map(str::to_owned)), "the chart lacks {inward:?}");
    }
    Ok(given)
}
