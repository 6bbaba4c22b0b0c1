//! The program in the pods of the lab's own stories: this test binary itself, in another role. It must not know the stories.

use std::{collections::BTreeMap, env, net::Ipv4Addr, path::Path, process::ExitCode, time::Duration};

use anyhow::Context as _;
use axum::{Json, Router, http::StatusCode, routing::get};
use lab::process::Program;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tonic_health::ServingStatus;

use crate::{lab::networks, proxy};

/// Selects the role.
pub(crate) const ROLE: &str = "LAB_SELFTEST_ROLE";

pub(crate) enum Role {
    /// An HTTP server: `/ready` fails while the working folder has a file `unready`, `/health` while it has a file `sick`,
    /// `/env` shows the environment; 50051 has gRPC health.
    Web,
    /// Starts a process that would run for long, prints its id, and waits to be killed.
    Parent,
    /// Stands where linkerd2-proxy stands.
    Proxy,
    /// Tells the story of pods in networks of their own.
    Networks,
    /// Calls a Service from within a pod's network.
    Dial,
}

pub(crate) fn role() -> Option<Role> {
    match env::var(ROLE).ok()?.as_str() {
        "web" => Some(Role::Web),
        "parent" => Some(Role::Parent),
        "proxy" => Some(Role::Proxy),
        "networks" => Some(Role::Networks),
        "dial" => Some(Role::Dial),
        _ => None,
    }
}

impl Role {
    #[tokio::main(flavor = "current_thread")]
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Web => web().await?,
            Self::Parent => parent().await?,
            Self::Proxy => proxy::run().await?,
            Self::Networks => networks::tell().await?,
            Self::Dial => networks::dial_from_within().await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn web() -> anyhow::Result<()> {
    let address: Ipv4Addr = env::var("BIND_ADDRESS").context("BIND_ADDRESS")?.parse()?;
    let unless = |file: &'static str| async move {
        if Path::new(file).exists() {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::OK
        }
    };
    let router = Router::new()
        .route("/ready", get(move || unless("unready")))
        .route("/health", get(move || unless("sick")))
        .route("/env", get(|| async { Json(env::vars().collect::<BTreeMap<_, _>>()) }));
    let (health, service) = tonic_health::server::health_reporter();
    tokio::spawn(async move {
        loop {
            let ready = if Path::new("unready").exists() {
                ServingStatus::NotServing
            } else {
                ServingStatus::Serving
            };
            health.set_service_status("selftest", ready).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve((address, 50051).into()),
    );
    let mut term = signal(SignalKind::terminate())?;
    axum::serve(TcpListener::bind((address, 8080)).await?, router)
        .with_graceful_shutdown(async move {
            term.recv().await;
        })
        .await?;
    Ok(())
}

async fn parent() -> anyhow::Result<()> {
    let child = Program::new("sleep").arg("600").spawn().await?;
    println!("{}", child.pid());
    tokio::time::sleep(Duration::from_mins(10)).await;
    Ok(())
}
