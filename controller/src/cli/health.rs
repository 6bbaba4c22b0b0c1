//! `serin health`: a container's health check by the program itself. It must not know what makes a controller ready.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args as ClapArgs;

const PATIENCE: Duration = Duration::from_secs(2);

/// Flags of `serin health`: those of `serin controller` that say where it listens.
#[derive(Debug, Clone, ClapArgs)]
pub struct Args {
    /// The address that it listens on.
    #[arg(long, env = "BIND_ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    bind_address: IpAddr,
    /// The port of health and metrics.
    #[arg(long, env = "SERIN_HTTP_PORT", default_value_t = 8080)]
    http_port: u16,
}

/// Prints what the controller answers.
///
/// # Errors
/// When it does not answer, or is not ready.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let ip = match args.bind_address {
        // One that listens on all addresses is asked on this machine's own.
        any if any.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        one => one,
    };
    let address = SocketAddr::new(ip, args.http_port);
    let asking = || format!("asking the controller at {address} whether it is ready; is it running?");
    let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build()?;
    let answer = client
        .get(format!("http://{address}/readyz"))
        .send()
        .await
        .with_context(asking)?;
    let status = answer.status();
    let body = answer.text().await.with_context(asking)?;
    if !status.is_success() {
        bail!("the controller at {address} is not ready: {status}, {body}");
    }
    println!("{body}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prometheus_client::registry::Registry;

    use super::*;
    use crate::runtime::health::{Ready, serve};

    #[tokio::test]
    async fn a_controller_is_healthy_from_when_it_is_ready() {
        crate::runtime::client::install_tls();
        let http_port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), http_port);
        let args = Args {
            bind_address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            http_port,
        };
        let error = run(args.clone()).await.unwrap_err();
        assert!(error.to_string().contains("is it running?"), "{error}");

        let ready = Ready::default();
        tokio::spawn(serve(
            address,
            ready.clone(),
            Arc::new(Registry::default()),
            axum::Router::new(),
            std::future::pending(),
        ));
        let until_served = async {
            while tokio::net::TcpStream::connect(address).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), until_served)
            .await
            .unwrap();
        let error = run(args.clone()).await.unwrap_err();
        assert!(
            error.to_string().contains("503 Service Unavailable, starting"),
            "{error}"
        );
        ready.set();
        run(args).await.unwrap();
    }
}
