//! Monte Carlo of the analysis beside the rules of Flagger, Argo Rollouts and Kayenta: false rollbacks, requests until
//! FAIL against the limit, bad calls served. Prints markdown, writes a report, and ends with 1 if a bar is missed.
//!
//! `cargo run --release -p serin-core --example sim -- [repetitions] [folder] [docs]`
//!
//! The report, and a picture of one good and one bad canary, go to the folder (default `target/sim`). With a `docs` folder
//! and at least 1,000 repetitions the tables in its `analysis.md` and the picture beside it are written as well. Seeds are
//! fixed: the same repetitions give the same figures.

mod bursts;
mod cells;
mod grid;
mod low;
mod picture;
mod report;
mod rules;
mod tables;
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use report::Report;

/// What a table in the documentation has to rest on.
const LEAST_FOR_DOCS: u64 = 1_000;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let repetitions = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(1_000);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| "target/sim".to_owned()));
    let docs = arguments.next().map(PathBuf::from);
    let report = grid::simulate(repetitions);
    if let Err(problem) = publish(&report, &folder, docs.as_deref()) {
        eprintln!("can't write the report: {problem}");
        return ExitCode::FAILURE;
    }
    let missed = report.missed();
    for bar in &missed {
        println!("missed: {bar}");
    }
    if missed.is_empty() {
        println!(
            "all bars are met; the report is {}",
            folder.join("report.json").display()
        );
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn publish(report: &Report, folder: &Path, docs: Option<&Path>) -> io::Result<()> {
    let tables = tables::all(report);
    for table in &tables {
        println!("## {}\n\n{}", table.title, table.body);
    }
    let picture = picture::draw().ok_or_else(|| io::Error::other("there is no picture"))?;
    fs::create_dir_all(folder)?;
    fs::write(folder.join("report.json"), serde_json::to_string_pretty(report)? + "\n")?;
    fs::write(folder.join("analysis.svg"), &picture)?;
    let Some(docs) = docs.filter(|_| report.repetitions >= LEAST_FOR_DOCS) else {
        return Ok(());
    };
    let page = docs.join("analysis.md");
    let text = tables::insert(&fs::read_to_string(&page)?, &tables).map_err(io::Error::other)?;
    fs::write(page, text)?;
    fs::write(docs.join("analysis.svg"), &picture)
}
