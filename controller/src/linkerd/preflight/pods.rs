//! Whether pods and clients are in the mesh. Must not know routes.

use serde_json::Value;

use super::Line;
use super::facts::{Facts, list, name, named, text};

const GROUP: &str = "mesh";
const INJECT: &str = "/metadata/annotations/linkerd.io~1inject";
const PROXY: &str = "linkerd-proxy";

pub(super) fn check(facts: &Facts) -> Vec<Line> {
    let mut lines = Vec::new();
    if let Ok(deployments) = &facts.deployments {
        for name in [&facts.stable, &facts.canary] {
            if let Some(deployment) = named(deployments, name) {
                lines.push(is_meshed(facts, name, deployment));
            }
        }
    }
    lines.push(clients(facts));
    lines
}

fn is_meshed(facts: &Facts, name: &str, deployment: &Value) -> Line {
    let line = Line::new(GROUP, format!("the pods of {name} are meshed"));
    let containers = ["/spec/template/spec/containers", "/spec/template/spec/initContainers"];
    let has_proxy = containers
        .iter()
        .any(|of| list(deployment, of).any(|c| text(c, "/name") == Some(PROXY)));
    let on = |value: Option<&str>| matches!(value, Some("enabled" | "ingress"));
    let template = deployment.pointer("/spec/template").and_then(|t| text(t, INJECT));
    let todo = "annotate its pod template or the namespace with linkerd.io/inject: enabled, and restart it";
    if has_proxy || on(template) {
        return line;
    }
    if template.is_some() {
        return line.fail("its pod template says linkerd.io/inject: disabled", todo);
    }
    match &facts.namespace_object {
        Err(why) => line.unread(why),
        Ok(namespace) if on(text(namespace, INJECT)) => line,
        Ok(_) => line.fail(
            "neither its pod template nor the namespace asks for a proxy, and without one nothing is counted",
            todo,
        ),
    }
}

/// Metrics do not name a client outside of the mesh. Who runs without a proxy in this namespace may be it.
fn suspects(facts: &Facts) -> String {
    let has_proxy = |pod: &&Value| {
        ["/spec/containers", "/spec/initContainers"]
            .iter()
            .any(|of| list(pod, of).any(|c| text(c, "/name") == Some(PROXY)))
            || matches!(text(pod, INJECT), Some("enabled" | "ingress"))
    };
    let pods = facts.pods.as_ref().map_or(&[][..], Vec::as_slice);
    let running = pods.iter().filter(|pod| text(pod, "/status/phase") == Some("Running"));
    let bare: Vec<_> = running.filter(|pod| !has_proxy(pod)).map(name).take(5).collect();
    if bare.is_empty() {
        return String::new();
    }
    format!("; without a proxy in this namespace: {}", bare.join(", "))
}

fn clients(facts: &Facts) -> Line {
    let line = Line::new(GROUP, "clients call through the mesh");
    match &facts.sight {
        Ok(sight) if sight.unmeshed.is_some_and(|share| share > 0.0) => line.warn(
            format!(
                "{:.1} % of stable's recent calls came without a mesh identity; weights do not move those{}",
                sight.unmeshed.unwrap_or_default() * 100.0,
                suspects(facts)
            ),
            "mesh those clients; an ingress must be meshed and address the Service, not its pods",
        ),
        // That Prometheus can't be asked is a line of its own.
        _ => line,
    }
}
