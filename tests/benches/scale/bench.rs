//! One size, from an empty cluster to the last canary that turned bad. It must not know what the bars are.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use lab::clock::now;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::controller::Controller;
use crate::objects::shape;
use crate::place::Place;
use crate::report::Cell;
use crate::{ACCOUNT, fill, next_due, say, sleep_until, witness};

/// All looks of a start.
const STARTS: Duration = Duration::from_secs(300);
/// And of the first one, which writes each status anew.
const FIRST_START: Duration = Duration::from_secs(900);

pub(crate) async fn measure(count: usize, minutes: f64) -> anyhow::Result<Cell> {
    let place = Place::make("serin-scale-", count, witness::AUDIT_POLICY).await?;
    let measured = Measured { place, minutes };
    let cell = measured.go_on().await;
    measured.place.clear(cell.is_err()).await;
    cell
}

pub(crate) struct Measured {
    pub(crate) place: Place,
    minutes: f64,
}

impl Measured {
    async fn go_on(&self) -> anyhow::Result<Cell> {
        let client = self.place.cluster.client();
        // The first one finds statuses that the bench wrote, and puts its own words there; what it leaves is what a controller finds.
        fill::begin_all(&client, self.place.count, &self.place.repositories).await?;
        let first = Controller::start(&self.place.start).await?;
        #[expect(clippy::cast_precision_loss, reason = "thousands")]
        let all = self.place.count as f64;
        first.looked(all, FIRST_START).await?;
        self.settle(&first).await?;
        say(&format!("{:?}", first.usage()?));
        first.stop().await;
        say("settled; starting again");

        let (answered, began) = (self.place.source.answered(), now());
        let controller = Controller::start(&self.place.start).await?;
        let looked_at = controller.looked(1.0, STARTS).await?;
        let all_looked_at = controller.looked(all, STARTS).await?;
        // Where a tick was due, the source knows better: a decision follows its samples at once.
        let asked = self.place.source.asked_since(answered);
        let first_answer = asked.iter().map(|asked| asked.at.duration_since(began)).min();
        let first_answer = first_answer.map(Duration::try_from).transpose()?;
        let first_decision = first_answer.map_or(looked_at, |answered| answered.min(looked_at));
        say(&format!(
            "first decision after {:.1} s, all after {:.1} s",
            first_decision.as_secs_f64(),
            all_looked_at.as_secs_f64()
        ));
        self.settle(&controller).await?;

        let steady = self.steady(&controller).await?;
        say(&format!(
            "{:.2} s of CPU a minute, {:.0} MB, {:.2} requests a minute each, {:.0} queries an interval",
            steady.cpu_seconds_a_minute, steady.peak_mb, steady.requests_per_progressing, steady.queries_an_interval
        ));
        let single = self.single().await?;
        say(&format!("a single bad one, in milliseconds: {single:?}"));
        let before = controller.usage()?;
        let (gone, turned_bad) = self.all().await?;
        let after = controller.usage()?;
        controller.stop().await;
        Ok(Cell {
            rollouts: self.place.count,
            progressing: self.place.progressing().count(),
            minutes: self.minutes,
            set_up_seconds: self.place.set_up.as_secs_f64(),
            first_decision_seconds: first_decision.as_secs_f64(),
            all_looked_at_seconds: all_looked_at.as_secs_f64(),
            single,
            gone,
            turned_bad,
            peak_mb: after.peak_mb,
            after_mb: after.rss_mb,
            storm_cpu_seconds: after.cpu - before.cpu,
            storm_git_seconds: after.git_cpu - before.git_cpu,
            ..steady
        })
    }

    /// Waits until the looks are those of ticks alone.
    async fn settle(&self, controller: &Controller) -> anyhow::Result<()> {
        let log = self.place.cluster.audit_log().context("the cluster has no audit log")?;
        let end = Instant::now() + STARTS;
        loop {
            let from = now();
            sleep(Duration::from_secs(5)).await;
            let requests = witness::requests(log, ACCOUNT, (from, now()))?;
            if requests.idle == 0 {
                controller.usage()?;
                return Ok(());
            }
            if Instant::now() > end {
                bail!("idle rollouts still cause requests: {requests:?}");
            }
        }
    }

    /// Some minutes in which nothing happens but ticks.
    async fn steady(&self, controller: &Controller) -> anyhow::Result<Cell> {
        let log = self.place.cluster.audit_log().context("the cluster has no audit log")?;
        // From the middle between two ticks to the middle between two others.
        sleep_until(next_due() + i64::try_from(shape().interval.as_millis())? / 2).await;
        let (from, from_instant, before, asked) =
            (now(), Instant::now(), controller.usage()?, self.place.source.answered());
        sleep(Duration::from_secs_f64(self.minutes * 60.0)).await;
        let (to, after) = (now(), controller.usage()?);
        let minutes = from_instant.elapsed().as_secs_f64() / 60.0;
        let intervals = minutes * 60.0 / shape().interval.as_secs_f64();
        let requests = witness::requests(log, ACCOUNT, (from, to))?;
        let asked = self.place.source.asked_since(asked);
        if let Some(problem) = asked.iter().find_map(|asked| asked.problem.as_ref()) {
            bail!("the source was asked what it does not understand: {problem}");
        }
        #[expect(clippy::cast_precision_loss, reason = "thousands")]
        let count = |n: usize| n as f64;
        let by_kind: serde_json::Map<String, Value> = requests
            .by_kind
            .iter()
            .map(|(kind, n)| (kind.clone(), json!((count(*n) / minutes).round())))
            .collect();
        Ok(Cell {
            rollouts: self.place.count,
            progressing: 0,
            minutes,
            set_up_seconds: 0.0,
            first_decision_seconds: 0.0,
            all_looked_at_seconds: 0.0,
            cpu_seconds_a_minute: (after.cpu - before.cpu) / minutes,
            peak_mb: after.peak_mb,
            steady_mb: after.rss_mb,
            after_mb: 0.0,
            threads: after.threads,
            files: after.files,
            requests_a_minute: Value::Object(by_kind),
            requests_per_progressing: count(requests.progressing) / minutes / count(self.place.progressing().count()),
            requests_of_idle: requests.idle,
            own_requests_a_minute: count(requests.own) / minutes,
            queries_an_interval: count(asked.len()) / intervals,
            query_bytes_an_interval: count(asked.iter().map(|asked| asked.bytes).sum()) / intervals,
            series_an_interval: count(asked.iter().map(|asked| asked.series).sum()) / intervals,
            source_seconds_an_interval: asked.iter().map(|asked| asked.took.as_secs_f64()).sum::<f64>() / intervals,
            single: None,
            gone: vec![],
            turned_bad: 0,
            storm_cpu_seconds: 0.0,
            storm_git_seconds: 0.0,
        })
    }
}
