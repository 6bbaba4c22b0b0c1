//! The controller's process: started as in a cluster, and measured from outside, by the kernel and by its own metrics. It must not
//! know what it works on.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use lab::process::{Child, Program};
use tokio::time::sleep;

/// Ticks of the kernel's clock a second, in which it counts processor time.
const CLOCK: f64 = 100.0;
/// Its metrics are those of all rollouts, and whoever asks for ten thousand's all the time is most of what it does: after each
/// time it is left alone for so many times as long as it took, and at least for so long.
const SELDOM: f64 = 10.0;
const SOONEST: Duration = Duration::from_millis(100);

/// A running controller.
pub(crate) struct Controller {
    child: Child,
    began: Instant,
    metrics: String,
    http: reqwest::Client,
}

/// How to start it.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    pub(crate) program: PathBuf,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) prometheus: String,
    pub(crate) folder: PathBuf,
    pub(crate) address: std::net::Ipv4Addr,
    pub(crate) port: u16,
}

/// What it used up to a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Seconds of processor time of its own.
    pub(crate) cpu: f64,
    /// Of the git processes that have ended.
    pub(crate) git_cpu: f64,
    pub(crate) rss_mb: f64,
    pub(crate) peak_mb: f64,
    pub(crate) threads: usize,
    pub(crate) files: usize,
}

impl Controller {
    pub(crate) async fn start(start: &Start) -> anyhow::Result<Self> {
        let cache = start.folder.join("mirrors");
        fs::create_dir_all(&cache)?;
        let log = start.folder.join("serin.log");
        let child = Program::new(&start.program)
            .args(["controller", "--cluster-id=bench", "--lease-namespace=serin"])
            .arg(format!("--prometheus-url={}", start.prometheus))
            .arg(format!("--cache-dir={}", cache.display()))
            .arg(format!("--bind-address={}", start.address))
            .arg(format!("--http-port={}", start.port))
            .env("KUBECONFIG", &start.kubeconfig)
            .env(
                "RUST_LOG",
                std::env::var("SCALE_LOG").unwrap_or_else(|_| "warn".to_owned()),
            )
            .log(&log)
            .spawn()
            .await?;
        Ok(Self {
            child,
            began: Instant::now(),
            metrics: format!("http://{}:{}/metrics", start.address, start.port),
            http: reqwest::Client::builder().timeout(Duration::from_secs(5)).build()?,
        })
    }

    pub(crate) async fn stop(&self) {
        self.child.stop(Duration::from_secs(30)).await;
    }

    /// So many looks at rollouts came to their end since it began; 0 while it does not answer.
    pub(crate) async fn looks(&self) -> f64 {
        let scraped = self.scraped().await;
        scraped.get("serin_look_duration_seconds_count").copied().unwrap_or(0.0)
    }

    /// Its metrics by name, summed over their labels; none while it does not answer.
    pub(crate) async fn scraped(&self) -> HashMap<String, f64> {
        let text = match self.http.get(&self.metrics).send().await {
            Ok(answer) => answer.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        };
        let mut sums = HashMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            let value = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
            *sums.entry(name.to_owned()).or_insert(0.0) += value.unwrap_or(0.0);
        }
        sums
    }

    /// Waits until so many looks were made, and says how long after its start that was, at most.
    pub(crate) async fn looked(&self, least: f64, deadline: Duration) -> anyhow::Result<Duration> {
        loop {
            let asked = Instant::now();
            let looks = self.looks().await;
            let took = asked.elapsed();
            if looks >= least {
                return Ok(self.began.elapsed());
            }
            if self.child.exited().is_some() {
                return Err(self.child.obituary());
            }
            if self.began.elapsed() > deadline {
                bail!(
                    "{looks} of {least} looks after {deadline:?}; see {}",
                    self.child.log_path()
                );
            }
            sleep(took.mul_f64(SELDOM).max(SOONEST)).await;
        }
    }

    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        if self.child.exited().is_some() {
            return Err(self.child.obituary());
        }
        let place = PathBuf::from(format!("/proc/{}", self.child.pid()));
        usage(&place).with_context(|| format!("reading {}", place.display()))
    }
}

fn usage(place: &Path) -> anyhow::Result<Usage> {
    let stat = fs::read_to_string(place.join("stat"))?;
    // The name in brackets may have blanks.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |nth: usize| {
        fields
            .get(nth)
            .and_then(|field| field.parse::<f64>().ok())
            .unwrap_or_default()
    };
    let status = fs::read_to_string(place.join("status"))?;
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok())
            .unwrap_or_default()
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of threads"
    )]
    Ok(Usage {
        cpu: (ticks(11) + ticks(12)) / CLOCK,
        git_cpu: (ticks(13) + ticks(14)) / CLOCK,
        rss_mb: number("VmRSS:") / 1024.0,
        peak_mb: number("VmHWM:") / 1024.0,
        threads: number("Threads:") as usize,
        files: fs::read_dir(place.join("fd"))?.count(),
    })
}
