//! ServiceProfiles as proxies read them. Pure; it must not know endpoints other than a single pod that is called by its address.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use linkerd2_proxy_api::{
    destination::{
        DestinationProfile, HttpStatusRange, PathMatch, RequestMatch, ResponseClass, ResponseMatch, RetryBudget, Route,
        WeightedDst, request_match, response_match,
    },
    http_types::HttpMethod,
    meta::{Metadata, Resource, metadata},
};
use serde_json::Value;

use super::{
    destination,
    names::Target,
    outbound::{duration, service_metadata},
};
use crate::mesh::{labels, policy::ServicePort, profile::Profile, table::Table};

/// Weights of overrides are told in these parts, and as in Linkerd the large ones overflow.
const PARTS: u32 = 10_000;
const BUDGET: RetryBudget = RetryBudget {
    retry_ratio: 0.2,
    min_retries_per_second: 10,
    ttl: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
};

/// What is known of a destination.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Found {
    Service(ServicePort, Option<Arc<Profile>>),
    /// The Service has other ports only: outbound policy says the rest.
    UndefinedPort,
    Endpoint(SocketAddr, Arc<Pod>),
}

impl Found {
    /// Profiles of the client's namespace go before those of the Service's.
    pub(super) fn look(table: &Table, target: &Target, client: Option<&str>) -> Option<Self> {
        let service = match target {
            Target::Named(service) => service.clone(),
            Target::Address(address) => match table.service_at(address.ip()) {
                Some((namespace, name)) => ServicePort {
                    namespace: namespace.clone(),
                    name: name.clone(),
                    port: address.port(),
                },
                None => return Some(Self::Endpoint(*address, Arc::clone(table.pod_at(address.ip())?))),
            },
        };
        if table.policy(&service).is_none() {
            let exists = table.has_service(&service.namespace, &service.name);
            return exists.then_some(Self::UndefinedPort);
        }
        let profiled = table.profiled(client.unwrap_or(&service.namespace), &service);
        let profile = profiled.map(|(_, profile)| Arc::clone(profile));
        Some(Self::Service(service, profile))
    }

    pub(super) fn message(&self) -> DestinationProfile {
        match self {
            Self::Service(service, profile) => message(service, profile.as_deref()),
            Self::UndefinedPort => DestinationProfile::default(),
            Self::Endpoint(address, pod) => {
                let pod = destination::info(pod, address.ip());
                // Its Service is not known, for it was called without one.
                let nobody = ServicePort {
                    namespace: pod.namespace.clone(),
                    name: String::new(),
                    port: address.port(),
                };
                let named = labels::destination(&nobody, &pod).into_iter();
                let named = named.filter(|(_, value)| !value.is_empty());
                let labels = named.map(|(name, value)| (name.to_owned(), value.to_owned()));
                DestinationProfile {
                    endpoint: Some(destination::address(*address, &pod, labels.collect())),
                    retry_budget: Some(BUDGET),
                    ..DestinationProfile::default()
                }
            }
        }
    }
}

fn message(service: &ServicePort, profile: Option<&Profile>) -> DestinationProfile {
    let ServicePort { namespace, name, .. } = service;
    let fully_qualified_name = format!("{name}.{namespace}.svc.{}", labels::TRUST_DOMAIN);
    let Some(profile) = profile else {
        return DestinationProfile {
            fully_qualified_name,
            retry_budget: Some(BUDGET),
            parent_ref: Some(service_metadata(service)),
            ..DestinationProfile::default()
        };
    };
    let overridden = |(to, weight): &(ServicePort, u32)| WeightedDst {
        authority: to.authority(),
        weight: weight.wrapping_mul(PARTS),
        backend_ref: Some(service_metadata(to)),
    };
    let resource = Resource {
        group: "linkerd.io".to_owned(),
        kind: "ServiceProfile".to_owned(),
        name: fully_qualified_name.clone(),
        namespace: profile.namespace.clone(),
        ..Resource::default()
    };
    DestinationProfile {
        fully_qualified_name,
        routes: profile.routes.iter().filter_map(route).collect(),
        retry_budget: Some(BUDGET),
        dst_overrides: profile.overrides.iter().map(overridden).collect(),
        parent_ref: Some(service_metadata(service)),
        profile_ref: Some(Metadata {
            kind: Some(metadata::Kind::Resource(resource)),
        }),
        ..DestinationProfile::default()
    }
}

/// A route of a profile; one whose condition can't be read is left out.
fn route(route: &Value) -> Option<Route> {
    let name = route.get("name").and_then(Value::as_str);
    let classes = route.get("responseClasses").and_then(Value::as_array);
    let class = |class: &Value| {
        Some(ResponseClass {
            condition: Some(response(class.get("condition")?)?),
            is_failure: class.get("isFailure").and_then(Value::as_bool).unwrap_or_default(),
        })
    };
    let timeout = route.get("timeout").and_then(Value::as_str).and_then(milliseconds);
    let labels = name.map(|name| ("route".to_owned(), name.to_owned()));
    Some(Route {
        condition: Some(request(route.get("condition")?)?),
        response_classes: classes.into_iter().flatten().filter_map(class).collect(),
        metrics_labels: labels.into_iter().collect::<HashMap<_, _>>(),
        is_retryable: route.get("isRetryable").and_then(Value::as_bool).unwrap_or_default(),
        timeout: timeout.and_then(duration),
    })
}

/// Such as `300ms` or `2s`.
fn milliseconds(text: &str) -> Option<Duration> {
    let number = |unit: &str| text.strip_suffix(unit)?.parse::<u64>().ok();
    number("ms")
        .map(Duration::from_millis)
        .or_else(|| number("s").map(Duration::from_secs))
}

/// All that a condition asks for must hold.
fn request(condition: &Value) -> Option<RequestMatch> {
    let matched = |kind| RequestMatch { r#match: Some(kind) };
    let seq = |all: &Value| {
        let matches = all.as_array()?.iter().map(request).collect::<Option<Vec<_>>>()?;
        Some(request_match::Seq { matches })
    };
    let text = |key: &str| condition.get(key).and_then(Value::as_str);
    let mut all = Vec::new();
    if let Some(regex) = text("pathRegex") {
        let regex = regex.to_owned();
        all.push(matched(request_match::Match::Path(PathMatch { regex })));
    }
    if let Some(method) = text("method") {
        let method = http::Method::from_bytes(method.as_bytes()).ok()?;
        all.push(matched(request_match::Match::Method(HttpMethod::from(method))));
    }
    if let Some(every) = condition.get("all") {
        all.push(matched(request_match::Match::All(seq(every)?)));
    }
    if let Some(any) = condition.get("any") {
        all.push(matched(request_match::Match::Any(seq(any)?)));
    }
    if let Some(not) = condition.get("not") {
        all.push(matched(request_match::Match::Not(Box::new(request(not)?))));
    }
    match all.len() {
        0 => None,
        1 => all.pop(),
        _ => Some(matched(request_match::Match::All(request_match::Seq { matches: all }))),
    }
}

fn response(condition: &Value) -> Option<ResponseMatch> {
    let status = condition.get("status")?;
    let bound = |key: &str| status.get(key).and_then(Value::as_u64)?.try_into().ok();
    let (min, max) = (bound("min"), bound("max"));
    let range = HttpStatusRange {
        min: min.or(max)?,
        max: max.or(min)?,
    };
    Some(ResponseMatch {
        r#match: Some(response_match::Match::Status(range)),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_condition_asks_for_all_its_parts() {
        let read = request(&json!({"method": "POST", "pathRegex": "/a/.*"})).unwrap();
        let Some(request_match::Match::All(all)) = read.r#match else {
            panic!("{read:?}");
        };
        assert_eq!(all.matches.len(), 2);
        let path = request_match::Match::Path(PathMatch {
            regex: "/a/.*".to_owned(),
        });
        assert_eq!(all.matches[0].r#match, Some(path.clone()));
        let not = request(&json!({"not": {"pathRegex": "/a/.*"}})).unwrap();
        let inner = Box::new(RequestMatch { r#match: Some(path) });
        assert_eq!(not.r#match, Some(request_match::Match::Not(inner)));
        assert_eq!(request(&json!({})), None);
    }

    #[test]
    fn a_route_keeps_its_timeout_its_retries_and_what_is_a_failure() {
        let read = route(&json!({
            "name": "GET /a", "condition": {"pathRegex": "/a"}, "isRetryable": true, "timeout": "300ms",
            "responseClasses": [{"condition": {"status": {"min": 500}}, "isFailure": true}],
        }))
        .unwrap();
        assert!(read.is_retryable && read.response_classes[0].is_failure);
        let range = HttpStatusRange { min: 500, max: 500 };
        let status = Some(response_match::Match::Status(range));
        assert_eq!(read.response_classes[0].condition.as_ref().unwrap().r#match, status);
        assert_eq!(read.timeout, duration(Duration::from_millis(300)));
        assert_eq!(read.metrics_labels["route"], "GET /a");
        assert_eq!(route(&json!({"name": "nothing"})), None);
    }
}
