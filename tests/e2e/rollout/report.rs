//! What stories of verdicts took: calls on the canary and time. Each adds a row, which is printed and goes to
//! `target/e2e/verdicts.json`. It must not know what a story wants.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use lab::{audit::WeightWrite, clock, project_root, site::Environment};
use serde::Serialize;

/// All rows so far.
static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

/// How one revision ended.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    canary: String,
    revision: String,
    ended: String,
    /// Calls on the canary that the verdict rests on, as Serin reports them.
    judged: usize,
    /// Calls that met the revision until its end, as clients recorded them.
    met: usize,
    /// From the first weight to the last verdict: the traffic gone, the promotion pushed, or now while it waits or is held.
    seconds: f64,
    why: String,
}

/// Adds how the revision ended, which is the environment's last one, or that it is held; returns how many calls met it.
pub(super) async fn report(
    environment: &Environment,
    canary: &str,
    revision: &str,
    why: &str,
) -> anyhow::Result<usize> {
    let status = environment.status().await?;
    let ended = match (status.phase, status.verdict.as_deref()) {
        (Some(phase), Some("hold")) if phase == "Progressing" => "held".to_owned(),
        (phase, _) => phase.context("status has no phase")?,
    };
    let (begin, gone) = last_traffic(&environment.weights()?)?;
    let end = match ended.as_str() {
        "Promoted" => status.promotion.and_then(|promotion| promotion.pushed_at),
        _ => gone,
    };
    let end = end.unwrap_or_else(clock::now);
    let of_canary = |e: &&serin::api::EvidenceStatus| e.arm == "canary" && e.metric == "success-rate";
    let judged = match status.history.first().filter(|entry| entry.revision == revision) {
        Some(entry) => entry.requests,
        None => status.evidence.iter().find(of_canary).map_or(0, |e| e.total),
    };
    let met = environment.calls()?.into_iter();
    let met = met.filter(|call| call.revision.as_deref() == Some(revision) && call.start <= end);
    let row = Row {
        canary: canary.to_owned(),
        revision: revision.to_owned(),
        ended,
        judged: usize::try_from(judged).unwrap_or(0),
        met: met.count(),
        seconds: end.duration_since(begin).as_secs_f64(),
        why: why.to_owned(),
    };
    // What waits for want of calls may have had none that count.
    let may_have_none = row.ended == "Paused";
    ensure!(
        (row.judged > 0 || may_have_none) && row.judged <= row.met,
        "Serin reports calls that nobody made, or none: {row:?}"
    );
    println!(
        "{}: {} after {} calls ({} judged) and {:.1} s: {}",
        row.canary, row.ended, row.met, row.judged, row.seconds, row.why
    );
    let met = row.met;
    add(row)?;
    Ok(met)
}

fn add(row: Row) -> anyhow::Result<()> {
    let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    rows.push(row);
    let folder = project_root().join("target/e2e");
    std::fs::create_dir_all(&folder)?;
    let file = folder.join("verdicts.json");
    std::fs::write(&file, serde_json::to_vec_pretty(&*rows)?).with_context(|| format!("writing {}", file.display()))
}

/// When the canary got its first weight of the last trial, and when it lost its last one, if it did.
fn last_traffic(weights: &[WeightWrite]) -> anyhow::Result<(Timestamp, Option<Timestamp>)> {
    let is_zero = |write: &&WeightWrite| write.percent() == 0;
    let gone = weights.last().filter(is_zero).map(|write| write.at);
    let traffic = weights
        .iter()
        .rev()
        .skip_while(is_zero)
        .take_while(|write| !is_zero(write));
    let first = traffic.last().context("no weight above zero was written")?;
    Ok((first.at, gone))
}
