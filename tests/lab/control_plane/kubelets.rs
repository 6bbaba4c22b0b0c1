//! The certificates by which the API server and the endpoint of a kubelet know each other. Their authority is made anew for each lab, and
//! its key is never written down. It must not know what one asks the other.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

/// Where the certificates and their keys are.
#[derive(Debug, Clone)]
pub struct KubeletCertificates {
    /// Signed all of them.
    pub authority: PathBuf,
    /// What the API server shows to a kubelet, and its key.
    pub client: (PathBuf, PathBuf),
    /// What a kubelet on the lab's address shows to the API server, and its key.
    pub endpoint: (PathBuf, PathBuf),
}

impl KubeletCertificates {
    /// Makes them, for kubelets on this address.
    pub(super) fn make(dir: &Path, address: Ipv4Addr) -> anyhow::Result<Self> {
        let making = || format!("making the certificates for kubelets in {}", dir.display());
        fs::create_dir_all(dir).with_context(making)?;
        let mut params = named("lab-kubelet-ca", &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?).with_context(making)?;
        let authority = dir.join("ca.crt");
        fs::write(&authority, issuer.pem()).with_context(making)?;
        let signed = |name: &str, mut params: CertificateParams, purpose| {
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![purpose];
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &issuer)?;
            let paths = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
            fs::write(&paths.0, certificate.pem())?;
            fs::write(&paths.1, key.serialize_pem())?;
            anyhow::Ok(paths)
        };
        let client = named("lab-kube-apiserver", &[])?;
        let endpoint = named("lab-kubelet", &[address.to_string()])?;
        Ok(Self {
            authority,
            client: signed("apiserver", client, ExtendedKeyUsagePurpose::ClientAuth).with_context(making)?,
            endpoint: signed("endpoint", endpoint, ExtendedKeyUsagePurpose::ServerAuth).with_context(making)?,
        })
    }
}

fn named(name: &str, addresses: &[String]) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(addresses)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}
