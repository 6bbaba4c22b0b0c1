//! What a team with little traffic can set, and what it gets for it. Must not know other rules.

use rayon::prelude::*;
use serde::Serialize;
use serin_core::analysis::sequential::StepInfo;

use crate::cells::{BASELINE_SECONDS, Outcome, Plan, four_steps};
use crate::rules::{DEFAULTS, Rule, Serin, Settings, count};
use crate::world::{Bursts, Traffic, World};

const TICK: f64 = 20.0;
const RPS: f64 = 10.0;
const STABLE: f64 = 0.001;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Low {
    pub(crate) setting: &'static str,
    pub(crate) steps: usize,
    /// At 99.9 % like stable, at 99.4 %, and at 99 %.
    pub(crate) canaries: [Outcome; 3],
}

pub(crate) fn all(repetitions: u64) -> Vec<Low> {
    let zero = Settings {
        tolerance: 0.0,
        ..DEFAULTS
    };
    let loose = Settings {
        alpha: 0.05,
        ..DEFAULTS
    };
    let both = Settings { alpha: 0.05, ..zero };
    let wide = Settings {
        pass_tolerance: 0.01,
        ..both
    };
    let four = four_steps(0.0);
    let two = vec![(0.25, 900.0), (0.50, 900.0)];
    let hour: Plan = four.iter().map(|(weight, seconds)| (*weight, 2.0 * seconds)).collect();
    let settings = [
        ("the defaults", DEFAULTS, four.clone()),
        ("`tolerance: 0%`", zero, four.clone()),
        ("`falseRollbacks: 5%`", loose, four.clone()),
        ("both", both, four.clone()),
        ("both, in an hour", both, hour),
        ("both, steps of 25 and 50 %", both, two.clone()),
        ("these, and `passTolerance: 1%`", wide, two),
    ];
    let row = |((setting, set, plan), seed): ((&'static str, Settings, Plan), u64)| Low {
        setting,
        steps: plan.len(),
        canaries: [0.001, 0.006, 0.01].map(|canary| outcome(canary, set, &plan, repetitions, seed)),
    };
    settings.into_iter().zip(8_000..).map(row).collect()
}

fn outcome(canary: f64, set: Settings, plan: &Plan, repetitions: u64, seed: u64) -> Outcome {
    let world = World {
        rps: RPS,
        canary,
        stable: STABLE,
        bursts: Bursts::None,
    };
    // Whether and when it failed, bad calls served, and steps proven.
    let runs: Vec<(Option<f64>, u64, u32)> = (0..repetitions)
        .into_par_iter()
        .filter_map(|i| history(world, set, plan, seed.wrapping_mul(1_000_003).wrapping_add(i)))
        .collect();
    let n = count(repetitions);
    let failed: Vec<f64> = runs.iter().filter_map(|run| run.0).collect();
    let failures = count(u64::try_from(failed.len()).unwrap_or(0));
    Outcome {
        rule: "Serin".to_owned(),
        rolled_back: failures / n,
        seconds: failed.iter().sum::<f64>() / failures.max(1.0),
        bad_served: count(runs.iter().map(|run| run.1).sum()) / n,
        steps_proven: count(runs.iter().map(|run| u64::from(run.2)).sum()) / n,
    }
}

fn history(world: World, set: Settings, plan: &Plan, seed: u64) -> Option<(Option<f64>, u64, u32)> {
    let mut traffic = Traffic::new(world, seed);
    let mut ticks = 0u32;
    while f64::from(ticks) * TICK < BASELINE_SECONDS {
        ticks += 1;
    }
    let (estimate, calls) = traffic.baseline(ticks, TICK);
    let mut rule = Serin::with(set, u32::try_from(plan.len()).ok()?, (estimate.phi(), calls), false)?;
    let (mut now, mut end, mut bad) = (0.0, 0.0, 0);
    for ((weight, seconds), index) in plan.iter().zip(0..) {
        rule.begin_step(StepInfo {
            index,
            stable_share: 1.0 - weight,
        });
        end += seconds;
        while now < end - 1e-6 {
            now += TICK;
            let arms = traffic.tick(*weight, TICK);
            bad += arms.canary.bad;
            if rule.tick(&arms, TICK) {
                return Some((Some(now), bad, rule.proven()));
            }
        }
    }
    Some((None, bad, rule.proven()))
}
