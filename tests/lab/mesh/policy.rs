//! What a proxy does with the calls of one destination: which rule, which backend. Pure; it must not know how a call is made.

#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use http::HeaderMap;
use rand::Rng;

use super::{
    breaker::Breaker,
    profile::Profile,
    route::{Kind, Match, Route},
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
    /// The Service that is called.
    pub(super) parent: ServicePort,
    pub(super) rules: Vec<Rule>,
    /// Of the Service that is called, and for the endpoints of all its backends.
    pub(super) breaker: Option<Breaker>,
    /// The Service says that its port speaks HTTP/2 and nothing else.
    pub(super) is_http2: bool,
}

#[derive(Debug, PartialEq)]
pub(super) struct Rule {
    pub(super) family: Family,
    /// The labels `parent_*` and `route_*`.
    pub(super) labels: String,
    /// Where the rule stands; none when no route is attached, or none counts.
    pub(super) route: Option<RouteName>,
    pub(super) matches: Vec<Match>,
    pub(super) backends: Vec<Backend>,
}

/// A route object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RouteName {
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) name: String,
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
    /// There is no such Service: its share fails. None where the route does not name one at all.
    Missing(Option<ServicePort>),
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
                parent: parent.clone(),
                rules: vec![Rule::to_itself(parent)],
                breaker: None,
                is_http2: false,
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
                Backend::new(backend.weight, target, &exists)
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
                route: Some(RouteName {
                    kind: route.kind,
                    namespace: route.namespace.clone(),
                    name: route.name.clone(),
                }),
                matches: rule.matches.clone(),
                backends: backends.collect(),
            })
        };
        let rules = attached
            .iter()
            .flat_map(|route| (0..route.rules.len()).filter_map(|index| rule(route, index)))
            .collect();
        Self {
            parent: parent.clone(),
            rules,
            breaker: None,
            is_http2: false,
        }
    }

    /// The same, with what the Service that is called says about circuit breaking.
    pub(super) fn breaking(self, breaker: Option<Breaker>) -> Self {
        Self { breaker, ..self }
    }

    /// The same, with what the Service's port says that it speaks.
    pub(super) fn speaking(self, app_protocol: Option<&str>) -> Self {
        let is_http2 = app_protocol == Some("kubernetes.io/h2c");
        Self { is_http2, ..self }
    }

    /// What a ServiceProfile says: its overrides, or the Service itself. Whatever routes say does not count.
    pub(super) fn of_profile(parent: &ServicePort, profile: &Profile, exists: impl Fn(&ServicePort) -> bool) -> Self {
        let mut rule = Rule::to_itself(parent);
        rule.family = Family::Profile;
        if !profile.overrides.is_empty() {
            let backend = |(to, weight): &(ServicePort, u32)| Backend::new(*weight, Some(to.clone()), &exists);
            rule.backends = profile.overrides.iter().map(backend).collect();
        }
        Self {
            parent: parent.clone(),
            rules: vec![rule],
            breaker: None,
            is_http2: false,
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
            route: None,
            matches: Vec::new(),
            backends: vec![Backend::new(1, Some(service.clone()), |_| true)],
        }
    }

    /// Draws a backend. Weights count among the available ones only; one of weight 0 gets nothing unless it is alone.
    pub(super) fn choose(&self, rng: &mut impl Rng, available: impl Fn(&ServicePort) -> bool) -> Choice<'_> {
        let is_available = |backend: &Backend| match &backend.target {
            Target::Service(service) => available(service),
            // It fails at once.
            Target::Missing(_) => true,
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
    fn new(weight: u32, named: Option<ServicePort>, exists: impl Fn(&ServicePort) -> bool) -> Self {
        let mut labels = String::new();
        let mut write = |group: &str, kind: &str, namespace: &str, name: &str, port: &str| {
            // Writing to a String can't fail.
            let _ = write!(
                labels,
                "backend_group=\"{group}\",backend_kind=\"{kind}\",backend_namespace=\"{namespace}\",\
                 backend_name=\"{name}\",backend_port=\"{port}\",backend_section_name=\"\""
            );
        };
        let target = match named {
            Some(service) if exists(&service) => {
                let ServicePort { namespace, name, port } = &service;
                write("core", "Service", namespace, name, &port.to_string());
                Target::Service(service)
            }
            named => {
                write("", "default", "", "fail", "");
                Target::Missing(named)
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
