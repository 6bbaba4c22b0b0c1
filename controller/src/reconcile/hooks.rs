//! Has hooks asked beside the reconciles, until they answer: a slow one delays nobody's weight. It must not know what their answers
//! are good for.
//!
//! An occasion is asked by one task, which lives as long as status says that its answer is waited for. After a restart it is asked
//! again, with the same id.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Client, Resource as _, ResourceExt as _};
use serin_core::rollout::{HookView, Occasion, Phase, Plan};
use tokio::task::AbortHandle;

use super::desk::{Desk, Key};
use super::places::Places;
use crate::api::{CanaryRollout, HookCall, HookWay, HttpHookSpec, Parsed};
use crate::callout::{Guard, Secrets};
use crate::hooks::{Job, Post, Question, Reply};
use crate::runtime::backoff::Backoff;
use crate::runtime::clock;

/// Requests to hooks at the same time, of all rollouts.
const PLACES: usize = 64;
/// Of these, for the rollouts of one namespace: one that is slow delays its own gates, and no other's.
const PLACES_OF_A_NAMESPACE: usize = 8;
/// A hook is never left alone for longer, whatever it wishes.
const LONGEST: Duration = Duration::from_secs(300);

/// Where the hooks of all rollouts are asked.
pub(super) fn places() -> Arc<Places> {
    Arc::new(Places::new(PLACES, PLACES_OF_A_NAMESPACE))
}

/// How soon it is asked again.
const PATIENCE: Backoff = Backoff {
    first: Duration::from_secs(2),
    longest: Duration::from_secs(30),
};

/// How long to wait after so many times; `jitter` is between 0 and 1. What the hook wishes is the least.
fn wait(patience: Backoff, times: u32, wish: Option<Duration>, jitter: f64) -> Duration {
    let own = patience.jittered(times, jitter);
    wish.map_or(own, |wish| wish.min(LONGEST).max(own))
}

/// Who asks.
#[derive(Clone)]
pub(super) struct Hooks {
    tasks: Arc<Mutex<HashMap<Key, HashMap<String, Task>>>>,
    asker: Arc<Asker>,
    desk: Desk,
}

struct Asker {
    client: Client,
    secrets: Secrets,
    /// For addresses that rollouts name.
    http: reqwest::Client,
    guard: Guard,
    /// Whether Jobs may be made.
    jobs: bool,
    places: Arc<Places>,
    patience: Backoff,
}

struct Task {
    view: Option<HookView>,
    task: AbortHandle,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Hooks {
    pub(super) fn new(
        client: Client,
        secrets: Secrets,
        (http, guard): (reqwest::Client, Guard),
        (jobs, places): (bool, Arc<Places>),
        desk: Desk,
    ) -> Self {
        let asker = Asker {
            client,
            secrets,
            http,
            guard,
            jobs,
            places,
            patience: PATIENCE,
        };
        Self {
            tasks: Arc::default(),
            asker: Arc::new(asker),
            desk,
        }
    }

    /// Whether Jobs may be made.
    pub(super) fn has_jobs(&self) -> bool {
        self.asker.jobs
    }

    /// What was answered so far to what a phase waits for.
    pub(super) fn view(&self, rollout: &CanaryRollout, cluster: &str, phase: &Phase) -> Vec<(Occasion, HookView)> {
        let questions = questions(rollout, cluster, phase, None);
        if questions.is_empty() {
            return Vec::new();
        }
        self.tasks(&Key::from_obj(rollout), |tasks| {
            let seen = questions.into_iter().filter_map(|question| {
                let view = tasks.get(&question.id())?.view.clone()?;
                Some((question.occasion, view))
            });
            seen.collect()
        })
    }

    /// Asks, unless the same is being asked or was answered already.
    pub(super) fn ask(&self, rollout: &CanaryRollout, cluster: &str, phase: &Phase, parsed: &Parsed, about: &Occasion) {
        let questions = questions(rollout, cluster, phase, Some(&parsed.plan));
        let Some(question) = questions.into_iter().find(|question| question.occasion == *about) else {
            return;
        };
        let Some(call) = parsed.hooks.iter().find(|call| call.name == about.hook).cloned() else {
            return;
        };
        let timeout = parsed.plan.hook(&about.hook).map(|hook| hook.timeout.unsigned_abs());
        let owner = rollout.controller_owner_ref(&()).unwrap_or_default();
        let (key, id) = (Key::from_obj(rollout), question.id());
        let errand = Errand {
            hooks: self.clone(),
            key: key.clone(),
            id: id.clone(),
            question,
            call,
            owner,
            timeout: timeout.unwrap_or_default(),
        };
        self.tasks(&key, |tasks| {
            tasks.entry(id).or_insert_with(|| Task {
                view: None,
                task: tokio::spawn(errand.run()).abort_handle(),
            });
        });
    }

    fn settle(&self, key: &Key, id: &str, view: HookView) {
        let changed = self.tasks(key, |tasks| {
            let task = tasks.get_mut(id)?;
            let changed = task.view.as_ref() != Some(&view);
            task.view = Some(view);
            Some(changed)
        });
        if changed == Some(true) {
            self.desk.wake(key.clone());
        }
    }

    /// Ends what neither of the phases waits for: the one that stands in status, and the one that is to.
    pub(super) fn keep_only(&self, rollout: &CanaryRollout, cluster: &str, phases: [&Phase; 2]) {
        let open = phases.map(|phase| questions(rollout, cluster, phase, None));
        let open: Vec<_> = open.iter().flatten().map(Question::id).collect();
        let key = Key::from_obj(rollout);
        let mut all = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tasks) = all.get_mut(&key) {
            tasks.retain(|id, _| open.contains(id));
            if tasks.is_empty() {
                all.remove(&key);
            }
        }
    }

    /// Forgets a rollout that is gone.
    pub(super) fn forget(&self, key: &Key) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Ends all: somebody else asks from now on, with the same ids.
    pub(super) fn clear(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        drop(tasks);
    }

    fn tasks<R>(&self, key: &Key, work: impl FnOnce(&mut HashMap<String, Task>) -> R) -> R {
        let mut all = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        work(all.entry(key.clone()).or_default())
    }
}

/// One occasion, to be asked until it is answered.
struct Errand {
    hooks: Hooks,
    key: Key,
    id: String,
    question: Question,
    call: HookCall,
    owner: OwnerReference,
    timeout: Duration,
}

/// In which way, and how far that is.
enum Attempt<'a> {
    Post(&'a HttpHookSpec),
    Job { job: Job, is_made: bool },
}

impl Errand {
    async fn run(self) {
        if AssertUnwindSafe(self.ask()).catch_unwind().await.is_err() {
            self.settle(HookView::Pending(
                "asking panicked, which is a bug of Serin's".to_owned(),
            ));
        }
    }

    fn settle(&self, view: HookView) {
        self.hooks.settle(&self.key, &self.id, view);
    }

    async fn ask(&self) {
        let asker = &self.hooks.asker;
        let Self {
            call, question, owner, ..
        } = self;
        let (attempt, retries) = match &call.way {
            HookWay::Http(spec) => (Attempt::Post(spec), call.retries),
            HookWay::Job(_) if !asker.jobs => {
                let why = "Serin's configuration allows no Jobs (`hooks.jobs` of its chart)";
                return self.settle(HookView::Failed(why.to_owned()));
            }
            HookWay::Job(template) => {
                let job = Job::new(
                    asker.client.clone(),
                    question,
                    template,
                    owner,
                    (self.timeout, call.retries),
                );
                // What goes wrong between here and the API server is no answer of the Job's.
                (Attempt::Job { job, is_made: false }, None)
            }
        };
        self.until_answered(attempt, retries).await;
    }

    /// Asks until there is an answer. Who waits for it ends it by its timeout.
    async fn until_answered(&self, mut attempt: Attempt<'_>, retries: Option<u32>) {
        let asker = &self.hooks.asker;
        let (mut times, mut troubles) = (0_u32, 0_u32);
        loop {
            let reply = {
                let Some(_place) = asker.places.take(&self.question.namespace).await else {
                    return;
                };
                asker.attempt(&self.question, &mut attempt).await
            };
            times = times.saturating_add(1);
            let (why, after) = match reply {
                Reply::Passed => return self.settle(HookView::Passed),
                Reply::Failed(why) => return self.settle(HookView::Failed(why)),
                Reply::Undecided { why, after } => (why, after),
                Reply::Trouble { why, after } => {
                    troubles = troubles.saturating_add(1);
                    if retries.is_some_and(|retries| troubles > retries) {
                        let why = format!("{why}; given up after {troubles} tries");
                        return self.settle(HookView::Failed(why));
                    }
                    (why, after)
                }
            };
            let wait = wait(asker.patience, times, after, rand::random());
            tracing::debug!(hook = self.id, ?wait, "asked again: {why}");
            self.settle(HookView::Pending(why));
            tokio::time::sleep(wait).await;
        }
    }
}

impl Asker {
    async fn attempt(&self, question: &Question, attempt: &mut Attempt<'_>) -> Reply {
        match attempt {
            Attempt::Post(spec) => self.post(question, spec).await,
            Attempt::Job { job, is_made } => {
                if !*is_made {
                    if let Err(reply) = job.create().await {
                        return reply;
                    }
                    *is_made = true;
                }
                job.look().await
            }
        }
    }

    async fn post(&self, question: &Question, spec: &HttpHookSpec) -> Reply {
        // Read anew for each request: one that was exchanged is used at once.
        let (namespace, name) = (question.namespace.clone(), spec.secret_ref.name.clone());
        let secret = match (self.secrets)(Some(namespace), name).await {
            Ok(secret) => secret,
            Err(error) => {
                return Reply::Trouble {
                    why: format!("{error:#}"),
                    after: None,
                };
            }
        };
        let post = Post {
            client: &self.http,
            guard: &self.guard,
            secret: &secret,
            spec,
        };
        post.ask(question, clock::now()).await
    }
}

/// What a phase waits for.
fn questions(rollout: &CanaryRollout, cluster: &str, phase: &Phase, plan: Option<&Plan>) -> Vec<Question> {
    let Some(trial) = phase.trial() else {
        return Vec::new();
    };
    let question = |occasion: &Occasion| Question {
        cluster: cluster.to_owned(),
        namespace: rollout.namespace().unwrap_or_default(),
        rollout: rollout.name_any(),
        uid: rollout.uid().unwrap_or_default(),
        revision: trial.revision.clone(),
        commit: trial.commit.cloned(),
        began: trial.began,
        weight: plan
            .zip(occasion.step)
            .map(|(plan, step)| plan.step(step).weight.percent()),
        occasion: occasion.clone(),
    };
    phase.open_hooks().map(|run| question(&run.occasion)).collect()
}

#[cfg(test)]
#[path = "hooks_tests.rs"]
mod tests;
