//! The API of Linkerd's control plane, for proxies and their like: the services of crate `linkerd2-proxy-api`, answered from the
//! very table that the lab's own proxies obey. It must not know how a call is made, nor where objects come from.

mod destination;
mod follow;
mod identity;
mod inbound;
mod names;
mod outbound;
mod profile;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use kube::Client;
use linkerd2_proxy_api::{
    destination::destination_server::DestinationServer, identity::identity_server::IdentityServer,
    inbound::inbound_server_policies_server::InboundServerPoliciesServer,
    outbound::outbound_policies_server::OutboundPoliciesServer,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

pub use self::identity::AUDIENCE;
use self::identity::{Authority, Certifier};
use super::fabric::Fabric;

/// What the API knows.
#[derive(Debug, Clone)]
struct Control(Arc<Fabric>);

/// The running API: HTTP/2 without TLS. It ends when it is dropped, its streams with the mesh.
#[derive(Debug)]
pub struct Api {
    address: SocketAddr,
    trust_anchor: String,
    task: JoinHandle<()>,
}

impl Api {
    /// Serves on this listener. With `reviewer`, which needs to create TokenReviews, certificates are given out too.
    pub(super) fn start(fabric: &Arc<Fabric>, listener: TcpListener, reviewer: Option<Client>) -> anyhow::Result<Self> {
        let address = listener.local_addr().context("serving the mesh's API")?;
        let authority = Authority::new().context("making the mesh's certificate authority")?;
        let trust_anchor = authority.trust_anchor();
        let control = Control(Arc::clone(fabric));
        let identity = reviewer.map(|client| IdentityServer::new(Certifier::new(authority, client)));
        let server = Server::builder()
            .add_service(OutboundPoliciesServer::new(control.clone()))
            .add_service(DestinationServer::new(control.clone()))
            .add_service(InboundServerPoliciesServer::new(control))
            .add_optional_service(identity);
        let task = tokio::spawn(async move {
            if let Err(error) = server.serve_with_incoming(TcpListenerStream::new(listener)).await {
                tracing::warn!(%error, "serving the mesh's API");
            }
        });
        Ok(Self {
            address,
            trust_anchor,
            task,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate, as PEM, that all others of this mesh are signed with in the end. Each lab makes its own.
    pub fn trust_anchor(&self) -> &str {
        &self.trust_anchor
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.task.abort();
    }
}
