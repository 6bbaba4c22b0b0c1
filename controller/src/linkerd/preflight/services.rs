//! The kind of route, the apex and the arms' Services. Must not know pods.

use serde_json::Value;

use super::Line;
use super::facts::{Facts, list, named, selects};

const API: &str = "kubernetes-api";
const GROUP: &str = "services";
/// What a Deployment's pods are labelled with.
const LABELS: &str = "/spec/template/metadata/labels";

pub(super) fn kind_is_served(facts: &Facts) -> Line {
    let route = &facts.route;
    let line = Line::new(API, format!("the cluster serves {} of {}", route.kind, route.group));
    match &facts.versions {
        Err(why) => line.unread(why),
        Ok(versions) if versions.is_empty() => line.fail(
            "it serves no version that Serin can use",
            "install the CRDs of that group, or choose another spec.route.kind",
        ),
        Ok(_) => line,
    }
}

pub(super) fn check(facts: &Facts) -> Vec<Line> {
    let (services, deployments) = match (&facts.services, &facts.deployments) {
        (Ok(services), Ok(deployments)) => (services, deployments),
        (Err(why), _) | (_, Err(why)) => {
            return vec![Line::new(GROUP, "Services and Deployments can be read").unread(why)];
        }
    };
    let mut lines = Vec::new();
    for (field, deployment) in [
        ("spec.stable.deployment", &facts.stable),
        ("spec.canary.deployment", &facts.canary),
    ] {
        let line = Line::new(GROUP, format!("the Deployment {deployment} exists"));
        lines.push(match named(deployments, deployment) {
            Some(_) => line,
            None => line.fail("there is none of this name", format!("deploy it, or correct {field}")),
        });
    }
    lines.push(apex_exists(facts, services));
    if let Some(apex) = named(services, &facts.apex) {
        lines.push(apex_selects_stable(facts, apex, deployments));
    }
    for (service, deployment) in [
        (&facts.stable_service, &facts.stable),
        (&facts.canary_service, &facts.canary),
    ] {
        lines.push(arm(facts, services, service, named(deployments, deployment)));
    }
    lines
}

fn has_port(service: &Value, port: u16) -> bool {
    list(service, "/spec/ports").any(|p| p.get("port").and_then(Value::as_u64) == Some(port.into()))
}

fn apex_exists(facts: &Facts, services: &[Value]) -> Line {
    let (apex, port) = (&facts.apex, facts.port);
    let line = Line::new(GROUP, format!("the apex Service {apex} exists and has port {port}"));
    match named(services, apex) {
        None => line.fail("there is no such Service", "deploy it, or correct spec.service.name"),
        Some(service) if !has_port(service, port) => line.fail(
            format!("the Service {apex} has no port {port}"),
            "correct spec.service.port, or the Service",
        ),
        Some(_) => line,
    }
}

fn apex_selects_stable(facts: &Facts, apex: &Value, deployments: &[Value]) -> Line {
    let apex_name = &facts.apex;
    let line = Line::new(
        GROUP,
        format!("the apex Service {apex_name} selects stable's pods only"),
    );
    let is_selected = |deployment: &str| {
        named(deployments, deployment).is_some_and(|d| selects(apex.pointer("/spec/selector"), d.pointer(LABELS)))
    };
    if is_selected(&facts.canary) {
        return line.fail(
            format!(
                "it selects the pods of {} too: clients outside of the mesh meet the canary",
                facts.canary
            ),
            "add the label that tells stable's pods from the canary's to its selector",
        );
    }
    if !is_selected(&facts.stable) {
        return line.fail(
            format!("it does not select the pods of {}", facts.stable),
            "correct its selector: without a route, and outside of the mesh, calls go where it selects",
        );
    }
    line
}

fn arm(facts: &Facts, services: &[Value], name: &str, deployment: Option<&Value>) -> Line {
    let line = Line::new(GROUP, format!("the arm's Service {name} fits"));
    let Some(service) = named(services, name) else {
        if facts.route.adopted {
            return line.warn(
                "it does not exist yet, and the share of a missing Service fails",
                "let the rollout be applied before the route: Serin makes the Service at its first look",
            );
        }
        return Line::new(GROUP, format!("the arm's Service {name} is made with the first trial"));
    };
    if !has_port(service, facts.port) {
        return line.fail(
            format!("it has no port {}", facts.port),
            "delete it: Serin makes it anew",
        );
    }
    // The canary's is pinned to one template hash, which is no label of the template.
    let mut selector = service.pointer("/spec/selector").cloned().unwrap_or_default();
    if let Some(map) = selector.as_object_mut() {
        map.remove("pod-template-hash");
    }
    match deployment {
        Some(deployment) if !selects(Some(&selector), deployment.pointer(LABELS)) => line.fail(
            "its selector does not select the arm's pods",
            "find out who changed it (its managedFields say so) and delete it: Serin makes it anew",
        ),
        _ => line,
    }
}
