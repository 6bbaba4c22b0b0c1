//! What servers are to let in: the default policy of each pod, as there are no Servers and no AuthorizationPolicies in the lab.
//! It must not know clients.

use std::{collections::HashMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::{HTTPGetAction, Pod},
    apimachinery::pkg::util::intstr::IntOrString,
};
use linkerd2_proxy_api::{
    http_route::{HttpRouteMatch, PathMatch, path_match},
    http_types::HttpMethod,
    inbound::{
        self as proto, Authn, Authz, HttpRoute, IdentitySuffix, Network, PortSpec, Server, authn, http_route,
        inbound_server_policies_server::InboundServerPolicies, proxy_protocol,
    },
    net::IpNetwork,
};
use tonic::{Request, Response, Status};

use super::{
    Control,
    follow::{self, Told},
    names::{self, Workload},
    outbound::{default_metadata, duration},
};
use crate::mesh::table::Table;

const POLICY: &str = "config.linkerd.io/default-inbound-policy";
const DETECT: Duration = Duration::from_secs(10);

/// A port of a pod.
#[derive(Debug, Clone, PartialEq)]
struct Port {
    pod: Arc<Pod>,
    number: u16,
}

impl Port {
    fn look(table: &Table, workload: &Workload, number: u16) -> Option<Self> {
        let pod = table.pod(&workload.namespace, &workload.pod)?;
        let pod = Arc::clone(pod);
        Some(Self { pod, number })
    }
}

fn asked(spec: &PortSpec) -> Result<(Workload, u16), Status> {
    let workload = Workload::read(&spec.workload)?;
    let port = names::port(spec.port);
    let port = port.map_err(|_| Status::invalid_argument(format!("Invalid port: {}", spec.port)))?;
    Ok((workload, port))
}

#[tonic::async_trait]
impl InboundServerPolicies for Control {
    async fn get_port(&self, request: Request<PortSpec>) -> Result<Response<Server>, Status> {
        let (workload, number) = asked(request.get_ref())?;
        let found = Port::look(&self.0.table(), &workload, number);
        let port = found.ok_or_else(|| Status::not_found("unknown server"))?;
        Ok(Response::new(server(&port)))
    }

    type WatchPortStream = Told<Server>;

    async fn watch_port(&self, request: Request<PortSpec>) -> Result<Response<Self::WatchPortStream>, Status> {
        let (workload, number) = asked(request.get_ref())?;
        let tables = self.0.follow();
        if Port::look(tables.now(), &workload, number).is_none() {
            return Err(Status::not_found("unknown server"));
        }
        // A pod's status changes often, and what it lets in does not.
        let look = move |table: &Table| Some(server(&Port::look(table, &workload, number)?));
        Ok(Response::new(follow::latest(tables, look, Server::clone)))
    }
}

fn server(port: &Port) -> Server {
    let annotations = port.pod.metadata.annotations.as_ref();
    let asked = annotations.and_then(|all| all.get(POLICY)).map(String::as_str);
    // What is not known is as if it was not written.
    let (name, authentication) = match asked {
        Some(name @ "all-authenticated") => (name, Some(authenticated())),
        Some(name @ "deny") => (name, None),
        _ => ("all-unauthenticated", Some(unauthenticated())),
    };
    let authorizations = authentication.map(|authentication| authorization(name, authentication));
    let detect = proxy_protocol::Detect {
        timeout: duration(DETECT),
        http_routes: routes(port),
        http_local_rate_limit: None,
    };
    Server {
        protocol: Some(proto::ProxyProtocol {
            kind: Some(proxy_protocol::Kind::Detect(detect)),
        }),
        server_ips: Vec::new(),
        authorizations: authorizations.into_iter().collect(),
        labels: default_labels(name),
    }
}

fn default_labels(name: &str) -> HashMap<String, String> {
    let labels = [("group", ""), ("kind", "default"), ("name", name)];
    labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

fn authorization(name: &str, permit: authn::Permit) -> Authz {
    let everywhere = [([0_u8; 4].into(), 0), (std::net::Ipv6Addr::UNSPECIFIED.into(), 0)];
    let network = |(ip, prefix_len)| Network {
        net: Some(IpNetwork {
            ip: Some(linkerd2_proxy_api::net::IpAddress { ip: Some(ip) }),
            prefix_len,
        }),
        except: Vec::new(),
    };
    Authz {
        networks: everywhere.map(network).into(),
        authentication: Some(Authn { permit: Some(permit) }),
        labels: default_labels(name),
        metadata: Some(default_metadata(name)),
    }
}

fn unauthenticated() -> authn::Permit {
    authn::Permit::Unauthenticated(authn::PermitUnauthenticated {})
}

/// Everybody whose certificate is of this mesh: the empty suffix is in every name.
fn authenticated() -> authn::Permit {
    let suffixes = vec![IdentitySuffix { parts: Vec::new() }];
    let clients = authn::permit_mesh_tls::PermitClientIdentities {
        identities: Vec::new(),
        suffixes,
    };
    authn::Permit::MeshTls(authn::PermitMeshTls {
        clients: Some(authn::permit_mesh_tls::Clients::Identities(clients)),
    })
}

/// Everything, and apart from it the kubelet's probes, which are let in whatever the policy is.
fn routes(port: &Port) -> Vec<HttpRoute> {
    let all = HttpRoute {
        metadata: Some(default_metadata("default")),
        rules: vec![http_route::Rule {
            matches: vec![path(path_match::Kind::Prefix("/".to_owned()))],
            filters: Vec::new(),
        }],
        ..HttpRoute::default()
    };
    let probed: Vec<_> = probe_paths(port)
        .into_iter()
        .map(|exact| HttpRouteMatch {
            method: Some(HttpMethod::from(http::Method::GET)),
            ..path(path_match::Kind::Exact(exact))
        })
        .collect();
    let probes = (!probed.is_empty()).then(|| HttpRoute {
        metadata: Some(default_metadata("probe")),
        authorizations: vec![authorization("probe", unauthenticated())],
        rules: vec![http_route::Rule {
            matches: probed,
            filters: Vec::new(),
        }],
        ..HttpRoute::default()
    });
    [all].into_iter().chain(probes).collect()
}

fn path(kind: path_match::Kind) -> HttpRouteMatch {
    HttpRouteMatch {
        path: Some(PathMatch { kind: Some(kind) }),
        ..HttpRouteMatch::default()
    }
}

/// The paths that are probed on this port, each once.
fn probe_paths(port: &Port) -> Vec<String> {
    let containers = port.pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut paths: Vec<_> = containers
        .flat_map(|container| {
            let probes = [
                &container.liveness_probe,
                &container.readiness_probe,
                &container.startup_probe,
            ];
            let named = |name: &String| {
                let mut ports = container.ports.iter().flatten();
                ports
                    .find(|declared| declared.name.as_ref() == Some(name))
                    .map(|declared| declared.container_port)
            };
            let is_here = |action: &HTTPGetAction| match &action.port {
                IntOrString::Int(number) => *number == i32::from(port.number),
                IntOrString::String(name) => named(name) == Some(i32::from(port.number)),
            };
            let actions = probes.into_iter().flatten().filter_map(|probe| probe.http_get.as_ref());
            let here = actions.filter(|action| is_here(action));
            here.map(|action| action.path.clone().unwrap_or_else(|| "/".to_owned()))
                .collect::<Vec<_>>()
        })
        .collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}
