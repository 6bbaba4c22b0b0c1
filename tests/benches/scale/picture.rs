//! The picture: what grows with the number of rollouts, size by size, and how long traffic took to be gone. Pure.

use std::fmt::Write as _;

use crate::report::Cell;
use crate::storm::Gone;

const STYLE: &str = "
.page { fill: #ffffff } .text { fill: #1f2328 } .dim { fill: #59636e } .grid { stroke: #d1d9e0 } .bar { fill: #0969da } .curve { stroke: #bc4c00 }
@media (prefers-color-scheme: dark) {
.page { fill: #0d1117 } .text { fill: #f0f6fc } .dim { fill: #9198a1 } .grid { stroke: #3d444d } .bar { fill: #58a6ff } .curve { stroke: #f0883e }
}
text { font: 13px system-ui, sans-serif } .name { font-weight: 600 } .curve { fill: none; stroke-width: 2; stroke-linejoin: round }
";
const LEFT: f64 = 40.0;
const COLUMN: f64 = 240.0;
const HEIGHT: f64 = 130.0;

/// What a panel of bars shows of each size.
type Shown = (&'static str, fn(&Cell) -> f64);

const PANELS: [Shown; 6] = [
    ("CPU, seconds a minute", |cell| cell.cpu_seconds_a_minute),
    ("Peak memory, MB", |cell| cell.peak_mb),
    ("Queries an interval", |cell| cell.queries_an_interval),
    ("API requests a minute, each", |cell| cell.requests_per_progressing),
    ("Start to all looked at, s", |cell| cell.all_looked_at_seconds),
    ("Last one at weight 0, ms", |cell| {
        cell.percentile(1.0).unwrap_or_default()
    }),
];

pub(crate) fn draw(cells: &[Cell]) -> Result<String, std::fmt::Error> {
    let mut svg = String::new();
    write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 800 760\" role=\"img\">\n\
         <title>What Serin costs with the number of rollouts</title>\n<style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"800\" height=\"760\"/>\n"
    )?;
    for (nth, panel) in PANELS.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let place = (LEFT + COLUMN * (nth % 3) as f64, 40.0 + 210.0 * (nth / 3) as f64);
        bars(&mut svg, place, panel, cells)?;
    }
    if let Some(cell) = cells.last() {
        away(&mut svg, cell)?;
    }
    svg += "</svg>\n";
    Ok(svg)
}

fn bars(svg: &mut String, (left, top): (f64, f64), (name, of): &Shown, cells: &[Cell]) -> std::fmt::Result {
    text(svg, "text name", (left, top), "start", name)?;
    let most = cells.iter().map(of).fold(f64::MIN_POSITIVE, f64::max);
    let bottom = top + 30.0 + HEIGHT;
    for (nth, cell) in cells.iter().enumerate() {
        let value = of(cell);
        let height = (HEIGHT * value / most).max(1.0);
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let x = left + 66.0 * nth as f64;
        writeln!(
            svg,
            "<rect class=\"bar\" x=\"{x:.0}\" y=\"{:.1}\" width=\"44\" height=\"{height:.1}\"/>",
            bottom - height
        )?;
        let said = if value >= 100.0 {
            format!("{value:.0}")
        } else {
            format!("{value:.2}")
        };
        text(svg, "text", (x + 22.0, bottom - height - 5.0), "middle", &said)?;
        text(
            svg,
            "dim",
            (x + 22.0, bottom + 17.0),
            "middle",
            &cell.rollouts.to_string(),
        )?;
    }
    Ok(())
}

/// The share of canaries without traffic, over the time since the sample that shows all of them bad.
fn away(svg: &mut String, cell: &Cell) -> std::fmt::Result {
    let (top, width, height) = (500.0, 700.0, 190.0);
    let name = format!(
        "{} canaries turn bad in the same second: share without traffic, over seconds since the sample",
        cell.turned_bad
    );
    text(svg, "text name", (LEFT, top - 14.0), "start", &name)?;
    let most = cell.percentile(1.0).unwrap_or(1.0).max(1_000.0) / 1_000.0;
    let x = |seconds: f64| LEFT + width * seconds / most;
    for share in [0.0, 0.5, 1.0] {
        let y = top + height * (1.0 - share);
        writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\"/>",
            LEFT + width
        )?;
        text(
            svg,
            "dim",
            (LEFT - 6.0, y + 4.0),
            "end",
            &format!("{:.0} %", share * 100.0),
        )?;
    }
    for part in 0..=4 {
        let seconds = most * f64::from(part) / 4.0;
        text(
            svg,
            "dim",
            (x(seconds), top + height + 18.0),
            "middle",
            &format!("{seconds:.1}"),
        )?;
    }
    let mut points = format!("{LEFT:.1},{:.1}", top + height);
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let total = cell.turned_bad.max(1) as f64;
    for (nth, Gone { away: ms, .. }) in cell.gone.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "thousands")]
        let share = (nth + 1) as f64 / total;
        write!(
            points,
            " {:.1},{:.1}",
            x(ms.max(0.0) / 1_000.0),
            top + height * (1.0 - share)
        )?;
    }
    writeln!(svg, "<polyline class=\"curve\" points=\"{points}\"/>")
}

fn text(svg: &mut String, class: &str, (x, y): (f64, f64), anchor: &str, said: &str) -> std::fmt::Result {
    writeln!(
        svg,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{said}</text>"
    )
}
