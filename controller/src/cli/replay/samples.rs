//! A file of samples: JSON, one a line, the first line says what they are. `docs/replay.md` describes it for people. Must not
//! know a plan or a server.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, Write};

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serin_core::analysis::sequential::Tally;
use serin_core::analysis::{Counts, Reading};
use serin_core::rollout::replay::{PodRecord, RecordedMetric, RecordedTick, Recording, RecordingDraft, RecordingError};

use super::line::{Arm, Header, Line, Metric, Peek, Value, ValuesLine};
use crate::api::parse_duration;

/// What the first line says of itself.
const FORMAT: &str = "serin-samples/1";

/// Why a file can't be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum SamplesError {
    /// The system's words.
    #[error("line {line}: reading it failed")]
    Read {
        line: usize,
        #[source]
        source: io::Error,
    },
    #[error("line {line}: {problem}")]
    Line { line: usize, problem: String },
    #[error("it is empty; write one with `serin replay --record`")]
    Empty,
    #[error("line {line}: the file ends here, and should have {wanted} lines: it was cut off")]
    CutOff { line: usize, wanted: usize },
    #[error("line {line}: {source}")]
    Recording {
        line: usize,
        #[source]
        source: RecordingError,
    },
}

/// Writes a recording; [`read`] gives the very same back.
pub(super) fn write(recording: &Recording, to: &mut impl Write) -> io::Result<()> {
    let RecordingDraft {
        interval,
        from,
        to: until,
        stable_earlier,
        bounds_ms,
        metrics,
        ticks,
    } = recording.draft();
    let mut lines = Vec::new();
    for (tick, recorded) in ticks {
        if !recorded.values.is_empty() {
            let values = named(metrics, false).zip(&recorded.values).map(|(name, reading)| {
                let text = |value: Option<f64>| value.map(|value| value.to_string());
                let value = Value {
                    canary: text(reading.canary),
                    stable: text(reading.stable),
                };
                (name.to_owned(), value)
            });
            let line = ValuesLine {
                tick: *tick,
                values: values.collect(),
            };
            lines.push(serde_json::to_string(&line)?);
        }
        for (arm, pods) in [(Arm::Canary, &recorded.canary), (Arm::Stable, &recorded.stable)] {
            for (pod, record) in pods {
                let PodRecord {
                    counts,
                    codes,
                    seen,
                    own,
                } = record;
                let own = named(metrics, true)
                    .zip(own)
                    .filter(|(_, tally)| **tally != Tally::default());
                lines.push(serde_json::to_string(&Line {
                    tick: *tick,
                    arm,
                    pod: pod.clone(),
                    total: counts.requests,
                    failed: counts.failures,
                    slow: counts.slow.clone(),
                    codes: codes.clone(),
                    own: own
                        .map(|(name, tally)| (name.to_owned(), [tally.bad, tally.total]))
                        .collect(),
                    seen: *seen,
                })?);
            }
        }
    }
    let header = Header {
        format: FORMAT.to_owned(),
        interval: format!("{interval:#}"),
        from: *from,
        to: *until,
        stable_earlier: (!stable_earlier.is_zero()).then(|| format!("{stable_earlier:#}")),
        bounds_ms: bounds_ms.clone(),
        metrics: metrics.iter().map(Metric::of).collect(),
        lines: Some(lines.len() + 1),
    };
    serde_json::to_writer(&mut *to, &header)?;
    writeln!(to)?;
    for line in lines {
        writeln!(to, "{line}")?;
    }
    Ok(())
}

/// Reads a file of samples.
///
/// # Errors
/// The first line that makes no sense, by its number.
pub(super) fn read(from: impl BufRead) -> Result<Recording, SamplesError> {
    let mut lines = from.lines().enumerate().map(|(i, line)| (i + 1, line));
    let Some((number, first)) = lines.next() else {
        return Err(SamplesError::Empty);
    };
    let first = text(number, first)?;
    let header: Header = parse(number, &first)?;
    if header.format != FORMAT {
        let problem = format!("its format is {:?}; this Serin reads {FORMAT:?}", header.format);
        return Err(SamplesError::Line { line: number, problem });
    }
    let mut draft = header_draft(&header, number)?;
    let mut reader = Reader::default();
    let mut last = number;
    for (number, line) in lines {
        let line = text(number, line)?;
        last = number;
        // A file that a person wrote may end with one.
        if line.trim().is_empty() {
            continue;
        }
        // What is wrong with a line is said by the one or the other reader.
        match serde_json::from_str(&line) {
            Ok(Peek { values: Some(_) }) => reader.add_values(number, &parse(number, &line)?, &mut draft)?,
            _ => reader.add(number, parse(number, &line)?, &mut draft)?,
        }
    }
    if let Some(wanted) = header.lines.filter(|wanted| *wanted > last) {
        return Err(SamplesError::CutOff { line: last, wanted });
    }
    Recording::parse(draft).map_err(|source| SamplesError::Recording {
        line: reader.place(&source),
        source,
    })
}

fn header_draft(header: &Header, line: usize) -> Result<RecordingDraft, SamplesError> {
    let duration = |name: &str, text: &str| {
        parse_duration(text).map_err(|problem| SamplesError::Line {
            line,
            problem: format!("{name}: {problem}"),
        })
    };
    let stable_earlier = header.stable_earlier.as_ref();
    Ok(RecordingDraft {
        interval: duration("interval", &header.interval)?,
        from: header.from,
        to: header.to,
        stable_earlier: match stable_earlier {
            Some(text) => duration("stableEarlier", text)?,
            None => SignedDuration::ZERO,
        },
        bounds_ms: header.bounds_ms.clone(),
        metrics: header
            .metrics
            .iter()
            .map(Metric::recorded)
            .collect::<Result<_, _>>()
            .map_err(|problem| SamplesError::Line { line, problem })?,
        ticks: BTreeMap::new(),
    })
}

fn text(line: usize, read: io::Result<String>) -> Result<String, SamplesError> {
    read.map_err(|source| SamplesError::Read { line, source })
}

fn parse<T: for<'de> Deserialize<'de>>(line: usize, text: &str) -> Result<T, SamplesError> {
    serde_json::from_str(text).map_err(|error| {
        let cut = if error.is_eof() { "; it seems to be cut off" } else { "" };
        SamplesError::Line {
            line,
            // The text is one line to serde: it says `line 1`.
            problem: error.to_string().replace(" at line 1 column ", " at column ") + cut,
        }
    })
}

/// The metrics of one kind, in their order.
fn named(metrics: &[RecordedMetric], is_counts: bool) -> impl Iterator<Item = &str> {
    let alike = metrics.iter().filter(move |metric| metric.is_counts() == is_counts);
    alike.map(|metric| metric.name.as_str())
}

/// What was read before, so that a mistake has a line.
#[derive(Default)]
struct Reader {
    last: Option<Timestamp>,
    known: BTreeSet<(Arm, String)>,
    lines: BTreeMap<Timestamp, BTreeMap<String, usize>>,
}

impl Reader {
    /// A line of this tick comes.
    fn comes(&mut self, number: usize, tick: Timestamp) -> Result<(), SamplesError> {
        match self.last {
            Some(last) if tick < last => {
                return Err(SamplesError::Line {
                    line: number,
                    problem: format!("the tick {tick} comes after {last}; ticks must rise"),
                });
            }
            Some(last) if tick == last => {}
            _ => self.known.clear(),
        }
        self.last = Some(tick);
        Ok(())
    }

    fn add_values(&mut self, number: usize, line: &ValuesLine, draft: &mut RecordingDraft) -> Result<(), SamplesError> {
        self.comes(number, line.tick)?;
        let fail = |problem| SamplesError::Line { line: number, problem };
        let values: Vec<&str> = named(&draft.metrics, false).collect();
        let mut readings = vec![Reading::default(); values.len()];
        for (name, value) in &line.values {
            let place = values.iter().position(|known| known == name);
            let slot = place.and_then(|place| readings.get_mut(place));
            let slot = slot.ok_or_else(|| fail(format!("the first line has no metric {name} with a `query`")))?;
            let number = |text: &Option<String>| match text {
                None => Ok(None),
                Some(text) => match text.parse::<f64>() {
                    Ok(value) if value.is_finite() => Ok(Some(value)),
                    _ => Err(fail(format!("{name}: {text:?} is no number"))),
                },
            };
            *slot = Reading {
                canary: number(&value.canary)?,
                stable: number(&value.stable)?,
            };
        }
        draft.ticks.entry(line.tick).or_default().values = readings;
        Ok(())
    }

    fn add(&mut self, number: usize, line: Line, draft: &mut RecordingDraft) -> Result<(), SamplesError> {
        let fail = |problem| Err(SamplesError::Line { line: number, problem });
        self.comes(number, line.tick)?;
        if !self.known.insert((line.arm, line.pod.clone())) {
            return fail(format!("the pod {} is there twice in the tick {}", line.pod, line.tick));
        }
        let at = self.lines.entry(line.tick).or_default();
        at.insert(line.pod.clone(), number);
        let mut own = Vec::new();
        for (name, [bad, total]) in &line.own {
            let Some(place) = named(&draft.metrics, true).position(|known| known == name) else {
                return fail(format!("the first line has no metric {name} with `bad` and `total`"));
            };
            if own.len() <= place {
                own.resize(place + 1, Tally::default());
            }
            if let Some(slot) = own.get_mut(place) {
                *slot = Tally::new(*bad, *total);
            }
        }
        let tick: &mut RecordedTick = draft.ticks.entry(line.tick).or_default();
        let pods = match line.arm {
            Arm::Canary => &mut tick.canary,
            Arm::Stable => &mut tick.stable,
        };
        let counts = Counts {
            requests: line.total,
            failures: line.failed,
            slow: line.slow,
        };
        let record = PodRecord {
            counts,
            codes: line.codes,
            seen: line.seen,
            own,
        };
        pods.insert(line.pod, record);
        Ok(())
    }

    /// The line that an error is about; the first one is about the whole.
    fn place(&self, error: &RecordingError) -> usize {
        let at = |tick: &Timestamp| self.lines.get(tick);
        match error {
            RecordingError::Unaligned(tick) | RecordingError::Metrics(tick) => {
                at(tick).and_then(|pods| pods.values().min()).copied()
            }
            RecordingError::Slow { pod, tick, .. } | RecordingError::MoreThanAll { pod, tick } => {
                at(tick).and_then(|pods| pods.get(pod)).copied()
            }
            RecordingError::Interval(_)
            | RecordingError::Backwards { .. }
            | RecordingError::TooShort { .. }
            | RecordingError::TooLong { .. }
            | RecordingError::Twice(_)
            | RecordingError::Bounds => None,
        }
        .unwrap_or(1)
    }
}

#[cfg(test)]
#[path = "samples_tests.rs"]
mod tests;
