//! The published vectors, and what 60-digit arithmetic gives for large counts.

use serde::Deserialize;

use super::super::evalue::ln_e;
use super::super::fail::FailRules;
use super::super::interval::{Difference, ln_mixture};
use super::super::{Bet, FailProcess, Null, PassProcess, fail, pass};
use super::{arms, assert_close};

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Vector {
    LogE {
        fc: u64,
        nc: u64,
        fs: u64,
        ns: u64,
        rho: f64,
        delta: f64,
        theta: f64,
        absolute: bool,
        ln_e: f64,
    },
    FailProcess(Run),
    PassProcess(Run),
    ComparatorLindonMalekSavvi {
        counts: [f64; 2],
        theta0: [f64; 2],
        k: f64,
        e: f64,
    },
}

#[derive(Deserialize)]
struct Run {
    name: String,
    ticks: Vec<[u64; 4]>,
    delta: f64,
    theta: f64,
    phi: f64,
    cap: Option<f64>,
    #[serde(default)]
    step_starts: Vec<u64>,
    rho: Vec<f64>,
    #[serde(rename = "ln_M")]
    ln_m: Vec<f64>,
    conf_seq_alpha_each_side: Option<f64>,
    conf_seq: Option<[f64; 2]>,
}

fn vectors() -> Vec<Vector> {
    let text = include_str!("../../../../../../tests/fixtures/analysis-vectors.json");
    serde_json::from_str(text).unwrap()
}

#[test]
fn every_vector_is_met_to_nine_digits() {
    let mut met = 0;
    for vector in vectors() {
        match vector {
            Vector::LogE {
                fc,
                nc,
                fs,
                ns,
                rho,
                delta,
                theta,
                absolute,
                ln_e: expected,
            } => {
                let null = if absolute {
                    Null::absolute(delta).unwrap()
                } else {
                    Null::relative(theta, delta).unwrap()
                };
                let found = ln_e(&arms([fc, nc, fs, ns]), null, Bet::new(rho).unwrap());
                strict(found, expected, "ln e");
            }
            Vector::FailProcess(run) => fails(&run),
            Vector::PassProcess(run) => passes(&run),
            Vector::ComparatorLindonMalekSavvi { counts, theta0, k, e } => {
                let prior = (k * theta0[0], k * theta0[1]);
                let found = ln_mixture(counts[0], counts[0] + counts[1], prior, theta0[0]).exp();
                strict(found, e, "Lindon and Malek's test");
            }
        }
        met += 1;
    }
    assert_eq!(met, 23, "vectors in the file");
}

fn fails(run: &Run) {
    assert_eq!(fail::BETS.map(|bet| bet.rho()).to_vec(), run.rho);
    let planned_steps = u32::try_from(run.step_starts.len()).unwrap();
    let rules = FailRules {
        planned_steps,
        phi: run.phi,
        ln_cap: run.cap.map(f64::ln),
    };
    let null = Null::relative(run.theta, run.delta).unwrap();
    let mut process = FailProcess::default();
    for ((tick, expected), t) in run.ticks.iter().zip(&run.ln_m).zip(1..) {
        let begun = run.step_starts.iter().filter(|start| **start <= t).count();
        process.tick(&arms(*tick), null, u32::try_from(begun).unwrap() - 1, &rules);
        strict(
            process.ln_m(planned_steps),
            *expected,
            &format!("{} tick {t}", run.name),
        );
    }
}

fn passes(run: &Run) {
    assert_eq!(pass::BETS.map(|bet| bet.rho()).to_vec(), run.rho);
    let null = Null::relative(run.theta, run.delta).unwrap();
    let (mut process, mut difference) = (PassProcess::default(), Difference::new(run.theta, run.phi));
    for (tick, expected) in run.ticks.iter().zip(&run.ln_m) {
        process.tick(&arms(*tick), null, run.phi);
        difference.tick(&arms(*tick));
        strict(process.ln_l(), *expected, &run.name);
    }
    let found = difference.interval(run.conf_seq_alpha_each_side.unwrap());
    let [low, high] = run.conf_seq.unwrap();
    strict(found.low, low, &run.name);
    strict(found.high, high, &run.name);
}

fn strict(found: f64, expected: f64, what: &str) {
    let error = if expected == 0.0 {
        found
    } else {
        (found - expected) / expected
    };
    assert!(error.abs() <= 1e-9, "{what}: {found} is not {expected} ({error:e})");
}

#[test]
fn counts_of_a_million_millions_lose_no_digits() {
    // fc, nc, fs, ns, ρ, δ, θ (0: absolute), ln e in 60-digit arithmetic.
    let exact: [([u64; 4], f64, f64, f64, f64); 12] = [
        ([1, 1, 0, 1_000_000_000_000], 50.0, 0.0, 1.0, 3.912_023_005_379_146),
        ([1_000_000_000_000; 4], 1.2, 0.0, 1.0, -8_298_802_814.695_091),
        (
            [1_000_000_000, 1_000_000_000_000, 1_000_000_000, 1_000_000_000_000],
            1.2,
            0.0,
            1.0,
            -8_298_802.814_695_091,
        ),
        (
            [1_000_500_000, 1_000_000_000_000, 1_000_000_000, 1_000_000_000_000],
            0.95,
            0.0,
            1.0,
            -670_666.162_172_414_2,
        ),
        (
            [5_000_000_000, 1_000_000_000_000, 1_000_000_000, 1_000_000_000_000],
            5.0,
            0.002,
            1.0,
            122_182_496.828_510_36,
        ),
        (
            [0, 1_000_000_000_000, 0, 1_000_000_000_000],
            0.02,
            0.005,
            1.0,
            4_803_921_568.627_451,
        ),
        ([3, 999_999_999_999, 1, 1], 12.0, 0.002, 1.25, -2.486_373_316_451_733_5),
        (
            [1_000_000, 1_000_000_000_000, 0, 1],
            0.15,
            0.005,
            1.0,
            0.028_327_666_666_477_8,
        ),
        (
            [1, 1_000_000_000_000, 1, 1_000],
            1.6,
            1e-9,
            0.001,
            -0.470_377_879_011_970_1,
        ),
        (
            [7, 50, 123_456_789_012, 1_000_000_000_000],
            0.4,
            0.1,
            1.25,
            1.215_594_464_815_868_5,
        ),
        (
            [2_000_000_000, 1_000_000_000_000, 0, 0],
            1.2,
            0.001,
            0.0,
            164_643_113.587_909_22,
        ),
        (
            [12_345, 67_890_123, 23_456, 987_654_321_012],
            2.5,
            0.0001,
            1.0,
            1_126.149_410_146_283_9,
        ),
    ];
    for (counts, rho, delta, theta, expected) in exact {
        let null = if theta > 0.0 {
            Null::relative(theta, delta).unwrap()
        } else {
            Null::absolute(delta).unwrap()
        };
        let found = ln_e(&arms(counts), null, Bet::new(rho).unwrap());
        strict(found, expected, &format!("{counts:?}"));
    }
}

#[test]
fn the_mixture_of_an_interval_loses_no_digits() {
    // bad, total, a, b, p, ln of the ratio in 60-digit arithmetic.
    let exact = [
        (8.0, 39.0, 10.0, 90.0, 0.1, 0.339_688_309_220_044_1),
        (0.0, 1.0, 0.5, 0.5, 0.001, -0.692_146_680_226_361_8),
        (0.0, 1e12, 0.5, 0.5, 1e-12, -13.387_875_500_888_6),
        (1e9, 1e12, 0.5, 0.5, 0.001, -14.041_301_910_650_793),
        (1.0001e9, 1e12, 0.5, 0.5, 0.001, -9.036_463_563_814_701),
        (5e11, 1e12, 0.5, 0.5, 0.500_000_1, -14.021_301_910_630_305),
        (3.0, 1000.0, 0.5, 0.5, 0.02, 7.761_647_833_302_799),
        (1000.0, 1000.0, 0.5, 0.5, 0.99, 6.023_968_271_090_99),
    ];
    for (bad, total, a, b, p, expected) in exact {
        assert_close(ln_mixture(bad, total, (a, b), p), expected, 1e-8, "mixture");
    }
}
