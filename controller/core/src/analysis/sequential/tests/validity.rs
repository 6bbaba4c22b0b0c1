//! Validity, counted out exactly on small numbers: no e-value, FAIL or PASS process has an expectation above 1 under
//! its null.

use super::super::evalue::ln_e;
use super::super::fail::FailRules;
use super::super::{FailProcess, Null, PassProcess, Tally, fail, interval, pass, real};
use super::arms;

const RATES: [f64; 8] = [0.0, 0.003, 0.02, 0.1, 0.35, 0.6, 0.95, 1.0];
const MARGINS: [(f64, f64); 8] = [
    (1.0, 0.0),
    (1.0, 0.002),
    (1.0, 0.05),
    (1.25, 0.001),
    (1.25, 0.0),
    (0.5, 0.1),
    (3.0, 0.02),
    (0.8, 0.0),
];
const SPLITS: [(u64, u64); 9] = [(1, 0), (1, 1), (1, 9), (9, 1), (4, 4), (12, 3), (3, 17), (6, 0), (0, 5)];

fn binomial(n: u64, k: u64, p: f64) -> f64 {
    let ways: f64 = (1..=k).map(|i| real(n - k + i) / real(i)).product();
    ways * p.powi(i32::try_from(k).unwrap()) * (1.0 - p).powi(i32::try_from(n - k).unwrap())
}

/// Every outcome of one tick, with its probability.
fn outcomes(nc: u64, pc: f64, ns: u64, ps: f64) -> Vec<([u64; 4], f64)> {
    let each = (0..=nc).flat_map(|fc| (0..=ns).map(move |fs| (fc, fs)));
    each.map(|(fc, fs)| ([fc, nc, fs, ns], binomial(nc, fc, pc) * binomial(ns, fs, ps)))
        .collect()
}

/// Rates of the canary within the null "no worse than the limit" (or, the other way, "no better").
fn within(limit: f64, no_worse: bool) -> Vec<f64> {
    if no_worse {
        vec![0.0, limit / 2.0, limit]
    } else {
        vec![limit, f64::midpoint(limit, 1.0), 1.0]
    }
}

#[test]
fn no_e_value_exceeds_one_in_expectation() {
    let mut checked = 0u32;
    for (theta, delta) in MARGINS {
        let nulls = [Null::relative(theta, delta).unwrap(), Null::absolute(delta).unwrap()];
        for (null, bets, no_worse) in nulls
            .into_iter()
            .flat_map(|null| [(null, fail::BETS, true), (null, pass::BETS, false)])
        {
            for ps in RATES {
                // "At least as bad as more than every call" holds for no canary.
                if !no_worse && null.theta() * ps + null.delta() > 1.0 {
                    continue;
                }
                for (pc, (nc, ns)) in within(null.limit(ps), no_worse)
                    .into_iter()
                    .flat_map(|pc| SPLITS.map(|split| (pc, split)))
                {
                    let all = outcomes(nc, pc, ns, ps);
                    for bet in bets {
                        let mean: f64 = all
                            .iter()
                            .map(|(counts, probability)| probability * ln_e(&arms(*counts), null, bet).exp())
                            .sum();
                        assert!(
                            mean <= 1.0 + 1e-12,
                            "{mean} for {null:?} {bet:?} p_c {pc} p_s {ps} n {nc} {ns}"
                        );
                        checked += 1;
                    }
                }
            }
        }
    }
    assert!(checked > 10_000, "{checked}");
}

/// E[exp(value)] over `depth` more ticks of 2 and 3 calls, the rates changing from tick to tick.
fn expectation<P: Copy>(
    process: P,
    depth: u32,
    rates: &dyn Fn(u32) -> (f64, f64),
    tick: &dyn Fn(&mut P, [u64; 4], u32),
    value: &dyn Fn(&P) -> f64,
) -> f64 {
    if depth == 0 {
        return value(&process).exp();
    }
    let (pc, ps) = rates(depth);
    let mean = |(counts, probability): ([u64; 4], f64)| {
        let mut next = process;
        tick(&mut next, counts, depth);
        probability * expectation(next, depth - 1, rates, tick, value)
    };
    outcomes(2, pc, 3, ps).into_iter().map(mean).sum()
}

#[test]
fn no_process_exceeds_one_in_expectation_when_rates_change() {
    for (theta, delta) in [(1.0, 0.0), (1.0, 0.01), (1.25, 0.001)] {
        let null = Null::relative(theta, delta).unwrap();
        let stable = |depth: u32| [0.3, 0.02, 0.6, 0.1][depth as usize % 4];
        let rates = |depth: u32| (null.limit(stable(depth)), stable(depth));
        for phi in [1.0, 2.5] {
            for ln_cap in [None, Some(2f64.ln())] {
                for planned_steps in [1, 3] {
                    let rules = FailRules {
                        planned_steps,
                        phi,
                        ln_cap,
                    };
                    let tick = |process: &mut FailProcess, counts: [u64; 4], depth: u32| {
                        process.tick(&arms(counts), null, 4 - depth, &rules);
                    };
                    let ln_m = |process: &FailProcess| process.ln_m(planned_steps);
                    let mean = expectation(FailProcess::default(), 4, &rates, &tick, &ln_m);
                    assert!(mean <= 1.0 + 1e-12, "M: {mean} for {null:?} {rules:?}");
                }
            }
            let tick = |process: &mut PassProcess, counts: [u64; 4], _| process.tick(&arms(counts), null, phi);
            let mean = expectation(PassProcess::default(), 4, &rates, &tick, &PassProcess::ln_l);
            assert!(mean <= 1.0 + 1e-12, "L: {mean} for {null:?} φ {phi}");
        }
    }
}

#[test]
fn an_interval_misses_the_rate_at_any_time_with_less_than_its_level() {
    // The exact probability that the rate was ever outside within 400 calls, by dynamic programming.
    for (rate, alpha) in [(0.002, 0.05), (0.02, 0.05), (0.1, 0.01), (0.5, 0.05), (0.97, 0.01)] {
        let mut alive = vec![1.0];
        let mut missed = 0.0;
        for n in 1..=400u64 {
            let mut next = vec![0.0; alive.len() + 1];
            for (bad, probability) in alive.iter().enumerate() {
                next[bad] += probability * (1.0 - rate);
                next[bad + 1] += probability * rate;
            }
            for (bad, probability) in next.iter_mut().enumerate().filter(|(_, p)| **p > 1e-14) {
                let found = interval::rate(Tally::new(bad as u64, n), 1.0, alpha);
                if rate < found.low || rate > found.high {
                    missed += std::mem::take(probability);
                }
            }
            alive = next;
        }
        assert!(missed <= alpha, "{missed} at {rate}");
    }
}
