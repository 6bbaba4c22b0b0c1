//! A replay as a picture: rates of bad calls, weights, and the evidence towards failing and passing. Pure.

use std::fmt::Write;

use jiff::{SignedDuration, Timestamp};
use serin_core::analysis::sequential::Tally;
use serin_core::rollout::replay::{End, MetricTick, PeerEnd, Replay, TickReplay, Waiting};

use super::measure::Measure;
use super::table::Shown;

const LEFT: f64 = 64.0;
const WIDTH: f64 = 700.0;
const RIGHT: f64 = LEFT + WIDTH;
const STYLE: &str = "
.page { fill: #ffffff } .text { fill: #1f2328 } .dim { fill: #59636e } .grid { stroke: #d1d9e0 } .level { stroke: #1f2328 }
.canary { stroke: #bc4c00 } .stable { stroke: #0969da } .fail { stroke: #cf222e } .pass { stroke: #1a7f37 }
.on-canary { fill: #bc4c00 } .on-stable { fill: #0969da } .on-fail { fill: #cf222e } .on-pass { fill: #1a7f37 }
.weight { fill: #0969da; fill-opacity: .14 }
@media (prefers-color-scheme: dark) {
.page { fill: #0d1117 } .text { fill: #f0f6fc } .dim { fill: #9198a1 } .grid { stroke: #3d444d } .level { stroke: #f0f6fc }
.canary { stroke: #f0883e } .stable { stroke: #58a6ff } .fail { stroke: #ff7b72 } .pass { stroke: #3fb950 }
.on-canary { fill: #f0883e } .on-stable { fill: #58a6ff } .on-fail { fill: #ff7b72 } .on-pass { fill: #3fb950 }
.weight { fill: #58a6ff; fill-opacity: .2 }
}
text { font: 13px system-ui, sans-serif } .name { font-weight: 600 } .dashed { stroke-dasharray: 5 4 } .curve { fill: none; stroke-width: 2; stroke-linejoin: round }
";

/// The picture; a replay without ticks has an empty one.
pub(super) fn draw(of: &Shown<'_>) -> String {
    let replay = of.replay;
    let axis = Axis::of(of);
    let metric = shown_metric(replay);
    let peers = of.peers.len();
    #[expect(clippy::cast_precision_loss, reason = "a handful of lines")]
    let bottom = ROWS_TOP + ROW * (peers as f64 + 1.0) + 4.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 800 {:.0}\" role=\"img\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n<rect class=\"page\" width=\"800\" height=\"{:.0}\"/>\n",
        bottom,
        escaped(&format!("Replay of {}", of.name)),
        bottom,
    );
    text(&mut svg, "text name", (LEFT, 26.0), "start", of.name);
    rates(&mut svg, &axis, of, metric);
    weights(&mut svg, &axis, replay);
    evidence(&mut svg, &axis, replay);
    axis.label(&mut svg, EVIDENCE.bottom());
    verdicts(&mut svg, &axis, of);
    svg += "</svg>\n";
    svg
}

/// One of the plots.
struct Panel {
    top: f64,
    height: f64,
    most: f64,
}

const RATES_TOP: f64 = 78.0;
const RATES_HEIGHT: f64 = 150.0;
const WEIGHTS: Panel = Panel {
    top: 268.0,
    height: 50.0,
    most: 100.0,
};
/// The first rule's line of text below the plots, and the height of one.
const ROWS_TOP: f64 = 534.0;
const ROW: f64 = 34.0;
const EVIDENCE: Panel = Panel {
    top: 358.0,
    height: 110.0,
    most: 100.0,
};

impl Panel {
    fn y(&self, value: f64) -> f64 {
        self.top + self.height * (1.0 - (value / self.most).clamp(0.0, 1.0))
    }

    fn bottom(&self) -> f64 {
        self.top + self.height
    }

    fn frame(&self, svg: &mut String, axis: &Axis, title: &str, ticks: &[(f64, String)]) {
        text(svg, "text name", (LEFT, self.top - 12.0), "start", title);
        for (value, said) in ticks {
            let y = self.y(*value);
            line(svg, "grid", (LEFT, y), (RIGHT, y));
            text(svg, "dim", (LEFT - 8.0, y + 4.0), "end", said);
        }
        for at in &axis.marks {
            let x = axis.x(*at);
            line(svg, "grid", (x, self.top), (x, self.bottom()));
        }
    }
}

/// Time from left to right.
struct Axis {
    from: Timestamp,
    to: Timestamp,
    seconds: f64,
    marks: Vec<Timestamp>,
}

impl Axis {
    fn of(of: &Shown<'_>) -> Self {
        let replay = of.replay;
        let from = replay.began;
        let ends = of.peers.iter().filter_map(|peer| match peer.end {
            PeerEnd::RolledBack { at, .. } | PeerEnd::Promoted { at } => Some(at),
            PeerEnd::Open { .. } => None,
        });
        let last = replay.ticks.last().map_or(from, |tick| tick.end);
        let to = ends.chain([last, end_at(replay).unwrap_or(from)]).max().unwrap_or(last);
        let seconds = to.duration_since(from).as_secs().max(1);
        // The first round step that makes at most seven marks.
        let rounds = [
            10, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400,
        ];
        let step = rounds
            .into_iter()
            .find(|step| seconds / step <= 7)
            .unwrap_or(seconds / 6 + 1);
        let first = from.as_second().div_euclid(step) + 1;
        let last = to.as_second().div_euclid(step);
        let marks = (first..=last).filter_map(|mark| Timestamp::from_second(mark * step).ok());
        Self {
            from,
            to,
            seconds: SignedDuration::from_secs(seconds).as_secs_f64(),
            marks: marks.collect(),
        }
    }

    fn x(&self, at: Timestamp) -> f64 {
        LEFT + WIDTH * (at.duration_since(self.from).as_secs_f64() / self.seconds).clamp(0.0, 1.0)
    }

    fn label(&self, svg: &mut String, bottom: f64) {
        for at in &self.marks {
            let said = at.strftime(if at.as_second() % 60 == 0 { "%H:%M" } else { "%H:%M:%S" });
            text(svg, "dim", (self.x(*at), bottom + 18.0), "middle", &said.to_string());
        }
        let day = self.from.strftime("%Y-%m-%d").to_string();
        text(svg, "dim", (RIGHT, bottom + 38.0), "end", &format!("time (UTC), {day}"));
    }
}

fn end_at(replay: &Replay) -> Option<Timestamp> {
    match &replay.end {
        End::RolledBack { at, .. } | End::Promoted { at } => Some(*at),
        End::Open { .. } => None,
    }
}

/// The metric that failed it, else the success rate.
fn shown_metric(replay: &Replay) -> Option<&str> {
    match &replay.end {
        End::RolledBack {
            metric: Some(metric), ..
        } => Some(metric),
        _ => None,
    }
}

/// The recorded rates, also of the time after our verdict.
fn rates(svg: &mut String, axis: &Axis, of: &Shown<'_>, metric: Option<&str>) {
    let (metric, measure) = Measure::of(metric, of.recording);
    let ticks = of
        .recording
        .ticks
        .iter()
        .filter(|(end, _)| **end > axis.from && **end <= axis.to);
    let codes = &of.replay.failure_codes;
    let all: Vec<_> = ticks
        .map(|(end, tick)| {
            (
                *end,
                measure.tally(&tick.canary, codes),
                measure.tally(&tick.stable, codes),
            )
        })
        .collect();
    let highest = all
        .iter()
        .flat_map(|(_, canary, stable)| [canary.rate(), stable.rate()])
        .fold(0.001, f64::max);
    // The first round share above all of them.
    let rounds = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5];
    let most = rounds.into_iter().find(|round| *round >= highest).unwrap_or(1.0);
    let panel = Panel {
        top: RATES_TOP,
        height: RATES_HEIGHT,
        most,
    };
    let marks = [0.0, 0.5, 1.0].map(|part| (part * most, format!("{} %", trimmed(100.0 * part * most))));
    panel.frame(svg, axis, &format!("Bad calls by tick ({metric})"), &marks);
    legend(svg, (RIGHT - 170.0, RATES_TOP), "canary", "canary");
    legend(svg, (RIGHT - 76.0, RATES_TOP), "stable", "stable");
    let arm = |of: fn(&(Timestamp, Tally, Tally)) -> Tally| {
        let points = all.iter().map(|tick| {
            let tally = of(tick);
            (tally.total > 0).then(|| (axis.x(tick.0), panel.y(tally.rate())))
        });
        points.collect::<Vec<_>>()
    };
    curves(svg, "stable", &arm(|tick| tick.2));
    curves(svg, "canary", &arm(|tick| tick.1));
}

fn legend(svg: &mut String, (x, top): (f64, f64), class: &str, said: &str) {
    let y = top - 16.0;
    line(svg, &format!("curve {class}"), (x, y), (x + 22.0, y));
    text(svg, "dim", (x + 28.0, y + 4.0), "start", said);
}

fn weights(svg: &mut String, axis: &Axis, replay: &Replay) {
    let marks = [0.0, 50.0, 100.0].map(|weight| (weight, format!("{weight:.0} %")));
    WEIGHTS.frame(svg, axis, "Weight of the canary", &marks);
    for step in &replay.steps {
        let last = replay.ticks.last().map_or(step.from, |tick| tick.end);
        let (from, to) = (axis.x(step.from), axis.x(step.until.unwrap_or(last)));
        let y = WEIGHTS.y(f64::from(step.weight));
        let _ = writeln!(
            svg,
            "<rect class=\"weight\" x=\"{from:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
            to - from,
            WEIGHTS.bottom() - y
        );
        line(svg, "curve stable", (from, y), (to, y));
    }
}

fn evidence(svg: &mut String, axis: &Axis, replay: &Replay) {
    let marks = [0.0, 50.0, 100.0].map(|part| (part, format!("{part:.0} %")));
    EVIDENCE.frame(svg, axis, "Evidence, as a part of what a verdict takes", &marks);
    legend(svg, (RIGHT - 262.0, EVIDENCE.top), "fail", "towards FAIL");
    legend(svg, (RIGHT - 122.0, EVIDENCE.top), "pass", "towards PASS");
    let y = EVIDENCE.y(100.0);
    line(svg, "level", (LEFT, y), (RIGHT, y));
    let judged = |tick: &TickReplay| !tick.metrics.is_empty();
    let of =
        |tick: &TickReplay, part: fn(&[MetricTick]) -> Option<u8>| judged(tick).then(|| part(&tick.metrics)).flatten();
    let mut draw = |class: &str, part: fn(&[MetricTick]) -> Option<u8>, breaks: bool| {
        let mut points = Vec::new();
        let mut weight = None;
        for tick in &replay.ticks {
            let value = of(tick, part);
            // Passing begins anew in each step, and ticks of a change are not judged.
            if breaks && weight.is_some_and(|weight| weight != tick.weight) {
                points.push(None);
            }
            weight = Some(tick.weight);
            if let Some(value) = value {
                points.push(Some((axis.x(tick.end), EVIDENCE.y(f64::from(value)))));
            }
        }
        curves(svg, class, &points);
    };
    draw("pass", towards_pass, true);
    draw("fail", towards_fail, false);
}

/// The metric that has come furthest.
fn towards_fail(metrics: &[MetricTick]) -> Option<u8> {
    let judged = metrics.iter().filter(|of| !of.dry_run);
    judged.map(|of| of.towards_fail).max()
}

/// All have to pass.
fn towards_pass(metrics: &[MetricTick]) -> Option<u8> {
    let judged = metrics.iter().filter(|of| !of.dry_run);
    judged.map(|of| of.towards_pass).min()
}

/// A row for each rule: what it did, and a bar up to then on the same axis.
fn verdicts(svg: &mut String, axis: &Axis, of: &Shown<'_>) {
    let mut y = ROWS_TOP;
    let mut row = |svg: &mut String, rule: &str, outcome: &str, class: &str, at: Option<Timestamp>, served: &str| {
        text(svg, "text", (LEFT, y), "start", &format!("{rule}: {outcome}; {served}"));
        let (x, bar) = (at.map_or(RIGHT, |at| axis.x(at)), y + 9.0);
        line(svg, &format!("curve {class}"), (LEFT, bar), (x, bar));
        if at.is_some() {
            let _ = writeln!(
                svg,
                "<circle class=\"on-{class}\" cx=\"{x:.1}\" cy=\"{bar:.1}\" r=\"4\"/>"
            );
        }
        y += ROW;
    };
    if let Some(at) = end_at(of.replay) {
        let x = axis.x(at);
        let rates = (RATES_TOP, RATES_TOP + RATES_HEIGHT);
        for (top, bottom) in [
            rates,
            (WEIGHTS.top, WEIGHTS.bottom()),
            (EVIDENCE.top, EVIDENCE.bottom()),
        ] {
            line(svg, "level dashed", (x, top), (x, bottom));
        }
    }
    let time = |at: Timestamp| at.strftime("%H:%M:%S").to_string();
    let served = super::table::bad(&of.replay.served, &of.bounds_ms);
    let (outcome, class, at) = match &of.replay.end {
        End::RolledBack { at, weight, .. } => (format!("rolled back at {}, {weight} %", time(*at)), "fail", Some(*at)),
        End::Promoted { at } => (format!("promoted at {}", time(*at)), "pass", Some(*at)),
        End::Open { weight, waiting } => {
            let waits = match waiting {
                Waiting::Step => "not done",
                Waiting::Inconclusive | Waiting::Sight | Waiting::Person => "paused",
            };
            (format!("{waits} at {weight} %"), "grid", None)
        }
    };
    row(svg, "Serin", &outcome, class, at, &served);
    for peer in of.peers {
        let served = super::table::bad(&peer.served, &of.bounds_ms);
        let (outcome, class, at) = match peer.end {
            PeerEnd::RolledBack { at, weight } => {
                (format!("rolled back at {}, {weight} %", time(at)), "fail", Some(at))
            }
            PeerEnd::Promoted { at } => (format!("promoted at {}", time(at)), "pass", Some(at)),
            PeerEnd::Open { weight } => (format!("not done at {weight} %"), "grid", None),
        };
        row(svg, &peer.rule, &outcome, class, at, &served);
    }
}

/// Points with gaps.
fn curves(svg: &mut String, class: &str, points: &[Option<(f64, f64)>]) {
    for part in points.split(Option::is_none) {
        let points: Vec<String> = part.iter().flatten().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        match points.as_slice() {
            [] => {}
            [one] => {
                let (x, y) = one.split_once(',').unwrap_or_default();
                let _ = writeln!(svg, "<circle class=\"on-{class}\" cx=\"{x}\" cy=\"{y}\" r=\"2\"/>");
            }
            many => {
                let _ = writeln!(svg, "<polyline class=\"curve {class}\" points=\"{}\"/>", many.join(" "));
            }
        }
    }
}

/// Without zeros at the end.
fn trimmed(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn text(svg: &mut String, class: &str, (x, y): (f64, f64), anchor: &str, said: &str) {
    let said = escaped(said);
    let _ = writeln!(
        svg,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{said}</text>"
    );
}

fn line(svg: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        svg,
        "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
