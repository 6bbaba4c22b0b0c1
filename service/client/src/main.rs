//! The program `user-load`. It must not know more than how to start what the library has.

use std::process::ExitCode;

use clap::Parser;
use user_client::load;

/// Calls the user service at a fixed rate, and says now and then how it went.
#[derive(Debug, Parser)]
#[command(name = "user-load", version)]
struct Cli {
    #[command(flatten)]
    args: load::Args,
}

#[tokio::main]
async fn main() -> ExitCode {
    match load::run(Cli::parse().args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
