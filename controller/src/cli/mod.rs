//! The command line: parses, calls one room, prints. No decision is made here.

pub mod check;
pub mod controller;
pub mod crd;
pub mod explain;
pub mod health;
pub mod history;
mod live;
pub mod replay;
pub mod revision;
mod rollout;
mod spark;
pub mod status;
pub mod steer;
mod table;
pub mod wait;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use serin_core::rollout::Verb;

use crate::api::parse_duration;

/// Where Linkerd's own Prometheus is, seen from within the cluster.
const LINKERDS_PROMETHEUS: &str = "http://prometheus.linkerd-viz.svc.cluster.local:9090";

/// The time was over, as `timeout` of coreutils says it.
const TIMED_OUT: u8 = 124;

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).and_then(|span| Duration::try_from(span).map_err(|_| format!("`{text}` is in the past")))
}

/// A canary rollout controller for Kubernetes on Linkerd that rolls back in Git.
#[derive(Debug, Parser)]
#[command(name = "serin", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take the canary's traffic away and roll the revision back in Git.
    Abort(steer::Args),
    /// Pass the approval that the rollout waits for.
    Approve(steer::Args),
    /// Check whether rollouts would work: Linkerd, the route, Services, Prometheus, capacity.
    Check(check::Args),
    /// Print the completions of a shell: `source <(serin completion bash)`.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Run the controller.
    Controller(Box<controller::Args>),
    /// Print the manifest of the custom resource definition.
    Crd,
    /// Say in words what a rollout's spec means: steps, times, what fails it, what happens then.
    Explain(explain::Args),
    /// Ask the controller that runs here whether it is ready: the health check of a container.
    Health(health::Args),
    /// Show how the last revisions ended: outcome, time, calls, commits, reason.
    History(history::Args),
    /// Write the manual pages of all commands into a folder.
    Man {
        /// The folder.
        folder: PathBuf,
    },
    /// Hold the weight where it is; the canary is still judged.
    Pause(steer::Args),
    /// Skip the rest of the present step, or with `--full` all steps and the analysis.
    Promote(steer::PromoteArgs),
    Replay(Box<replay::Args>),
    /// Go on after a pause.
    Resume(steer::Args),
    /// Start a revision that was rolled back before.
    Retry(steer::Args),
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
        Command::Abort(args) => return told(steer::run(Verb::Abort, args).await),
        Command::Approve(args) => return told(steer::run(Verb::Approve, args).await),
        Command::Check(args) => return check::run(args).await,
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "serin", &mut std::io::stdout());
            Ok(())
        }
        Command::Controller(args) => controller::run(*args).await,
        Command::Crd => crd::run(),
        Command::Explain(args) => explain::run(args).await,
        Command::Health(args) => health::run(args).await,
        Command::History(args) => history::run(args).await,
        Command::Man { folder } => manual(&folder),
        Command::Pause(args) => return told(steer::run(Verb::Pause, args).await),
        Command::Promote(args) => return told(args.run().await),
        Command::Replay(args) => replay::run(*args).await,
        Command::Resume(args) => return told(steer::run(Verb::Resume, args).await),
        Command::Retry(args) => return told(steer::run(Verb::Retry, args).await),
        Command::Revision(Revision::Create(args)) => revision::create(*args).await,
        Command::Revision(Revision::Rollback(args)) => revision::rollback(*args).await,
        Command::Revision(Revision::Promote(args)) => revision::promote(*args).await,
        Command::Revision(Revision::Log(args)) => revision::log(*args).await,
        Command::Status(args) => status::run(args).await,
        Command::Wait(args) => return told(wait::run(args).await),
    };
    told(result.map(|()| ExitCode::SUCCESS))
}

/// The exit code, after an error was printed.
fn told(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// One page a command: `serin.1`, `serin-status.1`, and so on.
fn manual(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
        .with_context(|| format!("writing the manual pages into {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_has_completions() {
        for shell in [
            clap_complete::Shell::Bash,
            clap_complete::Shell::Zsh,
            clap_complete::Shell::Fish,
        ] {
            let mut out = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "serin", &mut out);
            assert!(String::from_utf8(out).unwrap().contains("promote"), "{shell}");
        }
    }

    #[test]
    fn the_command_line_makes_sense() {
        Cli::command().debug_assert();
    }

    /// The command lines of `serin` in a document, and whether they are whole: those inside of sentences may lack arguments.
    fn commands(document: &str) -> Vec<(String, bool)> {
        let mut found = Vec::new();
        let code = document.split("```").skip(1).step_by(2);
        let whole = code.map(|block| block.replace("\\\n", " "));
        for line in whole.flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>()) {
            let line = line.trim_start().trim_start_matches("$ ");
            let own = line.split(['|', '>', '#', ';']).next().unwrap_or_default().trim();
            if own.starts_with("serin ") {
                found.push((own.to_owned(), true));
            }
        }
        // Inside of sentences and tables.
        let inline = document
            .split("```")
            .step_by(2)
            .flat_map(|text| text.split('`').skip(1).step_by(2));
        let inline = inline.filter(|code| code.starts_with("serin ") && !code.contains('…'));
        found.extend(inline.map(|code| (code.to_owned(), false)));
        found
    }

    /// As a shell takes it apart, with its quotes.
    fn split(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (vec![], String::new(), None);
        for c in line.chars() {
            match (c, quote) {
                (c, Some(open)) if c == open => quote = None,
                ('"' | '\'', None) => quote = Some(c),
                (' ', None) if word.is_empty() => {}
                (' ', None) => words.push(std::mem::take(&mut word)),
                (c, _) => word.push(c),
            }
        }
        words.extend((!word.is_empty()).then_some(word));
        words
    }

    #[test]
    fn each_command_of_the_documents_makes_sense() {
        let mut seen = 0;
        for (name, document) in [
            ("operating.md", include_str!("../../../docs/operating.md")),
            ("exit-codes.md", include_str!("../../../docs/exit-codes.md")),
            ("troubleshooting.md", include_str!("../../../docs/troubleshooting.md")),
            ("hooks.md", include_str!("../../../docs/hooks.md")),
            ("tutorial.md", include_str!("../../../docs/tutorial.md")),
        ] {
            for (line, is_whole) in commands(document) {
                // What stands for any of several, or may be left out, is left out.
                let plain = line.replace(['[', ']'], "");
                let wrong = Cli::try_parse_from(split(&plain)).err();
                let wrong =
                    wrong.filter(|error| is_whole || error.kind() != clap::error::ErrorKind::MissingRequiredArgument);
                assert!(wrong.is_none(), "docs/{name}: `{line}`: {wrong:?}");
                seen += 1;
            }
        }
        assert!(seen > 20, "{seen} commands");
    }

    #[test]
    fn each_command_has_a_manual_page() {
        let folder = tempfile::tempdir().unwrap();
        manual(folder.path()).unwrap();
        for page in [
            "serin.1",
            "serin-status.1",
            "serin-promote.1",
            "serin-revision-create.1",
            "serin-history.1",
            "serin-explain.1",
        ] {
            let text = std::fs::read_to_string(folder.path().join(page)).unwrap();
            assert!(text.contains(".SH SYNOPSIS"), "{page}");
        }
    }
}
