//! Whether Prometheus sees the pods as Serin needs it. Must not know queries.

use jiff::Timestamp;
use serde_json::Value;

use super::Line;
use super::facts::{Facts, Sight, list, name, named, selects, text};
use crate::linkerd::metrics as m;

const GROUP: &str = "metrics";
/// Ticks are aligned to wall clocks: a larger difference shifts them against the samples.
const CLOCKS_AGREE: f64 = 2.0;
/// A sample older than so many scrapes is stale.
const SCRAPES: f64 = 3.0;

pub(super) fn check(facts: &Facts) -> Vec<Line> {
    let reachable = Line::new(GROUP, "Prometheus answers");
    let sight = match &facts.sight {
        Ok(sight) => sight,
        Err(why) => return vec![reachable.fail(why.clone(), "see that it runs, and correct --prometheus-url")],
    };
    vec![
        reachable,
        clocks(sight),
        scraped(facts, sight),
        fresh(facts, sight),
        labels(sight),
    ]
}

fn clocks(sight: &Sight) -> Line {
    let line = Line::new(GROUP, "clocks agree");
    let apart = (sight.there - sight.here).abs();
    if apart > CLOCKS_AGREE {
        return line.fail(
            format!("Prometheus's clock is {apart:.1} s off"),
            "set the clocks by NTP",
        );
    }
    line
}

/// Pods of the arms that run and have been ready for longer than a scrape may take to come.
fn pods<'a>(facts: &'a Facts, sight: &Sight) -> Vec<&'a str> {
    let (Ok(pods), Ok(deployments)) = (&facts.pods, &facts.deployments) else {
        return Vec::new();
    };
    let arms = [&facts.stable, &facts.canary].map(|arm| named(deployments, arm));
    let is_arms = |labels| {
        let of = |arm: &Value| selects(arm.pointer("/spec/selector/matchLabels"), labels);
        arms.iter().flatten().any(|arm| of(arm))
    };
    pods.iter()
        .filter(|pod| text(pod, "/status/phase") == Some("Running") && is_arms(pod.pointer("/metadata/labels")))
        .filter(|pod| is_old(pod, sight.here - SCRAPES * facts.scrape_seconds))
        .map(name)
        .collect()
}

/// Whether a pod has been ready since before this time; one that does not say when is old.
fn is_old(pod: &Value, before: f64) -> bool {
    let ready = list(pod, "/status/conditions").find(|c| text(c, "/type") == Some("Ready"));
    let Some(ready) = ready else { return true };
    let since: Option<Timestamp> = text(ready, "/lastTransitionTime").and_then(|at| at.parse().ok());
    let since = since.map_or(f64::NEG_INFINITY, |at| at.as_duration().as_secs_f64());
    text(ready, "/status") == Some("True") && since < before
}

fn scraped(facts: &Facts, sight: &Sight) -> Line {
    let line = Line::new(GROUP, "Prometheus scrapes the proxies of both arms");
    let missing: Vec<_> = pods(facts, sight)
        .into_iter()
        .filter(|pod| !sight.proxies.iter().any(|proxy| proxy.pod == *pod))
        .collect();
    if missing.is_empty() {
        return line;
    }
    line.fail(
        format!("it has no {} of {}", m::BUILD_INFO, missing.join(", ")),
        "see that it scrapes as linkerd-viz's does (job linkerd-proxy), that the pods are meshed, and no policy denies port 4191",
    )
}

fn fresh(facts: &Facts, sight: &Sight) -> Line {
    let line = Line::new(GROUP, "samples are fresh");
    let limit = SCRAPES * facts.scrape_seconds;
    let age = |proxy: &super::Proxy| sight.there - proxy.scraped;
    match sight.proxies.iter().find(|proxy| age(proxy) > limit) {
        None => line,
        Some(stale) => line.warn(
            format!(
                "the last sample of {} is {:.0} s old, more than three scrapes",
                stale.pod,
                age(stale)
            ),
            "see the target's state in Prometheus, and that spec.analysis.scrapeInterval is what it scrapes by",
        ),
    }
}

fn labels(sight: &Sight) -> Line {
    let line = Line::new(GROUP, "samples have the labels that Serin reads");
    if sight.labels.is_empty() {
        return line.warn("there was no call to look at", "send a call, and check again");
    }
    let wanted = [
        m::NAMESPACE,
        m::DEPLOYMENT,
        m::POD,
        m::POD_TEMPLATE_HASH,
        m::DIRECTION,
        m::SERVER_PORT,
        m::CLASSIFICATION,
    ];
    let missing: Vec<_> = wanted
        .into_iter()
        .filter(|label| !sight.labels.contains(*label))
        .collect();
    if missing.is_empty() {
        return line;
    }
    line.fail(
        format!("{} lacks {}", m::RESPONSES, missing.join(", ")),
        "relabel as linkerd-viz's scrape configuration does, pod labels included",
    )
}
