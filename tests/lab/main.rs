//! The program `lab`. It must not know more than how to start what the library has.

use std::process::ExitCode;

use anyhow::Context as _;
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
    /// Prints docs/reference.md, made from the definition in crds/.
    Reference,
}

fn reference() -> anyhow::Result<()> {
    let path = lab::project_root().join("crds/canaryrollouts.serin.dev.yaml");
    let reading = || format!("reading the definition {}; `make generate` writes it", path.display());
    let definition = std::fs::read_to_string(&path).with_context(reading)?;
    print!(
        "{}",
        lab::reference::page(&serde_saphyr::from_str(&definition).with_context(reading)?)
    );
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Demo => demo::run().await,
        Command::Up => demo::up().await,
        Command::Reference => reference(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
