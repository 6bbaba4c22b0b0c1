//! Certificates for proxies: whoever shows a token of a service account gets one with that account's name. The trust anchor is made
//! anew for each lab and never written down. It must not know what proxies do with them.

use std::{fmt, time::Duration};

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::{Api, Client, api::PostParams};
use linkerd2_proxy_api::identity::{CertifyRequest, CertifyResponse, identity_server::Identity};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use tonic::{Request, Response, Status};

use crate::{clock, mesh::labels};

/// The audience of the tokens that proxies show.
pub const AUDIENCE: &str = "identity.l5d.io";
const LIFETIME: Duration = Duration::from_hours(24);
/// Clocks of one machine agree; this is for those who look at a certificate while it is being made.
const SKEW: Duration = Duration::from_secs(20);

/// The mesh's certificate authority: an anchor that all trust, and an issuer below it that signs.
pub(super) struct Authority {
    anchor: String,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("anchor", &self.anchor)
            .finish_non_exhaustive()
    }
}

/// A certificate that was given out.
#[derive(Debug)]
pub(super) struct Certified {
    pub(super) leaf: Vec<u8>,
    pub(super) issuer: Vec<u8>,
    pub(super) until: jiff::Timestamp,
}

impl Authority {
    pub(super) fn new() -> Result<Self, rcgen::Error> {
        let params = |name: &str| {
            let mut params = CertificateParams::new(vec![format!(
                "{name}.{}.{}",
                labels::CONTROL_PLANE,
                labels::TRUST_DOMAIN
            )])?;
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            params.distinguished_name.push(
                DnType::CommonName,
                format!("{name}.{}.{}", labels::CONTROL_PLANE, labels::TRUST_DOMAIN),
            );
            Ok::<_, rcgen::Error>(params)
        };
        let root = CertifiedIssuer::self_signed(params("root")?, KeyPair::generate()?)?;
        let issuer = CertifiedIssuer::signed_by(params("identity")?, KeyPair::generate()?, &root)?;
        Ok(Self {
            anchor: root.pem(),
            issuer,
        })
    }

    pub(super) fn trust_anchor(&self) -> String {
        self.anchor.clone()
    }

    fn sign(&self, mut request: CertificateSigningRequestParams) -> Result<Certified, rcgen::Error> {
        let now = clock::now();
        let until = now + LIFETIME;
        let params = &mut request.params;
        params.not_before = date_time_ymd(1970, 1, 1) + since_1970(now - SKEW);
        params.not_after = date_time_ymd(1970, 1, 1) + since_1970(until);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = request.signed_by(&self.issuer)?;
        Ok(Certified {
            leaf: leaf.der().to_vec(),
            issuer: self.issuer.der().to_vec(),
            until,
        })
    }
}

/// What is before 1970 is 1970.
fn since_1970(time: jiff::Timestamp) -> Duration {
    Duration::from_secs(time.as_second().try_into().unwrap_or_default())
}

/// Gives certificates out.
pub(super) struct Certifier {
    authority: Authority,
    reviewer: Client,
}

impl Certifier {
    pub(super) fn new(authority: Authority, reviewer: Client) -> Self {
        Self { authority, reviewer }
    }

    async fn review(&self, token: &str) -> Result<TokenReviewStatus, Status> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: Some(vec![AUDIENCE.to_owned()]),
            },
            ..TokenReview::default()
        };
        let reviews: Api<TokenReview> = Api::all(self.reviewer.clone());
        let reviewed = reviews.create(&PostParams::default(), &review).await;
        let reviewed = reviewed.map_err(|error| Status::internal(format!("error validating token: {error}")))?;
        Ok(reviewed.status.unwrap_or_default())
    }
}

#[tonic::async_trait]
impl Identity for Certifier {
    async fn certify(&self, request: Request<CertifyRequest>) -> Result<Response<CertifyResponse>, Status> {
        let asked = request.get_ref();
        let csr = read(asked)?;
        let token = str::from_utf8(&asked.token).map_err(|_| Status::invalid_argument("the token is no text"))?;
        let owner = identity_of(&self.review(token).await?)?;
        if owner != asked.identity {
            return Err(Status::failed_precondition(format!(
                "requested identity did not match provided token: requested={}; found={owner}",
                asked.identity
            )));
        }
        let signed = self.authority.sign(csr);
        let Certified { leaf, issuer, until } = signed.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(CertifyResponse {
            leaf_certificate: leaf,
            intermediate_certificates: vec![issuer],
            valid_until: Some(prost_types::Timestamp {
                seconds: until.as_second(),
                nanos: 0,
            }),
        }))
    }
}

/// What is to be signed, if it is for the identity that is asked for and for nothing else.
fn read(asked: &CertifyRequest) -> Result<CertificateSigningRequestParams, Status> {
    for (is_missing, what) in [
        (asked.identity.is_empty(), "missing identity"),
        (asked.token.is_empty(), "missing token"),
        (
            asked.certificate_signing_request.is_empty(),
            "missing certificate signing request",
        ),
    ] {
        if is_missing {
            return Err(Status::invalid_argument(what));
        }
    }
    let der = asked.certificate_signing_request.as_slice().into();
    let csr = CertificateSigningRequestParams::from_der(&der);
    let csr = csr.map_err(|error| Status::invalid_argument(error.to_string()))?;
    let refuse = |why: String| Err(Status::failed_precondition(why));
    match csr.params.subject_alt_names.as_slice() {
        [SanType::DnsName(name)] if name.as_str() == asked.identity => {}
        [SanType::DnsName(name)] => {
            let name = name.as_str();
            return refuse(format!(
                "CSR name does not match requested identity: csr={name}; req={}",
                asked.identity
            ));
        }
        _ => return refuse("CSR must have exactly one DNSName".to_owned()),
    }
    let common_name = csr.params.distinguished_name.get(&DnType::CommonName);
    let is_allowed = match common_name {
        None => true,
        Some(DnValue::Utf8String(name)) => name.is_empty() || *name == asked.identity,
        Some(DnValue::PrintableString(name)) => name.as_str().is_empty() || name.as_str() == asked.identity,
        Some(_) => false,
    };
    if is_allowed {
        Ok(csr)
    } else {
        refuse(format!("invalid CommonName: {common_name:?}"))
    }
}

/// The identity of a token's owner, as the API server knows it.
fn identity_of(review: &TokenReviewStatus) -> Result<String, Status> {
    if let Some(error) = review.error.as_ref().filter(|error| !error.is_empty()) {
        return Err(Status::invalid_argument(error));
    }
    if review.authenticated != Some(true) {
        return Err(Status::failed_precondition(
            "authentication token could not be authenticated",
        ));
    }
    let user = review
        .user
        .as_ref()
        .and_then(|user| user.username.as_deref())
        .unwrap_or_default();
    match user.split(':').collect::<Vec<_>>().as_slice() {
        ["system", "serviceaccount", namespace, name] => Ok(labels::identity(namespace, name)),
        _ => Err(Status::invalid_argument(format!(
            "Username must be in form system:TYPE:NS:SA: {user}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::authentication::v1::UserInfo;
    use rustls::{
        RootCertStore,
        client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
        pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    };
    use tonic::Code;

    use super::*;

    const WEB: &str = "web.shop.serviceaccount.identity.linkerd.cluster.local";

    fn csr(names: &[&str], common_name: Option<&str>) -> Vec<u8> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        let request = params.serialize_request(&KeyPair::generate().unwrap()).unwrap();
        request.der().to_vec()
    }

    fn asked(csr: Vec<u8>) -> CertifyRequest {
        CertifyRequest {
            identity: WEB.to_owned(),
            token: b"token".to_vec(),
            certificate_signing_request: csr,
        }
    }

    #[test]
    fn a_certificate_chains_to_the_anchor_and_has_the_name_that_was_asked_for() {
        crate::install_crypto();
        let authority = Authority::new().unwrap();
        let signed = authority.sign(read(&asked(csr(&[WEB], None))).unwrap()).unwrap();
        let trusting = |authority: &Authority| {
            let mut roots = RootCertStore::empty();
            let anchor = CertificateDer::from_pem_slice(authority.trust_anchor().as_bytes()).unwrap();
            roots.add(anchor).unwrap();
            WebPkiServerVerifier::builder(roots.into()).build().unwrap()
        };
        let (leaf, issuer) = (signed.leaf.into(), [signed.issuer.into()]);
        let verify = |authority: &Authority, name: &'static str, later: Duration| {
            let at = UnixTime::since_unix_epoch(Duration::from_secs(clock::now().as_second().unsigned_abs()) + later);
            let name = ServerName::try_from(name).unwrap();
            trusting(authority)
                .verify_server_cert(&leaf, &issuer, &name, &[], at)
                .is_ok()
        };
        assert!(verify(&authority, WEB, Duration::ZERO));
        assert!(!verify(
            &authority,
            "other.shop.serviceaccount.identity.linkerd.cluster.local",
            Duration::ZERO
        ));
        assert!(
            !verify(&Authority::new().unwrap(), WEB, Duration::ZERO),
            "each lab has its own anchor"
        );
        assert!(!verify(&authority, WEB, LIFETIME + SKEW), "it ends");
    }

    #[test]
    fn a_request_is_for_one_name_and_nothing_else() {
        assert!(read(&asked(csr(&[WEB], Some(WEB)))).is_ok());
        let code = |request: &CertifyRequest| read(request).map(|_| ()).map_err(|status| status.code());
        for (names, common_name) in [
            (vec!["other"], None),
            (vec![WEB, "other"], None),
            (vec![], None),
            (vec!["10.0.0.1"], None),
            (vec![WEB], Some("root")),
        ] {
            let request = asked(csr(&names, common_name));
            assert_eq!(
                code(&request),
                Err(Code::FailedPrecondition),
                "{names:?} {common_name:?}"
            );
        }
        let whole = asked(csr(&[WEB], None));
        let mut tampered = whole.clone();
        *tampered.certificate_signing_request.last_mut().unwrap() ^= 1;
        let (mut nobody, mut no_token, mut nothing) = (whole.clone(), whole.clone(), whole);
        nobody.identity.clear();
        no_token.token.clear();
        nothing.certificate_signing_request.clear();
        for request in [tampered, nobody, no_token, nothing] {
            assert_eq!(code(&request), Err(Code::InvalidArgument));
        }
    }

    #[test]
    fn a_token_is_worth_what_the_api_server_says_of_it() {
        let reviewed = |authenticated: bool, user: &str, error: &str| {
            identity_of(&TokenReviewStatus {
                authenticated: Some(authenticated),
                error: Some(error.to_owned()),
                user: Some(UserInfo {
                    username: Some(user.to_owned()),
                    ..UserInfo::default()
                }),
                ..TokenReviewStatus::default()
            })
            .map_err(|status| status.code())
        };
        assert_eq!(reviewed(true, "system:serviceaccount:shop:web", ""), Ok(WEB.to_owned()));
        assert_eq!(reviewed(false, "", ""), Err(Code::FailedPrecondition));
        assert_eq!(reviewed(false, "", "token has expired"), Err(Code::InvalidArgument));
        assert_eq!(reviewed(true, "admin", ""), Err(Code::InvalidArgument));
    }
}
