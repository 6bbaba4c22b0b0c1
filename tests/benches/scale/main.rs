//! Thousands of rollouts on one controller: a real API server with all objects of 100, 1,000 and 10,000 rollouts, of which a tenth
//! progress; a source that answers as Prometheus with as many series would; and the controller's own process, measured from outside.
//! After some minutes a single canary turns bad, and then all of them in the same second. `make bench-scale` writes
//! `target/bench/scale.json` and `scale.svg`, and fails where a bar is missed.
//!
//! What "the sample that shows a failure" is stands in [`storm`].
//!
//! `SCALE_N=100,1000` and `SCALE_MINUTES=1` make it shorter; `SCALE_KEEP=1` keeps the folder with the logs.

mod account;
mod bench;
mod controller;
mod fill;
mod memory;
mod objects;
mod picture;
mod place;
mod report;
mod repositories;
mod selector;
mod soak;
mod source;
mod storm;
mod witness;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use lab::clock::now;
use serde_json::json;
use tokio::time::sleep;

use bench::measure;
use objects::shape;
use report::{Cell, bars};

const ACCOUNT: &str = "system:serviceaccount:serin:serin";

fn main() -> anyhow::Result<()> {
    // `cargo test --all-targets` runs benches too, without this.
    if !std::env::args().any(|arg| arg == "--bench") {
        return Ok(());
    }
    lab::install_crypto();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(async {
            if std::env::args().any(|arg| arg == "soak") {
                soak::run().await
            } else {
                run().await
            }
        })
}

async fn run() -> anyhow::Result<()> {
    let sizes: Vec<usize> = match std::env::var("SCALE_N") {
        Ok(list) => list
            .split(',')
            .map(|n| n.trim().parse())
            .collect::<Result<_, _>>()
            .context("reading SCALE_N")?,
        Err(_) => vec![100, 1_000, report::SIZE],
    };
    let minutes: f64 = match std::env::var("SCALE_MINUTES") {
        Ok(minutes) => minutes.parse().context("reading SCALE_MINUTES")?,
        Err(_) => 5.0,
    };
    let out = lab::project_root().join("target/bench");
    std::fs::create_dir_all(&out)?;
    let mut cells = Vec::new();
    for size in sizes {
        let cell = measure(size, minutes)
            .await
            .with_context(|| format!("with {size} rollouts"))?;
        println!("{}", serde_json::to_string_pretty(&cell.json())?);
        cells.push(cell);
        write(&out, &cells)?;
    }
    let bars = bars(&cells);
    for bar in &bars {
        println!("{}", bar.line());
    }
    ensure!(bars.iter().all(report::Bar::holds), "a bar is missed");
    Ok(())
}

fn write(out: &Path, cells: &[Cell]) -> anyhow::Result<()> {
    let json = json!({
        "sizes": cells.iter().map(Cell::json).collect::<Vec<_>>(),
        "bars": bars(cells).iter().map(report::Bar::json).collect::<Vec<_>>(),
    });
    std::fs::write(out.join("scale.json"), serde_json::to_string_pretty(&json)? + "\n")?;
    std::fs::write(out.join("scale.svg"), picture::draw(cells)?)?;
    Ok(())
}

/// A number out of the environment.
fn number(name: &str, otherwise: usize) -> anyhow::Result<usize> {
    match std::env::var(name) {
        Ok(text) => text.trim().parse().with_context(|| format!("reading {name}")),
        Err(_) => Ok(otherwise),
    }
}

/// The program as it is released, unless another one is named.
fn program() -> anyhow::Result<PathBuf> {
    if let Some(program) = std::env::var_os("SCALE_SERIN") {
        return Ok(program.into());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| lab::project_root().join("target"), PathBuf::from);
    let program = target.join("release/serin");
    ensure!(
        program.is_file(),
        "there is no {}; run cargo build --release --bin serin",
        program.display()
    );
    Ok(program)
}

/// The next time at which ticks are due, in milliseconds.
fn next_due() -> i64 {
    let interval = i64::try_from(shape().interval.as_millis()).unwrap_or(i64::MAX);
    let scrape = i64::try_from(shape().scrape.as_millis()).unwrap_or(0);
    ((now().as_millisecond() - scrape) / interval + 1) * interval + scrape
}

async fn sleep_until(at_ms: i64) {
    let wait = u64::try_from(at_ms - now().as_millisecond()).unwrap_or(0);
    sleep(Duration::from_millis(wait)).await;
}

fn say(what: &str) {
    eprintln!("scale: {what}");
}
