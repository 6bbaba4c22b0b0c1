//! The life of one container: wait for its image and configuration, run the process, probe it, restart it. It must not know
//! the pod's other containers, and writes nothing to the API.

use std::{
    convert::Infallible,
    future::pending,
    os::unix::process::ExitStatusExt as _,
    process::ExitStatus,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use rustix::process::Signal;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};

use super::{
    Shared,
    env::{self, Waiting},
    logs::{self, Logs},
    probe::{Next, Place, Watch},
    sidecar::PodInfo,
};
use crate::{
    clock,
    process::{Child, Program},
};

const RETRY: Duration = Duration::from_secs(1);
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(60);
/// A container that ran for so long has recovered: its next restart comes quickly again.
const RECOVERED: Duration = Duration::from_secs(10);

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) code: i32,
    pub(super) signal: Option<i32>,
    pub(super) reason: &'static str,
    pub(super) started: Timestamp,
    pub(super) finished: Timestamp,
}

/// What a container does at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Run {
    Waiting { reason: &'static str, message: String },
    Running { since: Timestamp },
    Ended(End),
}

/// All that the pod's status says of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    pub(super) run: Run,
    pub(super) last: Option<End>,
    pub(super) restarts: i32,
    /// The startup probe succeeded, or there is none.
    pub(super) started: bool,
    pub(super) ready: bool,
    /// It won't be started again.
    pub(super) done: bool,
}

impl View {
    pub(super) fn new() -> Self {
        let run = Run::Waiting {
            reason: "ContainerCreating",
            message: String::new(),
        };
        Self {
            run,
            last: None,
            restarts: 0,
            started: false,
            ready: false,
            done: false,
        }
    }
}

/// What the pod tells its containers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Control {
    /// End, and take at most this long.
    pub(super) stop: Option<Duration>,
    /// Crashes so far that were asked for.
    pub(super) kills: u64,
    /// The last signal that was asked for, and its number.
    pub(super) signal: Option<(u64, Signal)>,
}

/// A container with all that it needs to run.
pub(super) struct Runner {
    pub(super) shared: Arc<Shared>,
    pub(super) pod: Arc<Pod>,
    pub(super) info: Arc<PodInfo>,
    pub(super) container: Container,
    pub(super) index: usize,
    pub(super) control: watch::Receiver<Control>,
    pub(super) reports: mpsc::UnboundedSender<(usize, View)>,
}

/// Why the process is no longer wanted, or no longer there.
enum Finish {
    Exited(ExitStatus),
    Stop,
    Crash,
    Unhealthy,
}

impl Runner {
    /// Runs until it is told to stop, or until its restart policy says that it is done.
    pub(super) async fn run(self) {
        let reporter = Reporter {
            index: self.index,
            view: Mutex::new(View::new()),
            reports: self.reports.clone(),
        };
        let mut backoff = FIRST_BACKOFF;
        let mut logs = Logs::new(
            &logs::folder(&self.shared.options.dir, &self.info),
            &self.container.name,
        );
        loop {
            let Some((program, child)) = self.start(&reporter, &mut backoff, &logs).await else {
                // It never ran, or stands between two runs.
                return reporter.update(|view| view.done = true);
            };
            logs.begun();
            let (started, begun) = (clock::now(), Instant::now());
            reporter.update(|view| view.run = Run::Running { since: started });
            let life = async {
                let finish = self.supervise(&reporter, &program, &child).await;
                let status = self.end(&finish, &program, &child).await;
                (matches!(finish, Finish::Stop), status)
            };
            let (stopping, status) = tokio::select! {
                biased;
                lived = life => lived,
                // To its very end: one that was frozen can't end before it is thawed.
                never = self.signals(&child) => match never {},
            };
            let end = end(status, started);
            let again = !stopping && self.restarts(end.code);
            logs.ended(again);
            reporter.update(|view| {
                (view.started, view.ready, view.done) = (false, false, !again);
                view.run = Run::Ended(end.clone());
                if again {
                    let message = format!("back-off {backoff:?} restarting failed container");
                    view.run = Run::Waiting {
                        reason: "CrashLoopBackOff",
                        message,
                    };
                    view.last = Some(end);
                }
            });
            if !again {
                return;
            }
            if begun.elapsed() > RECOVERED {
                backoff = FIRST_BACKOFF;
            }
            if self.pause(backoff).await {
                return reporter.update(|view| view.done = true);
            }
            backoff = (backoff * 2).min(LAST_BACKOFF);
            reporter.silently(|view| view.restarts += 1);
        }
    }

    /// Starts the process as soon as it can be started; none when the pod is to stop before.
    async fn start(&self, reporter: &Reporter, backoff: &mut Duration, logs: &Logs) -> Option<(Program, Child)> {
        let mut images = self.shared.options.images.changes();
        loop {
            if self.control.borrow().stop.is_some() {
                return None;
            }
            let started = async {
                let program = self.program(logs).await?;
                let child = program.spawn().await;
                let child = child.map_err(|e| Waiting {
                    reason: "RunContainerError",
                    message: format!("{e:#}"),
                })?;
                Ok((program, child))
            };
            let Waiting { reason, message } = match started.await {
                Ok(started) => return Some(started),
                Err(waiting) => waiting,
            };
            reporter.update(|view| view.run = Run::Waiting { reason, message });
            let delay = if reason == "RunContainerError" { *backoff } else { RETRY };
            tokio::select! {
                _ = images.changed() => {}
                () = sleep(delay) => *backoff = (*backoff * 2).min(LAST_BACKOFF),
                _ = self.stop_asked() => return None,
            }
        }
    }

    /// The process that the image and the spec ask for.
    async fn program(&self, logs: &Logs) -> Result<Program, Waiting> {
        let Self {
            shared,
            pod,
            info,
            container,
            ..
        } = self;
        if pod
            .spec
            .as_ref()
            .is_some_and(|spec| spec.init_containers.iter().flatten().next().is_some())
        {
            return Err(Waiting::config("the lab runs no initContainers"));
        }
        let reference = container.image.as_deref().unwrap_or_default();
        let image = shared.options.images.get(reference).ok_or_else(|| Waiting {
            reason: "ImagePullBackOff",
            message: format!("Back-off pulling image \"{reference}\": not found in the lab's image store"),
        })?;
        let variables = env::variables(&shared.options.client, pod, info, container).await?;
        let expand = |words: &Option<Vec<String>>| -> Vec<String> {
            words
                .iter()
                .flatten()
                .map(|word| env::expand(word, &variables))
                .collect()
        };
        let (command, args) = (expand(&container.command), expand(&container.args));
        let program = match command.split_first() {
            Some((program, rest)) => Program::new(program).args(rest).args(args),
            None if args.is_empty() => Program::new(&image.program).args(&image.args),
            None => Program::new(&image.program).args(args),
        };
        let options = &shared.options;
        let dir = options
            .dir
            .join("pods")
            .join(format!("{}_{}", info.namespace, info.name));
        std::fs::create_dir_all(&dir).map_err(Waiting::config)?;
        let program = program
            .in_network(info.network.clone())
            .clean_env()
            .dir(dir)
            .log(logs.file())
            .urgent();
        let program = program.env("HOSTNAME", &info.name);
        let baked = image.env.iter().map(|(name, value)| (name.clone(), value.clone()));
        let program = baked
            .chain(variables)
            .fold(program, |program, (name, value)| program.env(name, value));
        Ok(program.env("BIND_ADDRESS", info.ip.to_string()))
    }

    /// Probes the process until something happens to it.
    async fn supervise(&self, reporter: &Reporter, program: &Program, child: &Child) -> Finish {
        let kills = self.control.borrow().kills;
        let mut control = self.control.clone();
        let crash = async {
            if control.wait_for(|control| control.kills != kills).await.is_err() {
                pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            _ = self.stop_asked() => Finish::Stop,
            status = child.wait() => Finish::Exited(status),
            () = crash => Finish::Crash,
            () = self.probe(reporter, program) => Finish::Unhealthy,
        }
    }

    /// Hands on the signals that are asked for; never ends.
    async fn signals(&self, child: &Child) -> Infallible {
        let mut control = self.control.clone();
        let mut last = control.borrow().signal;
        while control.wait_for(|control| control.signal != last).await.is_ok() {
            last = control.borrow_and_update().signal;
            if let Some((_, signal)) = last {
                child.signal(signal);
            }
        }
        pending().await
    }

    /// Keeps `started` and `ready` up to date; returns when the container is found dead.
    async fn probe(&self, reporter: &Reporter, program: &Program) {
        let Self {
            shared,
            info,
            container,
            ..
        } = self;
        let place = Place {
            ip: info.ip,
            container,
            program,
        };
        if let Some(startup) = &container.startup_probe {
            let mut alive = false;
            let decide = |answer: Result<(), String>| {
                alive = answer.is_ok();
                Next::Stop
            };
            Watch::new(startup, &place).run(&shared.http, decide).await;
            if !alive {
                return;
            }
        }
        reporter.update(|view| (view.started, view.ready) = (true, container.readiness_probe.is_none()));
        let readiness = async {
            if let Some(probe) = &container.readiness_probe {
                let report = |answer: Result<(), String>| {
                    reporter.update(|view| view.ready = answer.is_ok());
                    Next::Continue
                };
                Watch::new(probe, &place).run(&shared.http, report).await;
            }
            pending::<()>().await;
        };
        let liveness = async {
            match &container.liveness_probe {
                Some(probe) => {
                    let decide = |answer: Result<(), String>| match answer {
                        Ok(()) => Next::Continue,
                        Err(_) => Next::Stop,
                    };
                    Watch::new(probe, &place).run(&shared.http, decide).await;
                }
                None => pending().await,
            }
        };
        tokio::select! { () = readiness => {}, () = liveness => {} }
    }

    /// Makes sure that the process is gone.
    async fn end(&self, finish: &Finish, program: &Program, child: &Child) -> ExitStatus {
        match finish {
            Finish::Exited(status) => *status,
            Finish::Crash => child.kill().await,
            Finish::Unhealthy => tokio::select! {
                status = child.stop(self.grace()) => status,
                // The pod may be told to go while its container takes its time.
                status = self.terminate(program, child) => status,
            },
            Finish::Stop => self.terminate(program, child).await,
        }
    }

    /// The pod's end: the preStop hook, SIGTERM, and SIGKILL when the time is over. A shorter time may be given meanwhile.
    async fn terminate(&self, program: &Program, child: &Child) -> ExitStatus {
        let mut grace = self.stop_asked().await;
        let asked = Instant::now();
        let graceful = async {
            self.pre_stop(program).await;
            child.signal(Signal::TERM);
            child.wait().await
        };
        let mut graceful = std::pin::pin!(graceful);
        let mut control = self.control.clone();
        control.mark_unchanged();
        loop {
            let shorter = async {
                if control.changed().await.is_err() {
                    pending::<()>().await;
                }
            };
            tokio::select! {
                status = &mut graceful => return status,
                () = sleep(grace.saturating_sub(asked.elapsed())) => return child.kill().await,
                () = shorter => grace = control.borrow_and_update().stop.unwrap_or(grace).min(grace),
            }
        }
    }

    async fn pre_stop(&self, program: &Program) {
        let Some(hook) = self.container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref()) else {
            return;
        };
        let place = Place {
            ip: self.info.ip,
            container: &self.container,
            program,
        };
        if let Some(pause) = &hook.sleep {
            sleep(Duration::from_secs(pause.seconds.try_into().unwrap_or_default())).await;
        }
        let action = hook
            .exec
            .as_ref()
            .map(|a| place.exec(a))
            .or_else(|| hook.http_get.as_ref().map(|a| place.http(a)));
        if let Some(action) = action {
            // As in Kubernetes, a hook that fails ends nothing earlier and nothing later.
            let _ = action.ask(&self.shared.http, self.grace()).await;
        }
    }

    fn grace(&self) -> Duration {
        let spec = self.pod.spec.as_ref();
        let seconds = spec.and_then(|s| s.termination_grace_period_seconds).unwrap_or(30);
        Duration::from_secs(seconds.try_into().unwrap_or_default())
    }

    fn restarts(&self, code: i32) -> bool {
        match self.pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()) {
            Some("Never") => false,
            Some("OnFailure") => code != 0,
            _ => true,
        }
    }

    /// Waits until the pod is told to stop, and how long that may take.
    async fn stop_asked(&self) -> Duration {
        let mut control = self.control.clone();
        let asked = control
            .wait_for(|control| control.stop.is_some())
            .await
            .ok()
            .and_then(|control| control.stop);
        // Without the pod's worker there is nobody left to wait for.
        asked.unwrap_or_default()
    }

    /// True when the pod is told to stop before the time is over.
    async fn pause(&self, time: Duration) -> bool {
        timeout(time, self.stop_asked()).await.is_ok()
    }
}

fn end(status: ExitStatus, started: Timestamp) -> End {
    let signal = status.signal();
    let code = status.code().unwrap_or_else(|| 128 + signal.unwrap_or_default());
    let reason = if code == 0 { "Completed" } else { "Error" };
    End {
        code,
        signal,
        reason,
        started,
        finished: clock::now(),
    }
}

struct Reporter {
    index: usize,
    view: Mutex<View>,
    reports: mpsc::UnboundedSender<(usize, View)>,
}

impl Reporter {
    /// Changes the view and tells the pod, if that made a difference.
    fn update(&self, change: impl FnOnce(&mut View)) {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        let before = view.clone();
        change(&mut view);
        if *view != before {
            let _ = self.reports.send((self.index, view.clone()));
        }
    }

    /// Changes the view; the pod hears of it with the next update.
    fn silently(&self, change: impl FnOnce(&mut View)) {
        change(&mut self.view.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
