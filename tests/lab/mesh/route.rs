//! GRPCRoutes and HTTPRoutes as far as the mesh obeys them. Tolerant: what it does not know is left out. It must not know
//! which Services exist.

use http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;

use super::policy::Family;

/// The kinds of routes; on one parent the first of them counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Grpc,
    Http,
    /// Linkerd's own HTTPRoute.
    Policy,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Grpc => "GRPCRoute",
            Self::Http | Self::Policy => "HTTPRoute",
        }
    }

    pub(super) fn group(self) -> &'static str {
        match self {
            Self::Grpc | Self::Http => "gateway.networking.k8s.io",
            Self::Policy => "policy.linkerd.io",
        }
    }

    /// The version that the mesh reads.
    pub(super) fn version(self) -> &'static str {
        match self {
            Self::Grpc | Self::Http => "v1",
            Self::Policy => "v1beta3",
        }
    }

    pub(super) fn family(self) -> Family {
        match self {
            Self::Grpc => Family::Grpc,
            Self::Http | Self::Policy => Family::Http,
        }
    }
}

/// A route object.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Route {
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) name: String,
    /// As written in the object; only compared.
    pub(super) created: String,
    parents: Vec<ParentRef>,
    pub(super) rules: Vec<RouteRule>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct RouteRule {
    /// Empty: everything matches.
    pub(super) matches: Vec<Match>,
    pub(super) backends: Vec<BackendRef>,
}

/// All parts of a match must hold.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Match {
    pub(super) path: PathMatch,
    pub(super) headers: Vec<HeaderMatch>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum PathMatch {
    Prefix(String),
    Exact(String),
    /// A gRPC method of any service.
    Method(String),
    /// A kind of match that the mesh does not have; it never holds.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct HeaderMatch {
    pub(super) name: String,
    #[serde(default)]
    pub(super) value: String,
    #[serde(default, rename = "type")]
    pub(super) kind: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct ParentRef {
    #[serde(default)]
    group: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
    name: String,
    #[serde(default)]
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct BackendRef {
    #[serde(default)]
    group: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    #[serde(default)]
    pub(super) port: Option<u16>,
    #[serde(default = "one")]
    pub(super) weight: u32,
}

fn one() -> u32 {
    1
}

impl BackendRef {
    /// Other kinds can't be resolved and fail as a Service that is missing does.
    pub(super) fn is_service(&self) -> bool {
        is_core(self.group.as_deref().unwrap_or_default()) && self.kind.as_deref().is_none_or(|kind| kind == "Service")
    }
}

fn is_core(group: &str) -> bool {
    group.is_empty() || group == "core"
}

#[derive(Deserialize)]
struct Spec {
    #[serde(default, rename = "parentRefs")]
    parents: Vec<ParentRef>,
    #[serde(default)]
    rules: Vec<RawRule>,
}

#[derive(Deserialize)]
struct RawRule {
    #[serde(default)]
    matches: Vec<RawMatch>,
    #[serde(default, rename = "backendRefs")]
    backends: Vec<BackendRef>,
}

#[derive(Deserialize)]
struct RawMatch {
    #[serde(default)]
    path: Option<RawPath>,
    /// A gRPC method in a GRPCRoute, an HTTP method in an HTTPRoute.
    #[serde(default)]
    method: Option<Value>,
    #[serde(default)]
    headers: Vec<HeaderMatch>,
}

#[derive(Deserialize)]
struct RawPath {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    value: Option<String>,
}

#[derive(Deserialize)]
struct RawMethod {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    service: Option<String>,
    #[serde(default)]
    method: Option<String>,
}

impl Route {
    /// Reads a route's `spec`.
    pub(super) fn read(
        kind: Kind,
        namespace: &str,
        name: &str,
        created: &str,
        spec: &Value,
    ) -> Result<Self, serde_json::Error> {
        let Spec { parents, rules } = Spec::deserialize(spec)?;
        let rules = rules
            .into_iter()
            .map(|RawRule { matches, backends }| RouteRule {
                matches: matches.into_iter().map(|raw| Match::new(kind, raw)).collect(),
                backends,
            })
            .collect();
        Ok(Self {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            created: created.to_owned(),
            parents,
            rules,
        })
    }

    /// Whether the route says what happens to calls of this port of this Service.
    pub(super) fn is_attached_to(&self, namespace: &str, service: &str, port: u16) -> bool {
        self.namespace == namespace
            && self.parents.iter().any(|parent| {
                // The CRD's default kind is Gateway, so both must be written.
                parent.kind.as_deref() == Some("Service")
                    && parent.group.as_deref().is_some_and(is_core)
                    && parent.namespace.as_deref().is_none_or(|ns| ns == namespace)
                    && parent.name == service
                    && parent.port.is_none_or(|p| p == port)
            })
    }
}

impl Match {
    fn new(kind: Kind, raw: RawMatch) -> Self {
        let RawMatch { path, method, headers } = raw;
        let path = match (kind, path, method) {
            (Kind::Grpc, _, Some(method)) => grpc_path(&method),
            (Kind::Http | Kind::Policy, Some(RawPath { kind, value }), _) => {
                let value = value.unwrap_or_else(|| "/".to_owned());
                match kind.as_deref() {
                    None | Some("PathPrefix") => PathMatch::Prefix(value),
                    Some("Exact") => PathMatch::Exact(value),
                    Some(_) => PathMatch::Unknown,
                }
            }
            (Kind::Grpc, _, None) | (Kind::Http | Kind::Policy, None, _) => PathMatch::Prefix("/".to_owned()),
        };
        Self { path, headers }
    }

    /// How exact the match is; none when it does not hold. The path goes before the headers, as in the Gateway API.
    pub(super) fn holds(&self, path: &str, headers: &HeaderMap) -> Option<(usize, usize)> {
        let exactness = match &self.path {
            PathMatch::Exact(wanted) => (path == wanted).then_some(usize::MAX),
            PathMatch::Prefix(wanted) => is_under(path, wanted).then_some(wanted.len()),
            PathMatch::Method(wanted) => (path.rsplit('/').next() == Some(wanted)).then_some(wanted.len()),
            PathMatch::Unknown => None,
        }?;
        let all = self.headers.iter().all(|header| header.holds(headers));
        all.then_some((exactness, self.headers.len()))
    }
}

fn grpc_path(method: &Value) -> PathMatch {
    let Ok(RawMethod { kind, service, method }) = RawMethod::deserialize(method) else {
        return PathMatch::Unknown;
    };
    let given = |word: Option<String>| word.filter(|word| !word.is_empty());
    match (kind.as_deref(), given(service), given(method)) {
        (Some(kind), ..) if kind != "Exact" => PathMatch::Unknown,
        (_, Some(service), Some(method)) => PathMatch::Exact(format!("/{service}/{method}")),
        (_, Some(service), None) => PathMatch::Prefix(format!("/{service}")),
        (_, None, Some(method)) => PathMatch::Method(method),
        (_, None, None) => PathMatch::Prefix("/".to_owned()),
    }
}

/// Prefixes match whole segments: `/a` matches `/a` and `/a/b`, not `/ab`.
fn is_under(path: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl HeaderMatch {
    fn holds(&self, headers: &HeaderMap) -> bool {
        self.kind.as_deref().is_none_or(|kind| kind == "Exact")
            && headers
                .get(&self.name)
                .is_some_and(|value| value.as_bytes() == self.value.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(kind: Kind, spec: &Value) -> Route {
        Route::read(kind, "shop", "r", "2026-01-01T00:00:00Z", spec).unwrap()
    }

    fn first_match(kind: Kind, spec: &Value) -> Match {
        let spec = json!({"rules": [{"matches": [spec]}]});
        read(kind, &spec).rules[0].matches[0].clone()
    }

    fn attached(parent: &Value) -> bool {
        read(Kind::Grpc, &json!({"parentRefs": [parent]})).is_attached_to("shop", "web", 80)
    }

    #[test]
    fn a_parent_is_a_service_only_when_kind_and_group_say_so() {
        assert!(attached(
            &json!({"kind": "Service", "group": "core", "name": "web", "port": 80})
        ));
        assert!(attached(&json!({"kind": "Service", "group": "", "name": "web"})));
        assert!(!attached(&json!({"name": "web", "port": 80})));
        assert!(!attached(&json!({"kind": "Service", "name": "web", "port": 80})));
        assert!(!attached(
            &json!({"kind": "Service", "group": "core", "name": "web", "port": 81})
        ));
        assert!(!attached(
            &json!({"kind": "Service", "group": "core", "name": "web", "namespace": "b"})
        ));
    }

    #[test]
    fn a_grpc_method_matches_its_path() {
        let headers = HeaderMap::new();
        let exact = first_match(Kind::Grpc, &json!({"method": {"service": "a.B", "method": "C"}}));
        assert!(exact.holds("/a.B/C", &headers).is_some());
        assert!(exact.holds("/a.B/D", &headers).is_none());
        let service = first_match(Kind::Grpc, &json!({"method": {"service": "a.B"}}));
        assert!(service.holds("/a.B/C", &headers).is_some());
        assert!(service.holds("/a.BC/C", &headers).is_none());
        assert!(exact.holds("/a.B/C", &headers) > service.holds("/a.B/C", &headers));
        let method = first_match(Kind::Grpc, &json!({"method": {"method": "C"}}));
        assert!(method.holds("/x.Y/C", &headers).is_some());
        let regular = first_match(
            Kind::Grpc,
            &json!({"method": {"type": "RegularExpression", "service": "a.*"}}),
        );
        assert!(regular.holds("/a.B/C", &headers).is_none());
    }

    #[test]
    fn all_headers_of_a_match_must_be_there() {
        let matched = first_match(
            Kind::Http,
            &json!({"headers": [{"name": "X-Canary", "value": "always"}, {"name": "b", "value": "1"}]}),
        );
        let mut headers = HeaderMap::new();
        headers.insert("x-canary", "always".parse().unwrap());
        assert!(matched.holds("/", &headers).is_none());
        headers.insert("b", "1".parse().unwrap());
        assert_eq!(matched.holds("/x", &headers), Some((1, 2)));
    }

    #[test]
    fn a_weight_that_is_not_written_is_one() {
        let spec = json!({"rules": [{"backendRefs": [{"name": "a", "port": 1}, {"name": "b", "weight": 0}]}]});
        let weights: Vec<_> = read(Kind::Grpc, &spec).rules[0]
            .backends
            .iter()
            .map(|b| b.weight)
            .collect();
        assert_eq!(weights, [1, 0]);
    }
}
