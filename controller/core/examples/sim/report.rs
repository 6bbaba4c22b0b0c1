//! The report: as JSON, as markdown tables, and against the bars. Must not know how a figure came about.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::cells::{Limit, Outcome, RULES};
use crate::world::{Bursts, World};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    pub(crate) repetitions: u64,
    pub(crate) false_rollbacks: Vec<Cell>,
    pub(crate) limits: Vec<Limit>,
    pub(crate) bad_served: Vec<BadServed>,
    pub(crate) detection: Vec<Cell>,
    pub(crate) false_passes: Vec<Cell>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Cell {
    canary_success: f64,
    stable_success: f64,
    rps: f64,
    bursts: Bursts,
    tick_seconds: f64,
    pause_hours: f64,
    outcomes: Vec<Outcome>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BadServed {
    #[serde(flatten)]
    pub(crate) cell: Cell,
    /// Bad calls in one tick that is dropped, on average; not in the outcomes.
    pub(crate) in_dropped_tick: f64,
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

    fn of(&self, rule: &str) -> Option<&Outcome> {
        self.outcomes.iter().find(|outcome| outcome.rule == rule)
    }

    fn name(&self) -> String {
        let bursts = if self.bursts != Bursts::None { ", bursts" } else { "" };
        let pause = if self.pause_hours > 0.0 { ", 8 h pause" } else { "" };
        let success = 100.0 * self.canary_success;
        format!(
            "{success:.1} %, {} rps, {} s{bursts}{pause}",
            self.rps, self.tick_seconds
        )
    }
}

impl Report {
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, serde_json::to_string_pretty(self)? + "\n")
    }

    /// The bars that are not met.
    pub(crate) fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        for cell in &self.false_rollbacks {
            for outcome in cell.outcomes.iter().filter(|o| o.rule.starts_with("Serin")) {
                if outcome.rolled_back > 0.01 {
                    let share = 100.0 * outcome.rolled_back;
                    missed.push(format!(
                        "{share:.2} % false rollbacks at {} ({})",
                        cell.name(),
                        outcome.rule
                    ));
                }
            }
        }
        for limit in self.limits.iter().filter(|limit| limit.ratio > 1.8) {
            missed.push(format!("{:.2} times the limit: {limit:?}", limit.ratio));
        }
        for cell in &self.false_passes {
            for outcome in cell.outcomes.iter().filter(|o| o.rule.starts_with("Serin")) {
                let share = outcome.steps_proven / 4.0;
                if share > 0.05 {
                    let share = 100.0 * share;
                    missed.push(format!(
                        "{share:.1} % of steps passed falsely at {} ({})",
                        cell.name(),
                        outcome.rule
                    ));
                }
            }
        }
        let bar = self.bad_served.iter().map(|served| &served.cell);
        for cell in bar.filter(|cell| matches!((cell.rps, cell.tick_seconds), (100.0, 15.0))) {
            let served = |rule| cell.of(rule).map_or(f64::NAN, |outcome| outcome.bad_served);
            let ratio = served("Flagger, threshold 5") / served("Serin");
            if ratio.is_nan() || ratio < 10.0 {
                missed.push(format!("{ratio:.1} times fewer bad calls served than Flagger, not 10"));
            }
        }
        missed
    }

    pub(crate) fn print(&self) {
        println!(
            "\n## False rollbacks with identical arms, % of {} rollouts\n",
            self.repetitions
        );
        table(&self.false_rollbacks, |outcome| {
            format!("{:.2}", 100.0 * outcome.rolled_back)
        });
        println!("\n## Canary requests until FAIL / the limit (stable 99.9 %, one request per look)\n");
        println!("| canary | weight | requests | limit | ratio |\n| --- | --- | --- | --- | --- |");
        for limit in &self.limits {
            println!(
                "| {:.0} % | {:.0} % | {:.0} | {:.0} | {:.2} |",
                100.0 * limit.canary_success,
                100.0 * limit.weight,
                limit.mean_requests,
                limit.least,
                limit.ratio
            );
        }
        println!("\n## Bad calls served until the rollback: 95 % canary, weight 10 %, one step\n");
        table(self.bad_served.iter().map(|served| &served.cell), |outcome| {
            format!("{:.1}", outcome.bad_served)
        });
        println!("\nNot counted: calls in a tick that is dropped as it straddles the change of weight, at most");
        for served in &self.bad_served {
            println!("- {}: {:.1} more", served.cell.name(), served.in_dropped_tick);
        }
        println!("\n## Bad canaries (stable 99.9 %): % rolled back in 30 minutes; after minutes; bad calls served\n");
        table(&self.detection, |outcome| {
            let after = if outcome.rolled_back > 0.0 {
                format!("{:.1}", outcome.seconds / 60.0)
            } else {
                "never".to_owned()
            };
            format!("{:.0}; {after}; {:.0}", 100.0 * outcome.rolled_back, outcome.bad_served)
        });
        println!("\n## Steps of four that Serin had proven when they ended, identical arms\n");
        println!("| cell | proven | with the objective |\n| --- | --- | --- |");
        for cell in &self.false_rollbacks {
            let proven = |rule: usize| cell.outcomes.get(rule).map_or(0.0, |outcome| outcome.steps_proven);
            println!("| {} | {:.2} | {:.2} |", cell.name(), proven(0), proven(1));
        }
        println!("\n## % of steps that Serin passed falsely: canary worse than stable by exactly half a point\n");
        println!("| cell | passed falsely |\n| --- | --- |");
        for cell in &self.false_passes {
            let falsely = cell.outcomes.first().map_or(0.0, |outcome| outcome.steps_proven / 4.0);
            println!("| {} | {:.2} |", cell.name(), 100.0 * falsely);
        }
        println!();
    }
}

fn table<'a>(cells: impl IntoIterator<Item = &'a Cell>, figure: impl Fn(&Outcome) -> String) {
    println!(
        "| cell | {} |\n|{}",
        RULES.join(" | "),
        " --- |".repeat(1 + RULES.len())
    );
    for cell in cells {
        let figures: Vec<String> = cell.outcomes.iter().map(&figure).collect();
        println!("| {} | {} |", cell.name(), figures.join(" | "));
    }
}
