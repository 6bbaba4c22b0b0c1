//! The grid: what is simulated in each cell, and what comes out. Must not know how it is printed.

use rayon::prelude::*;
use serde::Serialize;
use serin_core::analysis::peers::{Argo, Flagger};
use serin_core::analysis::sequential::fail::FailRules;
use serin_core::analysis::sequential::forecast::{Forecast, Towards};
use serin_core::analysis::sequential::{FailProcess, Null, StepInfo, ln_threshold};

use crate::rules::{EachMinute, FirstDropped, Kayenta, Peer, Rule, Serin, ZTest, count};
use crate::world::{Bursts, Traffic, World};

/// Stable's pods are watched for as long before a rollout: at 10 calls a second and 99.9 % that is 14 bursts of ten.
pub(crate) const BASELINE_SECONDS: f64 = 4.0 * 3600.0;
pub(crate) const SERIN: &str = "Serin";
/// As it runs: the first tick of each step straddles the change of weight and is dropped; here it is a whole one, the
/// worst case.
pub(crate) const DROPPED: &str = "Serin, a tick dropped a step";
pub(crate) const FLAGGER: &str = "Flagger, threshold 5";
pub(crate) const RULES: [&str; 8] = [
    SERIN,
    DROPPED,
    "Serin, objective 99 % beside",
    FLAGGER,
    "Argo Rollouts, limit 0",
    "Argo Rollouts, limit 3",
    "Kayenta",
    "z-test, each tick",
];

/// Weights and how long each holds, in seconds.
pub(crate) type Plan = Vec<(f64, f64)>;

/// 5, 10, 25 and 50 % in 30 minutes; at the first weight, a pause.
pub(crate) fn four_steps(pause: f64) -> Plan {
    let mut plan: Plan = [0.05, 0.10, 0.25, 0.50].map(|weight| (weight, 450.0)).to_vec();
    if let Some((_, seconds)) = plan.first_mut() {
        *seconds += pause;
    }
    plan
}

/// What one rule did, over all repetitions.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Outcome {
    pub(crate) rule: String,
    /// Share of repetitions rolled back.
    pub(crate) rolled_back: f64,
    /// Over those: mean seconds until then.
    pub(crate) seconds: f64,
    /// Over all: mean bad calls that the canary answered until the rollback or the end.
    pub(crate) bad_served: f64,
    /// Mean steps proven when they ended; only Serin proves.
    pub(crate) steps_proven: f64,
}

#[derive(Default, Clone, Copy)]
struct Single {
    failed_at: Option<f64>,
    bad: u64,
    proven: u32,
}

/// All rules over the same histories.
pub(crate) fn compare(world: World, plan: &Plan, tick: f64, repetitions: u64, seed: u64) -> Vec<Outcome> {
    let runs: Vec<[Single; 8]> = (0..repetitions)
        .into_par_iter()
        .filter_map(|i| history(world, plan, tick, seed.wrapping_mul(1_000_003).wrapping_add(i)))
        .collect();
    let n = count(repetitions);
    let of_rule = |(rule, name): (usize, &&str)| {
        let runs = || runs.iter().filter_map(move |run| run.get(rule));
        let failed: Vec<f64> = runs().filter_map(|run| run.failed_at).collect();
        let failures = count(u64::try_from(failed.len()).unwrap_or(0));
        Outcome {
            rule: (*name).to_owned(),
            rolled_back: failures / n,
            seconds: failed.iter().sum::<f64>() / failures.max(1.0),
            bad_served: count(runs().map(|run| run.bad).sum()) / n,
            steps_proven: count(runs().map(|run| u64::from(run.proven)).sum()) / n,
        }
    };
    RULES.iter().enumerate().map(of_rule).collect()
}

fn history(world: World, plan: &Plan, tick: f64, seed: u64) -> Option<[Single; 8]> {
    let mut traffic = Traffic::new(world, seed);
    let mut ticks = 0u32;
    while f64::from(ticks) * tick < BASELINE_SECONDS {
        ticks += 1;
    }
    let (estimate, calls) = traffic.baseline(ticks, tick);
    let frozen = (estimate.phi(), calls);
    let steps = u32::try_from(plan.len()).ok()?;
    let seconds = plan.iter().map(|(_, seconds)| seconds).sum();
    let mut rules: [Box<dyn Rule>; 8] = [
        Box::new(Serin::new(steps, frozen, false)?),
        Box::new(FirstDropped::new(Serin::new(steps, frozen, false)?)),
        Box::new(Serin::new(steps, frozen, true)?),
        Box::new(EachMinute::new(Peer(Flagger::new(5)))),
        Box::new(EachMinute::new(Peer(Argo::new(0)))),
        Box::new(EachMinute::new(Peer(Argo::new(3)))),
        Box::new(EachMinute::new(Kayenta::in_rollout_of(seconds))),
        Box::new(ZTest::default()),
    ];
    let mut all = [Single::default(); 8];
    let (mut now, mut end) = (0.0, 0.0);
    for ((weight, seconds), index) in plan.iter().zip(0..) {
        let step = StepInfo {
            index,
            stable_share: 1.0 - weight,
        };
        for rule in &mut rules {
            rule.begin_step(step);
        }
        end += seconds;
        while now < end - 1e-6 {
            now += tick;
            let arms = traffic.tick(*weight, tick);
            for (rule, single) in rules.iter_mut().zip(&mut all) {
                if single.failed_at.is_none() {
                    single.bad += arms.canary.bad;
                    if rule.tick(&arms, tick) {
                        single.failed_at = Some(now);
                    }
                }
            }
        }
    }
    for (rule, single) in rules.iter().zip(&mut all) {
        single.proven = rule.proven();
    }
    Some(all)
}

/// Mean canary requests until FAIL with one canary request per look, and the limit.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Limit {
    pub(crate) canary_success: f64,
    pub(crate) weight: f64,
    pub(crate) mean_requests: f64,
    #[serde(rename = "limit")]
    pub(crate) least: f64,
    pub(crate) ratio: f64,
}

/// Stable at 99.9 %, δ = 0.2 points, φ = 1, one step. With `other` = (1−w)/w calls of stable for each of the canary's,
/// q is the weight exactly.
pub(crate) fn requests_to_fail(bad: f64, other: u64, repetitions: u64, seed: u64) -> Option<Limit> {
    let (stable, alpha) = (0.001, 0.01);
    let null = Null::relative(1.0, 0.002).ok()?;
    let weight = 1.0 / (1.0 + count(other));
    let rules = FailRules::capped(alpha, 1, 1.0);
    let one = |i: u64| {
        let world = World {
            rps: 0.0,
            canary: bad,
            stable,
            bursts: Bursts::None,
        };
        let mut traffic = Traffic::new(world, seed.wrapping_mul(7_919).wrapping_add(i));
        let mut process = FailProcess::default();
        while process.ticks() < 1_000_000 {
            let arms = traffic.exactly(1, other);
            process.tick(&arms, null, 0, &rules);
            if process.ln_m(1) >= ln_threshold(alpha) {
                break;
            }
        }
        process.ticks()
    };
    let requests: u64 = (0..repetitions).into_par_iter().map(one).sum();
    let mean_requests = count(requests) / count(repetitions);
    let least = Forecast::new(Towards::Fail, null, bad, stable, weight, alpha)?.limit;
    Some(Limit {
        canary_success: 1.0 - bad,
        weight,
        mean_requests,
        least,
        ratio: mean_requests / least,
    })
}
