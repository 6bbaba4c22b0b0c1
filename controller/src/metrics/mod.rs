//! Serin's own metrics, `serin_*`: what they are called, and where they are counted. docs/metrics.md lists them all, and a test
//! holds the list true. It must not know why anything happens.
//!
//! Labels come from closed sets; only the series of single rollouts ([`rollouts`]) name what people named, and they end with it.

pub mod rollouts;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::api::CanaryRollout;
use crate::board::Board;
use crate::runtime::shards::{Count, Shard, Sharing};
use rollouts::Rollouts;

/// What every name begins with.
const PREFIX: &str = "serin";
/// What went well.
pub const DONE: &str = "Done";

type Labels<const N: usize> = [(&'static str, &'static str); N];
type Histograms<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// Where everything is counted. Cheap to clone; clones count together.
#[derive(Clone)]
pub struct Metrics(Arc<Instruments>);

struct Instruments {
    looks: Histograms<1>,
    queries: Histograms<1>,
    git: Histograms<2>,
    transitions: Family<Labels<3>, Counter>,
    traffic_away: Histogram,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self(Arc::new(Instruments {
            looks: Family::new_with_constructor(quick as fn() -> Histogram),
            queries: Family::new_with_constructor(quick as fn() -> Histogram),
            git: Family::new_with_constructor(slow as fn() -> Histogram),
            transitions: Family::default(),
            traffic_away: slow(),
        }))
    }
}

/// 5 ms to 10 s: what answers a reconcile waits for.
fn quick() -> Histogram {
    Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
}

/// 50 ms to 150 s, the deadline of a write to a config repository.
fn slow() -> Histogram {
    Histogram::new([0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 150.0])
}

/// What is done in the config repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GitOperation {
    /// The branch is brought from the host.
    Fetch,
    /// Commits are pushed: one push may carry several.
    Push,
    /// A rollback, from being asked for to its push.
    RollBack,
    /// A promotion, the same.
    Promote,
    /// A canary revision, the same.
    Create,
}

impl GitOperation {
    fn name(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Push => "push",
            Self::RollBack => "rollback",
            Self::Promote => "promotion",
            Self::Create => "canary",
        }
    }
}

impl Metrics {
    /// A look at a rollout, from observing to its status.
    pub fn look(&self, outcome: &'static str, took: Duration) {
        let looks = self.0.looks.get_or_create(&[("outcome", outcome)]);
        looks.observe(took.as_secs_f64());
    }

    /// A query of Prometheus.
    pub fn query(&self, outcome: &'static str, took: Duration) {
        let queries = self.0.queries.get_or_create(&[("outcome", outcome)]);
        queries.observe(took.as_secs_f64());
    }

    /// Something that was done in a config repository.
    pub fn git(&self, operation: GitOperation, outcome: &'static str, took: Duration) {
        let labels = [("operation", operation.name()), ("outcome", outcome)];
        self.0.git.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// The same, from its beginning.
    pub(crate) async fn git_during<T>(
        &self,
        operation: GitOperation,
        work: impl Future<Output = T>,
        outcome: impl Fn(&T) -> &'static str,
    ) -> T {
        let began = Instant::now();
        let done = work.await;
        self.git(operation, outcome(&done), began.elapsed());
        done
    }

    /// A rollout went from one phase to another.
    pub fn transition(&self, from: &'static str, to: &'static str, reason: &'static str) {
        let labels = [("from", from), ("to", to), ("reason", reason)];
        self.0.transitions.get_or_create(&labels).inc();
    }

    /// From the end of the sample that failed a canary until its traffic was seen to be gone.
    pub fn traffic_away(&self, took: Duration) {
        self.0.traffic_away.observe(took.as_secs_f64());
    }

    /// What a scrape of a process without rollouts would say.
    #[cfg(test)]
    pub(crate) fn text(&self) -> String {
        let registry = self.registry(Sources {
            board: Board::default(),
            sharing: Sharing::unchallenged(),
            shard_of: |_, _| Shard::FIRST,
            waiting: Arc::new(|| [("rollback", 0), ("other", 0)]),
        });
        let mut text = String::new();
        // Writing to a String can't fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
        text
    }

    /// All that can be scraped.
    pub fn registry(&self, sources: Sources) -> Registry {
        let Sources {
            board,
            sharing,
            shard_of,
            waiting,
        } = sources;
        let mut registry = Registry::with_prefix(PREFIX);
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "The version that runs", Info::new(version));
        registry.register(
            "look_duration_seconds",
            "Time of one look at a rollout: observe, decide, act, status",
            self.0.looks.clone(),
        );
        registry.register(
            "query_duration_seconds",
            "Time until Prometheus answered a query, or did not",
            self.0.queries.clone(),
        );
        registry.register(
            "git_operation_duration_seconds",
            "Time of operations in config repositories",
            self.0.git.clone(),
        );
        registry.register(
            "transitions",
            "Changes of phase that were recorded",
            self.0.transitions.clone(),
        );
        registry.register(
            "traffic_away_seconds",
            "Time from the end of the sample that failed a canary until its traffic was seen to be gone",
            self.0.traffic_away.clone(),
        );
        registry.register_collector(Box::new(Process {
            sharing: sharing.clone(),
            waiting,
        }));
        registry.register_collector(Box::new(Rollouts {
            board,
            sharing,
            shard_of,
        }));
        registry
    }
}

/// How many wait for the config repositories' branches, by kind.
pub type Waiting = Arc<dyn Fn() -> [(&'static str, usize); 2] + Send + Sync>;

/// Tells the shard of a rollout, where there are so many.
pub type ShardOf = fn(Count, &CanaryRollout) -> Shard;

/// What is read at each scrape.
#[derive(Clone)]
pub struct Sources {
    /// The rollouts.
    pub board: Board,
    /// Which shards are this process's: it says nothing of rollouts of others.
    pub sharing: Sharing,
    /// The shard of a rollout.
    pub shard_of: ShardOf,
    /// The writes that wait.
    pub waiting: Waiting,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

/// What the process itself is at.
struct Process {
    sharing: Sharing,
    waiting: Waiting,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").finish_non_exhaustive()
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let leads = ConstGauge::new(i64::from(self.sharing.has_any()));
        let help = "1 on a replica that has a shard; of one shard, on the replica that leads";
        leads.encode(encoder.encode_descriptor("leader", help, None, MetricType::Gauge)?)?;
        let help = "1 on the replica that has the shard";
        let mut gauges = encoder.encode_descriptor("shard_held", help, None, MetricType::Gauge)?;
        for shard in self.sharing.count().shards() {
            let has = ConstGauge::new(i64::from(self.sharing.has(shard)));
            has.encode(gauges.encode_family(&[("shard", shard.to_string())])?)?;
        }
        let help = "Writes that wait for a branch of a config repository";
        let mut gauges = encoder.encode_descriptor("git_queue_depth", help, None, MetricType::Gauge)?;
        for (kind, depth) in (self.waiting)() {
            let depth = ConstGauge::new(i64::try_from(depth).unwrap_or(i64::MAX));
            depth.encode(gauges.encode_family(&[("kind", kind)])?)?;
        }
        // None outside of a runtime.
        let tasks = tokio::runtime::Handle::try_current().map_or(0, |runtime| runtime.metrics().num_alive_tasks());
        let tasks = ConstGauge::new(i64::try_from(tasks).unwrap_or(i64::MAX));
        let help = "Tasks of the process that have not ended";
        tasks.encode(encoder.encode_descriptor("tasks", help, None, MetricType::Gauge)?)?;
        Ok(())
    }
}

#[cfg(test)]
mod monitoring_tests;
#[cfg(test)]
mod tests;
