//! The story of the control plane's API: what is written to the API server reaches whoever asks as a real proxy does. It must not
//! know how the lab's own proxies learn it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{Service, ServiceAccount},
};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use lab::{Lab, clock, mesh::AUDIENCE};
use linkerd2_proxy_api::{
    destination::{DestinationProfile, GetDestination, Update, destination_client::DestinationClient, update},
    identity::{CertifyRequest, CertifyResponse, identity_client::IdentityClient},
    outbound::{
        OutboundPolicy, TrafficSpec, grpc_route::distribution::Kind as Distribution,
        outbound_policies_client::OutboundPoliciesClient, proxy_protocol, traffic_spec,
    },
};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use serde_json::json;
use tokio::time::timeout;
use tonic::{Code, Streaming, transport::Channel};

use super::cluster::{create, deploy, image, namespace, route, routes};
use crate::story::{SOON, eventually};

const NAMESPACE: &str = "told";
const APEX: &str = "web.told.svc.cluster.local:8080";
const CANARY: &str = "web-canary.told.svc.cluster.local:8080";

pub(super) async fn tells(lab: Arc<Lab>) -> anyhow::Result<()> {
    let client = namespace(&lab, NAMESPACE).await?;
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    for name in ["web", "web-stable", "web-canary"] {
        let selector = json!({"app.kubernetes.io/name": "web"});
        let spec = json!({"selector": selector, "ports": [{"port": 8080, "targetPort": "http"}]});
        create(&services, json!({"metadata": {"name": name}, "spec": spec})).await?;
    }
    let channel = Channel::from_shared(format!("http://{}", lab.mesh.api().address()))?.connect_lazy();
    weights(&client, &channel).await.context("weights")?;
    profiles(&client, &channel).await.context("profiles")?;
    endpoints(&lab, &client, &channel).await.context("endpoints")?;
    certificates(&lab, &client, &channel).await.context("certificates")
}

fn kind(group: &str, version: &str, kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

async fn next<T>(stream: &mut Streaming<T>) -> anyhow::Result<T> {
    let message = timeout(SOON, stream.message()).await.context("nothing came")?;
    message?.context("the stream has ended")
}

/// Each write of weights is one message, in order, with both of them.
async fn weights(client: &Client, channel: &Channel) -> anyhow::Result<()> {
    let routes = routes(client, NAMESPACE, "GRPCRoute");
    let divided = route("GRPCRoute", NAMESPACE, ("web", 8080), [100, 0])?;
    routes.create(&PostParams::default(), &divided).await?;
    let spec = TrafficSpec {
        source_workload: json!({"ns": NAMESPACE, "pod": "client"}).to_string(),
        target: Some(traffic_spec::Target::Authority(APEX.to_owned())),
    };
    let mut api = OutboundPoliciesClient::new(channel.clone());
    let mut stream = eventually("the Service and its route are known", SOON, || async {
        let mut api = OutboundPoliciesClient::new(channel.clone());
        let known = api.get(spec.clone()).await?.into_inner();
        ensure!(arms(&known) == Some(vec![100, 0]), "the policy is {known:?}");
        Ok(api.watch(spec.clone()).await?.into_inner())
    })
    .await?;
    ensure!(
        arms(&next(&mut stream).await?) == Some(vec![100, 0]),
        "the first message has other weights"
    );
    for (stable, canary) in [(95, 5), (75, 25), (50, 50), (1, 99_999), (100, 0)] {
        let patch = json!([
            {"op": "replace", "path": "/spec/rules/0/backendRefs/0/weight", "value": stable},
            {"op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": canary},
        ]);
        let patch: Patch<DynamicObject> = Patch::Json(serde_json::from_value(patch)?);
        routes.patch("web", &PatchParams::default(), &patch).await?;
        let told = next(&mut stream).await?;
        ensure!(
            arms(&told) == Some(vec![stable, canary]),
            "after {stable}:{canary} the API told {told:?}"
        );
    }
    let nobody = TrafficSpec {
        target: Some(traffic_spec::Target::Authority(
            "nobody.told.svc.cluster.local:80".to_owned(),
        )),
        ..spec
    };
    let refused = api.watch(nobody).await.err().map(|status| status.code());
    ensure!(
        refused == Some(Code::NotFound),
        "for a Service that is not there it says {refused:?}"
    );
    Ok(())
}

/// The weights of the only rule.
fn arms(policy: &OutboundPolicy) -> Option<Vec<u32>> {
    let proxy_protocol::Kind::Grpc(grpc) = policy.protocol.as_ref()?.kind.as_ref()? else {
        return None;
    };
    let rule = grpc.routes.first()?.rules.first()?;
    match rule.backends.as_ref()?.kind.as_ref()? {
        Distribution::RandomAvailable(all) => Some(all.backends.iter().map(|backend| backend.weight).collect()),
        Distribution::Empty(_) | Distribution::FirstAvailable(_) => None,
    }
}

/// What makes routes inert is told too.
async fn profiles(client: &Client, channel: &Channel) -> anyhow::Result<()> {
    let resource = kind("linkerd.io", "v1alpha2", "ServiceProfile");
    let profiles: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &resource);
    let mut stream = DestinationClient::new(channel.clone())
        .get_profile(asking(APEX))
        .await?
        .into_inner();
    let has_routes = |profile: &DestinationProfile| !profile.routes.is_empty();
    ensure!(!has_routes(&next(&mut stream).await?), "there is no profile yet");
    let name = "web.told.svc.cluster.local";
    let profile = json!({
        "apiVersion": "linkerd.io/v1alpha2", "kind": "ServiceProfile",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"routes": [{"name": "all", "condition": {"pathRegex": ".*"}}]},
    });
    profiles
        .create(&PostParams::default(), &serde_json::from_value(profile)?)
        .await?;
    ensure!(
        has_routes(&next(&mut stream).await?),
        "the profile's routes are not told"
    );
    profiles.delete(name, &DeleteParams::default()).await?;
    ensure!(
        !has_routes(&next(&mut stream).await?),
        "the profile is gone and still told"
    );
    Ok(())
}

fn asking(path: &str) -> GetDestination {
    GetDestination {
        scheme: "k8s".to_owned(),
        path: path.to_owned(),
        context_token: json!({"ns": NAMESPACE}).to_string(),
    }
}

/// Pods that get ready come, pods that end go.
async fn endpoints(lab: &Lab, client: &Client, channel: &Channel) -> anyhow::Result<()> {
    let mut stream = DestinationClient::new(channel.clone())
        .get(asking(CANARY))
        .await?
        .into_inner();
    let deployments = deploy(client, NAMESPACE, &image(lab, "told:1")?, 2, &json!({})).await?;
    let mut known = BTreeSet::new();
    while known.len() < 2 {
        follow(&mut known, next(&mut stream).await?)?;
    }
    let none = Patch::Merge(json!({"spec": {"replicas": 0}}));
    deployments.patch("web", &PatchParams::default(), &none).await?;
    while !known.is_empty() {
        follow(&mut known, next(&mut stream).await?)?;
    }
    Ok(())
}

fn follow(known: &mut BTreeSet<String>, told: Update) -> anyhow::Result<()> {
    match told.update.context("an empty message")? {
        update::Update::Add(set) => {
            for addr in set.addrs {
                ensure!(addr.tls_identity.is_some(), "a meshed pod has no identity: {addr:?}");
                known.insert(format!("{:?}", addr.addr));
            }
        }
        update::Update::Remove(set) => {
            for addr in set.addrs {
                let gone = format!("{:?}", Some(addr));
                ensure!(known.remove(&gone), "{gone} went and had never come");
            }
        }
        update::Update::NoEndpoints(none) => bail!("Linkerd does not send {none:?}"),
    }
    Ok(())
}

/// Only the account's own token gets a certificate with the account's name.
async fn certificates(lab: &Lab, client: &Client, channel: &Channel) -> anyhow::Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
    create(&accounts, json!({"metadata": {"name": "web"}})).await?;
    let name = "web.told.serviceaccount.identity.linkerd.cluster.local";
    let certify = async |token: &str| -> Result<CertifyResponse, tonic::Status> {
        let csr = csr(name).map_err(|error| tonic::Status::internal(error.to_string()))?;
        let request = CertifyRequest {
            identity: name.to_owned(),
            token: token.as_bytes().to_vec(),
            certificate_signing_request: csr,
        };
        let mut api = IdentityClient::new(channel.clone());
        api.certify(request).await.map(tonic::Response::into_inner)
    };
    let given = certify(&token(&accounts, "web").await?)
        .await
        .context("with the account's own token")?;
    verify(lab.mesh.api().trust_anchor(), &given, name)?;
    for (whose, token, code) in [
        (
            "another account",
            token(&accounts, "default").await?,
            Code::FailedPrecondition,
        ),
        ("nobody", "made.up.token".to_owned(), Code::InvalidArgument),
        ("an admin", "lab-admin".to_owned(), Code::InvalidArgument),
    ] {
        let refused = certify(&token).await.err().context("a certificate was given out")?;
        ensure!(refused.code() == code, "with the token of {whose}: {refused:?}");
    }
    Ok(())
}

fn csr(name: &str) -> anyhow::Result<Vec<u8>> {
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()])?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    Ok(params.serialize_request(&key)?.der().to_vec())
}

async fn token(accounts: &Api<ServiceAccount>, account: &str) -> anyhow::Result<String> {
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec![AUDIENCE.to_owned()],
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let made = accounts
        .create_token_request(account, &PostParams::default(), &request)
        .await?;
    Ok(made.status.context("no token was made")?.token)
}

fn verify(trust_anchor: &str, given: &CertifyResponse, name: &str) -> anyhow::Result<()> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trust_anchor.as_bytes())?)?;
    let verifier = WebPkiServerVerifier::builder(Arc::new(roots)).build()?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(clock::now().as_second().unsigned_abs()));
    let leaf = given.leaf_certificate.as_slice().into();
    let between: Vec<_> = given
        .intermediate_certificates
        .iter()
        .map(|der| der.as_slice().into())
        .collect();
    let server = ServerName::try_from(name.to_owned())?;
    verifier
        .verify_server_cert(&leaf, &between, &server, &[], now)
        .context("the certificate's chain")?;
    let until = given.valid_until.as_ref().map_or(0, |until| until.seconds);
    ensure!(until > clock::now().as_second(), "it is valid until {until}");
    Ok(())
}
