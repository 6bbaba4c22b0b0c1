//! `make bench-service`: what user-service costs, beside a bare tonic echo in the same run, and its bars. Writes
//! target/bench/service.json, and ends with 1 if a bar is missed.
//!
//! Servers are processes of their own; the one client makes the same calls to each. Rounds go in turn over all servers, and the
//! median round counts, so that what else the machine does meets all of them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement that cannot go on has failed"
)]

mod calls;
mod echo;
mod process;

#[path = "../../tests/postgres/mod.rs"]
mod postgres;
#[path = "../../tests/resources/mod.rs"]
mod resources;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;
use tonic::transport::Channel;

use self::calls::{Measured, at_rate, at_will, fill};
use self::postgres::Postgres;
use self::process::Process;
use self::resources::{memory_of, raise_open_files};

const CONNECTIONS: usize = 64;
const USERS: usize = 10_000;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);
const STARTS: usize = 15;

const LEAST_SHARE: f64 = 0.5;
const MOST_P99: f64 = 5.0;
const MOST_MEMORY: f64 = 64.0;
const MOST_START: f64 = 200.0;

struct Server {
    name: &'static str,
    process: Process,
    channels: Vec<Channel>,
    ids: Vec<String>,
    rounds: Vec<Measured>,
}

impl Server {
    async fn start(name: &'static str, process: Process, users: bool) -> Self {
        let channels = process.connections(CONNECTIONS).await;
        let ids = if users {
            fill(&channels, USERS).await
        } else {
            vec!["1".to_owned()]
        };
        Self {
            name,
            process,
            channels,
            ids,
            rounds: Vec::new(),
        }
    }

    fn per_second(&self) -> f64 {
        median(self.rounds.iter().map(|round| round.per_second))
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if arguments.get(1).is_some_and(|role| role == "echo") {
        runtime.block_on(echo::serve());
        return ExitCode::SUCCESS;
    }
    raise_open_files();
    let (report, missed) = runtime.block_on(measure());
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench/service.json");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, serde_json::to_string_pretty(&report).unwrap() + "\n").unwrap();
    println!("{}", serde_json::to_string_pretty(&report).unwrap());
    for bar in &missed {
        println!("missed: {bar}");
    }
    if missed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn measure() -> (Value, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = format!("sqlite://{}/users.db", folder.path().display());
    let postgres = Postgres::shared().database().await;

    println!("cold starts");
    let starts = cold_starts(folder.path());

    println!("filling {USERS} users into each database");
    let mut servers = [
        Server::start("echo", Process::echo(), false).await,
        Server::start("sqlite", Process::service(&sqlite), true).await,
        Server::start("postgres", Process::service(&postgres), true).await,
    ];
    for round in 0..ROUNDS {
        println!(
            "round {} of {ROUNDS}: GetUser as fast as {CONNECTIONS} connections can",
            round + 1
        );
        for server in &mut servers {
            let measured = at_will(&server.channels, &server.ids, ROUND).await;
            server.rounds.push(measured);
        }
    }
    println!("half of each one's maximum, open loop");
    let mut latencies = servers
        .each_ref()
        .map(|server| (server.name, server.per_second() / 2.0, Vec::new()));
    for _ in 0..ROUNDS {
        for (server, (_, half, rounds)) in servers.iter().zip(&mut latencies) {
            rounds.push(at_rate(&server.channels, &server.ids, *half, ROUND).await);
        }
    }

    println!("memory with {USERS} users and 1,000 connections");
    let sqlite = servers.iter().find(|server| server.name == "sqlite").unwrap();
    let memory = with_a_thousand_connections(sqlite).await;

    let echo = servers[0].per_second();
    let share = sqlite.per_second() / echo;
    let p99_of = |name: &str| {
        let (_, _, rounds) = latencies.iter().find(|(found, _, _)| *found == name).unwrap();
        median(rounds.iter().map(|round| round.ms(0.99)))
    };
    let start = median(starts.iter().copied());
    let mut missed = Vec::new();
    let mut bar = |holds: bool, text: String| {
        if !holds {
            missed.push(text);
        }
    };
    bar(
        share >= LEAST_SHARE,
        format!("reads on SQLite are {share:.2} of the echo's, not {LEAST_SHARE}"),
    );
    for name in ["sqlite", "postgres"] {
        let p99 = p99_of(name);
        bar(
            p99 <= MOST_P99,
            format!("{name}'s p99 at half of its maximum is {p99:.2} ms, not {MOST_P99}"),
        );
    }
    bar(
        memory < MOST_MEMORY,
        format!("{memory:.1} MiB of memory, not {MOST_MEMORY}"),
    );
    bar(
        start < MOST_START,
        format!("a cold start takes {start:.0} ms, not {MOST_START}"),
    );

    let throughput: Value = servers
        .iter()
        .map(|server| {
            let rounds: Vec<_> = server.rounds.iter().map(|round| round.per_second.round()).collect();
            let numbers = json!({
                "per_second": server.per_second().round(),
                "share_of_echo": two(server.per_second() / echo),
                "rounds": rounds,
                "failed": server.rounds.iter().map(|round| round.failed).sum::<u64>(),
            });
            (server.name.to_owned(), numbers)
        })
        .collect::<serde_json::Map<_, _>>()
        .into();
    let at_half: Value = latencies
        .iter()
        .map(|(name, rate, rounds)| {
            let of = |quantile: f64| two(median(rounds.iter().map(|round| round.ms(quantile))));
            let numbers = json!({
                "rate": rate.round(), "p50_ms": of(0.5), "p99_ms": of(0.99), "p999_ms": of(0.999),
                "p99_ms_of_rounds": rounds.iter().map(|round| two(round.ms(0.99))).collect::<Vec<_>>(),
                "failed": rounds.iter().map(|round| round.failed).sum::<u64>(),
            });
            ((*name).to_owned(), numbers)
        })
        .collect::<serde_json::Map<_, _>>()
        .into();
    let report = json!({
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "connections": CONNECTIONS,
        "users": USERS,
        "get_user_at_will": throughput,
        "get_user_at_half_of_the_maximum": at_half,
        "memory_mib_at_1000_connections": two(memory),
        "cold_start_ms": { "median": two(start), "max": two(starts.iter().copied().fold(0.0, f64::max)) },
        "bars": {
            "least_share_of_echo_on_sqlite": LEAST_SHARE, "most_p99_ms": MOST_P99,
            "most_memory_mib": MOST_MEMORY, "most_start_ms": MOST_START,
        },
        "missed": missed,
    });
    (report, missed)
}

fn two(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// Each with a new file, so that the schema is made too; milliseconds from the program's start to its readiness.
fn cold_starts(folder: &Path) -> Vec<f64> {
    let mut starts = Vec::new();
    for start in 0..STARTS {
        let process = Process::service(&format!("sqlite://{}/start{start}.db", folder.display()));
        starts.push(process.time_to_ready().as_secs_f64() * 1_000.0);
    }
    starts
}

/// Mebibytes that the process holds while 1,000 clients have called it over connections of their own, and stay.
async fn with_a_thousand_connections(server: &Server) -> f64 {
    let more = server.process.connections(1_000 - CONNECTIONS).await;
    let all: Vec<_> = server.channels.iter().chain(&more).cloned().collect();
    at_rate(&all, &server.ids, 2_000.0, ROUND).await;
    sleep(Duration::from_millis(200)).await;
    mebibytes(memory_of(server.process.id()))
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
