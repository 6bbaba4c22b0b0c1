//! The command line: parses, calls one room, prints. No decision is made here.

pub mod check;
pub mod controller;
pub mod crd;
pub mod replay;
pub mod revision;
pub mod status;
pub mod wait;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A canary rollout controller for Kubernetes on Linkerd that rolls back in Git.
#[derive(Debug, Parser)]
#[command(name = "serin", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check whether rollouts would work: Linkerd, the route, Services, Prometheus, capacity.
    Check(check::Args),
    /// Run the controller.
    Controller(controller::Args),
    /// Print the manifest of the custom resource definition.
    Crd,
    Replay(Box<replay::Args>),
    /// Work with canary revisions in the config repository.
    #[command(subcommand)]
    Revision(Revision),
    /// Show rollouts: phase, step, weight, revision, verdict and what happens next.
    Status(status::Args),
    /// Wait until a revision is promoted, rolled back or at any end: for pipelines; the exit code tells which.
    Wait(wait::Args),
}

#[derive(Debug, Subcommand)]
enum Revision {
    /// Commit a canary revision to the config repository: what the pipeline calls.
    Create(Box<revision::RevisionCreate>),
    /// Roll a revision back by hand, with the controller's own commit.
    Rollback(Box<revision::RevisionRollback>),
    /// Promote a revision by hand, with the controller's own commit.
    Promote(Box<revision::RevisionPromote>),
    /// List the rollout's canary, promotion and rollback commits, newest first.
    Log(Box<revision::RevisionLog>),
}

/// Runs a command line; an error goes to standard error, with all that led to it.
pub async fn run(cli: Cli) -> ExitCode {
    let result = match cli.command {
        Command::Check(args) => return check::run(args).await,
        Command::Controller(args) => controller::run(args).await,
        Command::Crd => crd::run(),
        Command::Replay(args) => replay::run(*args).await,
        Command::Revision(Revision::Create(args)) => revision::create(*args).await,
        Command::Revision(Revision::Rollback(args)) => revision::rollback(*args).await,
        Command::Revision(Revision::Promote(args)) => revision::promote(*args).await,
        Command::Revision(Revision::Log(args)) => revision::log(*args).await,
        Command::Status(args) => status::run(args).await,
        Command::Wait(args) => match wait::run(args).await {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
