//! What was seen while it went on, and whether it grew. Pure.

use jiff::Timestamp;
use serde_json::{Value, json};

/// So much of the beginning is left out: caches fill, and the allocator takes what it needs.
const WARM_UP: usize = 4;

/// Some seconds.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    pub(crate) at: Timestamp,
    /// Rollouts that had ended by then.
    pub(crate) finished: usize,
    pub(crate) memory_mb: f64,
    pub(crate) files: usize,
    /// On average; none if it told nothing.
    pub(crate) tasks: Option<f64>,
    /// From the end of a sample that failed a canary until its traffic was seen to be gone, on average; none if none failed.
    pub(crate) latency_ms: Option<f64>,
    /// Seconds of processor time so far.
    pub(crate) cpu: f64,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) windows: Vec<Window>,
    pub(crate) seconds: f64,
}

/// What must not grow: its name, what it is in a window, and how many times as much at the end is too much.
type Watched = (&'static str, fn(&Window) -> Option<f64>, f64);

const WATCHED: [Watched; 4] = [
    ("memory, MB", |window| Some(window.memory_mb), 1.1),
    ("file handles", |window| Some(as_f64(window.files)), 1.1),
    ("tasks", |window| window.tasks, 1.1),
    ("latency, ms", |window| window.latency_ms, 1.25),
];

impl Window {
    pub(crate) fn line(&self) -> String {
        let number = |of: Option<f64>| of.map_or_else(|| "-".to_owned(), |number| format!("{number:.0}"));
        format!(
            "{} finished, {:.1} MB, {} files, {} tasks, {} ms",
            self.finished,
            self.memory_mb,
            self.files,
            number(self.tasks),
            number(self.latency_ms)
        )
    }
}

impl Report {
    /// The means of the third after the warm-up, and of the last one.
    fn thirds(&self, of: fn(&Window) -> Option<f64>) -> Option<(f64, f64)> {
        let warm = self.windows.get(self.windows.len() / WARM_UP..)?;
        let third = warm.len() / 3;
        let mean = |windows: &[Window]| {
            let values: Vec<f64> = windows.iter().filter_map(of).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / as_f64(values.len()))
        };
        Some((mean(warm.get(..third)?)?, mean(warm.get(warm.len() - third..)?)?))
    }

    fn finished(&self) -> usize {
        self.windows.last().map_or(0, |window| window.finished)
    }

    pub(crate) fn holds(&self) -> bool {
        let is_flat = |(_, of, most): &Watched| self.thirds(*of).is_some_and(|(first, last)| last <= first * most);
        self.finished() > 0 && WATCHED.iter().all(is_flat)
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let ended = format!(
            "{} rollouts ended, {:.0} a minute",
            self.finished(),
            as_f64(self.finished()) * 60.0 / self.seconds
        );
        let watched = WATCHED.iter().map(|(what, of, most)| match self.thirds(*of) {
            Some((first, last)) => {
                let word = if last <= first * most { "flat  " } else { "GROWS " };
                format!("{word}  {what}: {first:.1} after the warm-up, {last:.1} at the end")
            }
            None => format!("GROWS   {what}: nothing was seen"),
        });
        std::iter::once(ended).chain(watched).collect()
    }

    pub(crate) fn json(&self) -> Value {
        let thirds = WATCHED.iter().map(|(what, of, most)| {
            let (first, last) = self.thirds(*of).unzip();
            json!({ "what": what, "afterWarmUp": first, "atTheEnd": last, "atMostTimes": most })
        });
        let windows = self.windows.iter().map(|window| {
            json!({
                "at": window.at.to_string(), "finished": window.finished, "memoryMb": window.memory_mb, "fileHandles": window.files,
                "tasks": window.tasks, "latencyMs": window.latency_ms, "cpuSeconds": window.cpu,
            })
        });
        json!({
            "finished": self.finished(),
            "finishedAMinute": as_f64(self.finished()) * 60.0 / self.seconds,
            "flat": thirds.collect::<Vec<_>>(),
            "holds": self.holds(),
            "windows": windows.collect::<Vec<_>>(),
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "thousands")]
fn as_f64(count: usize) -> f64 {
    count as f64
}
