//! A picture: the evidence over one rollout of a good and of a bad canary. Must not know the tables.

use std::fmt::Write;

use serin_core::analysis::sequential::StepInfo;

use crate::cells::four_steps;
use crate::rules::{Rule, Serin};
use crate::world::{Bursts, Traffic, World};

const TICK: f64 = 20.0;
const MINUTES: f64 = 30.0;
const SEED: u64 = 1;
const LEFT: f64 = 76.0;
const WIDTH: f64 = 660.0;
const HEIGHT: f64 = 190.0;
const STYLE: &str = "
.page { fill: #ffffff } .text { fill: #1f2328 } .dim { fill: #59636e } .grid { stroke: #d1d9e0 } .level { stroke: #1f2328 }
.good { stroke: #0969da } .bad { stroke: #bc4c00 } .on-good { fill: #0969da } .on-bad { fill: #bc4c00 }
@media (prefers-color-scheme: dark) {
.page { fill: #0d1117 } .text { fill: #f0f6fc } .dim { fill: #9198a1 } .grid { stroke: #3d444d } .level { stroke: #f0f6fc }
.good { stroke: #58a6ff } .bad { stroke: #f0883e } .on-good { fill: #58a6ff } .on-bad { fill: #f0883e }
}
text { font: 13px system-ui, sans-serif } .curve { fill: none; stroke-width: 2; stroke-linejoin: round }
";

/// One rollout, tick by tick: minutes, and the evidence as powers of ten.
struct History {
    against: Vec<(f64, f64)>,
    /// A curve a step: each begins anew.
    proving: Vec<Vec<(f64, f64)>>,
    requests: u64,
    bad: u64,
    failed: bool,
}

/// One of the two plots: its top, and the powers of ten at its edges.
struct Panel {
    top: f64,
    low: f64,
    high: f64,
}

pub(crate) fn draw() -> Option<String> {
    let (good, bad) = (history(0.001)?, history(0.01)?);
    let fail = Panel {
        top: 58.0,
        low: -3.0,
        high: 3.0,
    };
    let pass = Panel {
        top: 318.0,
        low: -2.0,
        high: 4.0,
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 780 560\" role=\"img\">\n\
         <title>Evidence over one good and one bad canary</title>\n<style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"780\" height=\"560\"/>\n"
    );
    fail.frame(
        &mut svg,
        "Evidence towards FAIL, over the whole rollout",
        (2.0, "1/α = 100: FAIL"),
    );
    pass.frame(
        &mut svg,
        "Evidence towards PASS, anew in each step",
        (20f64.log10(), "1/β = 20: PASS"),
    );
    fail.curve(&mut svg, "good", &good.against);
    fail.curve(&mut svg, "bad", &bad.against);
    for step in &good.proving {
        pass.curve(&mut svg, "good", step);
    }
    for step in &bad.proving {
        pass.curve(&mut svg, "bad", step);
    }
    if let (Some(&(minutes, power)), true) = (bad.against.last(), bad.failed) {
        let (x, y) = (x(minutes), fail.y(power));
        let _ = writeln!(svg, "<circle class=\"on-bad\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>");
        let said = format!(
            "99 % canary: FAIL after {minutes:.1} min, {} requests, {} bad",
            bad.requests, bad.bad
        );
        text(&mut svg, "on-bad", (x + 10.0, y - 10.0), "start", &said);
    }
    if let Some(&(minutes, power)) = good.against.last() {
        let said = format!("99.9 % canary, like stable: {} bad of {}", good.bad, good.requests);
        text(&mut svg, "on-good", (x(minutes), fail.y(power) + 22.0), "end", &said);
    }
    for minutes in [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0] {
        text(
            &mut svg,
            "dim",
            (x(minutes), pass.top + HEIGHT + 20.0),
            "middle",
            &format!("{minutes}"),
        );
    }
    let foot = "minutes; 100 requests a second, stable at 99.9 %, ticks of 20 s";
    text(
        &mut svg,
        "dim",
        (LEFT + WIDTH / 2.0, pass.top + HEIGHT + 40.0),
        "middle",
        foot,
    );
    svg += "</svg>\n";
    Some(svg)
}

fn history(canary: f64) -> Option<History> {
    let world = World {
        rps: 100.0,
        canary,
        stable: 0.001,
        bursts: Bursts::None,
    };
    let plan = four_steps(0.0);
    let mut traffic = Traffic::new(world, SEED);
    let (estimate, calls) = traffic.baseline(720, TICK);
    let mut rule = Serin::new(u32::try_from(plan.len()).ok()?, (estimate.phi(), calls), false)?;
    let mut history = History {
        against: vec![(0.0, 0.0)],
        proving: Vec::new(),
        requests: 0,
        bad: 0,
        failed: false,
    };
    let (mut ticks, mut end) = (0u32, 0.0);
    for ((weight, seconds), index) in plan.iter().zip(0..) {
        rule.begin_step(StepInfo {
            index,
            stable_share: 1.0 - weight,
        });
        end += seconds;
        let mut proving = vec![(f64::from(ticks) * TICK / 60.0, 0.0)];
        while !history.failed && f64::from(ticks) * TICK < end - 1e-6 {
            ticks += 1;
            let arms = traffic.tick(*weight, TICK);
            history.requests += arms.canary.total;
            history.bad += arms.canary.bad;
            history.failed = rule.tick(&arms, TICK);
            let minutes = f64::from(ticks) * TICK / 60.0;
            let (ln_m, ln_l) = rule.evidence();
            history.against.push((minutes, ln_m / std::f64::consts::LN_10));
            proving.push((minutes, ln_l / std::f64::consts::LN_10));
        }
        if proving.len() > 1 {
            history.proving.push(proving);
        }
    }
    Some(history)
}

impl Panel {
    fn y(&self, power: f64) -> f64 {
        let share = (power.clamp(self.low, self.high) - self.low) / (self.high - self.low);
        self.top + HEIGHT * (1.0 - share)
    }

    fn frame(&self, svg: &mut String, title: &str, (level, said): (f64, &str)) {
        text(svg, "text", (LEFT, self.top - 26.0), "start", title);
        let mut power = self.low;
        while power <= self.high {
            let y = self.y(power);
            line(svg, "grid", (LEFT, y), (LEFT + WIDTH, y), "none");
            text(
                svg,
                "dim",
                (LEFT - 8.0, y + 4.0),
                "end",
                &format!("{}", 10f64.powf(power)),
            );
            power += 1.0;
        }
        let mut from = 0.0;
        for (weight, seconds) in four_steps(0.0) {
            line(svg, "grid", (x(from), self.top), (x(from), self.top + HEIGHT), "none");
            let middle = from + seconds / 120.0;
            text(
                svg,
                "dim",
                (x(middle), self.top - 6.0),
                "middle",
                &format!("{:.0} %", 100.0 * weight),
            );
            from += seconds / 60.0;
        }
        let y = self.y(level);
        line(svg, "level", (LEFT, y), (LEFT + WIDTH, y), "6 4");
        text(svg, "text", (LEFT + WIDTH, y - 6.0), "end", said);
    }

    fn curve(&self, svg: &mut String, class: &str, points: &[(f64, f64)]) {
        let point = |&(minutes, power): &(f64, f64)| format!("{:.1},{:.1}", x(minutes), self.y(power));
        let points: Vec<String> = points.iter().map(point).collect();
        let _ = writeln!(
            svg,
            "<polyline class=\"curve {class}\" points=\"{}\"/>",
            points.join(" ")
        );
    }
}

fn x(minutes: f64) -> f64 {
    LEFT + WIDTH * minutes / MINUTES
}

fn text(svg: &mut String, class: &str, (x, y): (f64, f64), anchor: &str, said: &str) {
    let _ = writeln!(
        svg,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{said}</text>"
    );
}

fn line(svg: &mut String, class: &str, from: (f64, f64), to: (f64, f64), dashes: &str) {
    let _ = writeln!(
        svg,
        "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke-dasharray=\"{dashes}\"/>",
        from.0, from.1, to.0, to.1
    );
}
