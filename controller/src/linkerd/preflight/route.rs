//! What stands in the way of the route's weights, and who else writes them. Must not know samples or capacity.

use serde_json::Value;

use super::Line;
use super::facts::{Facts, annotations, list, name, named, text};

const GROUP: &str = "route";
/// Managers in `managedFields` that move weights by themselves.
const MOVERS: [&str; 4] = ["flagger", "rollouts-controller", "argo-rollouts", "rollouts-plugin"];

pub(super) fn check(facts: &Facts) -> Vec<Line> {
    let mut lines = vec![no_profile(facts), no_rival(facts), no_consumer_route(facts)];
    if let Some(route) = facts.live_route() {
        lines.push(no_other_writer(facts, route));
        if !facts.is_split() {
            lines.push(is_accepted(facts, route));
        }
    } else if facts.route.adopted && facts.routes.is_ok() {
        let line = Line::new(
            GROUP,
            format!("the adopted {} {} exists", facts.route.kind, facts.route.name),
        );
        lines.push(line.fail("there is none of this name", "apply it, or correct spec.route.adopt"));
    }
    lines.extend(annotated(facts));
    lines.extend(argocd(facts));
    lines
}

fn no_profile(facts: &Facts) -> Line {
    let line = Line::new(GROUP, "no ServiceProfile overrides the route");
    // A split is carried out by one.
    if facts.is_split() {
        return Line::new(GROUP, "a ServiceProfile may stand beside the TrafficSplit");
    }
    let profiles = match &facts.profiles {
        Ok(profiles) => profiles,
        Err(why) => return line.unread(why),
    };
    // The cluster's domain is anybody's choice.
    let prefix = format!("{}.{}.svc.", facts.apex, facts.namespace);
    let acts = |profile: &&Value| {
        let has = |field: &str| list(profile, field).next().is_some();
        name(profile).starts_with(&prefix) && (has("/spec/routes") || has("/spec/dstOverrides"))
    };
    match profiles.iter().find(acts) {
        None => line,
        Some(profile) => line.fail(
            format!(
                "the ServiceProfile {}/{} has routes or dstOverrides: for clients that find it the weights do nothing",
                text(profile, "/metadata/namespace").unwrap_or_default(),
                name(profile)
            ),
            "delete it, put retries and timeouts into annotations (retry.linkerd.io/…, timeout.linkerd.io/…), and restart its \
             clients: proxies in use keep it; or choose spec.route.kind: TrafficSplit",
        ),
    }
}

/// The lower, the more a kind counts on one parent.
fn rank(kind: &str, group: &str) -> u8 {
    match (kind, group) {
        ("GRPCRoute", _) => 0,
        (_, "gateway.networking.k8s.io") => 1,
        _ => 2,
    }
}

fn is_on_apex(facts: &Facts, route: &Value) -> bool {
    list(route, "/spec/parentRefs").any(|parent| {
        let port = parent.get("port").and_then(Value::as_u64);
        text(parent, "/kind") == Some("Service")
            && text(parent, "/name") == Some(&facts.apex)
            && text(parent, "/namespace").or(text(route, "/metadata/namespace")) == Some(&facts.namespace)
            && port.is_none_or(|port| port == u64::from(facts.port))
    })
}

fn no_rival(facts: &Facts) -> Line {
    let line = Line::new(GROUP, "no other route takes the apex's calls");
    let routes = match &facts.routes {
        Ok(routes) => routes,
        Err(why) => return line.unread(why),
    };
    let mut rivals: Vec<_> = routes
        .iter()
        .filter(|route| facts.is_here(route) && is_on_apex(facts, route) && !facts.is_the_route(route))
        .map(|route| {
            let group = text(route, "/apiVersion")
                .and_then(|v| v.split('/').next())
                .unwrap_or_default();
            let kind = text(route, "/kind").unwrap_or_default();
            (rank(kind, group), format!("{kind}.{group} {}", name(route)))
        })
        .collect();
    rivals.sort();
    let Some((best, rival)) = rivals.first() else {
        return line;
    };
    let ours = rank(&facts.route.kind, &facts.route.group);
    let todo = "remove one of the two, or make the other one the adopted route";
    if facts.is_split() {
        return line.warn(format!("the {rival} has no effect while the TrafficSplit stands"), todo);
    }
    match best.cmp(&ours) {
        std::cmp::Ordering::Less => line.fail(format!("the {rival} goes before a {}: the weights do nothing", facts.route.kind), todo),
        std::cmp::Ordering::Equal => line.fail(
            format!("the {rival} is of the same kind: its rules are mixed with ours, and the older one wins where both match"),
            todo,
        ),
        std::cmp::Ordering::Greater => line.warn(format!("the {rival} has no effect beside a {}", facts.route.kind), todo),
    }
}

/// A route of a client's namespace takes the place of the apex's own for the clients there.
fn no_consumer_route(facts: &Facts) -> Line {
    let line = Line::new(GROUP, "no route of another namespace takes its clients' calls");
    let routes = match &facts.routes {
        Ok(routes) => routes,
        Err(why) => return line.unread(why),
    };
    match routes
        .iter()
        .find(|route| !facts.is_here(route) && is_on_apex(facts, route))
    {
        None => line,
        Some(route) => line.warn(
            format!(
                "the {} {}/{} takes the calls of the clients in its namespace; the weights do nothing for those",
                text(route, "/kind").unwrap_or_default(),
                text(route, "/metadata/namespace").unwrap_or_default(),
                name(route)
            ),
            "remove it, or let it name the arms' Services and the same weights",
        ),
    }
}

fn no_other_writer(facts: &Facts, route: &Value) -> Line {
    let line = Line::new(GROUP, format!("nobody else writes the weights of {}", facts.route.name));
    let writes_rules = |entry: &&Value| {
        let spec = entry.pointer("/fieldsV1/f:spec");
        spec.is_some_and(|spec| ["f:rules", "f:backends"].iter().any(|field| spec.get(field).is_some()))
    };
    let writers: Vec<_> = list(route, "/metadata/managedFields")
        .filter(writes_rules)
        .filter_map(|entry| text(entry, "/manager"))
        .collect();
    if let Some(mover) = writers
        .iter()
        .find(|writer| MOVERS.iter().any(|m| writer.starts_with(m)))
    {
        return line.fail(
            format!("{mover} moves them too (managedFields)"),
            "take the service out of that controller first: two can't move the same weights",
        );
    }
    match writers.iter().find(|writer| writer.starts_with("argocd")) {
        // What it does to an adopted one is a line of its own.
        Some(argocd) if !facts.route.adopted => line.fail(
            format!("{argocd} applies it from Git (managedFields)"),
            "remove it from Git, or name it in spec.route.adopt",
        ),
        _ => line,
    }
}

/// Not gated on `observedGeneration`, which Linkerd never sets.
fn is_accepted(facts: &Facts, route: &Value) -> Line {
    let line = Line::new(GROUP, format!("Linkerd has accepted {}", facts.route.name));
    let parent = list(route, "/status/parents").find(|parent| {
        text(parent, "/controllerName") == Some("linkerd.io/policy-controller")
            && text(parent, "/parentRef/name") == Some(&facts.apex)
    });
    let Some(parent) = parent else {
        return line.warn(
            "Linkerd's policy controller says nothing of it",
            "see that Linkerd runs, and that the route's parentRef names the apex Service with group core",
        );
    };
    for condition in ["Accepted", "ResolvedRefs"] {
        let found = list(parent, "/conditions").find(|c| text(c, "/type") == Some(condition));
        if let Some(found) = found.filter(|c| text(c, "/status") != Some("True")) {
            let [reason, message] = ["/reason", "/message"].map(|field| text(found, field).unwrap_or_default());
            return line.fail(
                format!("{condition} is not True: {reason} {message}"),
                "put right what the reason names; a route that is not accepted is not served",
            );
        }
    }
    line
}

/// Retries, time-outs and circuit breaking act on the apex and the route; on an arm's Service they do nothing.
fn annotated(facts: &Facts) -> Vec<Line> {
    const TRIES: [&str; 2] = ["retry.linkerd.io/", "timeout.linkerd.io/"];
    const BREAKER: [&str; 1] = ["balancer.linkerd.io/failure-accrual"];
    let Ok(services) = &facts.services else {
        return Vec::new();
    };
    let of_arms = |prefixes: &[&str]| {
        let arms = [&facts.stable_service, &facts.canary_service];
        let of = |arm: &String| {
            Some(format!(
                "{} on {arm}",
                annotations(named(services, arm)?, prefixes).first()?
            ))
        };
        arms.into_iter().find_map(of)
    };
    let line = |what: &str, prefixes: &[&str]| {
        let line = Line::new(GROUP, format!("{what} set where they act"));
        match of_arms(prefixes) {
            Some(found) => line.warn(
                format!("{found} does nothing: the apex's and the route's count"),
                format!("move it to the Service {}", facts.apex),
            ),
            None => line,
        }
    };
    let breaking = line("circuit breakers are", &BREAKER);
    let on_apex = named(services, &facts.apex).is_some_and(|apex| !annotations(apex, &BREAKER).is_empty());
    let breaking = if on_apex && breaking.why.is_none() {
        Line {
            claim: format!("circuit breakers are set on the apex Service {}", facts.apex),
            ..breaking
        }
    } else {
        breaking
    };
    vec![line("retries and time-outs are", &TRIES), breaking]
}

/// Whether Argo CD would revert what is Serin's.
fn argocd(facts: &Facts) -> Vec<Line> {
    let Some(application) = &facts.application else {
        return Vec::new();
    };
    let application = match application {
        Ok(application) => application,
        Err(why) => return vec![Line::new(GROUP, "Argo CD's Application leaves alone what is Serin's").unread(why)],
    };
    let ignores = |kind: &str, group: &str, object: &str, pointer: &str| {
        list(application, "/spec/ignoreDifferences").any(|entry| {
            let is = |field: &str, value: &str| text(entry, field).is_none_or(|v| v == value || v == "*");
            is("/kind", kind)
                && is("/group", group)
                && is("/name", object)
                && list(entry, "/jsonPointers").any(|p| p.as_str().is_some_and(|p| pointer.starts_with(p)))
        })
    };
    // An adopted route may be applied by somebody else: then this Application reverts nothing of it.
    let manages = |kind: &str, group: &str, object: &str| {
        let mut resources = list(application, "/status/resources").peekable();
        resources.peek()?;
        Some(resources.any(|resource| {
            let is = |field: &str, value: &str| text(resource, field) == Some(value);
            is("/kind", kind) && is("/group", group) && is("/name", object)
        }))
    };
    let mut wanted = vec![("Deployment", "apps", facts.canary.as_str(), "/spec/replicas")];
    let route = &facts.route;
    let managed = manages(&route.kind, &route.group, &route.name);
    if route.adopted && managed != Some(false) {
        let weights = if facts.is_split() {
            "/spec/backends"
        } else {
            "/spec/rules"
        };
        wanted.push((&route.kind, &route.group, &route.name, weights));
    }
    let held = super::capacity::held_autoscaler(facts)
        .filter(|hpa| manages("HorizontalPodAutoscaler", "autoscaling", hpa) != Some(false));
    if let Some(hpa) = held {
        wanted.push(("HorizontalPodAutoscaler", "autoscaling", hpa, "/spec/minReplicas"));
    }
    let respects = list(application, "/spec/syncPolicy/syncOptions").any(|o| o == "RespectIgnoreDifferences=true");
    let lines = wanted.into_iter().map(|(kind, group, object, pointer)| {
        let line = Line::new(
            GROUP,
            format!("Argo CD leaves {pointer} of the {kind} {object} to Serin"),
        );
        let todo = format!(
            "add {{group: {group}, kind: {kind}, name: {object}, jsonPointers: [{pointer}]}} to ignoreDifferences and \
             RespectIgnoreDifferences=true to syncOptions"
        );
        if !ignores(kind, group, object, pointer) {
            let why = "the Application's ignoreDifferences does not name it, so a sync sets it back";
            // The replicas of the chart stand nowhere in Git; whether the route does is not known yet; and a minimum that is set
            // back is held up again.
            let is_of_route = matches!(pointer, "/spec/rules" | "/spec/backends");
            return if !is_of_route || managed.is_none() {
                line.warn(why, todo)
            } else {
                line.fail(why, todo)
            };
        }
        if respects {
            line
        } else {
            line.fail("a sync sets it back although the comparison ignores it", todo)
        }
    });
    lines.collect()
}
