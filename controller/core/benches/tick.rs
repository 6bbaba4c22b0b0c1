//! What one tick of one rollout costs: three metrics, as a trial judges them. The bar is 5 µs.
#![expect(clippy::unwrap_used, reason = "a benchmark may end at a number that makes no test")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use serin_core::analysis::sequential::{
    Arms, Comparison, MetricSpec, Role, StepInfo, Tally, TestSpec, TestState, bounds,
};

#[path = "../tests/tick/mod.rs"]
mod trial;

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
    criterion.bench_function("a tick of a trial with three metrics", |bench| {
        bench.iter(|| analysis.observe(black_box(&tick)));
    });
}

criterion_group!(benches, tests, trial);
criterion_main!(benches);
