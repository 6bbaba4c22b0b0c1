//! Rollouts that end again and again: does the controller stay as it was? A real API server with all objects of some rollouts; all of
//! their canaries are bad; and whatever was rolled back is on trial again at once, ten times as fast as in earnest. `make soak` writes
//! `target/bench/soak.json`, and fails where memory, file handles, tasks or latency grow.
//!
//! One turn is a whole end of a trial: samples, the verdict, weight 0, the drain, no pods, the look into Git, and a cluster that has
//! followed. Git has nothing to undo but at the first turn of each: pushes are what `make bench-git` measures.
//!
//! `MINUTES=10` and `FINISHED=50000` say how long, whichever comes first; `SOAK_N` how many rollouts, `SCALE_SERIN` which program.

mod report;
mod turns;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use lab::clock::now;
use tokio::time::sleep;

use crate::controller::Controller;
use crate::objects;
use crate::place::Place;
use crate::{number, say};
use report::{Report, Window};
use turns::Turns;

/// How often what it uses is written down.
const WINDOW: Duration = Duration::from_secs(10);
/// So often its tasks are counted in a window. A turn takes about as long as a window, and many are in step: one count in each would tell
/// where in the turn it fell, and slowly wander through it.
const COUNTS: u32 = 10;
/// Nothing is logged: what the controller writes is not judged here.
const NO_AUDIT: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n  - level: None\n";

/// The whole of it.
pub(crate) async fn run() -> anyhow::Result<()> {
    objects::choose(objects::SOAK);
    let count = number("SOAK_N", 100)?;
    let minutes = number("MINUTES", 10)?;
    let most = number("FINISHED", usize::MAX)?;
    let place = Place::make("serin-soak-", count, NO_AUDIT).await?;
    place.source.turn_bad(place.progressing(), 0);
    let turns = Turns::begin(place.cluster.client(), place.repositories.clone(), count).await?;
    let controller = Controller::start(&place.start).await?;
    let longest = Duration::from_secs(60 * u64::try_from(minutes)?);
    let soaked = soak(&controller, &turns, longest, most).await;
    controller.stop().await;
    place.clear(soaked.is_err()).await;
    let report = soaked?;
    let out = lab::project_root().join("target/bench");
    std::fs::create_dir_all(&out)?;
    std::fs::write(
        out.join("soak.json"),
        serde_json::to_string_pretty(&report.json())? + "\n",
    )?;
    for line in report.lines() {
        println!("{line}");
    }
    ensure!(report.holds(), "something grows");
    Ok(())
}

/// What it tells at the end of a window, and how many tasks it had on average of the times that it told.
async fn watched(controller: &Controller) -> (HashMap<String, f64>, Option<f64>) {
    let (mut tasks, mut told, mut last) = (0.0, 0.0, HashMap::new());
    for _ in 0..COUNTS {
        sleep(WINDOW / COUNTS).await;
        let scraped = controller.scraped().await;
        if let Some(count) = scraped.get("serin_tasks") {
            tasks += count;
            told += 1.0;
            last = scraped;
        }
    }
    (last, (told > 0.0).then(|| tasks / told))
}

async fn soak(controller: &Controller, turns: &Turns, longest: Duration, most: usize) -> anyhow::Result<Report> {
    let began = Instant::now();
    let mut windows: Vec<Window> = Vec::new();
    let mut before = controller.scraped().await;
    while began.elapsed() < longest && turns.finished() < most {
        let (scraped, tasks) = watched(controller).await;
        let usage = controller.usage()?;
        let since = |name: &str| scraped.get(name).unwrap_or(&0.0) - before.get(name).unwrap_or(&0.0);
        let ended = since("serin_traffic_away_seconds_count");
        let window = Window {
            at: now(),
            finished: turns.finished(),
            memory_mb: usage.rss_mb,
            files: usage.files,
            tasks,
            latency_ms: (ended > 0.0).then(|| 1_000.0 * since("serin_traffic_away_seconds_sum") / ended),
            cpu: usage.cpu,
        };
        say(&window.line());
        before = scraped;
        windows.push(window);
    }
    turns
        .problem()
        .map_or(Ok(()), Err)
        .context("the cluster's part of it")?;
    Ok(Report {
        windows,
        seconds: began.elapsed().as_secs_f64(),
    })
}
