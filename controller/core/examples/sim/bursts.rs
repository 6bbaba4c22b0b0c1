//! What the burst factor φ does to false rollbacks: by the kind of burst, and by how long stable was watched before.
//! Must not know other rules.

use rayon::prelude::*;
use serde::Serialize;
use serin_core::analysis::sequential::StepInfo;

use crate::cells::{Plan, four_steps};
use crate::rules::{Rule, Serin, count};
use crate::world::{Bursts, Traffic, World};

const TICK: f64 = 20.0;

/// Identical arms: the same histories judged with three values of φ.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Study {
    pub(crate) bursts: Bursts,
    pub(crate) success: f64,
    pub(crate) rps: f64,
    pub(crate) pause_hours: f64,
    pub(crate) baseline_minutes: u32,
    /// Stable's failing calls in the baseline, on average.
    pub(crate) baseline_failures: f64,
    pub(crate) factors: [Factor; 3],
}

#[derive(Debug, Default, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Factor {
    /// On average.
    pub(crate) phi: f64,
    /// Share of the rollouts.
    pub(crate) rolled_back: f64,
}

/// φ = 1, φ̂ of single ticks, and the φ that is frozen; and stable's failing calls in the baseline.
struct History {
    phi: [f64; 3],
    failed: [bool; 3],
    failures: u64,
}

pub(crate) fn study(world: World, pause_hours: f64, minutes: u32, repetitions: u64, seed: u64) -> Study {
    let plan = four_steps(3600.0 * pause_hours);
    let runs: Vec<History> = (0..repetitions)
        .into_par_iter()
        .filter_map(|i| history(world, &plan, minutes, seed.wrapping_mul(1_000_003).wrapping_add(i)))
        .collect();
    let n = count(repetitions);
    let mut factors = [Factor::default(); 3];
    for run in &runs {
        for (factor, (phi, failed)) in factors.iter_mut().zip(run.phi.iter().zip(run.failed)) {
            factor.phi += phi / n;
            factor.rolled_back += f64::from(u8::from(failed)) / n;
        }
    }
    Study {
        bursts: world.bursts,
        success: 1.0 - world.canary,
        rps: world.rps,
        pause_hours,
        baseline_minutes: minutes,
        baseline_failures: count(runs.iter().map(|run| run.failures).sum()) / n,
        factors,
    }
}

fn history(world: World, plan: &Plan, minutes: u32, seed: u64) -> Option<History> {
    let mut traffic = Traffic::new(world, seed);
    let (estimate, calls) = traffic.baseline(minutes * 3, TICK);
    let phi = [1.0, estimate.per_tick(), estimate.phi()];
    let steps = u32::try_from(plan.len()).ok()?;
    let mut rules = Vec::with_capacity(phi.len());
    for phi in phi {
        rules.push(Serin::new(steps, (phi, calls), false)?);
    }
    let (mut failed, mut left) = ([false; 3], 0.0);
    for ((weight, seconds), index) in plan.iter().zip(0..) {
        let step = StepInfo {
            index,
            stable_share: 1.0 - weight,
        };
        for rule in &mut rules {
            rule.begin_step(step);
        }
        left += seconds;
        while left > 1e-6 {
            left -= TICK;
            let arms = traffic.tick(*weight, TICK);
            for (rule, failed) in rules.iter_mut().zip(&mut failed) {
                *failed |= rule.tick(&arms, TICK);
            }
        }
    }
    Some(History {
        phi,
        failed,
        failures: calls.bad,
    })
}
