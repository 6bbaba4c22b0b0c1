//! `serin replay`: a rollout's analysis over a stretch of the past. Reads, calls the core's replay, prints; judges nothing itself.

mod line;
mod measure;
mod moment;
mod own;
mod samples;
mod source;
mod svg;
mod table;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::json;
use serin_core::analysis::sequential::Role;
use serin_core::rollout::replay::{Division, Peer, Recording, Rules, replay, replay_peer};

use self::moment::Moment;
use self::table::Shown;
use super::rollout::parsed;
use crate::api::Parsed;

/// Replay a rollout's analysis over a stretch of the past.
///
/// The production state machine is run tick by tick over what Prometheus (or a file) has: when a canary would have failed or
/// passed, at which weight, and how many bad calls it would have served. Nothing in the cluster is touched.
///
/// It assumes that the canary's pods were ready at once, that every weight took effect at once, and that approvals were given
/// at once. The past has only the calls that were made: `--traffic recorded` judges them as they are, whatever the plan's
/// weights are; `--traffic plan` gives the canary its weight's share of all calls, picked at random (but the same each time)
/// from what each arm answered. Where no canary ran, name any two workloads, or one workload at two times (--stable-from).
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The rollout in the cluster; its last trial is replayed unless --from says otherwise.
    #[arg(required_unless_present = "file")]
    rollout: Option<String>,
    /// Take the rollout from this manifest instead: the spec that is to be tried.
    #[arg(long, short)]
    file: Option<PathBuf>,
    /// The namespace; the manifest's or the kubeconfig's own when absent.
    #[arg(long, short)]
    namespace: Option<String>,
    /// Where Linkerd's metrics are.
    #[arg(
        long,
        env = "SERIN_PROMETHEUS_URL",
        default_value = super::LINKERDS_PROMETHEUS
    )]
    prometheus_url: String,
    /// When the trial is taken to begin: a time such as 2026-11-20T10:00:00Z, or how long ago, such as 90m. With recorded
    /// traffic the first weight counts as written in the first tick after it in which the canary answered a call.
    #[arg(long, value_parser = moment::parse, conflicts_with = "samples")]
    from: Option<Moment>,
    /// The end of the stretch; now, or the end of the last trial, when absent.
    #[arg(long, value_parser = moment::parse, conflicts_with = "samples")]
    to: Option<Moment>,
    /// The Deployment that is judged; the spec's canary when absent.
    #[arg(long, conflicts_with = "samples")]
    canary: Option<String>,
    /// Judge only its pods with this pod-template-hash; the last trial's, or all pods, when absent.
    #[arg(long, conflicts_with = "samples")]
    canary_hash: Option<String>,
    /// What its revision was called, for metrics that ask for {{revision}}; the last trial's when absent.
    #[arg(long, conflicts_with = "samples")]
    canary_revision: Option<String>,
    /// The Deployment that it is compared with; the spec's stable when absent.
    #[arg(long, conflicts_with = "samples")]
    stable: Option<String>,
    /// Compare only with its pods with this pod-template-hash; with all when absent.
    #[arg(long, conflicts_with = "samples")]
    stable_hash: Option<String>,
    /// What that one's revision was called, for metrics that ask for {{revision}}.
    #[arg(long, conflicts_with = "samples")]
    stable_revision: Option<String>,
    /// Take what it is compared with from another time: the one that stands for --from.
    #[arg(long, value_parser = moment::parse, conflicts_with = "samples")]
    stable_from: Option<Moment>,
    /// The port on which the containers listen; what the Service in the cluster says, or its own port, when absent.
    #[arg(long, conflicts_with = "samples")]
    container_port: Option<u16>,
    /// Read the stretch from a file of samples instead of Prometheus.
    #[arg(long)]
    samples: Option<PathBuf>,
    /// Write the stretch to a file of samples, for --samples.
    #[arg(long, conflicts_with = "samples")]
    record: Option<PathBuf>,
    /// How calls go to the arms; `plan` when stable is of another time, else `recorded`.
    #[arg(long, value_enum)]
    traffic: Option<Traffic>,
    /// Which calls are picked with `--traffic plan`: another number picks others.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Show these rules beside it: they go through the plan's weights, each for its hold, and measure the spec's objectives once
    /// a minute.
    #[arg(long, value_enum, value_delimiter = ',')]
    compare: Vec<Compare>,
    /// Draw the rates, the evidence and the verdicts into this file.
    #[arg(long)]
    svg: Option<PathBuf>,
    /// How it is written.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Output,
}

/// How calls go to the arms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Traffic {
    /// As they did.
    Recorded,
    /// By the plan's weights.
    Plan,
}

/// A rule to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Compare {
    /// Flagger with its threshold of 5.
    Flagger,
    /// Argo Rollouts with a failureLimit of 0, its default, and of 3, as documented in examples.
    Argo,
}

/// How a replay is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Tables for people.
    Table,
    /// JSON, with every tick.
    Json,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let source = source::rollout(args.file.as_deref(), args.rollout.as_deref(), args.namespace.as_deref()).await?;
    let parsed = parsed(&source.rollout, &source.name())?;
    let recording = match &args.samples {
        Some(path) => read(path)?,
        None => source::recording(&args, &source, &parsed).await?,
    };
    if let Some(path) = &args.record {
        let doing = || format!("writing samples to {}", path.display());
        let mut file = BufWriter::new(File::create(path).with_context(doing)?);
        samples::write(&recording, &mut file)
            .and_then(|()| file.flush())
            .with_context(doing)?;
    }
    let division = division(args.traffic, args.seed, &recording);
    let page = show(&source.name(), &parsed, &recording, division, &args)?;
    print!("{page}");
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Recording> {
    let doing = || format!("reading samples from {}", path.display());
    let file = File::open(path).with_context(doing)?;
    samples::read(BufReader::new(file)).with_context(doing)
}

/// Two workloads of two times both had all calls: they can only be divided.
fn division(wanted: Option<Traffic>, seed: u64, recording: &Recording) -> Division {
    let apart = !recording.draft().stable_earlier.is_zero();
    if wanted.map_or(apart, |wanted| wanted == Traffic::Plan) {
        Division::Plan { seed }
    } else {
        Division::Recorded
    }
}

/// Replays, draws if asked, and gives back what is to be printed.
fn show(name: &str, parsed: &Parsed, recording: &Recording, division: Division, args: &Args) -> anyhow::Result<String> {
    // A file of samples may be older than a metric or its query. What is not judged is missed by no verdict.
    let mut plan = parsed.plan.clone();
    let (recorded, missing): (Vec<_>, Vec<_>) = std::mem::take(&mut plan.objectives.custom)
        .into_iter()
        .partition(|metric| recording.has(metric));
    plan.objectives.custom = recorded;
    let judged = missing.into_iter().filter(|metric| metric.role == Role::Judged);
    let left_out: Vec<String> = judged.map(|metric| metric.name).collect();
    let rules = Rules {
        plan: &plan,
        baseline: parsed.baseline,
        settle: parsed.scrape_interval,
        division,
    };
    let doing = || format!("replaying {name}");
    let replayed = replay(recording, &rules).with_context(doing)?;
    let peers = peers(&args.compare)
        .map(|peer| replay_peer(recording, &rules, peer))
        .collect::<Result<Vec<_>, _>>()
        .with_context(doing)?;
    let shown = Shown {
        name,
        recording: recording.draft(),
        division,
        weights: parsed.plan.steps().iter().map(|step| step.weight.percent()).collect(),
        bounds_ms: parsed.plan.objectives.bounds_ms().collect(),
        replay: &replayed,
        peers: &peers,
        left_out: &left_out,
    };
    if let Some(path) = &args.svg {
        std::fs::write(path, svg::draw(&shown)).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(match args.output {
        Output::Table => table::page(&shown),
        Output::Json => document(&shown)? + "\n",
    })
}

fn peers(compare: &[Compare]) -> impl Iterator<Item = Peer> + '_ {
    compare.iter().flat_map(|rule| match rule {
        Compare::Flagger => vec![Peer::Flagger { threshold: 5 }],
        Compare::Argo => vec![Peer::Argo { failure_limit: 0 }, Peer::Argo { failure_limit: 3 }],
    })
}

fn document(shown: &Shown<'_>) -> anyhow::Result<String> {
    let Shown {
        name,
        recording,
        division,
        weights,
        bounds_ms,
        replay,
        peers,
        left_out,
    } = shown;
    let document = json!({
        "rollout": name,
        "from": recording.from,
        "to": recording.to,
        "interval": format!("{:#}", recording.interval),
        "traffic": division,
        "weights": weights,
        "latencyBoundsMs": bounds_ms,
        "replay": replay,
        "peers": peers,
        "leftOut": left_out,
    });
    Ok(serde_json::to_string_pretty(&document)?)
}

/// Whether a stretch can be asked for.
fn check_stretch(from: jiff::Timestamp, to: jiff::Timestamp, now: jiff::Timestamp) -> anyhow::Result<()> {
    if from >= now {
        bail!("--from {from} is not in the past");
    }
    if from >= to {
        bail!("the stretch must end after it begins: it is from {from} to {to}");
    }
    Ok(())
}
