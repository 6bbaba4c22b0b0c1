//! The binary `serin`: the controller and its command line.

use clap::Parser as _;
use tikv_jemallocator::Jemalloc;

/// Thousands of rollouts come and go in small pieces: the C library's allocator keeps a third more from the system than is in use
/// then (docs/scale.md).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    serin::runtime::client::install_tls();
    serin::cli::run(serin::cli::Cli::parse()).await
}
