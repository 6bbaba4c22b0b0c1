//! The page over made-up rollouts, for work on it: `cargo run -p serin --example page`, then open the address
//! that it prints. No cluster is asked; commands find none.

mod rollouts;

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use kube::Config;
use serin::board::Board;
use serin::runtime::client;
use serin::runtime::shards::Sharing;
use serin::web::steer::Steering;
use serin::web::{Page, Replica, router};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    client::install_tls();
    let port = std::env::args().nth(1).map_or(Ok(8080), |port| port.parse())?;
    let board = Board::default();
    rollouts::fill(&board);

    let config = Config::new("https://127.0.0.1:1".parse()?);
    let replica = Replica {
        identity: "serin-6d9f7c5b8-x2x7k_5e1f09aa".to_owned(),
        sharing: Sharing::unchallenged(),
        shard_of: serin::reconcile::shard_of,
    };
    let steering = Steering::new(client::unfenced(config.clone())?, config);
    let page = Page::new(board, replica, steering, CancellationToken::new());

    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("binding {address}"))?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, router(page)).await.context("serving the page")
}
