//! The controller's process, as `reconcile` has it: look, decide by the production `transition`, carry the effects out one
//! by one, write status. It can die between any two of these, and each write can be refused or its reply be lost.

use std::sync::Arc;

use serin_core::analysis::{Baseline, Sides};
use serin_core::rollout::{Answer, Decision, Effect, LiveWeight, Observation, Plan, Sampling, State};
use serin_core::{Weight, rollout};

use super::fingerprint::{self, Worth};
use super::git::{self, Ask, Desk, Job};
use super::mutation::{self, Mutation};
use super::prometheus::Kind;
use super::properties::{self, Broken};
use super::world::{Recorded, Side, World, at};

/// What the process is at.
#[derive(Debug, Clone)]
pub(crate) enum Process {
    /// Between two looks; nothing but the desk is in its memory.
    Idle,
    /// A decision was made and is being carried out.
    Acting(Arc<Acting>),
    /// It has read the world and is held up before it decides: what it decides on is old by then.
    HeldUp(Arc<Seen>),
}

/// One look.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) state: Arc<Recorded>,
    /// The answers as they were.
    pub(crate) desk: Desk,
    pub(crate) observation: Observation,
    /// Whether somebody has written the rollout since.
    pub(crate) rollout_changed: bool,
    /// Whether somebody has written the route since.
    pub(crate) route_changed: bool,
}

/// One decision under way.
#[derive(Debug, Clone)]
pub(crate) struct Acting {
    pub(crate) decision: Decision,
    pub(crate) worth: Worth,
    /// The effect that is next; beyond the last one, status is.
    pub(crate) next: usize,
    pub(crate) seen: Seen,
    /// What was asked so far: origin, rollback, promotion, baseline.
    pub(crate) asked: [bool; 4],
}

/// What becomes of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fate {
    Done,
    /// It was done, and the reply was lost: the reconcile ends with an error and begins again.
    Unheard,
    /// It was not done.
    Refused,
}

pub(crate) struct Model<'a> {
    pub(crate) plan: &'a Plan,
    /// What a tick can show when nothing goes wrong but the canary itself.
    pub(crate) kinds: &'a [Kind],
    pub(crate) mutation: Mutation,
}

impl World {
    pub(crate) fn look(&self) -> Seen {
        let state = self.status.clone();
        let observation = Observation {
            autoscaler: None,
            stable: self.stable.seen(Side::Stable),
            canary: self.canary.seen(Side::Canary),
            weight: self.weight,
            route_accepted: None,
            sides: Sides::default(),
            writer: None,
            causes: None,
            preflight: Some(Answer::Is(vec![])),
            pinned: self.pinned.map(|rev| Side::Canary.revision(rev).hash),
            ticks: self.ticks_for(&state),
            sampling: Sampling::Answered,
            baseline: self.desk.baseline.then(|| Answer::Is(Baseline::default())),
            git: self.desk.view(),
            hooks: self.heard(),
            command: self.order(),
            deleted: self.deleted,
        };
        Seen {
            state,
            desk: self.desk.clone(),
            observation,
            rollout_changed: false,
            route_changed: false,
        }
    }

    /// The same, before Prometheus has answered; `None` where it is not asked.
    pub(crate) fn glance(&self) -> Option<Seen> {
        self.status.state.phase.samples_since()?;
        let mut seen = self.look();
        seen.observation.ticks.clear();
        seen.observation.sampling = Sampling::Awaited;
        Some(seen)
    }

    pub(crate) fn wrote_rollout(&mut self) {
        match &mut self.process {
            Process::Idle => {}
            Process::Acting(acting) => Arc::make_mut(acting).seen.rollout_changed = true,
            Process::HeldUp(seen) => Arc::make_mut(seen).rollout_changed = true,
        }
    }

    /// Somebody else's write of the route.
    pub(crate) fn wrote_route(&mut self) {
        match &mut self.process {
            Process::Idle => {}
            Process::Acting(acting) => Arc::make_mut(acting).seen.route_changed = true,
            Process::HeldUp(seen) => Arc::make_mut(seen).route_changed = true,
        }
    }
}

impl Model<'_> {
    /// One decision on what was seen, up to its first effect that does something. `None` if nothing comes of it.
    pub(crate) fn decide(&self, world: &World, seen: Seen) -> Result<Option<World>, Broken> {
        let decision = mutation::decide(self.mutation, self.plan, &seen.state, &seen.observation, at(world.now));
        properties::decision(world, &seen, &decision)?;
        let mut next = world.clone();
        let worth = if decision.state == seen.state.state {
            seen.state.worth
        } else {
            fingerprint::worth(self.plan, &decision.state)
        };
        let acting = Acting {
            decision,
            worth,
            next: 0,
            seen,
            asked: [false; 4],
        };
        next.process = Process::Acting(Arc::new(acting));
        let is_idle = Self::skip(&mut next);
        if is_idle && next.desk == world.desk && next.message == world.message {
            return Ok(None);
        }
        Ok(Some(next))
    }

    /// Carries out what changes nothing in the world, up to the first effect that does, or the end. Says whether nothing
    /// was left to do.
    fn skip(world: &mut World) -> bool {
        let Process::Acting(acting) = world.process.clone() else {
            return true;
        };
        let mut acting = Arc::unwrap_or_clone(acting);
        while let Some(effect) = acting.decision.effects.get(acting.next) {
            if !Self::is_void(world, effect, &mut acting.asked) {
                world.process = Process::Acting(Arc::new(acting));
                return false;
            }
            acting.next += 1;
        }
        if acting.decision.state != acting.seen.state.state {
            world.process = Process::Acting(Arc::new(acting));
            return false;
        }
        world.desk.keep_only(acting.asked);
        world.message = acting.decision.message.into();
        world.process = Process::Idle;
        true
    }

    /// Whether the effect does nothing here; a question that is being asked or was answered already is one that does not.
    fn is_void(world: &mut World, effect: &Effect, asked: &mut [bool; 4]) -> bool {
        match effect {
            // Nothing stands in the way of a start here, the calls go where the weight says, and nothing scales stable.
            Effect::Refresh
            | Effect::Note(_)
            | Effect::AskPreflight(_)
            | Effect::AskCauses(_)
            | Effect::SetMinimum { .. }
            // What a hook says comes by an action.
            | Effect::RunHook(_) => true,
            Effect::SetWeight(_) | Effect::RemoveRoute => world.weight == LiveWeight::Absent,
            Effect::AskBaseline(_) => {
                asked[3] = true;
                world.desk.baseline = true;
                true
            }
            Effect::AskOrigin(_) | Effect::CommitRollback { .. } | Effect::CommitPromotion { .. } => {
                let (ask, kind) = question(effect);
                asked[kind] = true;
                !world.desk.clone().starts(&ask)
            }
            Effect::EnsureObjects { .. } | Effect::ScaleCanary(_) | Effect::Release => false,
        }
    }

    /// The next effect, or the write of status.
    pub(crate) fn act(&self, world: &World, fate: Fate) -> Result<Option<World>, Broken> {
        let Process::Acting(acting) = &world.process else {
            return Ok(None);
        };
        let mut next = world.clone();
        let Some(effect) = acting.decision.effects.get(acting.next) else {
            return Ok(Some(Self::write_status(next, acting, fate)));
        };
        let asks = !is_write(effect);
        if asks && fate != Fate::Done {
            return Ok(None);
        }
        if fate != Fate::Refused {
            if raises_what_was_lowered(world, acting, effect) {
                next.process = Process::Idle;
                return Ok(Some(next));
            }
            properties::write(self.plan, world, acting, effect)?;
            Self::carry_out(&mut next, acting, effect);
        }
        if fate != Fate::Done {
            next.process = Process::Idle;
            return Ok(Some(next));
        }
        if let Process::Acting(acting) = &mut next.process {
            let acting = Arc::make_mut(acting);
            acting.next += 1;
            if asks {
                acting.asked[question(effect).1] = true;
            }
        }
        if next.released {
            next.process = Process::Idle;
        } else {
            Self::skip(&mut next);
        }
        Ok(Some(next))
    }

    fn carry_out(next: &mut World, acting: &Acting, effect: &Effect) {
        match effect {
            Effect::SetWeight(to) => {
                properties::wrote_weight(next, acting, *to);
                next.weight = LiveWeight::At(*to);
            }
            Effect::EnsureObjects { pin } => {
                next.pinned = Some(pin.trim_start_matches('c').parse().unwrap());
                next.weight = LiveWeight::At(next.live());
            }
            Effect::ScaleCanary(replicas) => {
                next.canary.desired = *replicas;
                next.canary.ready = next.canary.ready.min(*replicas);
                next.canary.ready_any = next.canary.ready_any.min(*replicas);
            }
            Effect::AskOrigin(_) | Effect::CommitRollback { .. } | Effect::CommitPromotion { .. } => {
                let (ask, _) = question(effect);
                if next.desk.starts(&ask) {
                    next.jobs.push(Job {
                        ask,
                        heard: true,
                        planned: None,
                    });
                }
            }
            Effect::RemoveRoute => next.weight = LiveWeight::Absent,
            Effect::Release => next.released = true,
            Effect::AskBaseline(_)
            | Effect::AskPreflight(_)
            | Effect::AskCauses(_)
            | Effect::RunHook(_)
            | Effect::Refresh
            | Effect::SetMinimum { .. }
            | Effect::Note(_) => {}
        }
    }

    fn write_status(mut next: World, acting: &Acting, fate: Fate) -> World {
        next.desk.keep_only(acting.asked);
        next.process = Process::Idle;
        if fate == Fate::Refused || acting.seen.rollout_changed {
            return next;
        }
        properties::wrote_status(&mut next, acting);
        next.status = Recorded::new(acting.decision.state.clone(), acting.worth);
        next.message = acting.decision.message.clone().into();
        let open: Vec<_> = next.status.phase.open_hooks().map(|run| run.occasion.clone()).collect();
        next.hooks.retain(|(about, _)| open.contains(about));
        let answered = next.status.last_command.as_ref().map(|c| c.id.clone());
        if next.command.is_some_and(|(id, _)| Some(id.to_string()) == answered) {
            next.command = None;
        }
        next
    }
}

/// A weight is written with the version that was read; on a conflict it is read again, and what somebody lowered meanwhile
/// is not raised: the write ends with an error.
fn raises_what_was_lowered(world: &World, acting: &Acting, effect: &Effect) -> bool {
    let seen = acting.seen.observation.weight.canary();
    matches!(effect, Effect::SetWeight(to) if acting.seen.route_changed && world.live() < seen && *to > world.live())
}

fn is_write(effect: &Effect) -> bool {
    matches!(
        effect,
        Effect::SetWeight(_)
            | Effect::EnsureObjects { .. }
            | Effect::ScaleCanary(_)
            | Effect::RemoveRoute
            | Effect::Release
    )
}

/// The question that an effect asks, and its place among the four.
fn question(effect: &Effect) -> (Ask, usize) {
    match effect {
        Effect::AskOrigin(revision) => (Ask::Origin(super::world::rev_of(revision)), 0),
        Effect::CommitRollback {
            revision,
            commit,
            promoted,
            baseline: _,
            reason: _,
        } => (git::rollback(revision, commit.as_ref(), promoted.as_ref()), 1),
        Effect::CommitPromotion {
            revision,
            baseline,
            commit,
        } => (git::promotion(revision, baseline, commit.as_ref()), 2),
        other => unreachable!("{other:?} asks nothing of Git"),
    }
}

/// The production decision.
pub(crate) fn decide(plan: &Plan, state: &State, observation: &Observation, now: jiff::Timestamp) -> Decision {
    rollout::transition(plan, state, observation, now)
}

/// How many pods a weight needs.
pub(crate) fn need(plan: &Plan, to: Weight, observation: &Observation) -> i32 {
    plan.replicas_for(to, observation.stable.desired)
}
