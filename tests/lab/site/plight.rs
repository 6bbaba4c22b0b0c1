//! What is told of an environment in which something was waited for in vain: who called whom, what Prometheus saw of it, what was
//! written, and what its Serin warned of. It is read by somebody who has nothing else. It must not know what was waited for.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, time::SystemTime};

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};

use super::Environment;
use crate::{clock, kubelet::logs};

/// Calls are told of so many stretches, each so long, up to now.
const STRETCHES: i32 = 6;
const STRETCH: SignedDuration = SignedDuration::from_secs(10);
/// So many weights, and so many of a log's lines, the last ones.
const LAST: usize = 12;

impl Environment {
    /// All of it; what can't be had is said in its place.
    pub(super) async fn plight(&self) -> String {
        let parts = [
            ("status", self.said().await),
            ("weights", self.last_weights()),
            ("clients", self.last_calls(clock::now())),
            ("Prometheus", self.seen_by_prometheus().await),
            ("Serin", self.last_lines()),
        ];
        let mut text = String::new();
        for (what, told) in parts {
            let told = told.unwrap_or_else(|error| format!("not known: {error:#}"));
            // Writing to a text can't fail.
            let _ = write!(text, "\n  {what}: {told}");
        }
        text
    }

    async fn said(&self) -> anyhow::Result<String> {
        let status = self.status().await?;
        let conditions = status
            .conditions
            .iter()
            .map(|c| format!("{}={} {}", c.type_, c.status, c.reason));
        let (phase, message) = (status.phase.unwrap_or_default(), status.message.unwrap_or_default());
        Ok(format!(
            "{phase}, {message}; {}",
            conditions.collect::<Vec<_>>().join(", ")
        ))
    }

    fn last_weights(&self) -> anyhow::Result<String> {
        let weights = self.weights()?;
        let last = weights.iter().skip(weights.len().saturating_sub(LAST));
        let last = last.map(|write| format!("{} % at {:.0}", write.percent(), write.at));
        Ok(last.collect::<Vec<_>>().join(", "))
    }

    /// By the revision that answered, and for those that failed by their code.
    fn last_calls(&self, now: Timestamp) -> anyhow::Result<String> {
        let calls = self.calls()?;
        let mut told = Vec::new();
        for nth in (1..=STRETCHES).rev() {
            let (since, until) = (now - STRETCH * nth, now - STRETCH * (nth - 1));
            let mut of: BTreeMap<&str, usize> = BTreeMap::new();
            for call in calls.iter().filter(|call| (since..until).contains(&call.start)) {
                let by = if call.is_failure() {
                    Some(&call.code)
                } else {
                    call.revision.as_ref()
                };
                *of.entry(by.map_or("nobody", String::as_str)).or_default() += 1;
            }
            told.push(format!("{of:?}"));
        }
        let last = calls
            .last()
            .map_or_else(|| "none".to_owned(), |call| format!("{:.0}", call.start));
        Ok(format!(
            "the last call at {last}; in stretches of {STRETCH:#} up to {now:.0}: {}",
            told.join(" ")
        ))
    }

    async fn seen_by_prometheus(&self) -> anyhow::Result<String> {
        let namespace = self.namespace();
        let prometheus = &self.site.lab.prometheus;
        let mut told = Vec::new();
        for (what, query) in [
            ("scraped", format!(r#"sum by (pod) (up{{namespace="{namespace}"}})"#)),
            (
                "answered in a minute",
                format!(
                    r#"sum by (pod) (increase(response_total{{namespace="{namespace}",direction="inbound"}}[1m]))"#
                ),
            ),
        ] {
            let answer = prometheus.query(&query).await?;
            let of = answer.iter().map(|one| {
                let text = |pointer| {
                    one.pointer(pointer)
                        .and_then(|value| value.as_str())
                        .unwrap_or_default()
                };
                format!("{} {}", text("/metric/pod"), text("/value/1"))
            });
            told.push(format!("{what}: {}", of.collect::<Vec<_>>().join(", ")));
        }
        Ok(told.join("; "))
    }

    /// What it warned of last, and its last word.
    fn last_lines(&self) -> anyhow::Result<String> {
        let Some(serin) = &self.serin else {
            return Ok("not its own".to_owned());
        };
        let pods = format!("{}_{}", self.namespace(), serin.release());
        let files = logs::files(self.site.lab.dir(), |pod| pod.starts_with(&pods)).context("finding its logs")?;
        let changed = |file: &Path| {
            file.metadata()
                .and_then(|about| about.modified())
                .unwrap_or(SystemTime::UNIX_EPOCH)
        };
        let newest = files.iter().max_by_key(|file| changed(file)).context("it has no log")?;
        let log = fs::read_to_string(newest).context("reading its log")?;
        let warned: Vec<_> = log
            .lines()
            .filter(|line| line.contains("WARN") || line.contains("ERROR"))
            .collect();
        let warned = warned.iter().skip(warned.len().saturating_sub(LAST));
        let told = warned
            .copied()
            .chain(log.lines().last())
            .fold(String::new(), |told, line| told + "\n    " + line);
        Ok(format!("run {} times; {}:{told}", files.len(), newest.display()))
    }
}
