//! The smallest program that can stand where linkerd2-proxy stands: it gets its certificate, asks the control plane's API where each
//! connection is to go, and lets bytes through. It knows no calls, so it counts connections only, and splits those. For the story
//! that pods' networks are what a real proxy needs; it must not know the lab.

use std::{
    collections::BTreeMap,
    env,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, ensure};
use axum::{Json, Router, routing::get};
use linkerd2_proxy_api::{
    destination::{GetDestination, destination_client::DestinationClient, update},
    identity::{CertifyRequest, identity_client::IdentityClient},
    outbound::{
        Backend, OutboundPolicy, TrafficSpec, backend, backend::endpoint_discovery,
        http_route::distribution::Kind as Distribution, outbound_policies_client::OutboundPoliciesClient,
        proxy_protocol, traffic_spec,
    },
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tonic::transport::Channel;

/// Connections so far.
#[derive(Debug, Default)]
struct Counts {
    inbound: AtomicU64,
    outbound: AtomicU64,
}

fn variable(name: &str) -> anyhow::Result<String> {
    let name = format!("LINKERD2_PROXY_{name}");
    env::var(&name).with_context(|| format!("reading {name}"))
}

fn control(name: &str) -> anyhow::Result<Channel> {
    Ok(Channel::from_shared(format!("http://{}", variable(name)?))?.connect_lazy())
}

pub(crate) async fn run() -> anyhow::Result<()> {
    let identity = certify().await.context("getting a certificate")?;
    println!("certified as {identity}");
    let counts = Arc::new(Counts::default());
    let (of_inbound, of_outbound) = (Arc::clone(&counts), Arc::clone(&counts));
    let inbound = serve("INBOUND_LISTEN_ADDR", move |client, to| {
        of_inbound.inbound.fetch_add(1, Ordering::Relaxed);
        hand_on(client, to)
    });
    let outbound = serve("OUTBOUND_LISTEN_ADDR", move |client, to| {
        of_outbound.outbound.fetch_add(1, Ordering::Relaxed);
        async move { hand_on(client, resolve(to).await?).await }
    });
    let metrics = move || {
        let of = |direction: &str, count: &AtomicU64| {
            format!(
                "stub_connections_total{{direction=\"{direction}\"}} {}\n",
                count.load(Ordering::Relaxed)
            )
        };
        let text = of("inbound", &counts.inbound) + &of("outbound", &counts.outbound);
        async move { text }
    };
    let router = Router::new()
        .route("/ready", get(|| async {}))
        .route("/env", get(|| async { Json(env::vars().collect::<BTreeMap<_, _>>()) }))
        .route("/metrics", get(metrics));
    let admin = async {
        let listener = TcpListener::bind(variable("ADMIN_LISTEN_ADDR")?).await?;
        axum::serve(listener, router).await.context("the admin port")
    };
    tokio::try_join!(inbound, outbound, admin).map(|_| ())
}

/// As a real proxy does before anything else.
async fn certify() -> anyhow::Result<String> {
    let identity = variable("IDENTITY_LOCAL_NAME")?;
    let mut params = rcgen::CertificateParams::new(vec![identity.clone()])?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    let csr = params.serialize_request(&rcgen::KeyPair::generate()?)?;
    let request = CertifyRequest {
        identity: identity.clone(),
        token: std::fs::read(variable("IDENTITY_TOKEN_FILE")?)?,
        certificate_signing_request: csr.der().to_vec(),
    };
    let given = IdentityClient::new(control("IDENTITY_SVC_ADDR")?)
        .certify(request)
        .await?;
    ensure!(!given.get_ref().leaf_certificate.is_empty(), "the certificate is empty");
    Ok(identity)
}

/// Takes connections that were meant for somebody else, and says for whom.
async fn serve<F, R>(address: &str, handle: F) -> anyhow::Result<()>
where
    F: Fn(TcpStream, SocketAddr) -> R,
    R: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let own: SocketAddr = variable(address)?.parse()?;
    let listener = TcpListener::bind(own)
        .await
        .with_context(|| format!("listening on {own}"))?;
    loop {
        let (client, _) = listener.accept().await?;
        let meant = SocketAddr::from(rustix::net::sockopt::ip_original_dst(&client)?);
        ensure!(
            meant.port() != own.port(),
            "a connection to {meant} came back: the redirect has no end"
        );
        let handled = handle(client, meant);
        tokio::spawn(async move {
            if let Err(error) = handled.await {
                println!("{meant}: {error:#}");
            }
        });
    }
}

async fn hand_on(mut client: TcpStream, to: SocketAddr) -> anyhow::Result<()> {
    let mut server = TcpStream::connect(to)
        .await
        .with_context(|| format!("connecting to {to}"))?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// An endpoint of the backend that the weights give this connection.
async fn resolve(meant: SocketAddr) -> anyhow::Result<SocketAddr> {
    let spec = TrafficSpec {
        source_workload: variable("POLICY_WORKLOAD")?,
        target: Some(traffic_spec::Target::Addr(meant.into())),
    };
    let policy = OutboundPoliciesClient::new(control("POLICY_SVC_ADDR")?)
        .get(spec)
        .await?
        .into_inner();
    let path = draw(&policy).context("the policy has no backend")?;
    let request = GetDestination {
        scheme: String::new(),
        path,
        context_token: variable("DESTINATION_CONTEXT")?,
    };
    let mut updates = DestinationClient::new(control("DESTINATION_SVC_ADDR")?)
        .get(request)
        .await?
        .into_inner();
    let first = updates.message().await?.and_then(|told| told.update);
    let Some(update::Update::Add(set)) = first else {
        anyhow::bail!("the backend has no endpoint");
    };
    let addr = set.addrs.into_iter().next().and_then(|weighted| weighted.addr);
    Ok(addr.context("an endpoint without an address")?.try_into()?)
}

fn draw(policy: &OutboundPolicy) -> Option<String> {
    let proxy_protocol::Kind::Detect(detect) = policy.protocol.as_ref()?.kind.as_ref()? else {
        return None;
    };
    let rule = detect.http1.as_ref()?.routes.first()?.rules.first()?;
    match rule.backends.as_ref()?.kind.as_ref()? {
        Distribution::FirstAvailable(first) => path(first.backends.first()?.backend.as_ref()?),
        Distribution::RandomAvailable(all) => {
            let sum: u32 = all.backends.iter().map(|backend| backend.weight).sum();
            let mut left = rand::random_range(0..sum.max(1));
            let chosen = all.backends.iter().find(|backend| {
                let found = left < backend.weight;
                left = left.saturating_sub(backend.weight);
                found
            });
            path(chosen?.backend.as_ref()?.backend.as_ref()?)
        }
        Distribution::Empty(_) => None,
    }
}

fn path(backend: &Backend) -> Option<String> {
    let Some(backend::Kind::Balancer(balancer)) = &backend.kind else {
        return None;
    };
    match balancer.discovery.as_ref()?.kind.as_ref()? {
        endpoint_discovery::Kind::Dst(dst) => Some(dst.path.clone()),
    }
}
