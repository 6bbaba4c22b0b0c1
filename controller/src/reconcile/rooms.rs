//! What this process does of each shard: a room is opened when the shard is its, and closed, with all that is remembered in it, before
//! another replica may have it. It must not know what is decided about a rollout.
//!
//! # Guarantees
//! All that is written about a rollout goes through its shard's room: through a client that is fenced by the shard's Lease, and by
//! pushes before which that Lease is read. Before a shard is let go of, the looks at its rollouts and the jobs at its desk have come to
//! their end; a job that takes longer is cut, which is what happens to it when a process dies.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use kube::Client;
use kube::runtime::reflector::ObjectRef;
use serin_core::rollout::PhaseName;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::cluster::Cluster;
use super::desk::Desk;
use super::hooks::{Hooks, places};
use super::places::Places;
use super::quota::Quota;
use super::rollouts::Rollouts;
use super::run::Options;
use super::secrets::secrets;
use super::speeds::Speeds;
use super::start::Start;
use super::tell::Teller;
use super::turns::Turns;
use super::unwritten::Unwritten;
use super::{Access, Context};
use crate::api::CanaryRollout;
use crate::board::Board;
use crate::callout::{Guard, Secrets};
use crate::gitops::{self, Fence, GitOps};
use crate::metrics::Metrics;
use crate::prometheus::Prometheus;
use crate::runtime::client::{fenced, reading};
use crate::runtime::crash::{self, Point};
use crate::runtime::order::Order;
use crate::runtime::shards::{Count, Shard, Term};
use crate::traffic::Traffic;

/// So long a shard that another replica is to have waits for a job of its desk: nothing is decided about its rollouts meanwhile.
const PATIENCE: Duration = Duration::from_secs(3);

/// The shard of a rollout: a branch of a repository is one's, whichever way leads there.
pub fn shard_of(count: Count, rollout: &CanaryRollout) -> Shard {
    let git = &rollout.spec.git;
    let (host, path) = gitops::place(&git.repository);
    count.shard_of(&[&host, &path, &git.branch])
}

/// Looks at rollouts at rest that go on at once: after a start there are thousands, and none of them is pressing.
const AT_REST: usize = 16;

/// The longest time for which others wait after a start. Ten thousand rollouts' objects are listed in half of it; a look that begins
/// before that asks the API server for all that it reads, and a thousand looks keep it busy for a minute.
const START: Duration = Duration::from_secs(20);
/// How often it is looked whether everything was listed.
const SETTLING: Duration = Duration::from_millis(50);

/// What the rooms share, and the rooms.
pub(super) struct Rooms {
    /// Makes the clients that write.
    client: Client,
    count: Count,
    pub(super) cluster: Cluster,
    pub(super) traffic: Traffic,
    prometheus: Prometheus,
    gitops: Arc<GitOps>,
    desk: Desk,
    secrets: Secrets,
    guarded: (reqwest::Client, Guard),
    hooks: (bool, Arc<Places>),
    speeds: Speeds,
    cluster_name: String,
    access: Access,
    teller: Arc<Teller>,
    rollouts: Rollouts,
    order: Order,
    /// Looks at rollouts at rest that may go on at once.
    at_rest: Semaphore,
    board: Board,
    metrics: Metrics,
    open: RwLock<Vec<Option<Room>>>,
}

/// What is done of one shard, while it is this process's.
#[derive(Clone)]
struct Room {
    context: Arc<Context>,
    turns: Turns,
    start: Arc<Start>,
}

impl Rooms {
    /// All of them closed; the task that sends notifications until it is stopped, and the one that asks how fast calls are. `desk` wakes rollouts.
    pub(super) fn new(
        client: Client,
        options: Options,
        (desk, stop): (Desk, CancellationToken),
        rollouts: Rollouts,
    ) -> (
        Self,
        impl Future<Output = ()> + Send + use<>,
        impl Future<Output = ()> + Send + use<>,
    ) {
        let Options {
            namespace: _,
            cluster: cluster_name,
            prometheus,
            gitops,
            count,
            terms: _,
            order,
            access,
            notify,
            notify_secrets,
            hook_jobs,
            board,
            metrics,
        } = options;
        let reads = reading(&client, &order);
        let secrets = secrets(reads.clone(), notify_secrets);
        let guarded = notify.guarded();
        let (teller, sending) = Teller::new(&cluster_name, (notify, secrets.clone()), desk.clone(), stop);
        let speeds = Speeds::default();
        let asking = speeds.clone().ask(prometheus.clone());
        let rooms = Self {
            count,
            cluster: Cluster::new(&reads),
            traffic: Traffic::new(reads),
            prometheus,
            gitops,
            desk,
            secrets,
            guarded,
            hooks: (hook_jobs, places()),
            speeds: speeds.clone(),
            cluster_name,
            access,
            teller: Arc::new(teller),
            rollouts,
            order,
            at_rest: Semaphore::new(AT_REST),
            board,
            metrics,
            open: RwLock::new(vec![None; count.get()]),
            client,
        };
        (rooms, sending, asking)
    }

    /// A turn among the looks at rollouts at rest.
    pub(super) async fn turn_at_rest(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.at_rest.acquire().await.ok()
    }

    /// The order of the first looks in a rollout's room, if it is open.
    pub(super) fn start(&self, rollout: &CanaryRollout) -> Option<Arc<Start>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let room = open.get(shard_of(self.count, rollout).index())?.as_ref()?;
        Some(room.start.clone())
    }

    /// The room of a rollout, if it is open; and a turn in it.
    pub(super) fn enter(&self, rollout: &CanaryRollout) -> Option<(Arc<Context>, TaskTrackerToken)> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let room = open.get(shard_of(self.count, rollout).index())?.as_ref()?;
        Some((room.context.clone(), room.turns.begin()))
    }

    /// Opens and closes the room of a shard, as its Lease comes and goes.
    pub(super) async fn attend(self: Arc<Self>, term: Term) {
        let mut leadership = term.leadership.clone();
        loop {
            leadership.acquired().await;
            tokio::select! {
                // Who is on the way back is told by their statuses.
                () = self.rollouts.known() => {}
                () = leadership.yielding() => {
                    term.over();
                    continue;
                }
            }
            let room = self.room(&term);
            self.set(term.shard, Some(room.clone()));
            self.wake(term.shard);
            let begins = async {
                room.start.open_after(self.settled(), START).await;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = begins => {}
                () = leadership.yielding() => {}
            }
            self.set(term.shard, None);
            room.start.open();
            room.turns.ended(PATIENCE).await;
            room.context.hooks.clear();
            for rollout in self.of(term.shard) {
                let key = ObjectRef::from_obj(&*rollout);
                self.teller.forget(&key);
                self.speeds.forget(&key);
            }
            term.over();
        }
    }

    /// Comes back when what looks read has been listed once: until then each look would ask the API server for all of it.
    async fn settled(&self) {
        while !(self.cluster.is_settled() && self.traffic.is_settled()) {
            tokio::time::sleep(SETTLING).await;
        }
    }

    fn set(&self, shard: Shard, room: Option<Room>) {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = open.get_mut(shard.index()) {
            *place = room;
        }
    }

    /// A room in which nothing was done yet.
    fn room(&self, term: &Term) -> Room {
        let client = fenced(&self.client, term.leadership.clone(), &self.order);
        let turns = Turns::default();
        let desk = self.desk.another(turns.clone());
        let hooks = Hooks::new(
            client.clone(),
            self.secrets.clone(),
            self.guarded.clone(),
            self.hooks.clone(),
            desk.clone(),
        );
        let context = Context {
            shard: (self.count, term.shard),
            cluster: self.cluster.clone(),
            traffic: self.traffic.over(client.clone()),
            client,
            prometheus: self.prometheus.clone(),
            gitops: Arc::new(GitOps::clone(&self.gitops).with_fence(fence(term))),
            desk,
            hooks,
            speeds: self.speeds.clone(),
            unwritten: Unwritten::default(),
            quota: Quota::default(),
            leadership: term.leadership.clone(),
            cluster_name: self.cluster_name.clone(),
            access: self.access.clone(),
            teller: self.teller.clone(),
            rollouts: self.rollouts.clone(),
            order: self.order.clone(),
            board: self.board.clone(),
            metrics: self.metrics.clone(),
        };
        let of = self.of(term.shard);
        let back = of.iter().filter(|rollout| urgency(rollout) == 0);
        let start = Start::new(back.map(|rollout| ObjectRef::from_obj(&**rollout)).collect());
        Room {
            context: Arc::new(context),
            turns,
            start: Arc::new(start),
        }
    }

    fn of(&self, shard: Shard) -> Vec<Arc<CanaryRollout>> {
        let mut rollouts = self.rollouts.all();
        rollouts.retain(|rollout| shard_of(self.count, rollout) == shard);
        rollouts
    }

    /// Has all rollouts of a shard looked at: first those that are on their way back, then those that have traffic.
    fn wake(&self, shard: Shard) {
        let mut rollouts = self.of(shard);
        rollouts.sort_by_key(|rollout| urgency(rollout));
        for rollout in rollouts {
            self.desk.wake(ObjectRef::from_obj(&*rollout));
        }
    }
}

/// The least is the most urgent.
fn urgency(rollout: &CanaryRollout) -> u8 {
    let Some(status) = &rollout.status else { return 2 };
    if status.phase.as_deref() == Some(PhaseName::RollingBack.word()) {
        0
    } else if status.weight.is_some_and(|weight| weight.observed > 0) {
        1
    } else {
        2
    }
}

/// Asked right before each push of the shard's.
fn fence(term: &Term) -> Fence {
    let holder = term.holder.clone();
    Arc::new(move || {
        crash::here(Point::BeforePush);
        let holder = holder.clone();
        Box::pin(async move {
            match holder {
                Some(holder) => holder.is_this_process().await,
                None => true,
            }
        })
    })
}
