//! The binary `serin`: the controller and its command line.

use clap::Parser as _;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    serin::runtime::client::install_tls();
    serin::cli::run(serin::cli::Cli::parse()).await
}
