//! What a proxy does with the calls of one destination: which rule, which backend. Pure; it must not know how a call is made.

use std::fmt::Write as _;

use http::HeaderMap;
use rand::Rng;

use super::{
    breaker::Breaker,
    profile::Profile,
    route::{Match, Route},
};

/// Which metrics a rule has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    /// `outbound_grpc_route_*`.
    Grpc,
    /// `outbound_http_route_*`.
    Http,
    /// Neither: a ServiceProfile decides.
    Profile,
}

/// All that the route objects say about one port of one Service.
#[derive(Debug, PartialEq)]
pub(super) struct Policy {
    rules: Vec<Rule>,
    /// Of the Service that is called, and for the endpoints of all its backends.
    pub(super) breaker: Option<Breaker>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Rule {
    pub(super) family: Family,
    /// The labels `parent_*` and `route_*`.
    pub(super) labels: String,
    matches: Vec<Match>,
    pub(super) backends: Vec<Backend>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Backend {
    pub(super) weight: u32,
    pub(super) target: Target,
    /// The labels `backend_*`.
    pub(super) labels: String,
}

/// Where a backend's calls go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Service(ServicePort),
    /// There is no such Service: its share fails.
    Missing,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ServicePort {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) port: u16,
}

impl ServicePort {
    /// Reads what a client calls a Service; short names are of the client's own namespace.
    pub(super) fn parse(authority: &str, own_namespace: &str) -> Option<Self> {
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "80"));
        let port = port.parse().ok()?;
        let host = host.strip_suffix(".cluster.local").unwrap_or(host);
        let host = host.strip_suffix(".svc").unwrap_or(host);
        let (name, namespace) = host.split_once('.').unwrap_or((host, own_namespace));
        let is_label = |word: &str| !word.is_empty() && !word.contains('.');
        (is_label(name) && is_label(namespace) && name.parse::<u32>().is_err()).then(|| Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            port,
        })
    }

    /// The name that the mesh's metrics have for it.
    pub(super) fn authority(&self) -> String {
        let Self { namespace, name, port } = self;
        format!("{name}.{namespace}.svc.cluster.local:{port}")
    }
}

impl Policy {
    /// Puts together the routes that are attached to a Service; without any, calls go to the Service itself.
    pub(super) fn new(parent: &ServicePort, routes: &[&Route], exists: impl Fn(&ServicePort) -> bool) -> Self {
        let mut attached: Vec<_> = routes
            .iter()
            .filter(|route| route.is_attached_to(&parent.namespace, &parent.name, parent.port))
            .collect();
        // GRPCRoutes beat HTTPRoutes; older routes go before newer ones.
        let best = attached.iter().map(|route| route.kind).min();
        attached.retain(|route| Some(route.kind) == best);
        attached.sort_by_key(|route| (&route.created, &route.name));
        if attached.is_empty() {
            return Self {
                rules: vec![Rule::to_itself(parent)],
                breaker: None,
            };
        }
        let rule = |route: &Route, index: usize| -> Option<Rule> {
            let rule = route.rules.get(index)?;
            let backends = rule.backends.iter().map(|backend| {
                let port = backend.port.filter(|_| backend.is_service());
                let target = port.map(|port| ServicePort {
                    namespace: backend.namespace.clone().unwrap_or_else(|| route.namespace.clone()),
                    name: backend.name.clone(),
                    port,
                });
                Backend::new(backend.weight, target.filter(&exists))
            });
            Some(Rule {
                family: route.kind.family(),
                labels: route_labels(
                    parent,
                    route.kind.group(),
                    route.kind.name(),
                    &route.namespace,
                    &route.name,
                ),
                matches: rule.matches.clone(),
                backends: backends.collect(),
            })
        };
        let rules = attached
            .iter()
            .flat_map(|route| (0..route.rules.len()).filter_map(|index| rule(route, index)))
            .collect();
        Self { rules, breaker: None }
    }

    /// The same, with what the Service that is called says about circuit breaking.
    pub(super) fn breaking(self, breaker: Option<Breaker>) -> Self {
        Self { breaker, ..self }
    }

    /// What a ServiceProfile says: its overrides, or the Service itself. Whatever routes say does not count.
    pub(super) fn of_profile(parent: &ServicePort, profile: &Profile, exists: impl Fn(&ServicePort) -> bool) -> Self {
        let mut rule = Rule::to_itself(parent);
        rule.family = Family::Profile;
        if !profile.overrides.is_empty() {
            let backend = |(to, weight): &(ServicePort, u32)| Backend::new(*weight, Some(to.clone()).filter(&exists));
            rule.backends = profile.overrides.iter().map(backend).collect();
        }
        Self {
            rules: vec![rule],
            breaker: None,
        }
    }

    /// The rule for a call: of those that match the most exact one, else the first.
    pub(super) fn rule(&self, path: &str, headers: &HeaderMap) -> Option<&Rule> {
        let mut best: Option<((usize, usize), &Rule)> = None;
        for rule in &self.rules {
            let held = rule.matches.iter().filter_map(|m| m.holds(path, headers)).max();
            // A rule without matches is as exact as the path prefix `/`.
            let Some(exactness) = held.or_else(|| rule.matches.is_empty().then_some((1, 0))) else {
                continue;
            };
            if best.is_none_or(|(so_far, _)| exactness > so_far) {
                best = Some((exactness, rule));
            }
        }
        best.map(|(_, rule)| rule)
    }

    /// Whether this is what a proxy's watch does not survive: two or more backends, and no weight at all.
    pub(super) fn is_poison(&self) -> bool {
        let all_zero = |rule: &Rule| rule.backends.len() > 1 && rule.backends.iter().all(|backend| backend.weight == 0);
        self.rules.iter().any(all_zero)
    }
}

impl Rule {
    /// What a Service without routes has.
    fn to_itself(service: &ServicePort) -> Self {
        Self {
            family: Family::Http,
            labels: route_labels(service, "", "default", "", "http"),
            matches: Vec::new(),
            backends: vec![Backend::new(1, Some(service.clone()))],
        }
    }

    /// Draws a backend. Weights count among the available ones only; one of weight 0 gets nothing unless it is alone.
    pub(super) fn choose(&self, rng: &mut impl Rng, available: impl Fn(&ServicePort) -> bool) -> Choice<'_> {
        let is_available = |backend: &Backend| match &backend.target {
            Target::Service(service) => available(service),
            // It fails at once.
            Target::Missing => true,
        };
        if let [only] = self.backends.as_slice() {
            return if is_available(only) {
                Choice::Take(only)
            } else {
                Choice::Wait(only)
            };
        }
        let ready: Vec<_> = self.backends.iter().filter(|backend| is_available(backend)).collect();
        if let Some(backend) = draw(rng, &ready) {
            return Choice::Take(backend);
        }
        let all: Vec<_> = self.backends.iter().collect();
        draw(rng, &all).map_or(Choice::Nothing, Choice::Wait)
    }
}

/// Where a call goes.
#[derive(Debug, PartialEq)]
pub(super) enum Choice<'a> {
    Take(&'a Backend),
    /// None is available; when that does not change soon, the call fails as this one's.
    Wait(&'a Backend),
    /// The rule has no backends.
    Nothing,
}

fn draw<'a>(rng: &mut impl Rng, backends: &[&'a Backend]) -> Option<&'a Backend> {
    let total: u64 = backends.iter().map(|backend| u64::from(backend.weight)).sum();
    if total == 0 {
        return None;
    }
    let mut left = rng.random_range(0..total);
    backends.iter().copied().find(|backend| {
        let weight = u64::from(backend.weight);
        let found = left < weight;
        left = left.saturating_sub(weight);
        found
    })
}

impl Backend {
    fn new(weight: u32, target: Option<ServicePort>) -> Self {
        let mut labels = String::new();
        let mut write = |group: &str, kind: &str, namespace: &str, name: &str, port: &str| {
            // Writing to a String can't fail.
            let _ = write!(
                labels,
                "backend_group=\"{group}\",backend_kind=\"{kind}\",backend_namespace=\"{namespace}\",\
                 backend_name=\"{name}\",backend_port=\"{port}\",backend_section_name=\"\""
            );
        };
        let target = match target {
            Some(service) => {
                let ServicePort { namespace, name, port } = &service;
                write("core", "Service", namespace, name, &port.to_string());
                Target::Service(service)
            }
            None => {
                write("", "default", "", "fail", "");
                Target::Missing
            }
        };
        Self { weight, target, labels }
    }
}

fn route_labels(parent: &ServicePort, group: &str, kind: &str, route_namespace: &str, route: &str) -> String {
    let ServicePort { namespace, name, port } = parent;
    format!(
        "parent_group=\"core\",parent_kind=\"Service\",parent_namespace=\"{namespace}\",parent_name=\"{name}\",\
         parent_port=\"{port}\",parent_section_name=\"\",route_group=\"{group}\",route_kind=\"{kind}\",\
         route_namespace=\"{route_namespace}\",route_name=\"{route}\""
    )
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::SmallRng};
    use serde_json::{Value, json};

    use super::*;
    use crate::mesh::route::Kind;

    fn service(name: &str) -> ServicePort {
        ServicePort {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            port: 80,
        }
    }

    fn route(kind: Kind, name: &str, rules: &Value) -> Route {
        let parent = json!({"kind": "Service", "group": "core", "name": "web", "port": 80});
        Route::read(kind, "shop", name, "", &json!({"parentRefs": [parent], "rules": rules})).unwrap()
    }

    fn backend(name: &str, weight: u32) -> Value {
        json!({"name": name, "port": 80, "weight": weight})
    }

    fn policy(routes: &[Route]) -> Policy {
        let routes: Vec<_> = routes.iter().collect();
        Policy::new(&service("web"), &routes, |s| s.name != "missing")
    }

    fn weighted(stable: u32, canary: u32) -> Policy {
        let rule = json!([{"backendRefs": [backend("stable", stable), backend("canary", canary)]}]);
        policy(&[route(Kind::Grpc, "r", &rule)])
    }

    fn name(backend: &Backend) -> String {
        match &backend.target {
            Target::Service(service) => service.name.clone(),
            Target::Missing => "fail".to_owned(),
        }
    }

    fn shares(policy: &Policy, calls: u32, available: impl Fn(&ServicePort) -> bool + Copy) -> Vec<(String, u32)> {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut counts = std::collections::BTreeMap::new();
        let rule = policy.rule("/a.B/C", &HeaderMap::new()).unwrap();
        for _ in 0..calls {
            let got = match rule.choose(&mut rng, available) {
                Choice::Take(backend) => name(backend),
                Choice::Wait(backend) => format!("wait for {}", name(backend)),
                Choice::Nothing => "nothing".to_owned(),
            };
            *counts.entry(got).or_default() += 1;
        }
        counts.into_iter().collect()
    }

    fn only(name: &str, calls: u32) -> Vec<(String, u32)> {
        vec![(name.to_owned(), calls)]
    }

    #[test]
    fn weights_are_obeyed_within_binomial_bounds() {
        let counts = shares(&weighted(90, 10), 10_000, |_| true);
        // Four standard deviations around 1,000.
        assert!((880..=1_120).contains(&counts[0].1), "{counts:?}");
        assert_eq!(counts[0].1 + counts[1].1, 10_000);
    }

    #[test]
    fn an_unready_backends_share_goes_to_the_others() {
        assert_eq!(
            shares(&weighted(10, 90), 100, |s| s.name != "canary"),
            only("stable", 100)
        );
    }

    #[test]
    fn an_unready_backends_share_never_goes_to_one_of_weight_zero() {
        let counts = shares(&weighted(100, 0), 100, |s| s.name != "stable");
        assert_eq!(counts, only("wait for stable", 100));
    }

    #[test]
    fn a_single_backend_gets_everything_even_at_weight_zero() {
        let rules = json!([{"backendRefs": [backend("canary", 0)]}]);
        let policy = policy(&[route(Kind::Grpc, "r", &rules)]);
        assert_eq!(shares(&policy, 100, |_| true), only("canary", 100));
        assert!(!policy.is_poison());
    }

    #[test]
    fn all_zero_weights_are_poison() {
        assert!(weighted(0, 0).is_poison());
        assert!(!weighted(1, 0).is_poison());
    }

    #[test]
    fn a_missing_services_share_fails() {
        let rules = json!([{"backendRefs": [backend("stable", 50), backend("missing", 50)]}]);
        let counts = shares(&policy(&[route(Kind::Grpc, "r", &rules)]), 1_000, |_| true);
        assert_eq!(counts[0].0, "fail");
        assert!((430..=570).contains(&counts[0].1), "{counts:?}");
    }

    #[test]
    fn a_grpc_route_beats_an_http_route() {
        let to = |name: &str| json!([{"backendRefs": [backend(name, 1)]}]);
        let policy = policy(&[route(Kind::Http, "a", &to("http")), route(Kind::Grpc, "b", &to("grpc"))]);
        assert_eq!(shares(&policy, 10, |_| true), only("grpc", 10));
    }

    #[test]
    fn a_header_match_goes_before_a_rule_without() {
        let rules = json!([
            {"backendRefs": [backend("stable", 1)]},
            {"matches": [{"headers": [{"name": "x-canary", "value": "1"}]}], "backendRefs": [backend("canary", 1)]},
        ]);
        let policy = policy(&[route(Kind::Grpc, "r", &rules)]);
        let mut headers = HeaderMap::new();
        let to = |headers: &HeaderMap| name(&policy.rule("/a.B/C", headers).unwrap().backends[0]);
        assert_eq!(to(&headers), "stable");
        headers.insert("x-canary", "1".parse().unwrap());
        assert_eq!(to(&headers), "canary");
    }

    #[test]
    fn without_a_route_calls_go_to_the_service_itself() {
        assert_eq!(shares(&policy(&[]), 10, |_| true), only("web", 10));
    }

    #[test]
    fn a_service_is_called_by_long_and_short_names() {
        for authority in ["web.shop.svc.cluster.local:80", "web.shop.svc:80", "web.shop", "web:80"] {
            assert_eq!(
                ServicePort::parse(authority, "shop"),
                Some(service("web")),
                "{authority}"
            );
        }
        for authority in ["127.0.0.1:80", "example.com.:80", "a.b.c:80", "web:port"] {
            assert_eq!(ServicePort::parse(authority, "shop"), None, "{authority}");
        }
    }
}
