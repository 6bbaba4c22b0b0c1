//! Which cells are simulated. Must not know what happens in one.

use crate::bursts::{self, Study};
use crate::cells::{Limit, Plan, compare, four_steps, requests_to_fail};
use crate::low;
use crate::report::{Cell, Report};
use crate::world::{Bursts, World};

const HOUR: f64 = 3600.0;
const SUCCESS: [f64; 3] = [0.05, 0.01, 0.001];
const RPS: [f64; 3] = [10.0, 100.0, 1_000.0];

pub(crate) fn simulate(repetitions: u64) -> Report {
    Report {
        repetitions,
        baseline_seconds: crate::cells::BASELINE_SECONDS,
        false_rollbacks: false_rollbacks(repetitions),
        limits: limits(repetitions),
        bad_served: bad_served(repetitions),
        detection: detection(repetitions),
        long: long(repetitions),
        false_passes: false_passes(repetitions),
        bursts: bursts(repetitions),
        low_traffic: low::all(repetitions),
    }
}

/// Share of failing calls by requests a second.
fn rates(bad: [f64; 3]) -> impl Iterator<Item = (f64, f64)> {
    bad.into_iter().flat_map(|bad| RPS.map(|rps| (bad, rps)))
}

fn independent(rps: f64, canary: f64, stable: f64) -> World {
    World {
        rps,
        canary,
        stable,
        bursts: Bursts::None,
    }
}

fn identical(rps: f64, bad: f64, bursts: Bursts) -> World {
    World {
        rps,
        canary: bad,
        stable: bad,
        bursts,
    }
}

fn cells(
    worlds: impl Iterator<Item = World>,
    plan: &Plan,
    (tick, pause): (f64, f64),
    repetitions: u64,
    first_seed: u64,
) -> Vec<Cell> {
    let cell = |(world, seed)| Cell::new(world, tick, pause, compare(world, plan, tick, repetitions, seed));
    worlds.zip(first_seed..).map(cell).collect()
}

fn false_rollbacks(repetitions: u64) -> Vec<Cell> {
    let mut all = Vec::new();
    // The pause of 8 hours is what takes the time; the default tick is enough for it.
    for (tick, pause) in [(15.0, 0.0), (20.0, 0.0), (20.0, 8.0)] {
        for bursts in [Bursts::None, Bursts::Runs] {
            let worlds = rates(SUCCESS).map(|(bad, rps)| identical(rps, bad, bursts));
            let seed = 1 + u64::try_from(all.len()).unwrap_or(0);
            all.extend(cells(
                worlds,
                &four_steps(pause * HOUR),
                (tick, pause),
                repetitions,
                seed,
            ));
        }
    }
    all
}

fn limits(repetitions: u64) -> Vec<Limit> {
    let grid = [0.01, 0.05, 0.10]
        .into_iter()
        .flat_map(|bad| [19, 9, 3, 1].map(|other| (bad, other)));
    grid.zip(1_000..)
        .filter_map(|((bad, other), seed)| requests_to_fail(bad, other, repetitions.max(400), seed))
        .collect()
}

/// A canary at 95 % with 10 % of the calls from the start, one step.
fn bad_served(repetitions: u64) -> Vec<Cell> {
    let plan = vec![(0.10, 0.5 * HOUR)];
    let mut all = Vec::new();
    for (tick, seed) in [(15.0, 2_000), (20.0, 2_100)] {
        let worlds = RPS.map(|rps| independent(rps, 0.05, 0.001)).into_iter();
        all.extend(cells(worlds, &plan, (tick, 0.0), repetitions, seed));
    }
    all
}

/// Bad canaries over the four steps.
fn detection(repetitions: u64) -> Vec<Cell> {
    let worlds = rates([0.006, 0.01, 0.05]).map(|(bad, rps)| independent(rps, bad, 0.001));
    cells(worlds, &four_steps(0.0), (20.0, 0.0), repetitions, 3_000)
}

/// Three hours at 10 %: what Kayenta asks for. Good ones and bad ones.
fn long(repetitions: u64) -> Vec<Cell> {
    let good = rates(SUCCESS).map(|(bad, rps)| identical(rps, bad, Bursts::None));
    let bad = rates([0.006, 0.01, 0.05]).map(|(bad, rps)| independent(rps, bad, 0.001));
    cells(
        good.chain(bad),
        &vec![(0.10, 3.0 * HOUR)],
        (20.0, 0.0),
        repetitions,
        5_000,
    )
}

/// Canaries that are worse by exactly the margin of half a point: each step that is proven is so falsely.
fn false_passes(repetitions: u64) -> Vec<Cell> {
    let mut all = Vec::new();
    for (bursts, seed) in [(Bursts::None, 4_000), (Bursts::Runs, 4_100)] {
        let worlds = rates(SUCCESS).map(|(bad, rps)| World {
            canary: bad + 0.005,
            ..identical(rps, bad, bursts)
        });
        all.extend(cells(worlds, &four_steps(0.0), (20.0, 0.0), repetitions, seed));
    }
    all
}

/// Runs are the hardest kind, and the pause the hardest plan: these with more lengths of the baseline.
fn bursts(repetitions: u64) -> Vec<Study> {
    let kinds: [(Bursts, &[u32]); 4] = [
        (Bursts::Runs, &[10, 60, 240, 720]),
        (Bursts::RunsInTick, &[60, 240]),
        (Bursts::Clusters, &[60, 240]),
        (Bursts::Tens, &[60, 240]),
    ];
    let mut all = Vec::new();
    for (kind, lengths) in kinds {
        for (bad, rps) in [(0.05, 10.0), (0.01, 10.0), (0.001, 10.0), (0.001, 100.0)] {
            all.extend(lengths.iter().map(|minutes| (identical(rps, bad, kind), 0.0, *minutes)));
        }
    }
    let hardest = identical(10.0, 0.001, Bursts::Runs);
    all.extend([10, 60, 120, 240, 720].map(|minutes| (hardest, 8.0, minutes)));
    all.into_iter()
        .zip(9_000..)
        .map(|((world, pause, minutes), seed)| bursts::study(world, pause, minutes, repetitions, seed))
        .collect()
}
