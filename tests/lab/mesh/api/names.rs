//! What proxies call things in their requests, and how the control plane refuses what it can't read. Pure; it must not know
//! what there is.

use std::net::{IpAddr, SocketAddr};

use linkerd2_proxy_api::{net::TcpAddress, outbound::TrafficSpec, outbound::traffic_spec};
use serde::Deserialize;
use tonic::Status;

use crate::mesh::{labels::TRUST_DOMAIN, policy::ServicePort};

/// The proxy that asks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Workload {
    #[serde(rename = "ns")]
    pub(super) namespace: String,
    pub(super) pod: String,
}

impl Workload {
    /// Reads `{"ns": "…", "pod": "…"}`, or the older `<namespace>:<pod>`.
    pub(super) fn read(text: &str) -> Result<Self, Status> {
        let invalid = || Status::invalid_argument(format!("Invalid workload: {text}"));
        if text.starts_with('{') {
            return serde_json::from_str(text).map_err(|_| invalid());
        }
        match text.split_once(':') {
            Some((namespace, pod)) if !namespace.is_empty() && !pod.is_empty() => Ok(Self {
                namespace: namespace.to_owned(),
                pod: pod.to_owned(),
            }),
            _ => Err(invalid()),
        }
    }
}

/// The namespace of the proxy that asks, as its context token says it; tokens that say none are no error.
pub(super) fn namespace_of_token(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Token {
        #[serde(default)]
        ns: String,
    }
    let namespace = match serde_json::from_str::<Token>(token) {
        Ok(Token { ns }) => ns,
        Err(_) => token.strip_prefix("ns:")?.to_owned(),
    };
    (!namespace.is_empty() && !namespace.contains(':')).then_some(namespace)
}

/// What traffic is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Named(ServicePort),
    Address(SocketAddr),
}

impl Target {
    /// Reads what outbound policy is asked for.
    pub(super) fn of_traffic(spec: &TrafficSpec) -> Result<Self, Status> {
        let target = spec.target.as_ref();
        match target.ok_or_else(|| Status::invalid_argument("target is required"))? {
            traffic_spec::Target::Authority(authority) => named(authority).map(Self::Named),
            traffic_spec::Target::Addr(address) => tcp(*address).map(Self::Address),
        }
    }

    /// Reads the path of a destination.
    pub(super) fn of_path(path: &str) -> Result<Self, Status> {
        let invalid = || Status::invalid_argument(format!("Invalid authority: {path}"));
        let (host, port) = match path.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| invalid())?),
            None => (path, 80),
        };
        if port == 0 {
            return Err(invalid());
        }
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(Self::Address(SocketAddr::new(ip, port)));
        }
        let words: Vec<_> = host.split('.').collect();
        match words.as_slice() {
            [name, namespace, rest @ ..] if rest.join(".") == format!("svc.{TRUST_DOMAIN}") => {
                Ok(Self::Named(service(namespace, name, port)))
            }
            _ => Err(invalid()),
        }
    }
}

fn service(namespace: &str, name: &str, port: u16) -> ServicePort {
    ServicePort {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        port,
    }
}

fn tcp(address: TcpAddress) -> Result<SocketAddr, Status> {
    let port = port(address.port)?;
    let ip = address
        .ip
        .ok_or_else(|| Status::invalid_argument("traffic target must have an IP"))?;
    let ip = IpAddr::try_from(ip)
        .map_err(|error| Status::invalid_argument(format!("failed to parse target addr: {error}")))?;
    Ok(SocketAddr::new(ip, port))
}

/// A port as a number of any size.
pub(super) fn port(number: u32) -> Result<u16, Status> {
    match u16::try_from(number) {
        Ok(0) => Err(Status::invalid_argument("port cannot be zero")),
        Ok(port) => Ok(port),
        Err(_) => Err(Status::invalid_argument("port outside valid range")),
    }
}

/// An authority such as proxies see in requests.
fn named(authority: &str) -> Result<ServicePort, Status> {
    let authority: http::uri::Authority = authority
        .parse()
        .map_err(|_| Status::invalid_argument("invalid authority"))?;
    let host = authority.host().trim_end_matches('.').trim_end_matches(TRUST_DOMAIN);
    let mut words = host.split('.');
    match (words.next(), words.next(), words.next()) {
        (Some(name), Some(namespace), Some("svc")) => {
            let port = authority.port_u16().filter(|port| *port > 0).unwrap_or(80);
            Ok(service(namespace, name, port))
        }
        _ => Err(Status::not_found(format!(
            "authority must be of the form <name>.<namespace>.svc.{TRUST_DOMAIN}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn a_workload_is_json_or_two_words() {
        let web = Workload {
            namespace: "shop".to_owned(),
            pod: "web-1".to_owned(),
        };
        for text in ["{\"ns\":\"shop\", \"pod\":\"web-1\"}\n", "shop:web-1"] {
            assert_eq!(Workload::read(text).unwrap(), web, "{text}");
        }
        for text in ["", "shop", "shop:", ":web-1", "{\"ns\":\"shop\"}"] {
            assert_eq!(
                Workload::read(text).unwrap_err().code(),
                Code::InvalidArgument,
                "{text}"
            );
        }
    }

    #[test]
    fn a_token_says_the_clients_namespace_or_nothing() {
        let shop = Some("shop".to_owned());
        assert_eq!(namespace_of_token("{\"ns\":\"shop\", \"nodeName\":\"n\"}\n"), shop);
        assert_eq!(namespace_of_token("ns:shop"), shop);
        for token in ["", "{}", "shop", "ns:", "ns:a:b"] {
            assert_eq!(namespace_of_token(token), None, "{token}");
        }
    }

    #[test]
    fn a_path_names_a_service_or_an_address() {
        let path = |path: &str| Target::of_path(path).map_err(|status| status.code());
        let web = |port| Ok(Target::Named(service("shop", "web", port)));
        assert_eq!(path("web.shop.svc.cluster.local:8080"), web(8080));
        assert_eq!(path("web.shop.svc.cluster.local"), web(80));
        assert_eq!(path("10.0.0.1:80"), Ok(Target::Address("10.0.0.1:80".parse().unwrap())));
        for bad in [
            "web.shop.svc",
            "web",
            "web.shop.svc.cluster.local:0",
            "web.shop.svc.cluster.local:x",
            "a.b.c.d",
        ] {
            assert_eq!(path(bad), Err(Code::InvalidArgument), "{bad}");
        }
    }

    #[test]
    fn traffic_that_can_not_be_read_is_refused_as_by_linkerd() {
        let of = |target| {
            let spec = TrafficSpec {
                source_workload: "shop:client".to_owned(),
                target,
            };
            Target::of_traffic(&spec).map_err(|status| status.code())
        };
        let authority = |text: &str| of(Some(traffic_spec::Target::Authority(text.to_owned())));
        let web = |port| Ok(Target::Named(service("shop", "web", port)));
        assert_eq!(authority("web.shop.svc.cluster.local:8080"), web(8080));
        assert_eq!(authority("web.shop.svc.cluster.local."), web(80));
        assert_eq!(authority("example.com:80"), Err(Code::NotFound));
        assert_eq!(authority("web:80:80"), Err(Code::InvalidArgument));
        assert_eq!(of(None), Err(Code::InvalidArgument));
        let address = |port| TcpAddress {
            ip: Some(IpAddr::from([10, 0, 0, 1]).into()),
            port,
        };
        let addr = |port| of(Some(traffic_spec::Target::Addr(address(port))));
        assert_eq!(addr(80), Ok(Target::Address("10.0.0.1:80".parse().unwrap())));
        assert_eq!(addr(0), Err(Code::InvalidArgument));
        assert_eq!(addr(70_000), Err(Code::InvalidArgument));
        let nowhere = TcpAddress { ip: None, port: 80 };
        assert_eq!(
            of(Some(traffic_spec::Target::Addr(nowhere))),
            Err(Code::InvalidArgument)
        );
    }
}
