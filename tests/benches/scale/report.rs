//! What was measured, and the bars. Pure.

use serde_json::{Value, json};

use crate::storm::Gone;

/// The size for which the bars are.
pub(crate) const SIZE: usize = 10_000;

/// One size.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    pub(crate) rollouts: usize,
    pub(crate) progressing: usize,
    pub(crate) minutes: f64,
    pub(crate) set_up_seconds: f64,
    pub(crate) first_decision_seconds: f64,
    pub(crate) all_looked_at_seconds: f64,
    pub(crate) cpu_seconds_a_minute: f64,
    pub(crate) peak_mb: f64,
    pub(crate) steady_mb: f64,
    pub(crate) after_mb: f64,
    pub(crate) threads: usize,
    pub(crate) files: usize,
    pub(crate) requests_a_minute: Value,
    pub(crate) requests_per_progressing: f64,
    pub(crate) requests_of_idle: usize,
    pub(crate) own_requests_a_minute: f64,
    pub(crate) queries_an_interval: f64,
    pub(crate) query_bytes_an_interval: f64,
    pub(crate) series_an_interval: f64,
    pub(crate) source_seconds_an_interval: f64,
    /// The single one that turned bad.
    pub(crate) single: Option<Gone>,
    /// Of all that turned bad, those that lost their traffic, in order.
    pub(crate) gone: Vec<Gone>,
    /// Of those that were to.
    pub(crate) turned_bad: usize,
    pub(crate) storm_cpu_seconds: f64,
    pub(crate) storm_git_seconds: f64,
}

impl Cell {
    /// Milliseconds from the sample to weight 0.
    pub(crate) fn percentile(&self, share: f64) -> Option<f64> {
        nth(self.gone.iter().map(|gone| gone.away).collect(), share)
    }

    /// The same from the answer that showed it.
    fn answered(&self, share: f64) -> Option<f64> {
        nth(self.gone.iter().filter_map(|gone| gone.answered).collect(), share)
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "rollouts": self.rollouts,
            "progressing": self.progressing,
            "minutes": self.minutes,
            "setUpSeconds": round(self.set_up_seconds),
            "startUp": {
                "firstDecisionSeconds": round(self.first_decision_seconds),
                "allLookedAtSeconds": round(self.all_looked_at_seconds),
            },
            "cpuSecondsAMinute": round(self.cpu_seconds_a_minute),
            "memoryMb": { "peak": round(self.peak_mb), "steady": round(self.steady_mb), "afterAll": round(self.after_mb) },
            "threads": self.threads,
            "fileHandles": self.files,
            "requests": {
                "aMinuteByKind": self.requests_a_minute,
                "aMinutePerProgressing": round(self.requests_per_progressing),
                "ofIdle": self.requests_of_idle,
                "ownAMinute": round(self.own_requests_a_minute),
            },
            "queries": {
                "anInterval": round(self.queries_an_interval),
                "bytesAnInterval": round(self.query_bytes_an_interval),
                "seriesAnInterval": round(self.series_an_interval),
                "sourceSecondsAnInterval": round(self.source_seconds_an_interval),
            },
            "sampleToWeightZeroMs": {
                "single": self.single.map(|gone| round(gone.away)),
                "turnedBad": self.turned_bad,
                "atZero": self.gone.len(),
                "p50": self.percentile(0.5).map(round),
                "p99": self.percentile(0.99).map(round),
                "max": self.percentile(1.0).map(round),
            },
            "answerToWeightZeroMs": {
                "single": self.single.and_then(|gone| gone.answered).map(round),
                "p50": self.answered(0.5).map(round),
                "p99": self.answered(0.99).map(round),
                "max": self.answered(1.0).map(round),
            },
            "storm": { "cpuSeconds": round(self.storm_cpu_seconds), "gitSeconds": round(self.storm_git_seconds) },
        })
    }
}

/// A bar, and what was measured beside it.
#[derive(Debug, Clone)]
pub(crate) struct Bar {
    what: &'static str,
    most: f64,
    is: Option<f64>,
}

impl Bar {
    pub(crate) fn holds(&self) -> bool {
        self.is.is_some_and(|is| is <= self.most)
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "what": self.what, "atMost": self.most, "is": self.is.map(round), "holds": self.holds() })
    }

    pub(crate) fn line(&self) -> String {
        let is = self.is.map_or_else(|| "nothing".to_owned(), |is| round(is).to_string());
        let word = if self.holds() { "holds " } else { "MISSED" };
        format!("{word}  {}: {is} (at most {})", self.what, self.most)
    }
}

/// The bars for the largest size, where that was measured; beside it the growth from a tenth of it.
pub(crate) fn bars(cells: &[Cell]) -> Vec<Bar> {
    let of = |size: usize| cells.iter().find(|cell| cell.rollouts == size);
    let Some(cell) = of(SIZE) else { return vec![] };
    let bar = |what, most, is| Bar { what, most, is };
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let missing = (cell.turned_bad - cell.gone.len()) as f64;
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let idle = cell.requests_of_idle as f64;
    let growth = of(SIZE / 10).map(|tenth| cell.cpu_seconds_a_minute / tenth.cpu_seconds_a_minute.max(0.01));
    let mut bars = vec![
        bar("memory, MB", 300.0, Some(cell.peak_mb)),
        bar("CPU, cores", 0.5, Some(cell.cpu_seconds_a_minute / 60.0)),
        bar("queries an interval", 10.0, Some(cell.queries_an_interval)),
        bar(
            "API requests a minute per progressing rollout",
            2.0,
            Some(cell.requests_per_progressing),
        ),
        bar("API requests of idle rollouts", 0.0, Some(idle)),
        bar("canaries that kept their traffic", 0.0, Some(missing)),
        bar("the last one at weight 0, ms", 10_000.0, cell.percentile(1.0)),
        bar("half of them at weight 0, ms", 3_000.0, cell.percentile(0.5)),
        bar(
            "a single bad one at weight 0, ms",
            300.0,
            cell.single.map(|gone| gone.away),
        ),
        bar(
            "start-up to the first decision, s",
            20.0,
            Some(cell.first_decision_seconds),
        ),
    ];
    if growth.is_some() {
        bars.push(bar("CPU beside that of a tenth of the rollouts, times", 10.0, growth));
    }
    bars
}

/// The value below which this share of them is.
fn nth(mut values: Vec<f64>, share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let nth = ((values.len() as f64 * share).ceil() as usize).saturating_sub(1);
    values.get(nth).copied()
}

fn round(value: f64) -> f64 {
    if value.abs() >= 100.0 {
        value.round()
    } else {
        (value * 100.0).round() / 100.0
    }
}
