//! The program `lab`. It must not know more than how to start what the library has.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lab::demo;

/// A whole environment for rollouts on one machine.
#[derive(Debug, Parser)]
#[command(name = "lab")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tells the story: a good canary is promoted, two bad ones are reverted in Git.
    Demo,
    /// Leaves the lab running and prints how to reach it.
    Up,
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Demo => demo::run().await,
        Command::Up => demo::up().await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
