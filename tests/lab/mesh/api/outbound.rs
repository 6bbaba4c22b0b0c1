//! What clients are to do with their calls: a Service's policy as the message that proxies read, and the service that watches it.
//! Weights are those of the table, each of them. It must not know endpoints.

mod matches;

use std::{sync::Arc, time::Duration};

use linkerd2_proxy_api::{
    grpc_route::GrpcFailureInjector,
    http_route::{HttpFailureInjector, HttpRouteMatch, PathMatch, path_match},
    meta::{Metadata, Resource, metadata},
    opaque_route::Forbidden,
    outbound::{
        self as proto, OutboundPolicy, TrafficSpec,
        backend::{BalanceP2c, EndpointDiscovery, balance_p2c, endpoint_discovery},
        opaque_route,
        outbound_policies_server::OutboundPolicies,
        proxy_protocol,
    },
};
use tonic::{Request, Response, Status};

use self::matches::{grpc, http, of_rule};
use super::{
    Control,
    follow::{self, Told},
    names::{Target as Named, Workload},
};
use crate::mesh::{
    breaker::Breaker,
    policy::{Backend, Family, Policy, Rule, ServicePort, Target},
    table::Table,
};

/// How long a proxy tells a protocol by what the client sends.
const DETECT: Duration = Duration::from_secs(10);
/// How long calls wait for a backend without endpoints.
const FAIL_FAST: Duration = Duration::from_secs(3);
const QUEUE: u32 = 100;
const FIRST_RTT: Duration = Duration::from_millis(30);
const RTT_DECAY: Duration = Duration::from_secs(10);
const JITTER: f32 = 0.5;

/// What is known of a target.
#[derive(Debug, Clone, PartialEq)]
enum Found {
    Policy(Arc<Policy>),
    /// The Service has other ports only.
    UndefinedPort(ServicePort),
}

impl Found {
    fn look(table: &Table, target: &Named) -> Option<Self> {
        let service = match target {
            Named::Named(service) => service.clone(),
            Named::Address(address) => {
                let (namespace, name) = table.service_at(address.ip())?.clone();
                let port = address.port();
                ServicePort { namespace, name, port }
            }
        };
        match table.policy(&service) {
            Some(policy) => Some(Self::Policy(Arc::clone(policy))),
            None => table
                .has_service(&service.namespace, &service.name)
                .then_some(Self::UndefinedPort(service)),
        }
    }

    fn message(&self) -> OutboundPolicy {
        match self {
            Self::Policy(policy) => message(policy),
            Self::UndefinedPort(service) => undefined_port(service),
        }
    }
}

fn target(spec: &TrafficSpec) -> Result<Named, Status> {
    let target = Named::of_traffic(spec)?;
    Workload::read(&spec.source_workload)?;
    Ok(target)
}

fn unknown(target: &Named) -> Status {
    Status::not_found(match target {
        Named::Named(_) => "unknown target",
        Named::Address(_) => "No such service",
    })
}

#[tonic::async_trait]
impl OutboundPolicies for Control {
    async fn get(&self, request: Request<TrafficSpec>) -> Result<Response<OutboundPolicy>, Status> {
        let target = target(request.get_ref())?;
        let found = Found::look(&self.0.table(), &target).ok_or_else(|| unknown(&target))?;
        Ok(Response::new(found.message()))
    }

    type WatchStream = Told<OutboundPolicy>;

    async fn watch(&self, request: Request<TrafficSpec>) -> Result<Response<Self::WatchStream>, Status> {
        let target = target(request.get_ref())?;
        let tables = self.0.follow();
        if Found::look(tables.now(), &target).is_none() {
            return Err(unknown(&target));
        }
        let look = move |table: &Table| Found::look(table, &target);
        Ok(Response::new(follow::latest(tables, look, Found::message)))
    }
}

/// The policy as a proxy reads it.
pub(super) fn message(policy: &Policy) -> OutboundPolicy {
    let failure_accrual = policy.breaker.map(accrual);
    let is_grpc = policy.rules.first().is_some_and(|rule| rule.family == Family::Grpc);
    let kind = if is_grpc {
        let routes = by_route(policy, grpc_route);
        proxy_protocol::Kind::Grpc(proxy_protocol::Grpc {
            routes,
            failure_accrual,
        })
    } else if policy.is_http2 {
        let routes = by_route(policy, http_route);
        proxy_protocol::Kind::Http2(proxy_protocol::Http2 {
            routes,
            failure_accrual,
        })
    } else {
        let routes = by_route(policy, http_route);
        proxy_protocol::Kind::Detect(proxy_protocol::Detect {
            timeout: duration(DETECT),
            opaque: Some(proxy_protocol::Opaque {
                routes: vec![opaque(&policy.parent)],
            }),
            http1: Some(proxy_protocol::Http1 {
                routes: routes.clone(),
                failure_accrual,
            }),
            http2: Some(proxy_protocol::Http2 {
                routes,
                failure_accrual,
            }),
        })
    };
    OutboundPolicy {
        protocol: Some(proto::ProxyProtocol { kind: Some(kind) }),
        metadata: Some(service_metadata(&policy.parent)),
    }
}

/// The rules of each route object in one message, in the table's order.
fn by_route<T>(policy: &Policy, message: impl Fn(&ServicePort, &[Rule]) -> T) -> Vec<T> {
    let routes = policy.rules.chunk_by(|one, next| one.route == next.route);
    routes.map(|rules| message(&policy.parent, rules)).collect()
}

fn route_metadata(rules: &[Rule]) -> Metadata {
    let Some(route) = rules.first().and_then(|rule| rule.route.as_ref()) else {
        return default_metadata("http");
    };
    Metadata {
        kind: Some(metadata::Kind::Resource(Resource {
            group: route.kind.group().to_owned(),
            kind: route.kind.name().to_owned(),
            namespace: route.namespace.clone(),
            name: route.name.clone(),
            ..Resource::default()
        })),
    }
}

/// The two families have messages of the same shape and of different types.
macro_rules! distribution {
    ($family:ident, $parent:expr, $rule:expr, $refuse:expr) => {{
        let route_backend = |backend: &Backend| {
            let (backend, missing) = backend_message(backend);
            let filters = missing
                .map($refuse)
                .map(|kind| proto::$family::Filter { kind: Some(kind) });
            proto::$family::RouteBackend {
                backend: Some(backend),
                filters: filters.into_iter().collect(),
                ..proto::$family::RouteBackend::default()
            }
        };
        let weighted = |backend: &Backend| proto::$family::WeightedRouteBackend {
            weight: backend.weight,
            backend: Some(route_backend(backend)),
        };
        let to_itself = || proto::$family::RouteBackend {
            backend: Some(balancer($parent)),
            ..proto::$family::RouteBackend::default()
        };
        let kind = if $rule.route.is_none() || $rule.backends.is_empty() {
            proto::$family::distribution::Kind::FirstAvailable(proto::$family::distribution::FirstAvailable {
                backends: vec![to_itself()],
            })
        } else {
            proto::$family::distribution::Kind::RandomAvailable(proto::$family::distribution::RandomAvailable {
                backends: $rule.backends.iter().map(weighted).collect(),
            })
        };
        Some(proto::$family::Distribution { kind: Some(kind) })
    }};
}

fn grpc_route(parent: &ServicePort, rules: &[Rule]) -> proto::GrpcRoute {
    let refuse = |message: String| {
        let code = 500;
        proto::grpc_route::filter::Kind::FailureInjector(GrpcFailureInjector {
            code,
            message,
            ratio: None,
        })
    };
    let rule = |rule: &Rule| {
        Some(proto::grpc_route::Rule {
            matches: of_rule(rule, grpc)?,
            backends: distribution!(grpc_route, parent, rule, refuse),
            ..proto::grpc_route::Rule::default()
        })
    };
    proto::GrpcRoute {
        metadata: Some(route_metadata(rules)),
        hosts: Vec::new(),
        rules: rules.iter().filter_map(rule).collect(),
    }
}

fn http_route(parent: &ServicePort, rules: &[Rule]) -> proto::HttpRoute {
    let refuse = |message: String| {
        let status = 500;
        proto::http_route::filter::Kind::FailureInjector(HttpFailureInjector {
            status,
            message,
            ratio: None,
        })
    };
    let rule = |rule: &Rule| {
        let mut matches = of_rule(rule, http)?;
        if matches.is_empty() {
            matches.push(HttpRouteMatch {
                path: Some(PathMatch {
                    kind: Some(path_match::Kind::Prefix("/".to_owned())),
                }),
                ..HttpRouteMatch::default()
            });
        }
        Some(proto::http_route::Rule {
            matches,
            backends: distribution!(http_route, parent, rule, refuse),
            ..proto::http_route::Rule::default()
        })
    };
    proto::HttpRoute {
        metadata: Some(route_metadata(rules)),
        hosts: Vec::new(),
        rules: rules.iter().filter_map(rule).collect(),
    }
}

/// A backend, and why it fails its share when it does.
fn backend_message(backend: &Backend) -> (proto::Backend, Option<String>) {
    let failing = |metadata, message: String| {
        let backend = proto::Backend {
            metadata: Some(metadata),
            queue: Some(queue()),
            kind: None,
        };
        (backend, Some(message))
    };
    match &backend.target {
        Target::Service(service) => (balancer(service), None),
        Target::Missing(Some(service)) => {
            let message = format!("Service not found {}", service.name);
            failing(service_metadata(service), message)
        }
        Target::Missing(None) => failing(default_metadata("invalid"), "no port, or no Service".to_owned()),
    }
}

/// The endpoints of a Service.
fn balancer(service: &ServicePort) -> proto::Backend {
    let path = service.authority();
    let dst = endpoint_discovery::DestinationGet { path };
    proto::Backend {
        metadata: Some(service_metadata(service)),
        queue: Some(queue()),
        kind: Some(proto::backend::Kind::Balancer(BalanceP2c {
            discovery: Some(EndpointDiscovery {
                kind: Some(endpoint_discovery::Kind::Dst(dst)),
            }),
            load: Some(balance_p2c::Load::PeakEwma(balance_p2c::PeakEwma {
                default_rtt: duration(FIRST_RTT),
                decay: duration(RTT_DECAY),
            })),
        })),
    }
}

fn queue() -> proto::Queue {
    proto::Queue {
        capacity: QUEUE,
        failfast_timeout: duration(FAIL_FAST),
    }
}

fn accrual(breaker: Breaker) -> proto::FailureAccrual {
    let Breaker {
        max_failures,
        min_penalty,
        max_penalty,
    } = breaker;
    let backoff = proto::ExponentialBackoff {
        min_backoff: duration(min_penalty),
        max_backoff: duration(max_penalty),
        jitter_ratio: JITTER,
        respect_retry_after_hint: false,
    };
    let failures = proto::failure_accrual::ConsecutiveFailures {
        max_failures,
        backoff: Some(backoff),
    };
    proto::FailureAccrual {
        kind: Some(proto::failure_accrual::Kind::ConsecutiveFailures(failures)),
        ejection: None,
    }
}

/// What is neither HTTP nor refused goes to the Service's own endpoints.
fn opaque(parent: &ServicePort) -> proto::OpaqueRoute {
    let backend = opaque_route::RouteBackend {
        backend: Some(balancer(parent)),
        filters: Vec::new(),
    };
    let backends = vec![backend];
    let first = opaque_route::distribution::FirstAvailable { backends };
    let kind = opaque_route::distribution::Kind::FirstAvailable(first);
    opaque_rule("opaq", kind, Vec::new())
}

fn undefined_port(service: &ServicePort) -> OutboundPolicy {
    let forbidden = opaque_route::Filter {
        kind: Some(opaque_route::filter::Kind::Forbidden(Forbidden {})),
    };
    let nothing = opaque_route::distribution::Kind::Empty(opaque_route::distribution::Empty {});
    let routes = vec![opaque_rule("undefined-port", nothing, vec![forbidden])];
    let kind = proxy_protocol::Kind::Opaque(proxy_protocol::Opaque { routes });
    OutboundPolicy {
        protocol: Some(proto::ProxyProtocol { kind: Some(kind) }),
        metadata: Some(service_metadata(service)),
    }
}

fn opaque_rule(
    name: &str,
    kind: opaque_route::distribution::Kind,
    filters: Vec<opaque_route::Filter>,
) -> proto::OpaqueRoute {
    let backends = Some(opaque_route::Distribution { kind: Some(kind) });
    proto::OpaqueRoute {
        metadata: Some(default_metadata(name)),
        rules: vec![opaque_route::Rule { backends, filters }],
    }
}

/// A Service's port as messages name it.
pub(super) fn service_metadata(service: &ServicePort) -> Metadata {
    let ServicePort { namespace, name, port } = service;
    Metadata {
        kind: Some(metadata::Kind::Resource(Resource {
            group: "core".to_owned(),
            kind: "Service".to_owned(),
            name: name.clone(),
            namespace: namespace.clone(),
            section: String::new(),
            port: u32::from(*port),
        })),
    }
}

/// The name of what is so without any object.
pub(super) fn default_metadata(name: &str) -> Metadata {
    Metadata {
        kind: Some(metadata::Kind::Default(name.to_owned())),
    }
}

/// None only for what no constant and no annotation is: longer than 292 billion years.
pub(super) fn duration(duration: Duration) -> Option<prost_types::Duration> {
    duration.try_into().ok()
}
