//! Whether Prometheus sees the pods as Serin needs it. Must not know queries.

use super::Line;
use super::facts::{Facts, Sight, name, named, selects, text};
use crate::linkerd::metrics as m;

const GROUP: &str = "metrics";
/// Ticks are aligned to wall clocks: a larger difference shifts them against the samples.
const CLOCKS_AGREE: f64 = 2.0;

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

/// Running pods of the arms.
fn pods(facts: &Facts) -> Vec<&str> {
    let (Ok(pods), Ok(deployments)) = (&facts.pods, &facts.deployments) else {
        return Vec::new();
    };
    let arms = [&facts.stable, &facts.canary].map(|arm| named(deployments, arm));
    let is_arms = |labels| {
        let of = |arm: &serde_json::Value| selects(arm.pointer("/spec/selector/matchLabels"), labels);
        arms.iter().flatten().any(|arm| of(arm))
    };
    pods.iter()
        .filter(|pod| text(pod, "/status/phase") == Some("Running") && is_arms(pod.pointer("/metadata/labels")))
        .map(name)
        .collect()
}

fn scraped(facts: &Facts, sight: &Sight) -> Line {
    let line = Line::new(GROUP, "Prometheus scrapes the proxies of both arms");
    let missing: Vec<_> = pods(facts)
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
    let limit = 3.0 * facts.scrape_seconds;
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
