//! Thousands of rollouts on one controller: a real API server with all objects of 100, 1,000 and 10,000 rollouts, of which a tenth
//! progress; a source that answers as Prometheus with as many series would; and the controller's own process, measured from outside.
//! After some minutes a single canary turns bad, and then all of them in the same second. `make bench-scale` writes
//! `target/bench/scale.json` and `scale.svg`, and fails where a bar is missed.
//!
//! "The sample" is a tick's: it is there when one scrape has gone by after its end, as `analysis.scrapeInterval` says. The one that
//! shows a failure is the one that the verdict came with: status says which that was. By design a single tick fails nobody.
//!
//! `SCALE_N=100,1000` and `SCALE_MINUTES=1` make it shorter; `SCALE_KEEP=1` keeps the folder with the logs.

mod controller;
mod fill;
mod objects;
mod picture;
mod report;
mod repositories;
mod selector;
mod source;
mod witness;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use lab::control_plane::ControlPlane;
use lab::net::Net;
use lab::tools::Tools;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use serin::api::CanaryRollout;
use serin_core::rollout::{PhaseName, State};
use tokio::time::sleep;

use controller::{Controller, Start};
use objects::{INTERVAL, Rollout, SCRAPE, namespace};
use report::{Cell, bars};
use repositories::Repositories;
use source::Source;

const ACCOUNT: &str = "system:serviceaccount:serin:serin";
/// All looks of a start.
const STARTS: Duration = Duration::from_secs(300);
/// The longest wait for traffic to be gone.
const AWAY: Duration = Duration::from_secs(150);

fn main() -> anyhow::Result<()> {
    // `cargo test --all-targets` runs benches too, without this.
    if !std::env::args().any(|arg| arg == "--bench") {
        return Ok(());
    }
    lab::install_crypto();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(run())
}

async fn run() -> anyhow::Result<()> {
    let sizes: Vec<usize> = match std::env::var("SCALE_N") {
        Ok(list) => list
            .split(',')
            .map(|n| n.trim().parse())
            .collect::<Result<_, _>>()
            .context("reading SCALE_N")?,
        Err(_) => vec![100, 1_000, report::SIZE],
    };
    let minutes: f64 = match std::env::var("SCALE_MINUTES") {
        Ok(minutes) => minutes.parse().context("reading SCALE_MINUTES")?,
        Err(_) => 5.0,
    };
    let out = lab::project_root().join("target/bench");
    std::fs::create_dir_all(&out)?;
    let mut cells = Vec::new();
    for size in sizes {
        let cell = measure(size, minutes)
            .await
            .with_context(|| format!("with {size} rollouts"))?;
        println!("{}", serde_json::to_string_pretty(&cell.json())?);
        cells.push(cell);
        write(&out, &cells)?;
    }
    let bars = bars(&cells);
    for bar in &bars {
        println!("{}", bar.line());
    }
    ensure!(bars.iter().all(report::Bar::holds), "a bar is missed");
    Ok(())
}

fn write(out: &Path, cells: &[Cell]) -> anyhow::Result<()> {
    let json = json!({
        "sizes": cells.iter().map(Cell::json).collect::<Vec<_>>(),
        "bars": bars(cells).iter().map(report::Bar::json).collect::<Vec<_>>(),
    });
    std::fs::write(out.join("scale.json"), serde_json::to_string_pretty(&json)? + "\n")?;
    std::fs::write(out.join("scale.svg"), picture::draw(cells)?)?;
    Ok(())
}

/// The program as it is released, unless another one is named.
fn program() -> anyhow::Result<PathBuf> {
    if let Some(program) = std::env::var_os("SCALE_SERIN") {
        return Ok(program.into());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| lab::project_root().join("target"), PathBuf::from);
    let program = target.join("release/serin");
    ensure!(
        program.is_file(),
        "there is no {}; run cargo build --release --bin serin",
        program.display()
    );
    Ok(program)
}

async fn measure(count: usize, minutes: f64) -> anyhow::Result<Cell> {
    let folder = tempfile::Builder::new().prefix("serin-scale-").tempdir()?;
    let (tools, net) = (Tools::load()?, Net::choose()?);
    let crds = lab::project_root().join("crds");
    let cluster = ControlPlane::bare(&tools, &net, folder.path(), &crds, witness::AUDIT_POLICY).await?;
    let repositories = Arc::new(Repositories::make(&folder.path().join("repositories"), count)?);
    let source = Source::new(count, now().as_millisecond());
    let listener = net.listen().await?;
    let prometheus = format!("http://{}", listener.local_addr()?);
    source.serve(listener);
    let client = cluster.client();
    account(&client).await?;
    let set_up = fill::fill(&client, count, &repositories).await?;
    say(&format!("{count} rollouts created in {:.0} s", set_up.as_secs_f64()));
    let start = Start {
        program: program()?,
        kubeconfig: cluster.kubeconfig_for_service_account("serin", "serin").await?,
        prometheus,
        folder: folder.path().to_owned(),
        address: net.infra(),
        port: net.free_port()?,
    };
    let measured = Measured {
        cluster,
        repositories,
        source,
        start,
        count,
        minutes,
        set_up,
    };
    let cell = measured.go_on().await;
    measured.cluster.stop().await;
    if cell.is_err() || std::env::var_os("SCALE_KEEP").is_some() {
        say(&format!("the folder is kept: {}", folder.keep().display()));
    }
    cell
}

struct Measured {
    cluster: ControlPlane,
    repositories: Arc<Repositories>,
    source: Source,
    start: Start,
    count: usize,
    minutes: f64,
    set_up: Duration,
}

impl Measured {
    async fn go_on(&self) -> anyhow::Result<Cell> {
        let client = self.cluster.client();
        // The first one finds statuses that the bench wrote, and puts its own words there; what it leaves is what a controller finds.
        fill::begin_all(&client, self.count, &self.repositories).await?;
        let first = Controller::start(&self.start).await?;
        #[expect(clippy::cast_precision_loss, reason = "thousands")]
        let all = self.count as f64;
        first.looked(all, STARTS).await?;
        self.settle(&first).await?;
        say(&format!("{:?}", first.usage()?));
        first.stop().await;
        say("settled; starting again");

        let controller = Controller::start(&self.start).await?;
        let first_decision = controller.looked(1.0, STARTS).await?;
        let all_looked_at = controller.looked(all, STARTS).await?;
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
        say(&format!("a single bad one: {single:?} ms"));
        let before = controller.usage()?;
        let (away, turned_bad) = self.all().await?;
        let after = controller.usage()?;
        controller.stop().await;
        Ok(Cell {
            rollouts: self.count,
            progressing: self.progressing().count(),
            minutes: self.minutes,
            set_up_seconds: self.set_up.as_secs_f64(),
            first_decision_seconds: first_decision.as_secs_f64(),
            all_looked_at_seconds: all_looked_at.as_secs_f64(),
            single_ms: single,
            away_ms: away,
            turned_bad,
            peak_mb: after.peak_mb,
            after_mb: after.rss_mb,
            storm_cpu_seconds: after.cpu - before.cpu,
            storm_git_seconds: after.git_cpu - before.git_cpu,
            ..steady
        })
    }

    fn progressing(&self) -> impl Iterator<Item = Rollout> {
        (0..self.count).map(Rollout).filter(|of| of.is_progressing())
    }

    /// Waits until the looks are those of ticks alone.
    async fn settle(&self, controller: &Controller) -> anyhow::Result<()> {
        let log = self.cluster.audit_log().context("the cluster has no audit log")?;
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
        let log = self.cluster.audit_log().context("the cluster has no audit log")?;
        // From the middle between two ticks to the middle between two others.
        sleep_until(next_due() + i64::try_from(INTERVAL.as_millis())? / 2).await;
        let (from, from_instant, before, asked) =
            (now(), Instant::now(), controller.usage()?, self.source.asked().len());
        sleep(Duration::from_secs_f64(self.minutes * 60.0)).await;
        let (to, after) = (now(), controller.usage()?);
        let minutes = from_instant.elapsed().as_secs_f64() / 60.0;
        let intervals = minutes * 60.0 / INTERVAL.as_secs_f64();
        let requests = witness::requests(log, ACCOUNT, (from, to))?;
        let asked = self.source.asked().split_off(asked);
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
            rollouts: self.count,
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
            requests_per_progressing: count(requests.progressing) / minutes / count(self.progressing().count()),
            requests_of_idle: requests.idle,
            own_requests_a_minute: count(requests.own) / minutes,
            queries_an_interval: count(asked.len()) / intervals,
            query_bytes_an_interval: count(asked.iter().map(|asked| asked.bytes).sum()) / intervals,
            series_an_interval: count(asked.iter().map(|asked| asked.series).sum()) / intervals,
            source_seconds_an_interval: asked.iter().map(|asked| asked.took.as_secs_f64()).sum::<f64>() / intervals,
            single_ms: None,
            away_ms: vec![],
            turned_bad: 0,
            storm_cpu_seconds: 0.0,
            storm_git_seconds: 0.0,
        })
    }

    /// One canary turns bad among the others: milliseconds from the sample to weight 0.
    async fn single(&self) -> anyhow::Result<Option<f64>> {
        let chosen = self.progressing().nth(self.progressing().count() / 2);
        let chosen = chosen.context("nothing progresses")?;
        let away = self.turn_bad(&[chosen]).await?;
        Ok(away.first().copied())
    }

    /// All others do.
    async fn all(&self) -> anyhow::Result<(Vec<f64>, usize)> {
        let all: Vec<_> = self.progressing().collect();
        let chosen = all.get(all.len() / 2).copied();
        let others: Vec<_> = all.into_iter().filter(|of| Some(*of) != chosen).collect();
        let away = self.turn_bad(&others).await?;
        Ok((away, others.len()))
    }

    /// From the beginning of the next tick on: milliseconds from that tick's sample to weight 0, in order.
    async fn turn_bad(&self, rollouts: &[Rollout]) -> anyhow::Result<Vec<f64>> {
        let log = self.cluster.audit_log().context("the cluster has no audit log")?;
        let interval = i64::try_from(INTERVAL.as_millis())?;
        let begins = (now().as_millisecond() / interval + 1) * interval;
        self.source.turn_bad(rollouts.iter().copied(), begins);
        let sample = begins + interval + i64::try_from(SCRAPE.as_millis())?;
        sleep_until(sample).await;
        let (began, end) = (Timestamp::from_millisecond(begins)?, Instant::now() + AWAY);
        let namespaces: Vec<_> = (0..self.count.div_ceil(objects::IN_NAMESPACE)).map(namespace).collect();
        let zeros: HashMap<Rollout, Timestamp> = loop {
            sleep(Duration::from_secs(2)).await;
            let mut zeros = witness::zeros(log, &namespaces, began)?;
            zeros.retain(|of, _| rollouts.contains(of));
            let is_told = || async { anyhow::Ok(self.deciding(rollouts).await?.len() == zeros.len()) };
            if (zeros.len() == rollouts.len() && is_told().await?) || Instant::now() > end {
                break zeros;
            }
        };
        let samples = self.deciding(rollouts).await?;
        let mut away = Vec::new();
        for (of, at) in zeros {
            let sample = samples
                .get(&of)
                .with_context(|| format!("{of:?} does not say which sample failed it"))?;
            #[expect(clippy::cast_precision_loss, reason = "microseconds of a minute")]
            away.push((at.as_microsecond() - sample * 1_000) as f64 / 1_000.0);
        }
        away.sort_by(f64::total_cmp);
        Ok(away)
    }

    /// When the samples were there with which these rollouts failed, in milliseconds.
    async fn deciding(&self, rollouts: &[Rollout]) -> anyhow::Result<HashMap<Rollout, i64>> {
        let all: Api<CanaryRollout> = Api::all(self.cluster.client());
        let mut samples = HashMap::new();
        for rollout in all.list(&ListParams::default()).await?.items {
            let of = Rollout::of(&rollout.namespace().unwrap_or_default(), &rollout.name_any());
            let Some(of) = of.filter(|of| rollouts.contains(of)) else {
                continue;
            };
            let machine = rollout.status.and_then(|status| status.machine).unwrap_or_default();
            let state: State = serde_json::from_value(machine)?;
            if let Some(run) = state
                .phase
                .run()
                .filter(|_| state.phase.name() == PhaseName::RollingBack)
            {
                samples.insert(of, run.as_of.as_millisecond() + i64::try_from(SCRAPE.as_millis())?);
            }
        }
        Ok(samples)
    }
}

/// The account, with all that a cluster's administrator may do: which permissions Serin needs is judged elsewhere.
async fn account(client: &Client) -> anyhow::Result<()> {
    create::<Namespace>(Api::all(client.clone()), &json!({ "metadata": { "name": "serin" } })).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "serin");
    create(accounts, &json!({ "metadata": { "name": "serin" } })).await?;
    let binding = json!({
        "metadata": { "name": "serin" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [{ "kind": "ServiceAccount", "name": "serin", "namespace": "serin" }],
    });
    create::<ClusterRoleBinding>(Api::all(client.clone()), &binding).await
}

async fn create<K>(api: Api<K>, object: &Value) -> anyhow::Result<()>
where
    K: Clone + DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object.clone())?;
    api.create(&PostParams::default(), &object)
        .await
        .context("creating the controller's account")?;
    Ok(())
}

/// The next time at which ticks are due, in milliseconds.
fn next_due() -> i64 {
    let interval = i64::try_from(INTERVAL.as_millis()).unwrap_or(i64::MAX);
    let scrape = i64::try_from(SCRAPE.as_millis()).unwrap_or(0);
    ((now().as_millisecond() - scrape) / interval + 1) * interval + scrape
}

async fn sleep_until(at_ms: i64) {
    let wait = u64::try_from(at_ms - now().as_millisecond()).unwrap_or(0);
    sleep(Duration::from_millis(wait)).await;
}

#[expect(clippy::disallowed_methods, reason = "a bench has no clock of its own")]
fn now() -> Timestamp {
    Timestamp::now()
}

fn say(what: &str) {
    eprintln!("scale: {what}");
}
