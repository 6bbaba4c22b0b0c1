//! Monte Carlo of the analysis beside the rules of Flagger, Argo Rollouts and Kayenta: false rollbacks, requests until
//! FAIL against the limit, bad calls served. Prints markdown, writes a report, and ends with 1 if a bar is missed.
//!
//! `cargo run --release -p serin-core --example sim -- [repetitions] [report]`

mod bursts;
mod cells;
mod report;
mod rules;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use cells::{compare, four_steps, requests_to_fail};
use report::{BadServed, Cell, Report};
use world::{Bursts, World};

const HOURS: f64 = 3600.0;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let repetitions = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(1_000);
    let path = PathBuf::from(arguments.next().unwrap_or_else(|| "target/sim/report.json".to_owned()));
    if std::env::var("STUDY").is_ok() {
        let mut seed = 9000;
        for bursts in [Bursts::Runs, Bursts::RunsInTick, Bursts::Clusters, Bursts::Tens] {
            for (bad, rps) in [(0.001, 10.0), (0.001, 100.0), (0.01, 10.0), (0.05, 10.0)] {
                for minutes in [30, 120, 720] {
                    seed += 1;
                    let w = World {
                        rps,
                        canary: bad,
                        stable: bad,
                        bursts,
                    };
                    let s = bursts::study(w, &four_steps(0.0), minutes, repetitions, seed);
                    println!(
                        "{bursts:?} {bad} {rps} {minutes} min, {:.0} failures: {}",
                        s.baseline_failures,
                        s.factors
                            .map(|f| format!("{:.1}: {:.2} %", f.phi, 100.0 * f.rolled_back))
                            .join(" | ")
                    );
                }
            }
        }
        return ExitCode::SUCCESS;
    }
    let report = Report {
        repetitions,
        false_rollbacks: false_rollbacks(repetitions),
        limits: limits(repetitions),
        bad_served: bad_served(repetitions),
        detection: detection(repetitions),
        false_passes: false_passes(repetitions),
    };
    report.print();
    if let Err(problem) = report.write(&path) {
        eprintln!("can't write {}: {problem}", path.display());
        return ExitCode::FAILURE;
    }
    let missed = report.missed();
    for bar in &missed {
        println!("missed: {bar}");
    }
    if missed.is_empty() {
        println!("all bars are met; the report is {}", path.display());
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Identical arms.
fn false_rollbacks(repetitions: u64) -> Vec<Cell> {
    let mut cells = Vec::new();
    for tick in [15.0, 20.0] {
        for (bursts, pause) in [
            (Bursts::None, 0.0),
            (Bursts::Runs, 0.0),
            (Bursts::None, 8.0 * HOURS),
            (Bursts::Runs, 8.0 * HOURS),
        ] {
            // The pause is what takes the time; once is enough for it.
            if pause > 0.0 && tick < 20.0 {
                continue;
            }
            for bad in [0.05, 0.01, 0.001] {
                for rps in [10.0, 100.0, 1_000.0] {
                    let world = World {
                        rps,
                        canary: bad,
                        stable: bad,
                        bursts,
                    };
                    let seed = 1 + u64::try_from(cells.len()).unwrap_or(0);
                    let outcomes = compare(world, &four_steps(pause), tick, repetitions, seed);
                    cells.push(Cell::new(world, tick, pause / HOURS, outcomes));
                }
            }
        }
    }
    cells
}

fn limits(repetitions: u64) -> Vec<cells::Limit> {
    let grid = [0.01, 0.05, 0.10]
        .into_iter()
        .flat_map(|bad| [19, 9, 3, 1].map(|other| (bad, other)));
    grid.zip(1_000..)
        .filter_map(|((bad, other), seed)| requests_to_fail(bad, other, repetitions.max(400), seed))
        .collect()
}

/// A canary at 95 % with 10 % of the calls from the start, one step.
fn bad_served(repetitions: u64) -> Vec<BadServed> {
    let mut cells = Vec::new();
    for tick in [15.0, 20.0] {
        for rps in [10.0, 100.0, 1_000.0] {
            let world = World {
                rps,
                canary: 0.05,
                stable: 0.001,
                bursts: Bursts::None,
            };
            let seed = 2_000 + u64::try_from(cells.len()).unwrap_or(0);
            let outcomes = compare(world, &vec![(0.10, 1_800.0)], tick, repetitions, seed);
            // The tick that straddles the change of weight is served and not judged: half of a tick on average, a whole
            // one at worst.
            let in_dropped_tick = world.canary * rps * 0.10 * tick;
            cells.push(BadServed {
                cell: Cell::new(world, tick, 0.0, outcomes),
                in_dropped_tick,
            });
        }
    }
    cells
}

/// Bad canaries over the four steps.
fn detection(repetitions: u64) -> Vec<Cell> {
    let mut cells = Vec::new();
    for bad in [0.006, 0.01, 0.05] {
        for rps in [10.0, 100.0, 1_000.0] {
            let world = World {
                rps,
                canary: bad,
                stable: 0.001,
                bursts: Bursts::None,
            };
            let seed = 3_000 + u64::try_from(cells.len()).unwrap_or(0);
            cells.push(Cell::new(
                world,
                20.0,
                0.0,
                compare(world, &four_steps(0.0), 20.0, repetitions, seed),
            ));
        }
    }
    cells
}

/// Canaries that are worse by exactly the margin of half a point: each step that is proven is so falsely.
fn false_passes(repetitions: u64) -> Vec<Cell> {
    let mut cells = Vec::new();
    for bursts in [Bursts::None, Bursts::Runs] {
        for bad in [0.05, 0.01, 0.001] {
            for rps in [10.0, 100.0, 1_000.0] {
                let world = World {
                    rps,
                    canary: bad + 0.005,
                    stable: bad,
                    bursts,
                };
                let seed = 4_000 + u64::try_from(cells.len()).unwrap_or(0);
                let outcomes = compare(world, &four_steps(0.0), 20.0, repetitions, seed);
                cells.push(Cell::new(world, 20.0, 0.0, outcomes));
            }
        }
    }
    cells
}
