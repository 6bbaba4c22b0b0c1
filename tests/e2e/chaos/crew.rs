//! One environment with everything that can break around its Serin, and one who goes on committing revisions. It must not
//! judge.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::DeleteParams};
use lab::{
    clock,
    faults::{Behind, Proxy},
    site::{self, Detours, Environment, Setup, Site},
};
use rand::{Rng as _, rngs::StdRng};
use serde_json::json;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::round::Trouble;

/// Longer than a lease lasts.
const FROZEN: Duration = Duration::from_secs(13);
/// A revision that has not ended by then hangs.
const REVISION: Duration = Duration::from_secs(240);
/// How often a person looks whether a rollout waits for one.
const LOOK: Duration = Duration::from_millis(250);
/// How long a person thinks about it.
const THOUGHT: Duration = Duration::from_secs(2);

/// How many controllers a crew has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replicas {
    /// One, without a lease: it is back at once when it dies.
    One,
    /// Two, of which one leads.
    Two,
}

/// A revision that was committed.
#[derive(Debug, Clone)]
pub(super) struct Revision {
    pub(super) name: String,
    pub(super) is_bad: bool,
    /// Before its commit.
    pub(super) from: Timestamp,
    /// How it ended.
    pub(super) phase: String,
}

/// An environment in trouble.
pub(super) struct Crew {
    environment: Environment,
    replicas: Replicas,
    api: Proxy,
    prometheus: Proxy,
    git: Proxy,
    crash: PathBuf,
    counts: [AtomicU64; 6],
    thaws: Mutex<Vec<JoinHandle<()>>>,
    pushes: AtomicU64,
}

/// What is counted beside the proxies' faults.
const KILLED: usize = 0;
const CRASHED: usize = 1;
const FROZE: usize = 2;
const TERMINATED: usize = 3;
const PAUSED: usize = 4;
const PUSHED: usize = 5;
const COUNTED: [&str; 6] = [
    "killed",
    "died at a crash point",
    "frozen",
    "terminated",
    "Argo CD paused",
    "others' pushes",
];

impl Crew {
    pub(super) async fn start(site: &Arc<Site>, name: &str, replicas: Replicas) -> anyhow::Result<Self> {
        let lab = &site.lab;
        let proxy = async |behind: Behind, target: &str| {
            let address = (lab.net.infra(), lab.net.free_port()?).into();
            Proxy::start(address, behind, target).await
        };
        let api = proxy(Behind::Api, &lab.control_plane.server()).await?;
        let prometheus = proxy(Behind::Prometheus, lab.prometheus.url()).await?;
        let git = proxy(Behind::Git, &format!("http://{}", lab.git.address())).await?;
        let crash = lab.dir().join(format!("{name}-dies-at"));
        let mut arguments = vec!["--crash-file".to_owned(), crash.display().to_string()];
        let count = match replicas {
            Replicas::One => {
                arguments.push("--no-lease".to_owned());
                1
            }
            Replicas::Two => 2,
        };
        let values = json!({ "rollout": {
            "git": { "repository": format!("http://{}/{}.git", git.address(), site::CONFIG) },
            "plan": {
                "steps": [{ "weight": 25, "hold": "1s", "atMost": "90s" }, { "weight": 100, "hold": "1s", "atMost": "90s" }],
                "progressDeadline": "120s",
                "promoteDeadline": "120s",
            },
        } });
        let setup = Setup {
            values,
            own_serin: true,
        };
        let serin = json!({ "replicas": count, "extraArgs": arguments });
        let detours = Detours {
            api: Some(api.address()),
            prometheus: Some(prometheus.address()),
        };
        Ok(Self {
            environment: Environment::start_with(site, name, setup, &serin, detours).await?,
            replicas,
            api,
            prometheus,
            git,
            crash,
            counts: Default::default(),
            thaws: Mutex::default(),
            pushes: AtomicU64::new(0),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.environment.name
    }

    pub(super) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// All that was met, and how often.
    pub(super) fn met(&self) -> BTreeMap<String, u64> {
        let mut met: BTreeMap<String, u64> = BTreeMap::new();
        for (what, proxy) in [("API", &self.api), ("Prometheus", &self.prometheus), ("Git", &self.git)] {
            met.extend(
                proxy
                    .met()
                    .into_iter()
                    .map(|(fault, times)| (format!("{what} {fault:?}"), times)),
            );
        }
        for (what, times) in COUNTED.iter().zip(&self.counts) {
            met.insert((*what).to_owned(), times.load(Ordering::Relaxed));
        }
        met.retain(|_, times| *times > 0);
        met
    }

    /// Lets the trouble begin; returns the commit of another's push.
    pub(super) async fn begin(&self, trouble: Trouble) -> anyhow::Result<Option<String>> {
        match trouble {
            Trouble::Api(fault) => self.api.set(Some(fault)),
            Trouble::Prometheus(fault) => self.prometheus.set(Some(fault)),
            Trouble::Git(fault) => self.git.set(Some(fault)),
            Trouble::Kill => {
                if let Some(pod) = self.leader().await?
                    && self.site().lab.kubelet.kill_pod(&self.environment.namespace(), &pod)
                {
                    self.count(KILLED);
                }
            }
            Trouble::Crash(point) => {
                self.note_crash();
                fs::write(&self.crash, point.name()).context("naming a crash point")?;
            }
            Trouble::Freeze => self.freeze().await?,
            Trouble::Terminate => {
                if let Some(pod) = self.leader().await? {
                    let pods: Api<Pod> = Api::namespaced(self.environment.client(), &self.environment.namespace());
                    pods.delete(&pod, &DeleteParams::default()).await?;
                    self.count(TERMINATED);
                }
            }
            Trouble::PauseArgoCd => {
                self.site()
                    .argocd
                    .pause_application(&self.environment.application())
                    .await?;
                self.count(PAUSED);
            }
            Trouble::Push => return self.push().await.map(Some),
        }
        Ok(None)
    }

    /// Lets it end. Who is dead comes back by himself.
    pub(super) async fn end(&self, trouble: Trouble) -> anyhow::Result<()> {
        match trouble {
            Trouble::Api(_) => self.api.set(None),
            Trouble::Prometheus(_) => self.prometheus.set(None),
            Trouble::Git(_) => self.git.set(None),
            Trouble::PauseArgoCd => {
                let application = self.environment.application();
                self.site().argocd.resume_application(&application).await?;
            }
            Trouble::Kill | Trouble::Crash(_) | Trouble::Freeze | Trouble::Terminate | Trouble::Push => {}
        }
        Ok(())
    }

    /// Nothing is wrong any more.
    pub(super) async fn heal(&self) {
        self.note_crash();
        let thaws = std::mem::take(&mut *self.thaws.lock().unwrap_or_else(PoisonError::into_inner));
        for thaw in thaws {
            drop(thaw.await);
        }
    }

    /// Its own Serin goes, as if another release took its place.
    pub(super) async fn dismiss(&self) -> anyhow::Result<()> {
        let (namespace, serin) = (self.environment.namespace(), format!("serin-{}", self.name()));
        let gone = [
            "delete",
            "deployment",
            "-n",
            &namespace,
            &serin,
            "--cascade=foreground",
            "--wait",
        ];
        self.site().kubectl(&gone, b"").await?;
        Ok(())
    }

    fn site(&self) -> &Arc<Site> {
        &self.environment.site
    }

    fn count(&self, what: usize) {
        if let Some(count) = self.counts.get(what) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The file of a crash that came to pass is gone.
    fn note_crash(&self) {
        static ARMED: &str = "armed";
        let note = self.crash.with_extension(ARMED);
        if note.exists() && !self.crash.exists() {
            self.count(CRASHED);
        }
        drop(fs::remove_file(&self.crash));
        drop(fs::write(note, ""));
    }

    async fn freeze(&self) -> anyhow::Result<()> {
        let Some(pod) = self.leader().await?.filter(|_| self.replicas == Replicas::Two) else {
            return Ok(());
        };
        let namespace = self.environment.namespace();
        if !self.site().lab.kubelet.freeze_pod(&namespace, &pod) {
            return Ok(());
        }
        self.count(FROZE);
        let site = self.site().clone();
        let thaw = tokio::spawn(async move {
            sleep(FROZEN).await;
            site.lab.kubelet.thaw_pod(&namespace, &pod);
        });
        self.thaws.lock().unwrap_or_else(PoisonError::into_inner).push(thaw);
        Ok(())
    }

    /// The pod that leads, or the only one.
    async fn leader(&self) -> anyhow::Result<Option<String>> {
        let serin = self.environment.serin.as_ref().context("it has no Serin of its own")?;
        if self.replicas == Replicas::Two {
            let leader = serin.leader().await?;
            return Ok(leader.and_then(|leader| leader.rsplit_once('_').map(|(pod, _)| pod.to_owned())));
        }
        let alive = |pod: &&Pod| pod.metadata.deletion_timestamp.is_none();
        Ok(serin
            .pods()
            .await?
            .iter()
            .find(alive)
            .and_then(|pod| pod.metadata.name.clone()))
    }

    async fn push(&self) -> anyhow::Result<String> {
        let clone = site::Clone::new(self.site()).await?;
        let turn = self.pushes.fetch_add(1, Ordering::Relaxed);
        let path = format!("notes/{}-{turn}.txt", self.name());
        let id = clone.edit(&path, "Take a note", |_| format!("{turn}\n")).await?;
        self.count(PUSHED);
        Ok(id)
    }

    /// Commits one revision after the other, each when the one before has ended, until it is told to stop.
    pub(super) async fn drive(&self, mut rng: StdRng, stop: CancellationToken) -> anyhow::Result<Vec<Revision>> {
        let mut revisions = Vec::new();
        while !stop.is_cancelled() {
            let turn = revisions.len();
            // Of the two crews one begins with a bad one, so that the shortest run has both.
            let is_bad = rng.random_bool(0.5);
            let is_bad = if turn == 0 {
                self.replicas == Replicas::Two
            } else {
                is_bad
            };
            let name = format!("2.{turn}.{}", u8::from(is_bad));
            let faults: &[(&str, &str)] = if is_bad { &[("FAULT_ERROR_RATE", "0.4")] } else { &[] };
            self.site().push_image(&name, faults)?;
            let from = clock::now();
            self.environment.commit(&name, None).await?;
            let phase = self.until_ended(&name).await?;
            revisions.push(Revision {
                name,
                is_bad,
                from,
                phase,
            });
        }
        Ok(revisions)
    }

    /// Waits for the revision's end, and resumes what waits for a person.
    async fn until_ended(&self, revision: &str) -> anyhow::Result<String> {
        let (end, mut waits_since) = (Instant::now() + REVISION, None);
        loop {
            let status = self.environment.status().await?;
            let (phase, is) = (
                status.phase.clone().unwrap_or_default(),
                status.revision.as_ref().is_some_and(|r| r.name == revision),
            );
            if is && matches!(phase.as_str(), "Promoted" | "RolledBack" | "Withdrawn") {
                return Ok(phase);
            }
            if is && phase == "Paused" {
                let since = *waits_since.get_or_insert_with(Instant::now);
                if since.elapsed() > THOUGHT {
                    self.environment.order("resume").await?;
                    waits_since = None;
                }
            } else {
                waits_since = None;
            }
            if Instant::now() > end {
                bail!(
                    "{}: {revision} has not ended after {REVISION:?}: {phase}, {:?}, {:?}",
                    self.name(),
                    status.message,
                    status.conditions
                );
            }
            sleep(LOOK).await;
        }
    }
}
