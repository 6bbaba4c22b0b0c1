//! Why calls may not go where the weights say, likeliest first. Pure, as the lines are.

use super::facts::{Facts, annotations, list, name, named, selects, text};
use super::{Status, check};

/// What can be seen of the usual causes; the last one can't be seen and is always possible.
pub fn causes(facts: &Facts) -> Vec<String> {
    let concerns = |group: &str| matches!(group, "route" | "mesh" | "kubernetes-api" | "services");
    let mut causes: Vec<String> = check(facts)
        .into_iter()
        .filter(|line| line.status != Status::Pass && concerns(line.group))
        .filter_map(|line| line.why)
        .collect();
    causes.extend(
        [&facts.canary, &facts.stable]
            .into_iter()
            .filter_map(|arm| not_ready(facts, arm)),
    );
    let breaker = ["balancer.linkerd.io/failure-accrual"];
    let services = facts.services.as_ref().map_or(&[][..], Vec::as_slice);
    if named(services, &facts.apex).is_some_and(|apex| !annotations(apex, &breaker).is_empty()) {
        causes.push(format!(
            "circuit breakers are set on {}: a tripped pod's share goes to the other arm",
            facts.apex
        ));
    }
    causes.push(
        "proxies in use keep what they learned first (a ServiceProfile that is gone, a route that came later): restart the clients"
            .to_owned(),
    );
    causes
}

/// An arm without a ready pod; its share goes to the other one.
fn not_ready(facts: &Facts, arm: &str) -> Option<String> {
    let (Ok(pods), Ok(deployments)) = (&facts.pods, &facts.deployments) else {
        return None;
    };
    let selector = named(deployments, arm)?.pointer("/spec/selector/matchLabels");
    let mut of_arm = pods
        .iter()
        .filter(|pod| selects(selector, pod.pointer("/metadata/labels")))
        .peekable();
    of_arm.peek()?;
    let unready: Vec<_> = of_arm
        .filter(|pod| {
            let ready = list(pod, "/status/conditions").find(|c| text(c, "/type") == Some("Ready"));
            ready.is_some_and(|c| text(c, "/status") != Some("True"))
        })
        .map(name)
        .collect();
    (!unready.is_empty()).then(|| format!("not ready: {}", unready.join(", ")))
}
