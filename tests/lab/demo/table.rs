//! The report as a table for people.

use super::report::{Report, Revision};

const HEAD: [&str; 8] = [
    "REVISION",
    "OUTCOME",
    "WEIGHTS",
    "STABLE",
    "CANARY",
    "FAILURE → 0 %",
    "0 % → COMMIT",
    "0 % → IN LINE",
];

/// One row a revision: requests with failed and slow ones behind them, and the times of a rollback.
pub(super) fn of(report: &Report) -> String {
    let rows: Vec<[String; 8]> = std::iter::once(HEAD.map(str::to_owned))
        .chain(report.revisions.iter().map(row))
        .collect();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let line = |row: &[String; 8]| {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn row(r: &Revision) -> [String; 8] {
    let weights: Vec<String> = r.weights.iter().map(|weight| weight.percent.to_string()).collect();
    let served = |s: &super::report::Served| match (s.failures, s.slow) {
        (0, 0) => s.requests.to_string(),
        (failed, 0) => format!("{}, {failed} failed", s.requests),
        (0, slow) => format!("{}, {slow} slow", s.requests),
        (failed, slow) => format!("{}, {failed} failed, {slow} slow", s.requests),
    };
    let seconds = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1} s"));
    [
        r.name.clone(),
        r.outcome.phase().to_owned(),
        weights.join(" "),
        served(&r.stable),
        served(&r.canary),
        seconds(r.first_failure_to_weight_zero_seconds),
        seconds(r.weight_zero_to_commit_seconds),
        seconds(r.weight_zero_to_in_line_seconds),
    ]
}
