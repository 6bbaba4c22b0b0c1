//! The cluster's part of a soak: begins a trial wherever none is, and follows Git and the scale as the Deployment controller and Argo
//! CD would. It must not know what the controller decides, but by what it wrote.
//!
//! # How a trial begins
//! While a Deployment's status is behind its spec nobody can tell what it runs. In that time the bench writes the rollout's memory, as
//! if Serin had begun the trial itself, and the route's weight; then the status catches up.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::apps::v1::Deployment;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt as _};
use lab::clock::now;
use serde_json::{Value, json};
use serin::api::CanaryRollout;
use serin_core::rollout::PhaseName;
use tokio::sync::mpsc;

use crate::fill::{self, APPS, ROUTES, SERIN};
use crate::memory;
use crate::objects::{self, Arm, Rollout, WRITER};
use crate::repositories::Repositories;
use crate::say;

/// So many rollouts at once.
const AT_ONCE: usize = 8;
/// What the Deployment controller calls the ReplicaSets of the canary: at rest, and on trial.
const AT_REST: &str = "2";
const ON_TRIAL: &str = "3";
const REVISION: &str = "deployment.kubernetes.io/revision";

/// What is done, until it is dropped.
pub(crate) struct Turns {
    done: Arc<Done>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Done {
    finished: AtomicUsize,
    problem: Mutex<Option<anyhow::Error>>,
    /// On trial, as far as is known.
    on_trial: Mutex<HashSet<Rollout>>,
}

/// What there is to do.
#[derive(Debug)]
enum Job {
    Begin(Rollout),
    /// The canary's Deployment has another spec than its status says: this generation.
    Follow(Rollout, i64),
}

impl Drop for Turns {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Turns {
    /// Adds what only a soak needs, and begins all trials.
    pub(crate) async fn begin(client: Client, repositories: Arc<Repositories>, count: usize) -> anyhow::Result<Self> {
        let at_rest = stream::iter((0..count).map(Rollout)).map(|of| rest_set(&client, of));
        at_rest.buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
        let done = Arc::new(Done::default());
        let task = tokio::spawn(go_on(client, repositories, count, done.clone()));
        Ok(Self { done, task })
    }

    /// Trials that came to their end.
    pub(crate) fn finished(&self) -> usize {
        self.done.finished.load(Ordering::Relaxed)
    }

    /// Why it does not go on, if it does not.
    pub(crate) fn problem(&self) -> Option<anyhow::Error> {
        self.done.problem.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

async fn go_on(client: Client, repositories: Arc<Repositories>, count: usize, done: Arc<Done>) {
    let (jobs, waiting) = mpsc::unbounded_channel();
    for of in (0..count).map(Rollout) {
        drop(jobs.send(Job::Begin(of)));
    }
    let of_rollouts = ended(Api::all(client.clone()), &done, jobs.clone());
    let of_deployments = scaled(Api::all(client.clone()), jobs);
    let waiting = tokio_stream::wrappers::UnboundedReceiverStream::new(waiting);
    let work = waiting.for_each_concurrent(AT_ONCE, |job| {
        let (client, repositories, done) = (client.clone(), repositories.clone(), done.clone());
        async move {
            let worked = match &job {
                Job::Begin(of) => begin(&client, *of, &repositories, &done).await,
                Job::Follow(of, generation) => follow(&client, *of, *generation).await,
            };
            if let Err(error) = worked {
                let error = error.context(format!("{job:?}"));
                say(&format!("{error:#}"));
                *done.problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
        }
    });
    tokio::join!(of_rollouts, of_deployments, work);
}

/// Counts the trials that end, and has the next ones begun.
async fn ended(rollouts: Api<CanaryRollout>, done: &Done, jobs: mpsc::UnboundedSender<Job>) {
    let mut told = std::pin::pin!(
        watcher(rollouts, watcher::Config::default())
            .default_backoff()
            .touched_objects()
    );
    while let Some(told) = told.next().await {
        let Ok(rollout) = told else { continue };
        let phase = rollout.status.as_ref().and_then(|status| status.phase.as_deref());
        let of = Rollout::of(&rollout.namespace().unwrap_or_default(), &rollout.name_any());
        let Some(of) = of.filter(|_| phase == Some(PhaseName::RolledBack.word())) else {
            continue;
        };
        if done.on_trial.lock().unwrap_or_else(PoisonError::into_inner).remove(&of) {
            done.finished.fetch_add(1, Ordering::Relaxed);
            drop(jobs.send(Job::Begin(of)));
        }
    }
}

/// Has the statuses of canaries that were scaled to nothing follow.
async fn scaled(deployments: Api<Deployment>, jobs: mpsc::UnboundedSender<Job>) {
    let mut told = std::pin::pin!(
        watcher(deployments, watcher::Config::default())
            .default_backoff()
            .touched_objects()
    );
    // Until the status has followed, each change of the Deployment tells the same.
    let mut followed = HashMap::new();
    while let Some(told) = told.next().await {
        let Ok(deployment) = told else { continue };
        let name = deployment.name_any();
        let of = Rollout::of(&deployment.namespace().unwrap_or_default(), &name);
        let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas);
        let observed = deployment.status.as_ref().and_then(|status| status.observed_generation);
        if let (Some(of), Some(generation)) = (of, deployment.metadata.generation)
            && name.ends_with("-canary")
            && replicas == Some(0)
            && observed < Some(generation)
            && followed.insert(of, generation) != Some(generation)
        {
            drop(jobs.send(Job::Follow(of, generation)));
        }
    }
}

/// The ReplicaSet that the canary has while it equals stable.
async fn rest_set(client: &Client, of: Rollout) -> anyhow::Result<()> {
    let canary = fill::get(client, &deployment(of)).await?;
    let uid = canary
        .pointer("/metadata/uid")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let set = objects::rest_set(of, uid, AT_REST);
    let sets = format!("{APPS}/namespaces/{}/replicasets", of.namespace());
    fill::post(client, &sets, &set).await?;
    Ok(())
}

fn deployment(of: Rollout) -> String {
    format!(
        "{APPS}/namespaces/{}/deployments/{}",
        of.namespace(),
        of.deployment(Arm::Canary)
    )
}

async fn begin(client: &Client, of: Rollout, repositories: &Repositories, done: &Done) -> anyhow::Result<()> {
    let spec = |replicas: i32| json!({ "spec": { "replicas": replicas } });
    let place = deployment(of);
    let mut scaled = fill::patch(client, &place, &spec(1)).await?;
    if !is_behind(&scaled) {
        // At the first turn there was a pod already.
        fill::patch(client, &place, &spec(2)).await?;
        scaled = fill::patch(client, &place, &spec(1)).await?;
    }
    let generation = number(&scaled, "/metadata/generation").context("the Deployment has no generation")?;
    let status = memory::status(of, &repositories.url(of), repositories.commit(of), now())?;
    let rollout = format!("{SERIN}/namespaces/{}/canaryrollouts/{}", of.namespace(), of.name());
    // Whole, as a merge would mix the memory of two phases.
    let whole = json!([{ "op": "add", "path": "/status", "value": status.get("status") }]);
    fill::replace(client, &format!("{rollout}/status?fieldManager={WRITER}"), &whole).await?;
    let route = format!("{ROUTES}/namespaces/{}/grpcroutes/{}", of.namespace(), of.name());
    let weights = json!({ "spec": objects::route_spec(of)? });
    fill::patch(client, &format!("{route}?fieldManager={WRITER}"), &weights).await?;
    done.on_trial.lock().unwrap_or_else(PoisonError::into_inner).insert(of);
    catches_up(client, &place, (1, ON_TRIAL), generation).await
}

fn number(object: &Value, at: &str) -> Option<i64> {
    object.pointer(at).and_then(Value::as_i64)
}

/// Whether the Deployment's status is of an earlier generation.
fn is_behind(deployment: &Value) -> bool {
    number(deployment, "/status/observedGeneration") < number(deployment, "/metadata/generation")
}

/// The Deployment's status says so many pods of this ReplicaSet. The API server takes annotations with a status.
async fn catches_up(
    client: &Client,
    deployment: &str,
    (pods, set): (usize, &str),
    generation: i64,
) -> anyhow::Result<()> {
    let mut status = objects::caught_up(pods, generation);
    if let Some(fields) = status.as_object_mut() {
        fields.insert("metadata".to_owned(), json!({ "annotations": { REVISION: set } }));
    }
    fill::patch(client, &format!("{deployment}/status"), &status).await?;
    Ok(())
}

/// The canary has no pods any more, and Git says of it what it says of stable.
async fn follow(client: &Client, of: Rollout, generation: i64) -> anyhow::Result<()> {
    catches_up(client, &deployment(of), (0, AT_REST), generation).await
}
