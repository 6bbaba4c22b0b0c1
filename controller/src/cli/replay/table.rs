//! A replay as a table. Pure: must not know where it came from.

use jiff::{SignedDuration, Timestamp};
use serin_core::analysis::Counts;
use serin_core::analysis::sequential::grouped;
use serin_core::rollout::replay::{Division, End, PeerEnd, PeerReplay, RecordingDraft, Replay, StepReplay, Waiting};

use super::super::table::table;

/// All that is shown of a replay.
#[derive(Debug)]
pub(super) struct Shown<'a> {
    /// The rollout.
    pub(super) name: &'a str,
    pub(super) recording: &'a RecordingDraft,
    pub(super) division: Division,
    /// The weights of the plan's steps in percent.
    pub(super) weights: Vec<u8>,
    /// The bounds of the latency objectives in milliseconds.
    pub(super) bounds_ms: Vec<u64>,
    pub(super) replay: &'a Replay,
    pub(super) peers: &'a [PeerReplay],
    /// Metrics of the spec that are judged and were not recorded.
    pub(super) left_out: &'a [String],
}

/// The whole page.
pub(super) fn page(of: &Shown<'_>) -> String {
    let RecordingDraft {
        interval,
        from,
        to,
        stable_earlier,
        ..
    } = of.recording;
    let calls = match of.division {
        Division::Recorded => "calls as they were",
        Division::Plan { .. } => "calls divided by the plan's weights",
    };
    let beside = if stable_earlier.is_zero() {
        String::new()
    } else {
        format!(", stable {stable_earlier:#} earlier")
    };
    let mut page = format!(
        "{}: {from} to {to}, ticks of {interval:#}, {calls}{beside}\n\n",
        of.name
    );
    page += &steps(of);
    page.push('\n');
    page += &rules(of);
    let short = of.replay.short_ticks;
    if short > 0 {
        page += &format!(
            "\nIn {short} ticks the canary had fewer calls than its weight's share: it was judged on those, and the bad calls served are\n\
             what its share would have had at the same rate.\n"
        );
    }
    if !of.left_out.is_empty() {
        page += &format!(
            "\nJudged in a rollout and not replayed, as the samples do not have them by these queries: {}.\n",
            of.left_out.join(", ")
        );
    }
    page
}

fn steps(of: &Shown<'_>) -> String {
    let mut rows = vec![
        [
            "STEP",
            "WEIGHT",
            "FROM",
            "LASTED",
            "CANARY FAILED",
            "STABLE FAILED",
            "VERDICT",
            "EVIDENCE",
        ]
        .map(str::to_owned),
    ];
    for step in &of.replay.steps {
        rows.push([
            format!("{}/{}", step.step + 1, of.weights.len()),
            format!("{} %", step.weight),
            clock(step.from),
            step.until
                .map_or_else(|| "-".to_owned(), |until| lasted(until.duration_since(step.from))),
            part(step.canary.bad, step.canary.total),
            part(step.stable.bad, step.stable.total),
            verdict(step),
            step.sentence.clone(),
        ]);
    }
    table(&rows)
}

fn verdict(step: &StepReplay) -> String {
    let paused = if step.paused { ", paused" } else { "" };
    format!("{}{paused}", step.verdict.name())
}

fn rules(of: &Shown<'_>) -> String {
    let mut rows = vec![["RULE", "OUTCOME", "AT", "AFTER", "WEIGHT", "BAD CALLS SERVED"].map(str::to_owned)];
    let mut row = |rule: &str, outcome: &str, at: Option<Timestamp>, weight: u8, served: &Counts| {
        rows.push([
            rule.to_owned(),
            outcome.to_owned(),
            at.map_or_else(|| "-".to_owned(), clock),
            at.map_or_else(|| "-".to_owned(), |at| lasted(at.duration_since(of.replay.began))),
            format!("{weight} %"),
            bad(served, &of.bounds_ms),
        ]);
    };
    let served = &of.replay.served;
    match &of.replay.end {
        End::RolledBack { at, weight, metric, .. } => {
            let outcome = match metric {
                Some(metric) => format!("rolled back by {metric}"),
                None => "rolled back, nothing proven".to_owned(),
            };
            row("Serin", &outcome, Some(*at), *weight, served);
        }
        End::Promoted { at } => row("Serin", "promoted", Some(*at), 100, served),
        End::Open { weight, waiting } => row("Serin", waits(*waiting), None, *weight, served),
    }
    for peer in of.peers {
        match peer.end {
            PeerEnd::RolledBack { at, weight } => row(&peer.rule, "rolled back", Some(at), weight, &peer.served),
            PeerEnd::Promoted { at } => row(&peer.rule, "promoted", Some(at), 100, &peer.served),
            PeerEnd::Open { weight } => row(&peer.rule, "not done when the calls end", None, weight, &peer.served),
        }
    }
    table(&rows)
}

fn waits(waiting: Waiting) -> &'static str {
    match waiting {
        Waiting::Step => "not done when the stretch ends",
        Waiting::Inconclusive => "paused: no verdict in the step's time",
        Waiting::Sight => "paused: no fresh scrapes",
        Waiting::Person => "paused: waits for a person",
    }
}

/// Such as "41 failed and 7 over 500 ms of 410".
pub(super) fn bad(served: &Counts, bounds_ms: &[u64]) -> String {
    let slow = served.slow.iter().zip(bounds_ms).filter(|(slow, _)| **slow > 0);
    let slow: String = slow
        .map(|(slow, bound)| format!(", {} over {bound} ms", grouped(*slow)))
        .collect();
    format!(
        "{} failed{slow}, of {}",
        grouped(served.failures),
        grouped(served.requests)
    )
}

/// The time of the day; the page's first line has the day.
fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%S").to_string()
}

fn lasted(span: SignedDuration) -> String {
    let seconds = span.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m {seconds:02}s"),
        _ => format!("{hours}h {minutes:02}m {seconds:02}s"),
    }
}

fn part(bad: u64, of: u64) -> String {
    format!("{} of {}", grouped(bad), grouped(of))
}
