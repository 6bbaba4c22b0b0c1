//! Where the endpoints of a Service are, and which ServiceProfile is about it. It must not know routes.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::ControlFlow,
};

use k8s_openapi::api::core::v1::Pod;
use linkerd2_proxy_api::{
    destination::{
        AddrSet, DestinationProfile, GetDestination, ProtocolHint, TlsIdentity, Update, WeightedAddr, WeightedAddrSet,
        destination_server::Destination, protocol_hint, tls_identity, update,
    },
    meta::{Metadata, Resource, metadata},
};
use tonic::{Request, Response, Status};

use super::{
    Control,
    follow::{self, Told},
    names::{self, Target},
    profile::Found,
};
use crate::{
    kubelet::sidecar::PodInfo,
    mesh::{
        labels,
        policy::ServicePort,
        table::{Endpoint, Table},
    },
};

/// Of every endpoint; Linkerd has others only for zones.
const WEIGHT: u32 = 10_000;

#[tonic::async_trait]
impl Destination for Control {
    type GetStream = Told<Update>;

    async fn get(&self, request: Request<GetDestination>) -> Result<Response<Self::GetStream>, Status> {
        let path = &request.get_ref().path;
        let service = match Target::of_path(path)? {
            Target::Named(service) => service,
            Target::Address(address) => {
                let host = address.ip();
                let refused = format!("IP queries not supported by Get API: host={host}");
                return Err(Status::invalid_argument(refused));
            }
        };
        let tables = self.0.follow();
        if !tables.now().has_service(&service.namespace, &service.name) {
            let ServicePort { namespace, name, .. } = service;
            return Err(Status::not_found(format!("Service {name}.{namespace} not found")));
        }
        let mut told = BTreeMap::new();
        let tell = move |table: &Table| ControlFlow::Continue(updates(&service, &mut told, table));
        Ok(Response::new(follow::told(tables, tell)))
    }

    type GetProfileStream = Told<DestinationProfile>;

    async fn get_profile(&self, request: Request<GetDestination>) -> Result<Response<Self::GetProfileStream>, Status> {
        let GetDestination {
            path, context_token, ..
        } = request.get_ref();
        let target = Target::of_path(path)?;
        let client = names::namespace_of_token(context_token);
        let tables = self.0.follow();
        if Found::look(tables.now(), &target, client.as_deref()).is_none() {
            // Linkerd hands on the words of the API server, without a code.
            let Target::Named(service) = target else {
                return Err(Status::unknown(format!("nothing has the address {path}")));
            };
            return Err(Status::unknown(format!("service \"{}\" not found", service.name)));
        }
        let look = move |table: &Table| Found::look(table, &target, client.as_deref());
        Ok(Response::new(follow::latest(tables, look, Found::message)))
    }
}

/// What has come and what has gone since the last look. As in Linkerd a Service without endpoints is told nothing of.
fn updates(service: &ServicePort, told: &mut BTreeMap<SocketAddr, WeightedAddr>, table: &Table) -> Vec<Update> {
    let endpoints = table.endpoints(service);
    let now: BTreeMap<_, _> = endpoints
        .iter()
        .map(|endpoint| (endpoint.address, weighted(service, endpoint)))
        .collect();
    let come = now.iter().filter(|(address, addr)| told.get(address) != Some(addr));
    let addrs: Vec<_> = come.map(|(_, addr)| addr.clone()).collect();
    let gone = told.keys().filter(|address| !now.contains_key(address));
    let removed: Vec<_> = gone.map(|address| (*address).into()).collect();
    *told = now;
    let set_labels = [("namespace", &service.namespace), ("service", &service.name)];
    let add = (!addrs.is_empty()).then(|| {
        update::Update::Add(WeightedAddrSet {
            addrs,
            metric_labels: owned(set_labels),
        })
    });
    let remove = (!removed.is_empty()).then_some(update::Update::Remove(AddrSet { addrs: removed }));
    let update = |update| Update { update: Some(update) };
    add.into_iter().chain(remove).map(update).collect()
}

fn owned<'a, T: AsRef<str> + 'a + ?Sized>(
    pairs: impl IntoIterator<Item = (&'static str, &'a T)>,
) -> HashMap<String, String> {
    let pair = |(name, value): (&str, &T)| (name.to_owned(), value.as_ref().to_owned());
    pairs.into_iter().map(pair).collect()
}

fn weighted(service: &ServicePort, endpoint: &Endpoint) -> WeightedAddr {
    let pod = info(&endpoint.pod, endpoint.address.ip());
    let of_the_set = ["namespace", "service"];
    let all = labels::destination(service, &pod).into_iter();
    let labels = owned(all.filter(|(name, _)| !of_the_set.contains(name)));
    address(endpoint.address, &pod, labels)
}

/// A pod's port, with what tells a proxy whether there is a proxy on the other side.
pub(super) fn address(address: SocketAddr, pod: &PodInfo, metric_labels: HashMap<String, String>) -> WeightedAddr {
    let is_meshed = pod.is_meshed();
    let name = tls_identity::DnsLikeIdentity {
        name: labels::identity(&pod.namespace, &pod.service_account),
    };
    let tls = TlsIdentity {
        strategy: Some(tls_identity::Strategy::DnsLikeIdentity(name.clone())),
        server_name: Some(name),
    };
    let hint = ProtocolHint {
        protocol: Some(protocol_hint::Protocol::H2(protocol_hint::H2 {})),
        opaque_transport: None,
    };
    let resource = Resource {
        kind: "Pod".to_owned(),
        group: "core".to_owned(),
        name: pod.name.clone(),
        namespace: pod.namespace.clone(),
        ..Resource::default()
    };
    WeightedAddr {
        addr: Some(address.into()),
        weight: WEIGHT,
        metric_labels,
        tls_identity: is_meshed.then_some(tls),
        protocol_hint: is_meshed.then_some(hint),
        resource_ref: Some(Metadata {
            kind: Some(metadata::Kind::Resource(resource)),
        }),
        // For the endpoints of other clusters only.
        authority_override: None,
        http2: None,
    }
}

/// What is fixed about the pod with this address.
pub(super) fn info(pod: &Pod, ip: IpAddr) -> PodInfo {
    match ip {
        IpAddr::V4(ip) => PodInfo::new(pod, ip),
        IpAddr::V6(_) => PodInfo::new(pod, Ipv4Addr::UNSPECIFIED),
    }
}
