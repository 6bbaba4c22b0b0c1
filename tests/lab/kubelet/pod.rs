//! One pod's worker: gives it an address, runs its containers, writes its status, and finishes its deletion. It must not know
//! other pods.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep,
};
use tracing::warn;

use super::{
    Shared,
    container::{Control, Runner, View},
    sidecar::PodInfo,
    status::{self, Facts},
};
use crate::clock;

const RETRY: Duration = Duration::from_millis(200);

/// What a worker is told.
#[derive(Debug)]
pub(super) enum Order {
    /// The object changed.
    Update(Box<Pod>),
    /// The object is gone, or the lab ends: so is the pod, at once.
    Gone,
    /// Crash all containers.
    Kill,
    /// Send all containers' processes a signal.
    Signal(Signal),
}

/// One pod from its binding to its end.
#[derive(Debug)]
pub(super) struct Worker {
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    info: Arc<PodInfo>,
    since: Timestamp,
    views: Vec<View>,
    conditions: Vec<PodCondition>,
    written: Value,
    control: watch::Sender<Control>,
    gone: bool,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, pod: Pod) -> Self {
        let info = Arc::new(PodInfo::new(&pod, shared.options.net.pod_address()));
        let containers = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
        Self {
            shared,
            info,
            pod: Arc::new(pod),
            since: clock::now(),
            views: vec![View::new(); containers],
            conditions: Vec::new(),
            written: Value::Null,
            control: watch::Sender::default(),
            gone: false,
        }
    }

    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        self.connect().await;
        let options = &self.shared.options;
        // Its logs can be read for as long as its object is there.
        let endpoint = self.shared.endpoint.as_ref();
        let _told = endpoint.map(|endpoint| endpoint.tell(&options.dir, &self.info));
        self.shared.pod_started(&self.info);
        // Tells the sidecars also when this task is aborted.
        let mut stopped = Some(Stopped(self.shared.clone(), self.info.clone()));
        let (sender, mut reports) = mpsc::unbounded_channel();
        let mut containers = JoinSet::new();
        let spec = self.pod.spec.clone().unwrap_or_default();
        for (index, container) in spec.containers.iter().enumerate() {
            let runner = Runner {
                shared: self.shared.clone(),
                pod: self.pod.clone(),
                info: self.info.clone(),
                container: container.clone(),
                index,
                control: self.control.subscribe(),
                reports: sender.clone(),
            };
            containers.spawn(runner.run());
        }
        drop(sender);
        self.obey_deletion();
        let mut running = true;
        loop {
            let settled = self.write_status().await;
            if !running && self.finished() {
                break;
            }
            tokio::select! {
                report = reports.recv(), if running => if let Some(report) = report {
                    self.note(report);
                } else {
                    running = false;
                    stopped = None;
                },
                order = orders.recv() => self.obey(order.unwrap_or(Order::Gone)),
                () = sleep(RETRY), if !settled => {}
            }
            // What came at the same time goes into the same status.
            while let Ok(report) = reports.try_recv() {
                self.note(report);
            }
            while let Ok(order) = orders.try_recv() {
                self.obey(order);
            }
        }
        drop(stopped);
        if let Some(namespaces) = &self.shared.options.namespaces {
            namespaces.remove(&self.info).await;
        }
        if !self.gone {
            self.delete().await;
        }
    }

    /// Brings the pod's address up, where pods have networks of their own.
    async fn connect(&mut self) {
        let Some(namespaces) = &self.shared.options.namespaces else {
            return;
        };
        match namespaces.add(&self.info).await {
            Ok(network) => Arc::make_mut(&mut self.info).network = network,
            // Its processes can't listen then, which its status will say.
            Err(error) => warn!(
                pod = self.info.name,
                error = format!("{error:#}"),
                "making a pod's network"
            ),
        }
    }

    fn note(&mut self, (index, view): (usize, View)) {
        if let Some(place) = self.views.get_mut(index) {
            *place = view;
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Update(pod) => {
                self.pod = Arc::new(*pod);
                self.obey_deletion();
            }
            Order::Gone => {
                self.gone = true;
                self.control.send_modify(|control| control.stop = Some(Duration::ZERO));
            }
            Order::Kill => self.control.send_modify(|control| control.kills += 1),
            Order::Signal(signal) => self.control.send_modify(|control| {
                let count = control.signal.map_or(0, |(count, _)| count);
                control.signal = Some((count + 1, signal));
            }),
        }
    }

    fn terminating(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    /// Nothing runs any more, and nobody waits for the pod to stay.
    fn finished(&self) -> bool {
        self.gone || self.terminating()
    }

    fn obey_deletion(&self) {
        if !self.terminating() {
            return;
        }
        let seconds = self.pod.metadata.deletion_grace_period_seconds.unwrap_or(30);
        let grace = Duration::from_secs(seconds.try_into().unwrap_or_default());
        self.control.send_if_modified(|control| {
            let changes = control.stop.is_none_or(|stop| grace < stop);
            if changes {
                control.stop = Some(grace);
            }
            changes
        });
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.shared.options.client.clone(), &self.info.namespace)
    }

    /// False when it has to be tried again.
    async fn write_status(&mut self) -> bool {
        if self.gone {
            return true;
        }
        let spec = self.pod.spec.as_ref();
        let facts = Facts {
            uid: &self.info.uid,
            ip: self.info.ip,
            since: self.since,
            terminating: self.terminating(),
            containers: spec
                .map(|s| s.containers.iter().zip(&self.views).collect())
                .unwrap_or_default(),
        };
        let status = status::build(&facts, &self.conditions, clock::now());
        let Ok(wanted) = serde_json::to_value(&status) else {
            return true;
        };
        if wanted == self.written {
            return true;
        }
        // The uid makes it fail when another pod has the name by now.
        let patch = Patch::Merge(json!({"metadata": {"uid": self.info.uid}, "status": &wanted}));
        match self
            .pods()
            .patch_status(&self.info.name, &PatchParams::default(), &patch)
            .await
        {
            Ok(_) => {}
            Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => {}
            Err(error) => {
                warn!(pod = self.info.name, %error, "writing a pod's status");
                return false;
            }
        }
        self.conditions = status.conditions.unwrap_or_default();
        self.written = wanted;
        true
    }

    /// The last word of a graceful deletion.
    async fn delete(&self) {
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: Some(self.info.uid.clone()),
                ..Preconditions::default()
            }),
            ..DeleteParams::default()
        };
        loop {
            match self.pods().delete(&self.info.name, &params).await {
                Ok(_) => return,
                Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => return,
                Err(error) => warn!(pod = self.info.name, %error, "finishing a pod's deletion"),
            }
            sleep(RETRY).await;
        }
    }
}

struct Stopped(Arc<Shared>, Arc<PodInfo>);

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.pod_stopped(&self.1);
    }
}
