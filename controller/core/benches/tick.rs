//! `make bench-tick`: what one tick of one rollout costs, three metrics, as a trial judges them, and its bar. Writes
//! target/bench/tick.json, and ends with 1 if the bar is missed.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]

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
fn tests(criterion: &mut Criterion) {
    let against_stable = Comparison::against_stable(1.0, 0.002, 0.005).unwrap();
    let objective = Some(Comparison::objective(0.01).unwrap());
    let metrics = [
        ("three metrics against stable", None),
        ("three metrics, one with an objective as well", objective),
    ];
    for (name, objective) in metrics {
        let metrics = vec![
            metric("success-rate", against_stable, objective),
            metric("latency-100ms", bounds::comparison().unwrap(), None),
            metric("checkout-errors", against_stable, None),
        ];
        let spec = TestSpec::new(0.01, 0.05, 4, metrics).unwrap();
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
fn measured() -> Value {
    let file = target().join("criterion").join(TRIAL).join("new/estimates.json");
    let estimates: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let mean = |pointer: &str| estimates.pointer(pointer).and_then(Value::as_f64).unwrap();
    json!({
        "nanoseconds": mean("/mean/point_estimate"),
        "from": mean("/mean/confidence_interval/lower_bound"),
        "to": mean("/mean/confidence_interval/upper_bound"),
    })
}

fn main() -> ExitCode {
    let mut criterion = Criterion::default()
        .output_directory(&target().join("criterion"))
        .configure_from_args();
    tests(&mut criterion);
    trial(&mut criterion);
    criterion.final_summary();
    // Cargo says so when it measures; else each is run once, to see that it can be.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let measured = measured();
    let took = measured.get("nanoseconds").and_then(Value::as_f64).unwrap();
    let report = json!({ TRIAL: measured, "bar": MOST });
    let folder = target().join("bench");
    fs::create_dir_all(&folder).unwrap();
    fs::write(
        folder.join("tick.json"),
        serde_json::to_string_pretty(&report).unwrap() + "\n",
    )
    .unwrap();
    if took > MOST {
        println!("missed: {TRIAL} takes {took:.0} ns, and the bar is {MOST} ns");
        return ExitCode::FAILURE;
    }
    println!("{TRIAL}: {took:.0} ns; the bar of {MOST} ns is met");
    ExitCode::SUCCESS
}
