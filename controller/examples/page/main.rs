//! The page over made-up rollouts, for work on it: `cargo run -p serin --example page`, then open the address
//! that it prints. No cluster is asked; commands find none.

mod rollouts;

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use serin::board::Board;
use serin::runtime::client;
use serin::web::router;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    client::install_tls();
    let port = std::env::args().nth(1).map_or(Ok(8080), |port| port.parse())?;
    let board = Board::default();
    rollouts::fill(&board);

    let page = rollouts::page(board)?;

    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("binding {address}"))?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, router(page)).await.context("serving the page")
}
