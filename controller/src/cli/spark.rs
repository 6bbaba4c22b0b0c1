//! Ticks as lines of bars: how many calls each arm answered, how many of them failed, how many were slow; and readings of percentiles.
//! Pure.

use std::fmt;

use crate::api::{LatencyStatus, PercentilesStatus, SampleStatus, SamplesStatus, TickStatus};

/// One arm's line of one figure.
pub(super) struct Line {
    /// What is drawn: only the first line of a figure says it.
    what: String,
    arm: &'static str,
    /// `·` was not judged, `_` had no calls.
    bars: String,
    /// What the full height stands for.
    most: String,
}

/// What the lines have to be read with.
pub(super) const LEGEND: &str = "· not judged, _ no calls; at the end the full height";
/// What those of percentiles have to be read with.
pub(super) const LEGEND_OF_PERCENTILES: &str = "p50, p95, p99: a bar for each reading since this view began";

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, arm, bars, most } = self;
        write!(f, "{what:<8} {arm} {bars}  {most}")
    }
}

/// What is drawn of one tick.
enum Cell {
    NotJudged,
    NoCalls,
    Is(f64),
}

type Arm = fn(&TickStatus) -> &SampleStatus;

const ARMS: [(&str, Arm); 2] = [("stable", |tick| &tick.stable), ("canary", |tick| &tick.canary)];

/// The newest ticks; each arm's calls have a scale of their own, as there are far fewer of a canary.
pub(super) fn lines(samples: &SamplesStatus, newest: usize) -> Vec<Line> {
    let ticks = samples.ticks.len().saturating_sub(newest);
    let ticks = samples.ticks.get(ticks..).unwrap_or_default();
    let seconds = match samples.ticks.as_slice() {
        [.., before, last] => Some(last.end.duration_since(before.end).as_secs_f64()),
        _ => None,
    };
    let mut lines = calls(ticks, seconds.filter(|seconds| *seconds > 0.0));
    lines.extend(shares("failed", ticks, |arm| Some(arm.failures)));
    // Objectives come first.
    if let Some(bound) = samples.bounds_ms.first() {
        lines.extend(shares(&format!(">{bound} ms"), ticks, |arm| arm.slow.first().copied()));
    }
    lines
}

fn calls(ticks: &[TickStatus], seconds: Option<f64>) -> Vec<Line> {
    let line = |(nth, (arm, of)): (usize, (&'static str, Arm))| {
        let cells: Vec<_> = ticks
            .iter()
            .map(|tick| match of(tick).requests {
                0 => Cell::NoCalls,
                requests => Cell::Is(small(requests)),
            })
            .collect();
        let top = top(&cells);
        Line {
            what: what(nth, if seconds.is_some() { "calls/s" } else { "calls" }),
            arm,
            bars: bars(&cells, top),
            most: match seconds {
                Some(seconds) => format!("{:.1}", top / seconds),
                None => format!("{top:.0}"),
            },
        }
    };
    ARMS.into_iter().enumerate().map(line).collect()
}

/// Shares of the calls, both arms' drawn alike.
fn shares(name: &str, ticks: &[TickStatus], bad: fn(&SampleStatus) -> Option<i64>) -> Vec<Line> {
    let cell = |tick: &TickStatus, of: Arm| {
        let arm = of(tick);
        match bad(arm) {
            _ if tick.left_out => Cell::NotJudged,
            Some(bad) if arm.requests > 0 => Cell::Is(small(bad) / small(arm.requests)),
            _ => Cell::NoCalls,
        }
    };
    let cells = ARMS.map(|(arm, of)| (arm, ticks.iter().map(|tick| cell(tick, of)).collect()));
    alike(name, cells, |top| format!("{:.1} %", top * 100.0))
}

type Read = fn(&LatencyStatus) -> Option<PercentilesStatus>;
type Figure = fn(PercentilesStatus) -> i64;

/// The newest readings; both arms' drawn alike, from nothing up. A single one is no line.
pub(super) fn percentiles(readings: &[LatencyStatus], newest: usize) -> Vec<Line> {
    const ARMS: [(&str, Read); 2] = [("stable", |read| read.stable), ("canary", |read| read.canary)];
    const FIGURES: [(&str, Figure); 3] = [
        ("p50", |of| of.p50_ms),
        ("p95", |of| of.p95_ms),
        ("p99", |of| of.p99_ms),
    ];
    let readings = readings
        .get(readings.len().saturating_sub(newest)..)
        .unwrap_or_default();
    if readings.len() < 2 {
        return vec![];
    }
    let lines = FIGURES.map(|(name, figure)| {
        let cell = |read: Option<PercentilesStatus>| read.map_or(Cell::NoCalls, |read| Cell::Is(small(figure(read))));
        let cells = ARMS.map(|(arm, of)| (arm, readings.iter().map(|reading| cell(of(reading))).collect()));
        alike(name, cells, |top| format!("{top:.0} ms"))
    });
    lines.into_iter().flatten().collect()
}

/// Both arms' lines with one scale.
fn alike(name: &str, cells: [(&'static str, Vec<Cell>); 2], most: impl Fn(f64) -> String) -> Vec<Line> {
    let top = cells.iter().map(|(_, cells)| top(cells)).fold(0.0, f64::max);
    let line = |(nth, (arm, cells)): (usize, (&'static str, Vec<Cell>))| Line {
        what: what(nth, name),
        arm,
        bars: bars(&cells, top),
        most: most(top),
    };
    cells.into_iter().enumerate().map(line).collect()
}

fn what(nth: usize, name: &str) -> String {
    if nth == 0 { name.to_owned() } else { String::new() }
}

fn top(cells: &[Cell]) -> f64 {
    let known = cells.iter().filter_map(|cell| match cell {
        Cell::Is(value) => Some(*value),
        Cell::NotJudged | Cell::NoCalls => None,
    });
    known.fold(0.0, f64::max)
}

fn bars(cells: &[Cell], top: f64) -> String {
    let bar = |cell: &Cell| match cell {
        Cell::NotJudged => '·',
        Cell::NoCalls => '_',
        Cell::Is(value) => bar(*value, top),
    };
    cells.iter().map(bar).collect()
}

/// The eighth of the full height that comes next; anything is more than nothing.
fn bar(value: f64, top: f64) -> char {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let reaches = |eighth: &usize| value * 7.0 <= top * small(i64::try_from(*eighth).unwrap_or(0));
    let eighth = (0..8).find(reaches).unwrap_or(7);
    BARS.get(eighth).copied().unwrap_or('█')
}

#[expect(clippy::cast_precision_loss, reason = "it is drawn in eighths")]
fn small(count: i64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(lines: &[Line]) -> String {
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    fn drawn(samples: &SamplesStatus, newest: usize) -> String {
        text(&lines(samples, newest))
    }

    #[test]
    fn arms_are_drawn_beside_each_other() {
        let tick = |second: i64, canary: [i64; 3], stable: [i64; 3], left_out: bool| {
            let arm = |[requests, failures, slow]: [i64; 3]| json!({"requests": requests, "failures": failures, "slow": [slow, 0]});
            let end = jiff::Timestamp::from_second(second).unwrap();
            json!({"end": end, "weight": 5, "leftOut": left_out, "canary": arm(canary), "stable": arm(stable)})
        };
        let samples: SamplesStatus = serde_json::from_value(json!({"boundsMs": [500, 800], "ticks": [
            tick(20, [9, 1, 0], [90, 0, 0], true),
            tick(40, [10, 1, 1], [100, 1, 0], false),
            tick(60, [20, 10, 0], [100, 0, 0], false),
            tick(80, [0, 0, 0], [200, 40, 2], false),
        ]}))
        .unwrap();
        insta::assert_snapshot!(drawn(&samples, 60), @r"
        calls/s  stable ▅▅▅█  10.0
                 canary ▅▅█_  1.0
        failed   stable ·▂▁▄  50.0 %
                 canary ·▃█_  50.0 %
        >500 ms  stable ·▁▁▂  10.0 %
                 canary ·█▁_  10.0 %
        ");
        assert!(
            drawn(&samples, 2).contains("failed   stable ▁▄  50.0 %"),
            "the newest: {}",
            drawn(&samples, 2)
        );
        let one = SamplesStatus {
            ticks: samples.ticks[..1].to_vec(),
            ..samples
        };
        assert!(
            drawn(&one, 60).starts_with("calls    stable █  90\n"),
            "a tick's length is not known"
        );
    }
    #[test]
    fn percentiles_of_both_arms_have_one_scale() {
        let arm = |p50: i64| json!({"p50Ms": p50, "p95Ms": 2 * p50, "p99Ms": 80});
        let read = |second: i64, stable: i64, canary: Option<i64>| -> LatencyStatus {
            let at = jiff::Timestamp::from_second(second).unwrap();
            let read = json!({"asOf": at, "stable": arm(stable), "canary": canary.map(arm)});
            serde_json::from_value(read).unwrap()
        };
        let all = [read(20, 10, Some(10)), read(80, 10, None), read(140, 10, Some(40))];
        insta::assert_snapshot!(text(&percentiles(&all, 60)), @r"
        p50      stable ▃▃▃  40 ms
                 canary ▃_█  40 ms
        p95      stable ▃▃▃  80 ms
                 canary ▃_█  80 ms
        p99      stable ███  80 ms
                 canary █_█  80 ms
        ");
        assert!(text(&percentiles(&all, 2)).contains("canary _█  40 ms"), "the newest");
        assert!(
            percentiles(&all[..1], 60).is_empty(),
            "that one stands beside it in words"
        );
    }
}
