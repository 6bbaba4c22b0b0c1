//! `make bench-tick`: what one tick of one rollout costs, three metrics, as a trial judges them, and its bar. Writes
//! target/bench/tick.json, and ends with 1 if the bar is missed.

use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use criterion::Criterion;
use serde_json::{Value, json};
use serin_core::analysis::sequential::{
    Arms, Comparison, MetricSpec, Role, StepInfo, Tally, TestSpec, TestState, bounds,
};

#[path = "../tests/tick/mod.rs"]
mod trial;

/// The tick of a trial, and what it may take in nanoseconds.
const TRIAL: &str = "a tick of a trial with three metrics";
const MOST: f64 = 5_000.0;

fn metric(name: &str, relative: Comparison, absolute: Option<Comparison>) -> MetricSpec {
    MetricSpec {
        name: name.to_owned(),
        verb: "failed".to_owned(),
        relative: Some(relative),
        absolute,
        role: Role::Judged,
        weight: 1.0,
    }
}

/// The tests by themselves.
fn tests(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let against_stable = Comparison::against_stable(1.0, 0.002, 0.005)?;
    let objective = Some(Comparison::objective(0.01)?);
    let metrics = [
        ("three metrics against stable", None),
        ("three metrics, one with an objective as well", objective),
    ];
    for (name, objective) in metrics {
        let metrics = vec![
            metric("success-rate", against_stable, objective),
            metric("latency-100ms", bounds::comparison()?, None),
            metric("checkout-errors", against_stable, None),
        ];
        let spec = TestSpec::new(0.01, 0.05, 4, metrics)?;
        let mut state = TestState::start(&spec, &[]);
        state.begin_step(StepInfo {
            index: 0,
            stable_share: 0.95,
        });
        let arms = Arms {
            canary: Tally::new(1, 200),
            stable: Tally::new(4, 1_800),
        };
        criterion.bench_function(name, |bench| {
            bench.iter(|| state.observe(&spec, black_box([arms; 3])));
        });
    }
    Ok(())
}

/// All that a trial does with a tick: success with its objective, a latency objective, a pair of counters of the user's own, and
/// calls by pod.
fn trial(criterion: &mut Criterion) {
    let mut analysis = trial::analysis();
    let tick = trial::tick();
    criterion.bench_function(TRIAL, |bench| {
        bench.iter(|| analysis.observe(black_box(&tick)));
    });
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target")
}

/// Nanoseconds on average, with the ends of their interval at 95 %, as criterion has just written them.
fn measured() -> Result<[f64; 3], Box<dyn Error>> {
    let file = target().join("criterion").join(TRIAL).join("new/estimates.json");
    let doing = |what: &str| format!("reading {}: {what}", file.display());
    let text = fs::read(&file).map_err(|error| doing(&error.to_string()))?;
    let estimates: Value = serde_json::from_slice(&text).map_err(|error| doing(&error.to_string()))?;
    let mean = |pointer: &str| {
        let number = estimates.pointer(pointer).and_then(Value::as_f64);
        number.ok_or_else(|| doing(&format!("{pointer} is no number")))
    };
    Ok([
        mean("/mean/point_estimate")?,
        mean("/mean/confidence_interval/lower_bound")?,
        mean("/mean/confidence_interval/upper_bound")?,
    ])
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut criterion = Criterion::default()
        .output_directory(&target().join("criterion"))
        .configure_from_args();
    tests(&mut criterion)?;
    trial(&mut criterion);
    criterion.final_summary();
    // Cargo says so when it measures; else each is run once, to see that it can be.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(ExitCode::SUCCESS);
    }
    let [took, from, to] = measured()?;
    let report = json!({ TRIAL: { "nanoseconds": took, "from": from, "to": to }, "bar": MOST });
    let folder = target().join("bench");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("tick.json"), format!("{report:#}\n"))?;
    if took > MOST {
        println!("missed: {TRIAL} takes {took:.0} ns, and the bar is {MOST} ns");
        return Ok(ExitCode::FAILURE);
    }
    println!("{TRIAL}: {took:.0} ns; the bar of {MOST} ns is met");
    Ok(ExitCode::SUCCESS)
}
