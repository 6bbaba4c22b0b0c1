//! What would starve the canary, or stable when traffic returns. Must not know routes or samples.

use serde_json::Value;

use super::facts::{Facts, name, named, selects, text};
use super::{Line, Read};

const GROUP: &str = "capacity";

pub(super) fn check(facts: &Facts) -> Vec<Line> {
    vec![
        canary_autoscaler(facts),
        stable_autoscaler(facts),
        budgets(facts),
        quotas(facts),
    ]
}

fn of_arm<'a>(autoscalers: &'a [Value], deployment: &str) -> Option<&'a Value> {
    autoscalers.iter().find(|hpa| {
        text(hpa, "/spec/scaleTargetRef/kind") == Some("Deployment")
            && text(hpa, "/spec/scaleTargetRef/name") == Some(deployment)
    })
}

/// The stable Deployment's replicas; the API's default is 1.
fn replicas(facts: &Facts) -> i64 {
    let stable = facts
        .deployments
        .as_ref()
        .ok()
        .and_then(|all| named(all, &facts.stable));
    stable.and_then(|d| d.pointer("/spec/replicas")?.as_i64()).unwrap_or(1)
}

fn canary_autoscaler(facts: &Facts) -> Line {
    let line = Line::new(GROUP, format!("no autoscaler competes for {}", facts.canary));
    match facts.autoscalers.as_ref().map(|all| of_arm(all, &facts.canary)) {
        Err(why) => line.unread(why),
        Ok(Some(hpa)) if !facts.external_capacity => line.fail(
            format!("the HorizontalPodAutoscaler {} scales it, and so does Serin", name(hpa)),
            "remove it, or set spec.plan.capacity: External",
        ),
        Ok(_) => line,
    }
}

fn stable_autoscaler(facts: &Facts) -> Line {
    let line = Line::new(GROUP, format!("{} can take all traffic back at once", facts.stable));
    let hpa = match facts.autoscalers.as_ref().map(|all| of_arm(all, &facts.stable)) {
        Err(why) => return line.unread(why),
        Ok(None) => return line,
        Ok(Some(hpa)) => hpa,
    };
    let number = |pointer: &str| hpa.pointer(pointer).and_then(Value::as_i64);
    let (most, now) = (number("/spec/maxReplicas"), replicas(facts));
    if most.is_some_and(|most| most < now) {
        return line.fail(
            format!(
                "the HorizontalPodAutoscaler {} has a maxReplicas below the present {now}",
                name(hpa)
            ),
            "raise maxReplicas",
        );
    }
    // It would go down to its minimum while the traffic is on the canary: Serin holds that up meanwhile.
    line
}

/// The name of stable's autoscaler, if its minimum is below what stable has: Serin raises it during a trial.
pub(super) fn held_autoscaler(facts: &Facts) -> Option<&str> {
    let hpa = of_arm(facts.autoscalers.as_ref().ok()?, &facts.stable)?;
    let least = hpa.pointer("/spec/minReplicas").and_then(Value::as_i64).unwrap_or(1);
    (least < replicas(facts)).then(|| name(hpa))
}

fn budgets(facts: &Facts) -> Line {
    let line = Line::new(GROUP, "no PodDisruptionBudget counts both arms as one");
    let (budgets, deployments) = match (&facts.budgets, &facts.deployments) {
        (Ok(budgets), Ok(deployments)) => (budgets, deployments),
        (Err(why), _) | (_, Err(why)) => return line.unread(why),
    };
    let labels =
        [&facts.stable, &facts.canary].map(|arm| named(deployments, arm)?.pointer("/spec/template/metadata/labels"));
    let both = |budget: &&Value| {
        labels
            .iter()
            .all(|labels| selects(budget.pointer("/spec/selector/matchLabels"), *labels))
    };
    match budgets.iter().find(both) {
        None => line,
        Some(budget) => line.warn(
            format!(
                "{} selects the pods of both: canary pods make room for evictions of stable's",
                name(budget)
            ),
            "give each arm a budget of its own",
        ),
    }
}

fn quotas(facts: &Facts) -> Line {
    let line = Line::new(GROUP, "quotas leave room for the canary");
    let quotas: &Read<Vec<Value>> = &facts.quotas;
    let quotas = match quotas {
        Ok(quotas) => quotas,
        Err(why) => return line.unread(why),
    };
    let needed = replicas(facts);
    for quota in quotas {
        for resource in ["pods", "count/pods"] {
            let amount = |of: &str| {
                let value = quota.pointer(of)?.get(resource)?;
                value.as_i64().or_else(|| value.as_str()?.parse().ok())
            };
            let (Some(hard), Some(used)) = (amount("/status/hard"), amount("/status/used")) else {
                continue;
            };
            let room = (hard - used).max(0);
            let why = format!(
                "the ResourceQuota {} has room for {room} more pods; a canary as large as stable needs {needed}",
                name(quota)
            );
            let todo = "raise it, or the canary's pods are refused in the middle of a rollout";
            if room == 0 {
                return line.fail(why, todo);
            }
            if room < needed {
                return line.warn(why, todo);
            }
        }
    }
    line
}
