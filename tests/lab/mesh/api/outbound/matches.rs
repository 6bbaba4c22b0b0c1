//! Which calls a rule is for, as proxies read it. Pure; it must not know backends.

use linkerd2_proxy_api::{
    grpc_route::{GrpcRouteMatch, GrpcRpcMatch},
    http_route::{HeaderMatch, HttpRouteMatch, PathMatch as HttpPath, header_match, path_match},
};

use crate::mesh::{
    policy::Rule,
    route::{self, Match, PathMatch},
};

/// Matches of a rule; none when nothing can match it. A kind of match that the mesh does not have never holds.
pub(super) fn of_rule<T>(rule: &Rule, read: impl Fn(&Match) -> Option<T>) -> Option<Vec<T>> {
    let known: Vec<_> = rule.matches.iter().filter_map(read).collect();
    (rule.matches.is_empty() || !known.is_empty()).then_some(known)
}

fn headers(headers: &[route::HeaderMatch]) -> Vec<HeaderMatch> {
    let message = |header: &route::HeaderMatch| HeaderMatch {
        name: header.name.clone(),
        value: Some(match header.kind.as_deref() {
            None | Some("Exact") => header_match::Value::Exact(header.value.clone().into_bytes()),
            Some(_) => header_match::Value::Regex(header.value.clone()),
        }),
    };
    headers.iter().map(message).collect()
}

pub(super) fn grpc(matched: &Match) -> Option<GrpcRouteMatch> {
    let rpc = |service: &str, method: &str| GrpcRpcMatch {
        service: service.to_owned(),
        method: method.to_owned(),
    };
    let rpc = match &matched.path {
        PathMatch::Exact(path) => {
            let (service, method) = path.trim_start_matches('/').split_once('/')?;
            Some(rpc(service, method))
        }
        PathMatch::Prefix(path) if path == "/" => None,
        PathMatch::Prefix(path) => Some(rpc(path.trim_start_matches('/'), "")),
        PathMatch::Method(method) => Some(rpc("", method)),
        PathMatch::Unknown => return None,
    };
    let headers = headers(&matched.headers);
    Some(GrpcRouteMatch { rpc, headers })
}

pub(super) fn http(matched: &Match) -> Option<HttpRouteMatch> {
    let kind = match &matched.path {
        PathMatch::Exact(path) => path_match::Kind::Exact(path.clone()),
        PathMatch::Prefix(path) => path_match::Kind::Prefix(path.clone()),
        // Only GRPCRoutes have methods of services.
        PathMatch::Method(_) | PathMatch::Unknown => return None,
    };
    Some(HttpRouteMatch {
        path: Some(HttpPath { kind: Some(kind) }),
        headers: headers(&matched.headers),
        ..HttpRouteMatch::default()
    })
}
