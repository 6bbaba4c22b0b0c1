//! A client of the API server that answers in time or not at all: no hidden retries, so that a weight is never late.

use anyhow::Context as _;
use kube::{Client, Config};

/// Installs the process's TLS provider. Call it first thing in `main` and in tests; a second call changes nothing.
pub fn install_tls() {
    // An error says that a provider is installed already, which is what is wanted.
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// A client for the cluster of `$KUBECONFIG`, `~/.kube/config` or the pod's own service account.
///
/// # Errors
/// When no cluster is configured, or its configuration can't be used.
pub async fn connect() -> anyhow::Result<Client> {
    let mut config = Config::infer()
        .await
        .context("no cluster is configured: set $KUBECONFIG, or run inside of a pod with a service account")?;
    config.default_retry = false;
    Client::try_from(config).context("the cluster's configuration can't be used")
}
