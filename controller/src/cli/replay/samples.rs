//! A file of samples: JSON, one a line, the first line says what they are. `docs/replay.md` describes it for people. Must not
//! know a plan or a server.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, Write};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serin_core::analysis::Counts;
use serin_core::rollout::replay::{PodRecord, RecordedTick, Recording, RecordingDraft, RecordingError};

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

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Header {
    format: String,
    interval: String,
    from: Timestamp,
    to: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stable_earlier: Option<String>,
    #[serde(default)]
    bounds_ms: Vec<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lines: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Arm {
    Canary,
    Stable,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Line {
    tick: Timestamp,
    arm: Arm,
    pod: String,
    total: u64,
    failed: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    slow: Vec<u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    codes: BTreeMap<u8, u64>,
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    seen: bool,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_true(seen: &bool) -> bool {
    *seen
}

/// Writes a recording; [`read`] gives the very same back.
pub(super) fn write(recording: &Recording, to: &mut impl Write) -> io::Result<()> {
    let RecordingDraft {
        interval,
        from,
        to: until,
        stable_earlier,
        bounds_ms,
        ticks,
    } = recording.draft();
    let mut lines = Vec::new();
    for (tick, recorded) in ticks {
        for (arm, pods) in [(Arm::Canary, &recorded.canary), (Arm::Stable, &recorded.stable)] {
            for (pod, PodRecord { counts, codes, seen }) in pods {
                lines.push(Line {
                    tick: *tick,
                    arm,
                    pod: pod.clone(),
                    total: counts.requests,
                    failed: counts.failures,
                    slow: counts.slow.clone(),
                    codes: codes.clone(),
                    seen: *seen,
                });
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
        lines: Some(lines.len() + 1),
    };
    serde_json::to_writer(&mut *to, &header)?;
    writeln!(to)?;
    for line in lines {
        serde_json::to_writer(&mut *to, &line)?;
        writeln!(to)?;
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
        if !line.trim().is_empty() {
            reader.add(number, parse(number, &line)?, &mut draft)?;
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

/// What was read before, so that a mistake has a line.
#[derive(Default)]
struct Reader {
    last: Option<Timestamp>,
    known: BTreeSet<(Arm, String)>,
    lines: BTreeMap<Timestamp, BTreeMap<String, usize>>,
}

impl Reader {
    fn add(&mut self, number: usize, line: Line, draft: &mut RecordingDraft) -> Result<(), SamplesError> {
        let fail = |problem| Err(SamplesError::Line { line: number, problem });
        match self.last {
            Some(last) if line.tick < last => {
                return fail(format!("the tick {} comes after {last}; ticks must rise", line.tick));
            }
            Some(last) if line.tick == last => {}
            _ => self.known.clear(),
        }
        self.last = Some(line.tick);
        if !self.known.insert((line.arm, line.pod.clone())) {
            return fail(format!("the pod {} is there twice in the tick {}", line.pod, line.tick));
        }
        let at = self.lines.entry(line.tick).or_default();
        at.insert(line.pod.clone(), number);
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
        };
        pods.insert(line.pod, record);
        Ok(())
    }

    /// The line that an error is about; the first one is about the whole.
    fn place(&self, error: &RecordingError) -> usize {
        let at = |tick: &Timestamp| self.lines.get(tick);
        match error {
            RecordingError::Unaligned(tick) => at(tick).and_then(|pods| pods.values().min()).copied(),
            RecordingError::Slow { pod, tick, .. } | RecordingError::MoreThanAll { pod, tick } => {
                at(tick).and_then(|pods| pods.get(pod)).copied()
            }
            RecordingError::Interval(_)
            | RecordingError::Backwards { .. }
            | RecordingError::TooShort { .. }
            | RecordingError::TooLong { .. }
            | RecordingError::Bounds => None,
        }
        .unwrap_or(1)
    }
}

#[cfg(test)]
#[path = "samples_tests.rs"]
mod tests;
