//! PromQL for what the proxies of one arm's pods saw. Pure text; must not know Prometheus's API.
//!
//! Every query selects raw samples by a range: `rate` and `increase` extrapolate, and lose a new pod's first sample.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use jiff::SignedDuration;

use super::metrics as m;

/// The bound of the bucket that has all calls.
const INFINITE: &str = "+Inf";

/// The pods of one arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arm<'a> {
    /// Their namespace.
    pub namespace: &'a str,
    /// Their Deployment.
    pub deployment: &'a str,
    /// Only pods of these ReplicaSets; all of the Deployment's if there are none here.
    pub pod_template_hashes: &'a [&'a str],
}

/// The pods of many arms at once: those of every one of these Deployments in every one of these namespaces. That can be more than
/// the arms that are meant; who asks puts aside what is nobody's.
#[derive(Debug, Clone, Copy)]
pub struct Arms<'a> {
    /// Their namespaces.
    pub namespaces: &'a BTreeSet<&'a str>,
    /// Their Deployments.
    pub deployments: &'a BTreeSet<&'a str>,
}

/// Endpoints of many Services at once, in the same manner.
#[derive(Debug, Clone, Copy)]
pub struct Endpoints<'a> {
    /// Their namespaces.
    pub namespaces: &'a BTreeSet<&'a str>,
    /// Their Services.
    pub services: &'a BTreeSet<&'a str>,
}

/// What [`sight`], [`inbound_responses`] and [`inbound_latency`] ask, of many arms on these ports, in one question: each of its matchers
/// fits a series without that label too, as the other metrics have none of them.
pub fn proxies_of_many(arms: Arms<'_>, ports: &BTreeSet<u16>, bounds_ms: &BTreeSet<u64>) -> String {
    let or_none = |any: String| format!("|{any}");
    let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
    Selector::of("")
        .any(
            m::NAME,
            [m::BUILD_INFO, m::PROCESS_START, m::RESPONSES, m::LATENCY_BUCKETS].into_iter(),
        )
        .arms(arms)
        .matcher(m::DIRECTION, "=~", &or_none(m::INBOUND.to_owned()))
        .matcher(m::SERVER_PORT, "=~", &or_none(ports.join("|")))
        .matcher(m::ROUTE_NAME, "!=", m::PROBE)
        .matcher(m::LE, "=~", &or_none(bounds(bounds_ms.iter())))
        .finish()
}

/// What [`outbound_requests`] asks, of many Services on these ports.
pub fn outbound_requests_to_many(to: Endpoints<'_>, ports: &BTreeSet<u16>) -> String {
    Selector::of(m::REQUESTS)
        .matcher(m::DIRECTION, "=", m::OUTBOUND)
        .any(m::DST_NAMESPACE, to.namespaces.iter().copied())
        .any(m::DST_SERVICE, to.services.iter().copied())
        .any(m::TARGET_PORT, ports.iter().map(u16::to_string))
        .finish()
}

/// What clients' proxies counted of the answers of these Services' backends, in these metrics; `backends` are Services of the same
/// namespaces.
pub fn backend_responses_of_many(metrics: &BTreeSet<&str>, of: Endpoints<'_>, backends: &BTreeSet<&str>) -> String {
    Selector::of("")
        .any(m::NAME, metrics.iter().copied())
        .matcher(m::PARENT_KIND, "=", m::SERVICE)
        .any(m::PARENT_NAMESPACE, of.namespaces.iter().copied())
        .any(m::PARENT_NAME, of.services.iter().copied())
        .any(m::BACKEND_NAMESPACE, of.namespaces.iter().copied())
        .any(m::BACKEND_NAME, backends.iter().copied())
        .finish()
}

/// Responses of the application's port, without the kubelet's probes. `port` is the port that the container listens on.
pub fn inbound_responses(arm: Arm<'_>, port: u16) -> String {
    inbound(m::RESPONSES, arm, port).finish()
}

/// The buckets from which calls slower than each of these bounds are counted, and the one that counts all.
pub fn inbound_latency(arm: Arm<'_>, port: u16, bounds_ms: &[u64]) -> String {
    inbound(m::LATENCY_BUCKETS, arm, port)
        .matcher(m::LE, "=~", &bounds(bounds_ms.iter()))
        .finish()
}

/// Whether a bucket's bound is one that [`inbound_latency`] asks for.
pub fn is_asked_for(le: &str, bounds_ms: &[u64]) -> bool {
    let number = le.strip_suffix(".0").unwrap_or(le);
    le == INFINITE || number.parse().is_ok_and(|ms| bounds_ms.contains(&ms))
}

fn bounds<'a>(bounds_ms: impl Iterator<Item = &'a u64>) -> String {
    // Prometheus 3 writes bounds as floats ("500.0") whatever the proxy said.
    let mut bounds: Vec<_> = bounds_ms.map(|ms| format!("{ms}(\\.0)?")).collect();
    bounds.push(literal(INFINITE));
    bounds.join("|")
}

/// The sign of each proxy that it was scraped, and since when it runs.
pub fn sight(arm: Arm<'_>) -> String {
    let names = format!("{}|{}", m::BUILD_INFO, m::PROCESS_START);
    Selector::of("").matcher(m::NAME, "=~", &names).arm(arm).finish()
}

/// What all clients' proxies sent to the endpoints of these Services, by the endpoint's Deployment: the one counter that says the
/// same whether a route, a ServiceProfile or nothing at all decides where calls go. `port` is the one that the container listens on.
pub fn outbound_requests(namespace: &str, services: &[&str], port: u16) -> String {
    let any: Vec<_> = services.iter().map(|name| literal(name)).collect();
    Selector::of(m::REQUESTS)
        .matcher(m::DIRECTION, "=", m::OUTBOUND)
        .matcher(m::DST_NAMESPACE, "=", namespace)
        .matcher(m::DST_SERVICE, "=~", &any.join("|"))
        .matcher(m::TARGET_PORT, "=", &port.to_string())
        .finish()
}

/// When each proxy of these Deployments was scraped last, in seconds since the epoch.
pub fn last_scrapes(namespace: &str, deployments: &[&str]) -> String {
    format!("timestamp({})", of_all(m::BUILD_INFO, namespace, deployments).finish())
}

/// The inbound responses of these Deployments, whatever their port: for a look at their labels.
pub fn any_inbound(namespace: &str, deployments: &[&str]) -> String {
    of_all(m::RESPONSES, namespace, deployments)
        .matcher(m::DIRECTION, "=", m::INBOUND)
        .finish()
}

/// How many calls of these Deployments were within each bucket in the window, by ReplicaSet and port. An estimate: for a look, not for a
/// verdict.
pub fn latency_by_arm(namespaces: &[&str], deployments: &[&str], window: SignedDuration) -> String {
    let any = |names: &[&str]| names.iter().map(|name| literal(name)).collect::<Vec<_>>().join("|");
    let calls = Selector::of(m::LATENCY_BUCKETS)
        .matcher(m::NAMESPACE, "=~", &any(namespaces))
        .matcher(m::DEPLOYMENT, "=~", &any(deployments))
        .matcher(m::DIRECTION, "=", m::INBOUND)
        .matcher(m::SERVER_PORT, "!=", m::PROXY_ADMIN_PORT)
        .matcher(m::ROUTE_NAME, "!=", m::PROBE);
    let by = [m::NAMESPACE, m::DEPLOYMENT, m::POD_TEMPLATE_HASH, m::SERVER_PORT, m::LE].join(", ");
    format!("sum by ({by}) (increase({}))", over(&calls.finish(), window))
}

/// The share of an arm's calls that came without a mesh identity, in the window; probes and scrapes are no calls. An estimate:
/// for a look, not for a verdict.
pub fn unmeshed_share(arm: Arm<'_>, window: SignedDuration) -> String {
    let calls = || {
        Selector::of(m::RESPONSES)
            .arm(arm)
            .matcher(m::DIRECTION, "=", m::INBOUND)
            .matcher(m::SERVER_PORT, "!=", m::PROXY_ADMIN_PORT)
            .matcher(m::ROUTE_NAME, "!=", m::PROBE)
    };
    let sum = |selector: Selector| format!("sum(increase({}))", over(&selector.finish(), window));
    format!("{} / {}", sum(calls().matcher(m::TLS, "!=", "true")), sum(calls()))
}

fn of_all(metric: &str, namespace: &str, deployments: &[&str]) -> Selector {
    let any: Vec<_> = deployments.iter().map(|name| literal(name)).collect();
    Selector::of(metric)
        .matcher(m::NAMESPACE, "=", namespace)
        .matcher(m::DEPLOYMENT, "=~", &any.join("|"))
}

/// The raw samples of a selector in a window.
pub fn over(selector: &str, window: SignedDuration) -> String {
    format!("{selector}[{}ms]", window.as_millis().max(1))
}

fn inbound(metric: &str, arm: Arm<'_>, port: u16) -> Selector {
    Selector::of(metric)
        .arm(arm)
        .matcher(m::DIRECTION, "=", m::INBOUND)
        .matcher(m::SERVER_PORT, "=", &port.to_string())
        .matcher(m::ROUTE_NAME, "!=", m::PROBE)
}

/// A selector being written; values are escaped as they come.
struct Selector {
    text: String,
    first: bool,
}

impl Selector {
    fn of(metric: &str) -> Self {
        Self {
            text: format!("{metric}{{"),
            first: true,
        }
    }

    fn arm(self, arm: Arm<'_>) -> Self {
        let with = self
            .matcher(m::NAMESPACE, "=", arm.namespace)
            .matcher(m::DEPLOYMENT, "=", arm.deployment);
        match arm.pod_template_hashes {
            [] => with,
            [hash] => with.matcher(m::POD_TEMPLATE_HASH, "=", hash),
            many => {
                let any: Vec<_> = many.iter().map(|hash| literal(hash)).collect();
                with.matcher(m::POD_TEMPLATE_HASH, "=~", &any.join("|"))
            }
        }
    }

    fn arms(self, arms: Arms<'_>) -> Self {
        self.any(m::NAMESPACE, arms.namespaces.iter().copied())
            .any(m::DEPLOYMENT, arms.deployments.iter().copied())
    }

    /// One of these values. Names without dots need no escapes, and servers find such a list in their index.
    fn any<T: AsRef<str>>(self, label: &str, values: impl Iterator<Item = T>) -> Self {
        let any: Vec<_> = values.map(|value| literal(value.as_ref())).collect();
        self.matcher(label, "=~", &any.join("|"))
    }

    fn matcher(mut self, label: &str, operator: &str, value: &str) -> Self {
        let comma = if std::mem::take(&mut self.first) { "" } else { "," };
        // Writing to a String can't fail.
        let _ = write!(self.text, "{comma}{label}{operator}\"{}\"", quoted(value));
        self
    }

    fn finish(mut self) -> String {
        self.text.push('}');
        self.text
    }
}

/// A value inside of a PromQL string in double quotes.
fn quoted(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A value inside of a regular expression, meaning itself.
fn literal(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: Arm<'static> = Arm {
        namespace: "prod",
        deployment: "user-service-canary",
        pod_template_hashes: &["5d4f8c7b9"],
    };

    #[test]
    fn responses_are_those_of_the_judged_pods_port() {
        insta::assert_snapshot!(
            over(&inbound_responses(CANARY, 50051), SignedDuration::from_secs(80)),
            @r#"response_total{namespace="prod",deployment="user-service-canary",pod_template_hash="5d4f8c7b9",direction="inbound",srv_port="50051",route_name!="probe"}[80000ms]"#
        );
    }

    #[test]
    fn latency_asks_for_its_bounds_in_either_spelling_and_for_the_total() {
        insta::assert_snapshot!(
            inbound_latency(CANARY, 50051, &[100, 500]),
            @r#"response_latency_ms_bucket{namespace="prod",deployment="user-service-canary",pod_template_hash="5d4f8c7b9",direction="inbound",srv_port="50051",route_name!="probe",le=~"100(\\.0)?|500(\\.0)?|\\+Inf"}"#
        );
    }

    #[test]
    fn sight_asks_the_proxies_themselves() {
        let stable = Arm {
            namespace: "prod",
            deployment: "user-service",
            pod_template_hashes: &[],
        };
        insta::assert_snapshot!(
            sight(stable),
            @r#"{__name__=~"proxy_build_info|process_start_time_seconds",namespace="prod",deployment="user-service"}"#
        );
    }

    #[test]
    fn several_revisions_are_alternatives() {
        let both = Arm {
            pod_template_hashes: &["a.b", "c"],
            ..CANARY
        };
        insta::assert_snapshot!(
            sight(both),
            @r#"{__name__=~"proxy_build_info|process_start_time_seconds",namespace="prod",deployment="user-service-canary",pod_template_hash=~"a\\.b|c"}"#
        );
    }

    #[test]
    fn preflight_looks_at_both_arms() {
        insta::assert_snapshot!(
            last_scrapes("prod", &["web", "web-canary"]),
            @r#"timestamp(proxy_build_info{namespace="prod",deployment=~"web|web-canary"})"#
        );
        insta::assert_snapshot!(
            any_inbound("prod", &["web"]),
            @r#"response_total{namespace="prod",deployment=~"web",direction="inbound"}"#
        );
    }

    #[test]
    fn latency_is_looked_at_by_arm_for_many_at_once() {
        insta::assert_snapshot!(
            latency_by_arm(&["a.b", "prod"], &["web", "web-canary"], SignedDuration::from_secs(60)),
            @r#"sum by (namespace, deployment, pod_template_hash, srv_port, le) (increase(response_latency_ms_bucket{namespace=~"a\\.b|prod",deployment=~"web|web-canary",direction="inbound",srv_port!="4191",route_name!="probe"}[60000ms]))"#
        );
    }

    #[test]
    fn calls_are_counted_where_clients_send_them() {
        insta::assert_snapshot!(
            outbound_requests("prod", &["web", "web-canary"], 50051),
            @r#"request_total{direction="outbound",dst_namespace="prod",dst_service=~"web|web-canary",target_port="50051"}"#
        );
    }

    #[test]
    fn many_are_asked_for_by_lists_of_names() {
        let [namespaces, deployments] = [["a", "b"], ["web", "web.v2"]].map(BTreeSet::from);
        let arms = Arms {
            namespaces: &namespaces,
            deployments: &deployments,
        };
        let ports = BTreeSet::from([8080, 50051]);
        insta::assert_snapshot!(
            proxies_of_many(arms, &ports, &BTreeSet::from([500])),
            @r#"{__name__=~"proxy_build_info|process_start_time_seconds|response_total|response_latency_ms_bucket",namespace=~"a|b",deployment=~"web|web\\.v2",direction=~"|inbound",srv_port=~"|8080|50051",route_name!="probe",le=~"|500(\\.0)?|\\+Inf"}"#
        );
        let services = BTreeSet::from(["web"]);
        let of = Endpoints {
            namespaces: &namespaces,
            services: &services,
        };
        insta::assert_snapshot!(
            outbound_requests_to_many(of, &ports),
            @r#"request_total{direction="outbound",dst_namespace=~"a|b",dst_service=~"web",target_port=~"8080|50051"}"#
        );
        insta::assert_snapshot!(
            backend_responses_of_many(&BTreeSet::from(["m"]), of, &BTreeSet::from(["web-canary", "web-stable"])),
            @r#"{__name__=~"m",parent_kind="Service",parent_namespace=~"a|b",parent_name=~"web",backend_namespace=~"a|b",backend_name=~"web-canary|web-stable"}"#
        );
    }

    #[test]
    fn a_bucket_is_asked_for_by_its_bound_in_either_spelling() {
        for (le, expected) in [
            ("500", true),
            ("500.0", true),
            ("+Inf", true),
            ("50", false),
            ("500.5", false),
        ] {
            assert_eq!(is_asked_for(le, &[100, 500]), expected, "{le}");
        }
    }

    #[test]
    fn probes_and_scrapes_are_no_calls_of_unmeshed_clients() {
        let share = unmeshed_share(CANARY, SignedDuration::from_secs(300));
        assert_eq!(
            share.matches("srv_port!=\"4191\",route_name!=\"probe\"").count(),
            2,
            "{share}"
        );
        assert_eq!(share.matches("tls!=\"true\"").count(), 1, "{share}");
    }

    #[test]
    fn no_value_breaks_out_of_its_quotes() {
        let evil = Arm {
            namespace: "a\"} or up{x=\"",
            deployment: "b\\",
            pod_template_hashes: &["c\nd"],
        };
        insta::assert_snapshot!(
            inbound_responses(evil, 1),
            @r#"response_total{namespace="a\"} or up{x=\"",deployment="b\\",pod_template_hash="c\nd",direction="inbound",srv_port="1",route_name!="probe"}"#
        );
    }
}
