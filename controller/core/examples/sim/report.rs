//! The report: what is written as JSON, and the bars. Must not know how a figure came about, or how it is printed.

use serde::Serialize;

use crate::bursts::Study;
use crate::cells::{DROPPED, FLAGGER, Limit, Outcome, SERIN};
use crate::low::Low;
use crate::world::{Bursts, World};

/// The bars.
const FALSE_ROLLBACKS: f64 = 0.01;
const FALSE_PASSES: f64 = 0.05;
const TIMES_THE_LIMIT: f64 = 1.8;
const FEWER_THAN_FLAGGER: f64 = 10.0;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    pub(crate) repetitions: u64,
    /// How long stable's pods were watched before each rollout, but for the study of bursts.
    pub(crate) baseline_seconds: f64,
    pub(crate) false_rollbacks: Vec<Cell>,
    pub(crate) limits: Vec<Limit>,
    pub(crate) bad_served: Vec<Cell>,
    pub(crate) detection: Vec<Cell>,
    pub(crate) long: Vec<Cell>,
    pub(crate) false_passes: Vec<Cell>,
    pub(crate) bursts: Vec<Study>,
    pub(crate) low_traffic: Vec<Low>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Cell {
    pub(crate) canary_success: f64,
    pub(crate) stable_success: f64,
    pub(crate) rps: f64,
    pub(crate) bursts: Bursts,
    pub(crate) tick_seconds: f64,
    pub(crate) pause_hours: f64,
    pub(crate) outcomes: Vec<Outcome>,
}

impl Cell {
    pub(crate) fn new(world: World, tick_seconds: f64, pause_hours: f64, outcomes: Vec<Outcome>) -> Self {
        Self {
            canary_success: 1.0 - world.canary,
            stable_success: 1.0 - world.stable,
            rps: world.rps,
            bursts: world.bursts,
            tick_seconds,
            pause_hours,
            outcomes,
        }
    }

    pub(crate) fn is_identical(&self) -> bool {
        (self.canary_success - self.stable_success).abs() < 1e-9
    }

    pub(crate) fn name(&self) -> String {
        let bursts = if self.bursts == Bursts::None { "" } else { ", bursts" };
        let pause = if self.pause_hours > 0.0 { ", 8 h pause" } else { "" };
        let success = 100.0 * self.canary_success;
        let like = if self.is_identical() { " both" } else { "" };
        format!(
            "{success:.1} %{like}, {} rps, {} s{bursts}{pause}",
            self.rps, self.tick_seconds
        )
    }

    /// How many times fewer bad calls were served than with Flagger.
    pub(crate) fn fewer_than_flagger(&self, rule: &str) -> f64 {
        let served = |rule| {
            let found = self.outcomes.iter().find(|outcome| outcome.rule == rule);
            found.map_or(f64::NAN, |outcome| outcome.bad_served)
        };
        served(FLAGGER) / served(rule)
    }

    fn of_serin(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|outcome| outcome.rule.starts_with(SERIN))
    }
}

impl Report {
    /// The bars that are not met.
    pub(crate) fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        if self.false_rollbacks.is_empty() {
            missed.push("no cells of false rollbacks".to_owned());
        }
        let long = self.long.iter().filter(|cell| cell.is_identical());
        for cell in self.false_rollbacks.iter().chain(long) {
            let false_ones = cell.of_serin().filter(|outcome| outcome.rolled_back > FALSE_ROLLBACKS);
            missed.extend(false_ones.map(|Outcome { rule, rolled_back, .. }| {
                let share = 100.0 * rolled_back;
                format!("{share:.2} % false rollbacks at {} ({rule})", cell.name())
            }));
        }
        for study in self
            .bursts
            .iter()
            .filter(|study| f64::from(study.baseline_minutes) * 60.0 >= self.baseline_seconds)
        {
            let [_, _, frozen] = &study.factors;
            if frozen.rolled_back > FALSE_ROLLBACKS {
                missed.push(format!("too many false rollbacks with bursts: {study:?}"));
            }
        }
        let far = self.limits.iter().filter(|limit| limit.ratio > TIMES_THE_LIMIT);
        missed.extend(far.map(|limit| format!("{:.2} times the limit: {limit:?}", limit.ratio)));
        if self.limits.len() != 12 {
            missed.push(format!("{} cells against the limit, not 12", self.limits.len()));
        }
        for cell in &self.false_passes {
            let false_ones = cell.of_serin().filter(|o| o.steps_proven / 4.0 > FALSE_PASSES);
            missed.extend(false_ones.map(|Outcome { rule, steps_proven, .. }| {
                let share = 25.0 * steps_proven;
                format!("{share:.1} % of steps passed falsely at {} ({rule})", cell.name())
            }));
        }
        let mut bar = self.bad_served.iter();
        let cell = bar.find(|cell| matches!((cell.rps, cell.tick_seconds), (100.0, 15.0)));
        let ratio = cell.map_or(f64::NAN, |cell| cell.fewer_than_flagger(SERIN));
        if ratio.is_nan() || ratio < FEWER_THAN_FLAGGER {
            missed.push(format!("{ratio:.1} times fewer bad calls served than Flagger, not 10"));
        }
        missed
    }

    /// The cell of that bar: the ratio without dropped ticks, and with them, by tick.
    pub(crate) fn against_flagger(&self) -> impl Iterator<Item = (&Cell, f64, f64)> {
        let ratios = |cell: &Cell| (cell.fewer_than_flagger(SERIN), cell.fewer_than_flagger(DROPPED));
        self.bad_served.iter().map(move |cell| {
            let (without, with) = ratios(cell);
            (cell, without, with)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bursts::Factor;

    fn outcome(rule: &str, rolled_back: f64, bad_served: f64, steps_proven: f64) -> Outcome {
        Outcome {
            rule: rule.to_owned(),
            rolled_back,
            seconds: 0.0,
            bad_served,
            steps_proven,
        }
    }

    fn cell(canary: f64, outcomes: Vec<Outcome>) -> Cell {
        let world = World {
            rps: 100.0,
            canary,
            stable: 0.001,
            bursts: Bursts::None,
        };
        Cell::new(world, 15.0, 0.0, outcomes)
    }

    /// Every figure exactly at its bar.
    fn report() -> Report {
        let good = || {
            cell(
                0.001,
                vec![outcome(SERIN, 0.01, 0.0, 0.0), outcome(FLAGGER, 1.0, 0.0, 0.0)],
            )
        };
        let limit = Limit {
            canary_success: 0.95,
            weight: 0.1,
            mean_requests: 18.0,
            least: 10.0,
            ratio: 1.8,
        };
        let factor = |rolled_back| Factor { phi: 1.0, rolled_back };
        Report {
            repetitions: 1_000,
            baseline_seconds: 14_400.0,
            false_rollbacks: vec![good()],
            limits: vec![limit; 12],
            bad_served: vec![cell(
                0.05,
                vec![outcome(SERIN, 1.0, 15.0, 0.0), outcome(FLAGGER, 1.0, 150.0, 0.0)],
            )],
            detection: Vec::new(),
            long: vec![good()],
            false_passes: vec![cell(0.006, vec![outcome(SERIN, 0.0, 0.0, 0.2)])],
            bursts: vec![Study {
                bursts: Bursts::Runs,
                success: 0.99,
                rps: 10.0,
                pause_hours: 8.0,
                baseline_minutes: 240,
                baseline_failures: 144.0,
                factors: [factor(0.3), factor(0.05), factor(0.01)],
            }],
            low_traffic: Vec::new(),
        }
    }

    #[test]
    fn what_is_exactly_at_its_bar_meets_it() {
        assert_eq!(report().missed(), Vec::<String>::new());
    }

    #[test]
    fn each_bar_that_is_missed_is_named() {
        type Spoil = fn(&mut Report);
        let spoils: [(&str, Spoil); 9] = [
            ("1.10 % false rollbacks at 99.9 % both, 100 rps", |r| {
                r.false_rollbacks[0].outcomes[0].rolled_back = 0.011;
            }),
            ("1.10 % false rollbacks", |r| r.long[0].outcomes[0].rolled_back = 0.011),
            ("no cells of false rollbacks", |r| r.false_rollbacks.clear()),
            ("with bursts", |r| r.bursts[0].factors[2].rolled_back = 0.011),
            ("1.81 times the limit", |r| r.limits[11].ratio = 1.81),
            ("11 cells against the limit", |r| r.limits.truncate(11)),
            ("% of steps passed falsely", |r| {
                r.false_passes[0].outcomes[0].steps_proven = 0.21;
            }),
            ("9.9 times fewer bad calls", |r| {
                r.bad_served[0].outcomes[1].bad_served = 149.0;
            }),
            ("NaN times fewer bad calls", |r| r.bad_served.clear()),
        ];
        for (says, spoil) in spoils {
            let mut report = report();
            spoil(&mut report);
            let missed = report.missed();
            assert!(missed.len() == 1 && missed[0].contains(says), "{says}: {missed:?}");
        }
    }
}
