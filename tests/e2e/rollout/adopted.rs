//! A route that stands in Git: Serin moves two weights in it, and leaves everything else, and the route itself, alone.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use kube::api::DeleteParams;
use lab::{
    Lab,
    site::{Environment, SERVICE, Site},
};
use serde_json::{Value, json};

use super::{
    refused::{names, patch},
    site::{environment, site},
    witness::{PROMOTION, ROLLBACK, commits, no_other_call_failed, traffic_away, weights},
};
use crate::story::{SOON, eventually};

const ROUTE: &str = "user-service-in-git";

/// The testers' rule, the rule of all calls, and one more with a filter and a third backend.
fn manifest(namespace: &str) -> Value {
    let backend =
        |name: &str, weight: i64| json!({ "name": name, "namespace": namespace, "port": 50051, "weight": weight });
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GRPCRoute",
        "metadata": { "name": ROUTE, "namespace": namespace, "labels": { "team": "users" } },
        "spec": {
            "parentRefs": [{ "group": "core", "kind": "Service", "name": SERVICE, "namespace": namespace, "port": 50051 }],
            "rules": [
                {
                    "matches": [{ "headers": [{ "name": "x-canary", "value": "always" }] }],
                    "backendRefs": [backend("user-service-canary", 1)],
                },
                { "backendRefs": [backend("user-service-stable", 100), backend("user-service-canary", 0)] },
                {
                    "matches": [{ "method": { "service": "elsewhere.Other", "method": "Do" } }],
                    "filters": [{
                        "type": "RequestHeaderModifier", "requestHeaderModifier": { "set": [{ "name": "x-rule", "value": "3" }] },
                    }],
                    "backendRefs": [
                        backend(SERVICE, 1_000), backend("user-service-canary", 0), backend("user-service-stable", 9_000),
                    ],
                },
            ],
        },
    })
}

/// The part of the route that people wrote.
async fn read(site: &Site, namespace: &str) -> anyhow::Result<Value> {
    let text = site
        .kubectl(&["get", "grpcroute", ROUTE, "-n", namespace, "-o", "json"], b"")
        .await?;
    let route: Value = serde_json::from_str(&text)?;
    let part = |pointer: &str| route.pointer(pointer).cloned().unwrap_or_default();
    Ok(json!({
        "labels": part("/metadata/labels"), "annotations": part("/metadata/annotations"),
        "owners": part("/metadata/ownerReferences"), "uid": part("/metadata/uid"), "spec": part("/spec"),
    }))
}

/// Brings the environment up while somebody else brings the route, in whichever order that happens.
async fn start(lab: &Arc<Lab>, name: &str) -> anyhow::Result<Environment> {
    let (site, namespace) = (site(lab).await?, format!("user-service-{name}"));
    let route = manifest(&namespace).to_string();
    let applied = eventually("the route is there", Duration::from_secs(90), || async {
        site.kubectl(
            &["apply", "--server-side", "--field-manager", "people", "-f", "-"],
            route.as_bytes(),
        )
        .await
    });
    let values = json!({ "rollout": { "route": { "adopt": ROUTE } } });
    let (environment, _) = tokio::try_join!(environment(lab, name, values), applied)?;
    Ok(environment)
}

pub(super) async fn route(lab: Arc<Lab>) -> anyhow::Result<()> {
    let environment = start(&lab, "adopted").await?;
    let namespace = environment.namespace();
    let original = read(&environment.site, &namespace).await?;

    environment.commit("1.1.0", None).await?;
    environment.until_phase("Promoted", "1.1.0", PROMOTION).await?;
    ensure!(
        weights(&environment)? == [0, 10, 25, 50, 100, 75, 50, 0],
        "{:?}",
        weights(&environment)?
    );
    let promoted = read(&environment.site, &namespace).await?;
    ensure!(promoted == original, "promoting left {promoted}, not {original}");

    environment.commit("1.2.0", None).await?;
    environment.until_phase("RolledBack", "1.2.0", ROLLBACK).await?;
    ensure!(
        commits(&environment, "rollback", "1.2.0").await? == 1,
        "not one rollback commit"
    );
    let rolled_back = read(&environment.site, &namespace).await?;
    ensure!(
        rolled_back == original,
        "rolling back left {rolled_back}, not {original}"
    );
    is_written_by_serin(&environment)?;

    refuses(&environment).await?;
    is_left_alone(&environment, &original).await
}

/// As for a generated route, but its first write is not Serin's.
fn is_written_by_serin(environment: &Environment) -> anyhow::Result<()> {
    let strangers = environment.weights()?;
    let account = format!(
        "system:serviceaccount:{}:serin-{}",
        environment.namespace(),
        environment.name
    );
    let mut others = strangers.iter().skip_while(|write| write.user != account);
    ensure!(
        others.all(|write| write.user == account),
        "somebody else wrote a weight: {strangers:?}"
    );
    Ok(())
}

/// Routes that can't be adopted are refused by the field's name.
async fn refuses(environment: &Environment) -> anyhow::Result<()> {
    let application = environment.application();
    environment.site.argocd.pause_application(&application).await?;
    let mut half = manifest(&environment.namespace());
    for (pointer, value) in [
        ("/metadata/name", json!("half")),
        ("/metadata/namespace", json!(environment.namespace())),
    ] {
        *half.pointer_mut(pointer).context("no such field")? = value;
    }
    // No rule is left but the testers', which names the canary only.
    half.pointer_mut("/spec/rules")
        .and_then(Value::as_array_mut)
        .context("no rules")?
        .truncate(1);
    // It is nobody's parent's, so that the mesh does not follow it.
    *half.pointer_mut("/spec/parentRefs/0/port").context("no port")? = json!(80);
    environment
        .site
        .kubectl(&["apply", "-f", "-"], half.to_string().as_bytes())
        .await?;
    for name in ["nobody", "half"] {
        patch(environment, &json!({ "route": { "adopt": name } })).await?;
        names(environment, "spec.route.adopt").await?;
    }
    let text = environment
        .site
        .kubectl(
            &["get", "grpcroutes", "-n", &environment.namespace(), "-o", "name"],
            b"",
        )
        .await?;
    ensure!(text.lines().count() == 2, "a route was made or taken away: {text}");
    patch(environment, &json!({ "route": { "adopt": ROUTE } })).await?;
    let valid = |s: &serin::api::CanaryRolloutStatus| {
        s.conditions
            .iter()
            .any(|c| c.type_ == "SpecValid" && c.status == "True")
    };
    environment.until("the spec makes sense again", SOON, valid).await?;
    Ok(())
}

const OWNED: &str = "owned-by-the-rollout";

/// Something that goes with the rollout: when it is gone, the garbage collector has looked at all that the rollout owned.
async fn owned(environment: &Environment) -> anyhow::Result<()> {
    let rollout = environment.rollouts().get(SERVICE).await?;
    let owner = json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "CanaryRollout", "name": SERVICE, "uid": rollout.metadata.uid,
    });
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": OWNED, "namespace": environment.namespace(), "ownerReferences": [owner] },
    });
    environment
        .site
        .kubectl(&["create", "-f", "-"], object.to_string().as_bytes())
        .await?;
    Ok(())
}

/// The rollout goes in the middle of a trial: the weights go back, and what the route names stays.
async fn is_left_alone(environment: &Environment, original: &Value) -> anyhow::Result<()> {
    let application = environment.application();
    environment.site.argocd.resume_application(&application).await?;
    environment.commit("1.1.1", None).await?;
    let shifting = |s: &serin::api::CanaryRolloutStatus| s.weight.is_some_and(|w| w.observed >= 25);
    environment.until("1.1.1 gets traffic", ROLLBACK, shifting).await?;
    environment.site.argocd.pause_application(&application).await?;
    owned(environment).await?;
    environment
        .rollouts()
        .delete(SERVICE, &DeleteParams::foreground())
        .await?;
    eventually("the rollout is gone", Duration::from_secs(60), || async {
        let left = environment.rollouts().get_opt(SERVICE).await?;
        ensure!(left.is_none(), "it is still there");
        Ok(())
    })
    .await?;
    // The garbage collector has been here, and there were calls after it.
    eventually("what the rollout owned is gone", SOON, || async {
        let namespace = environment.namespace();
        let get = [
            "get",
            "configmap",
            OWNED,
            "-n",
            &namespace,
            "--ignore-not-found",
            "-o",
            "name",
        ];
        let left = environment.site.kubectl(&get, b"").await?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })
    .await?;
    let collected = environment.calls()?.len();
    eventually("there are calls after it", SOON, || async {
        ensure!(environment.calls()?.len() >= collected + 60, "not a second of calls");
        Ok(())
    })
    .await?;
    traffic_away(environment)?;
    let namespace = environment.namespace();
    let left = read(&environment.site, &namespace).await?;
    ensure!(left == *original, "deleting left {left}, not {original}");
    for service in ["user-service-stable", "user-service-canary"] {
        environment
            .site
            .kubectl(&["get", "service", service, "-n", &namespace], b"")
            .await
            .context("the adopted route names it")?;
    }
    no_other_call_failed(environment, "1.2.0", "that did not meet the bad revision")
}
