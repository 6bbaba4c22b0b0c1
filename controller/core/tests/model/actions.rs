//! All that can happen next, and what becomes of the world then. The first action that changes anything is the calm one:
//! what happens when nothing goes wrong any more.

use serin_core::analysis::Judged;
use serin_core::rollout::{LiveWeight, Phase, Verb};

use super::controller::{Fate, Model, Process};
use super::git::{Git, Step};
use super::prometheus::Kind;
use super::properties::{self, Broken};
use super::world::{Rev, Side, World, percent};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    // The controller.
    Look,
    Act(Fate),
    // The cluster and Git go on.
    Job(usize),
    OrphanEnds(usize),
    CatchUp(Side),
    PodsCome(Side),
    Sync,
    Tick(Kind),
    /// A hook says yes or no.
    Hook(bool),
    // Faults.
    Crash,
    HoldUp,
    /// Something is new while Prometheus takes its time.
    Glance,
    JobPlans(usize),
    JobUnheard(usize),
    JobFails(usize),
    /// The controller is slow: time goes by before it has seen what there is to see.
    LateTick(Kind),
    /// The Deployment controller lags behind Argo CD.
    SyncSlowly,
    /// Argo CD has applied one arm and not the other.
    SyncOnly(Side),
    PodsDie(Side),
    /// One of them.
    PodDies(Side),
    Tamper(i64),
    // People.
    Order(Verb),
    Commit(Rev),
    TakeBack,
    Hotfix,
    PromoteByHand,
    Delete,
}

const VERBS: [Verb; 7] = [
    Verb::Promote,
    Verb::PromoteFull,
    Verb::Approve,
    Verb::Pause,
    Verb::Resume,
    Verb::Abort,
    Verb::Retry,
];

/// Ticks that may wait to be read. A longer wait shows nothing else: the same kinds, more often.
const UNREAD: usize = 2;
/// Ticks that are kept.
const KEPT: usize = 3;

impl Action {
    pub(crate) fn is_fault(self) -> bool {
        match self {
            Self::Act(fate) => fate != Fate::Done,
            Self::Crash
            | Self::HoldUp
            | Self::Glance
            | Self::JobPlans(_)
            | Self::JobUnheard(_)
            | Self::JobFails(_)
            | Self::LateTick(_)
            | Self::Tick(Kind::BothBad)
            | Self::SyncSlowly
            | Self::SyncOnly(_)
            | Self::PodsDie(_)
            | Self::PodDies(_)
            | Self::Tamper(_) => true,
            _ => false,
        }
    }

    /// Whether it happens when nothing goes wrong and nobody says anything.
    pub(crate) fn is_calm(self) -> bool {
        let shakes = matches!(self, Self::Tick(kind) if kind != Kind::Good) || self == Self::Hook(false);
        !(shakes || self.is_fault() || self.is_peoples())
    }

    fn is_peoples(self) -> bool {
        matches!(
            self,
            Self::Order(_) | Self::Commit(_) | Self::TakeBack | Self::Hotfix | Self::PromoteByHand | Self::Delete
        )
    }
}

/// The actions to try, the calm ones first and in their order.
fn candidates(world: &World, kinds: &[Kind]) -> Vec<Action> {
    let mut all = vec![Action::Act(Fate::Done), Action::Look];
    let jobs = 0..world.jobs.len();
    all.extend(jobs.clone().map(Action::Job));
    all.extend(jobs.clone().map(Action::OrphanEnds));
    for side in [Side::Stable, Side::Canary] {
        all.extend([Action::CatchUp(side), Action::PodsCome(side)]);
    }
    all.push(Action::Sync);
    if world.unanswered().is_some() {
        all.push(Action::Hook(true));
    }
    all.push(Action::Tick(Kind::Good));
    if world.unanswered().is_some() {
        all.push(Action::Hook(false));
    }
    all.extend(kinds.iter().copied().map(Action::Tick));
    if world.budget.faults > 0 {
        all.extend([Action::Act(Fate::Unheard), Action::Act(Fate::Refused)]);
        all.extend([Action::Crash, Action::HoldUp, Action::Glance]);
        all.extend(jobs.clone().map(Action::JobPlans));
        all.extend(jobs.clone().map(Action::JobUnheard));
        all.extend(jobs.map(Action::JobFails));
        all.extend([
            Action::SyncSlowly,
            Action::Tick(Kind::BothBad),
            Action::LateTick(Kind::Good),
        ]);
        all.extend(kinds.iter().copied().map(Action::LateTick));
        for side in [Side::Stable, Side::Canary] {
            all.extend([Action::SyncOnly(side), Action::PodsDie(side), Action::PodDies(side)]);
        }
        all.extend([Action::Tamper(0), Action::Tamper(100)]);
    }
    if world.budget.people > 0 {
        all.extend(VERBS.map(Action::Order));
        all.extend([Action::Commit(1), Action::Commit(2), Action::TakeBack]);
        all.extend([Action::Hotfix, Action::PromoteByHand, Action::Delete]);
    }
    all
}

/// One thing that can happen, and what comes of it.
pub(crate) struct Next {
    pub(crate) action: Action,
    pub(crate) outcome: Result<World, Broken>,
}

impl Model<'_> {
    /// The controller is faster than time: only [`Action::LateTick`] comes before what it has to do.
    pub(crate) fn nexts(&self, world: &World) -> Vec<Next> {
        let mut nexts = Vec::new();
        let mut is_busy = !matches!(world.process, Process::Idle);
        for action in candidates(world, self.kinds) {
            let waits = match action {
                Action::Tick(_) => is_busy,
                Action::LateTick(_) => !is_busy,
                _ => false,
            };
            if waits {
                continue;
            }
            let outcome = match self.apply(world, action) {
                Ok(Some(next)) => Ok(next),
                Ok(None) => continue,
                Err(broken) => Err(broken),
            };
            // A new message alone is nothing that time would have to wait for.
            let does = |next: &World| !matches!(next.process, Process::Idle) || next.desk != world.desk;
            is_busy |= action == Action::Look && outcome.as_ref().is_ok_and(does);
            nexts.push(Next { action, outcome });
        }
        nexts
    }

    /// The world after the action; `None` where it cannot happen or changes nothing.
    pub(crate) fn apply(&self, world: &World, action: Action) -> Result<Option<World>, Broken> {
        if world.released {
            return Ok(None);
        }
        let next = match action {
            Action::Look => match &world.process {
                Process::Idle => self.decide(world, world.look())?,
                Process::HeldUp(seen) => {
                    let mut next = world.clone();
                    next.process = Process::Idle;
                    let seen = (**seen).clone();
                    Some(self.decide(&next, seen)?.unwrap_or(next))
                }
                Process::Acting(_) => None,
            },
            Action::Glance => match (&world.process, world.glance()) {
                (Process::Idle, Some(seen)) => self.decide(world, seen)?,
                _ => None,
            },
            Action::Act(fate) => self.act(world, fate)?,
            Action::Job(job) => self.run(world, job, Heard::Yes)?,
            Action::JobUnheard(job) => self.run(world, job, Heard::No)?,
            Action::JobPlans(job) => self.plan(world, job),
            _ => {
                let mut next = world.clone();
                changed(&mut next, action).then_some(next)
            }
        };
        let Some(mut next) = next else { return Ok(None) };
        if action.is_fault() {
            next.budget.faults -= 1;
        }
        if action.is_peoples() {
            next.budget.people -= 1;
        }
        Ok(Some(next))
    }

    /// A question to Git comes to its end.
    fn run(&self, world: &World, place: usize, heard: Heard) -> Result<Option<World>, Broken> {
        let Some(job) = world.jobs.get(place) else {
            return Ok(None);
        };
        let mut next = world.clone();
        let mut job = job.clone();
        let reply = loop {
            match job.planned.take() {
                Some((base, entry)) => {
                    let reply = super::git::Reply::Committed(next.git.log.len());
                    if base == next.git.log.len() {
                        properties::push(world, &job.ask, &entry)?;
                        next.git.log.push(entry);
                        break reply;
                    }
                    if self.mutation == super::mutation::Mutation::PushesByForce {
                        next.git.log.truncate(base);
                        next.git.log.push(entry);
                        properties::branch(&next.git)?;
                        break reply;
                    }
                }
                None => match next.git.compute(&job.ask, self.mutation) {
                    Step::Settled(reply) => break reply,
                    Step::Push(entry) => job.planned = Some((next.git.log.len(), entry)),
                },
            }
        };
        next.jobs.remove(place);
        if job.heard {
            next.desk.settle(&job.ask, (heard == Heard::Yes).then_some(reply));
        } else if heard == Heard::No {
            return Ok(None);
        }
        Ok(Some(next))
    }

    /// It computes its commit on the head and is held up before the push.
    fn plan(&self, world: &World, place: usize) -> Option<World> {
        let job = world.jobs.get(place)?;
        if job.planned.is_some() {
            return None;
        }
        let Step::Push(entry) = world.git.compute(&job.ask, self.mutation) else {
            return None;
        };
        let mut next = world.clone();
        next.jobs.get_mut(place)?.planned = Some((world.git.log.len(), entry));
        Some(next)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Yes,
    No,
}

/// What happens in the world outside of the process; says whether anything did.
fn changed(next: &mut World, action: Action) -> bool {
    match action {
        Action::CatchUp(side) => {
            let arm = next.deployed(side);
            std::mem::replace(&mut arm.behind, false)
        }
        Action::PodsCome(side) => {
            let arm = next.deployed(side);
            let comes = !arm.behind && (arm.ready != arm.desired || arm.ready_any != arm.desired);
            if comes {
                arm.ready = arm.desired;
                arm.ready_any = arm.desired;
            }
            comes
        }
        Action::Sync => {
            let (stable, canary) = (sync(next, Side::Stable), sync(next, Side::Canary));
            (next.stable.behind, next.canary.behind) = (false, false);
            stable || canary
        }
        Action::SyncSlowly => {
            let (stable, canary) = (sync(next, Side::Stable), sync(next, Side::Canary));
            stable || canary
        }
        Action::SyncOnly(side) => {
            let both = next.stable.rev != next.git.head().stable && next.canary.rev != next.git.head().canary;
            both && sync(next, side)
        }
        Action::Tick(kind) | Action::LateTick(kind) => tick(next, kind),
        Action::Hook(passes) => {
            let occasion = next.unanswered();
            next.hooks.extend(occasion.clone().map(|about| (about, passes)));
            occasion.is_some()
        }
        Action::Crash => {
            let lost = !matches!(next.process, Process::Idle) || next.desk != super::git::Desk::default();
            next.process = Process::Idle;
            next.desk = super::git::Desk::default();
            next.hooks.clear();
            // A push that is under way may still land; nobody hears of it. Reading does nothing.
            next.jobs.retain(|job| !matches!(job.ask, super::git::Ask::Origin(_)));
            for job in &mut next.jobs {
                job.heard = false;
            }
            lost
        }
        Action::HoldUp => {
            let is_idle = matches!(next.process, Process::Idle);
            if is_idle {
                next.process = Process::HeldUp(next.look().into());
            }
            is_idle
        }
        Action::JobFails(place) => {
            let is_heard = next.jobs.get(place).is_some_and(|job| job.heard);
            if is_heard {
                let job = next.jobs.remove(place);
                next.desk.settle(&job.ask, None);
            }
            is_heard
        }
        Action::OrphanEnds(place) => {
            let is_orphan = next.jobs.get(place).is_some_and(|job| !job.heard);
            if is_orphan {
                next.jobs.remove(place);
            }
            is_orphan
        }
        Action::PodsDie(side) => {
            let arm = next.deployed(side);
            let dies = arm.ready_any > 0;
            (arm.ready, arm.ready_any) = (0, 0);
            dies
        }
        Action::PodDies(side) => {
            let arm = next.deployed(side);
            // The last one is all of them.
            let dies = arm.ready > 1;
            if dies {
                arm.ready -= 1;
                arm.ready_any -= 1;
            }
            dies
        }
        Action::Tamper(to) => {
            let to = percent(to);
            let changes = next.weight != LiveWeight::Absent && next.live() != to;
            if changes {
                properties::tampered(next, to);
                next.weight = LiveWeight::At(to);
                next.wrote_route();
            }
            changes
        }
        Action::Order(verb) => {
            let free = next.command.is_none() && !next.deleted;
            if free {
                next.command = Some((next.budget.people, verb));
                next.wrote_rollout();
            }
            free
        }
        Action::Delete => {
            let first = !next.deleted;
            next.deleted = true;
            next.wrote_rollout();
            first
        }
        Action::Commit(rev) => people(
            next,
            |git| git.commit_canary(rev),
            |git| git.head().canary != rev && git.head().stable != rev,
        ),
        Action::TakeBack => people(next, Git::take_back, |git| git.head().canary != git.head().stable),
        Action::Hotfix => people(next, Git::hotfix, |git| git.head().stable != super::world::HOTFIX),
        Action::PromoteByHand => {
            let by_hand = people(next, Git::promote_by_hand, |git| git.head().canary != git.head().stable);
            if by_hand {
                next.witness.promoted_by_hand = Some(next.git.head().stable);
            }
            by_hand
        }
        Action::Look
        | Action::Glance
        | Action::Act(_)
        | Action::Job(_)
        | Action::JobPlans(_)
        | Action::JobUnheard(_) => false,
    }
}

fn people(next: &mut World, pushes: impl FnOnce(&mut Git), can: impl FnOnce(&Git) -> bool) -> bool {
    let can = can(&next.git);
    if can {
        pushes(&mut next.git);
    }
    can
}

/// Argo CD applies the head to one arm.
fn sync(next: &mut World, side: Side) -> bool {
    let head = next.git.head();
    let want = match side {
        Side::Stable => head.stable,
        Side::Canary => head.canary,
    };
    let arm = next.deployed(side);
    if arm.rev == want {
        return false;
    }
    arm.rev = want;
    arm.behind = true;
    arm.ready = 0;
    if side == Side::Canary {
        // Nothing keeps the old canary's pods.
        arm.ready_any = 0;
    }
    true
}

fn tick(next: &mut World, kind: Kind) -> bool {
    if next.unread() >= UNREAD {
        return false;
    }
    let judged = next.status.phase.run().map(|run| run.analysis.judged);
    let samples = next.status.phase.samples_since().is_some() && !next.deleted;
    // Where nothing is judged all ticks are alike, and without traffic no call can fail.
    let shows = match judged {
        Some(Judged::Canary) if samples => !next.live().is_zero() || matches!(kind, Kind::Quiet | Kind::Blind),
        Some(Judged::Stable) if samples => true,
        _ => kind == Kind::Good,
    };
    let quiet_is_calm = kind == Kind::Good && !shows;
    if !shows && !quiet_is_calm {
        return false;
    }
    let kind = if shows { kind } else { Kind::Quiet };
    let on_trial = matches!(
        next.status.phase,
        Phase::Progressing(_) | Phase::Paused(_) | Phase::Promoting(_)
    );
    properties::ticked(next, kind, on_trial);
    next.now += 1;
    let weight = next.live().percent();
    next.ticks.push((kind, weight));
    if next.ticks.len() > KEPT {
        next.ticks.remove(0);
    }
    true
}
